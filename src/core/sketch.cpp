#include "core/sketch.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "core/sketch_cell.hpp"

namespace tandem {
namespace {

using namespace cell;

// Rows are taken in batches: first all that is computed of each, while their cells are on the way from memory, then the
// additions.
constexpr std::size_t kBatch = 32;
// From this size on the cells do not stay in a core's own cache.
constexpr std::size_t kPrefetchFrom = std::size_t{512} * 1024;

// A row made ready: its cells, and for each word what to add, less p. Then one comparison with 0 brings a sum below p.
template <int L>
struct Ready {
    std::uint64_t* cells[Sketch::kTables];
    std::int64_t less_p[kWords<L>];
};

constexpr std::int64_t kSignedPrime = static_cast<std::int64_t>(kPrime);

template <int L, bool Subtract>
inline void prepare(const Element& row, Ready<L>& ready, std::uint64_t* words, std::size_t quarter,
                    const std::uint64_t* constants) noexcept {
    const Places places = places_of<L>(row.key, constants);
    ready.cells[0] = words + position<0>(places, quarter) * kWords<L>;
    ready.cells[1] = words + position<1>(places, quarter) * kWords<L>;
    ready.cells[2] = words + position<2>(places, quarter) * kWords<L>;
    ready.cells[3] = words + position<3>(places, quarter) * kWords<L>;

    const std::uint64_t hash = Subtract ? kPrime - row.hash : row.hash;
    const auto set = [&ready](std::size_t word, std::uint64_t value) {
        ready.less_p[word] = static_cast<std::int64_t>(value) - kSignedPrime;
    };
    set(kHash, hash);
    for (std::size_t limb = 0; limb < L; limb++) {
        set(kKey + limb, field::mul(hash, row.key[limb]));
    }
    set(kCheck<L>, field::mul(hash, field::reduce(places.check)));
    // Drawn from hash and key: two images of one row have signs of their own.
    const bool sign = (((row.hash * constants[kSignConstant]) ^ places.check) >> 63) != 0;
    set(kSign<L>, sign != Subtract ? 1 : kPrime - 1);
}

template <int L>
inline void apply(const Ready<L>& ready) noexcept {
    for (std::uint64_t* words : ready.cells) {
        for (std::size_t word = 0; word < kWords<L>; word++) {
            const std::int64_t sum = static_cast<std::int64_t>(words[word]) + ready.less_p[word];
            words[word] = static_cast<std::uint64_t>(sum < 0 ? sum + kSignedPrime : sum);
        }
    }
}

template <int L, bool Subtract, bool Prefetch>
void update(std::span<const Element> rows, std::uint64_t* words, std::size_t quarter,
            const std::uint64_t* constants) noexcept {
    Ready<L> ready[kBatch];
    while (!rows.empty()) {
        const std::size_t count = std::min(rows.size(), kBatch);
        for (std::size_t i = 0; i < count; i++) {
            prepare<L, Subtract>(rows[i], ready[i], words, quarter, constants);
            if constexpr (Prefetch) {
                for (std::uint64_t* first : ready[i].cells) {
                    __builtin_prefetch(first, 1);
                    if constexpr (L > 1) {
                        __builtin_prefetch(first + kWords<L> - 1, 1);
                    }
                }
            }
        }
        for (std::size_t i = 0; i < count; i++) {
            apply<L>(ready[i]);
        }
        rows = rows.subspan(count);
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
    const std::size_t count = words().size();
    for (std::size_t i = 0; i < count; i++) {
        words_[i] = field::add(words_[i], other.words_[i]);
    }
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
