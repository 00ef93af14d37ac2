#include "core/sketch.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "core/sketch_cell.hpp"

namespace tandem {
namespace {

using namespace cell;

// How many rows are on the way: what is added of a row has been computed, and its cells been asked for, so many rows
// ago.
constexpr std::size_t kAhead = 32;
// From this size on the cells do not stay in a core's own cache.
constexpr std::size_t kPrefetchFrom = std::size_t{512} * 1024;

// A row made ready: its cells, and what is added to each. The words are kept less p: their sum with a word of the cell
// then only needs p again where it is negative.
template <int L>
struct Ready {
    std::uint64_t* cells[Sketch::kTables];
    std::uint64_t less_p[kWords<L>];
};

// Not inlined: in the loop it has too few registers, and takes a fifth more time.
template <int L, bool Subtract>
[[gnu::noinline]] void prepare(const Element& row, Ready<L>& ready, std::uint64_t* words, std::size_t quarter,
                               const std::uint64_t* constants) noexcept {
    const Places places = places_of<L>(row.key, constants);
    ready.cells[0] = words + position<0>(places, quarter) * kWords<L>;
    ready.cells[1] = words + position<1>(places, quarter) * kWords<L>;
    ready.cells[2] = words + position<2>(places, quarter) * kWords<L>;
    ready.cells[3] = words + position<3>(places, quarter) * kWords<L>;

    const std::uint64_t hash = Subtract ? kPrime - row.hash : row.hash;
    ready.less_p[kHash] = hash - kPrime;
    for (std::size_t limb = 0; limb < L; limb++) {
        ready.less_p[kKey + limb] = field::mul(hash, row.key[limb]) - kPrime;
    }
    ready.less_p[kCheck<L>] = field::mul(hash, places.check()) - kPrime;
    // 1 or p-1, drawn from hash and key: two images of one row have signs of their own.
    const std::uint64_t negative = ((row.hash * constants[kSignConstant]) >> 63) ^ places.sign() ^ (Subtract ? 1 : 0);
    ready.less_p[kSign<L>] = 0 - 1 - ((kPrime - 2) & (negative - 1));
}

template <int L, bool Subtract, bool Prefetch>
void update(std::span<const Element> rows, std::uint64_t* words, std::size_t quarter,
            const std::uint64_t* constants) noexcept {
    Ready<L> ready[kAhead];
    const auto prepare_row = [&](std::size_t i) {
        Ready<L>& made = ready[i % kAhead];
        prepare<L, Subtract>(rows[i], made, words, quarter, constants);
        if constexpr (Prefetch) {
            for (const std::uint64_t* cell : made.cells) {
                __builtin_prefetch(cell, 1);
                if constexpr (L > 1) {
                    __builtin_prefetch(cell + kWords<L> - 1, 1);
                }
            }
        }
    };
    const auto add_row = [&](std::size_t i) {
        const Ready<L>& made = ready[i % kAhead];
        for (std::uint64_t* cell : made.cells) {
            add_less_p<kWords<L>>(cell, made.less_p);
        }
    };
    const std::size_t first = std::min(rows.size(), kAhead);
    for (std::size_t i = 0; i < first; i++) {
        prepare_row(i);
    }
    for (std::size_t i = first; i < rows.size(); i++) {
        add_row(i - kAhead);
        prepare_row(i);
    }
    for (std::size_t i = rows.size() - first; i < rows.size(); i++) {
        add_row(i);
    }
}

template <bool Subtract>
void update_any(std::span<const Element> rows, int limbs, std::uint64_t* words, std::size_t cells,
                const std::uint64_t* constants) noexcept {
    with_limbs(limbs, [&]<int L>() {
        const std::size_t quarter = cells / Sketch::kTables;
        if (Sketch::bytes(L, cells) < kPrefetchFrom) {
            update<L, Subtract, false>(rows, words, quarter, constants);
        } else {
            update<L, Subtract, true>(rows, words, quarter, constants);
        }
    });
}

} // namespace

std::size_t Sketch::bytes(int limbs, std::size_t cells) noexcept {
    assert(limbs >= 1 && limbs <= kMaxLimbs && cells <= kMaxCells && cells % kTables == 0);
    return cells * (static_cast<std::size_t>(limbs) + 3) * sizeof(std::uint64_t);
}

std::size_t Sketch::cells_for(std::uint64_t differences) noexcept {
    if (differences >= kMaxCells / 5 * 3) {
        return kMaxCells;
    }
    const std::uint64_t cells = (differences * 5 + 2) / 3; // 60 %
    return std::max(kMinCells, static_cast<std::size_t>((cells + kTables - 1) / kTables * kTables));
}

Sketch::Sketch(void* zeroed_memory, int limbs, std::size_t cells, std::uint64_t seed) noexcept
    : words_(static_cast<std::uint64_t*>(zeroed_memory)), cells_(cells), seed_(seed), limbs_(limbs) {
    assert(limbs >= 1 && limbs <= kMaxLimbs);
    assert(cells >= kTables && cells <= kMaxCells && cells % kTables == 0);
    assert(reinterpret_cast<std::uintptr_t>(zeroed_memory) % alignof(std::uint64_t) == 0);
    for (int i = 0; i < kConstants; i++) {
        constants_[i] = seed_constant(seed, static_cast<std::uint64_t>(i));
    }
}

void Sketch::add(std::span<const Element> legacy) noexcept {
    update_any<false>(legacy, limbs_, words_, cells_, constants_);
}

void Sketch::subtract(std::span<const Element> rows_of_new) noexcept {
    update_any<true>(rows_of_new, limbs_, words_, cells_, constants_);
}

bool Sketch::compatible(const Sketch& other) const noexcept {
    return limbs_ == other.limbs_ && cells_ == other.cells_ && seed_ == other.seed_;
}

void Sketch::merge(const Sketch& other) noexcept {
    assert(compatible(other) && words_ != other.words_);
    cell::add(words_, other.words_, words().size());
}

bool Sketch::empty() const noexcept {
    const auto all = words();
    return std::all_of(all.begin(), all.end(), [](std::uint64_t word) { return word == 0; });
}

// The square of a sum of independent signs is, on average, their number. Each sub-table alone is an unbiased estimate;
// as other rows meet in each, their mean has a quarter of the variance.
std::uint64_t Sketch::estimate() const noexcept {
    double squares = 0;
    const std::size_t stride = cell_words();
    for (std::size_t i = stride - 1; i < cells_ * stride; i += stride) {
        const std::uint64_t sum = words_[i];
        const auto magnitude = static_cast<double>(std::min(sum, kPrime - sum));
        squares += magnitude * magnitude;
    }
    const double estimate = std::round(squares / kTables);
    return estimate < 0x1p64 ? static_cast<std::uint64_t>(estimate) : UINT64_MAX;
}

} // namespace tandem
