#include "core/match_table.hpp"

#include <algorithm>
#include <cassert>

namespace tandem {
namespace {

// Open addressing with linear probing. Rows are taken in batches whose slots are on the way from memory together.
constexpr std::size_t kBatch = 32;
constexpr std::uint64_t kOneLegacy = 1;
constexpr std::uint64_t kOneNew = std::uint64_t{1} << 32;
constexpr std::uint64_t kLegacyFull = 0xffffffff;
constexpr std::uint64_t kNewFull = kLegacyFull << 32;

// At most three slots of four are taken, a whole batch included.
constexpr std::size_t slots_for(std::size_t keys) {
    return (keys + kBatch) / 3 * 4 + 4;
}
constexpr std::size_t room_of(std::size_t slots) {
    return slots / 4 * 3;
}

// High bits choose the slot: in a table twice as large the keys stand in the same order.
template <int L>
std::size_t home_of(const std::uint64_t* key, const std::uint64_t* constants, std::size_t slots) noexcept {
    const std::uint64_t hash = fold_multiply(mix_key<L>(key, constants) ^ constants[4], constants[5]);
    return static_cast<std::size_t>((static_cast<field::Wide>(hash) * slots) >> 64);
}

// The key's slot, or the free one where it belongs.
template <int L>
std::uint64_t* find(std::uint64_t* words, std::size_t slots, std::size_t slot, const std::uint64_t* key) noexcept {
    constexpr std::size_t kWords = L + 2;
    for (;; slot = slot + 1 == slots ? 0 : slot + 1) {
        std::uint64_t* const at = words + slot * kWords;
        if (at[L + 1] == 0 || std::equal(key, key + L, at)) {
            return at;
        }
    }
}

} // namespace

std::size_t MatchTable::bytes_for(int limbs, std::size_t keys) noexcept {
    return slots_for(keys) * (static_cast<std::size_t>(limbs) + 2) * sizeof(std::uint64_t);
}

MatchTable::MatchTable(int limbs, std::size_t expected, std::uint64_t seed)
    : slots_(slots_for(expected)), limbs_(limbs) {
    assert(limbs >= 1 && limbs <= kMaxLimbs);
    for (int i = 0; i < kConstants; i++) {
        constants_[i] = seed_constant(seed ^ 0x6d61746368, static_cast<std::uint64_t>(i));
    }
    words_.resize(slots_ * slot_words());
}

void MatchTable::clear() noexcept {
    std::fill(words_.begin(), words_.end(), 0);
    entries_ = 0;
}

template <int L>
void MatchTable::grow(std::size_t slots) {
    constexpr std::size_t kWords = L + 2;
    std::vector<std::uint64_t> words(slots * kWords);
    for (std::size_t i = 0; i < words_.size(); i += kWords) {
        if (words_[i + L + 1] != 0) {
            std::uint64_t* const to =
                find<L>(words.data(), slots, home_of<L>(&words_[i], constants_, slots), &words_[i]);
            std::copy_n(&words_[i], kWords, to);
        }
    }
    words_.swap(words);
    slots_ = slots;
}

template <int L, bool New>
void MatchTable::count(std::span<const Element> rows) {
    std::size_t homes[kBatch];
    while (!rows.empty()) {
        const std::size_t batch = std::min(rows.size(), kBatch);
        if (entries_ + batch > room_of(slots_)) {
            grow<L>(slots_ * 2);
        }
        std::uint64_t* const words = words_.data();
        for (std::size_t i = 0; i < batch; i++) {
            homes[i] = home_of<L>(rows[i].key, constants_, slots_);
            __builtin_prefetch(words + homes[i] * (L + 2), 1);
        }
        for (std::size_t i = 0; i < batch; i++) {
            const Element& row = rows[i];
            std::uint64_t* const slot = find<L>(words, slots_, homes[i], row.key);
            std::uint64_t& copies = slot[L + 1];
            if (copies == 0) {
                std::copy_n(row.key, L, slot);
                entries_++;
            }
            if constexpr (New) {
                slot[L] = field::sub(slot[L], row.hash);
                copies += (copies & kNewFull) == kNewFull ? 0 : kOneNew;
            } else {
                slot[L] = field::add(slot[L], row.hash);
                copies += (copies & kLegacyFull) == kLegacyFull ? 0 : kOneLegacy;
            }
        }
        rows = rows.subspan(batch);
    }
}

void MatchTable::add_legacy(std::span<const Element> rows) {
    with_limbs(limbs_, [&]<int L>() { count<L, false>(rows); });
}

void MatchTable::add_new(std::span<const Element> rows) {
    with_limbs(limbs_, [&]<int L>() { count<L, true>(rows); });
}

} // namespace tandem
