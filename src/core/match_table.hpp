// Where a sketch is too small, and where keys are not known to be unique: a table of the keys of one radix partition,
// in which duplicates collapse and equal rows cancel. It counts each side's copies and sums their hashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/element.hpp"
#include "core/key_mix.hpp"

namespace tandem {

// A row's partition, 0 .. 2^bits-1: `bits` bits from bit `shift` on of a hash of its key. A partition that is too large
// is cut again by further bits: shift + bits up to 64. Independent of the hash of MatchTable and of a sketch's cells.
inline int radix_of(const Element& row, int shift, int bits, std::uint64_t seed) noexcept {
    const std::uint64_t high = seed ^ 0xa0761d6478bd642f;
    const std::uint64_t low = seed ^ 0xe7037ed1a0b428db;
    const std::uint64_t mixed =
        fold_multiply(fold_multiply(row.key[0] ^ high, row.key[1] ^ low) ^ row.key[2], 0x8ebc6af09c88c6e3);
    return static_cast<int>((mixed >> shift) & ((1ull << bits) - 1));
}
inline int radix_of(const Element& row, int bits, std::uint64_t seed) noexcept {
    return radix_of(row, 0, bits, seed);
}

class MatchTable {
  public:
    // copies stop at 2^32-1; hash_sum: legacy - new, mod p.
    struct Entry {
        std::uint64_t key[kMaxLimbs];
        std::uint64_t hash_sum;
        std::uint32_t legacy_copies;
        std::uint32_t new_copies;
    };

    // Has room for `expected` keys, and doubles when there are more (for a moment it then needs three times its size).
    MatchTable(int limbs, std::size_t expected, std::uint64_t seed = 0);

    void add_legacy(std::span<const Element> rows);
    void add_new(std::span<const Element> rows);

    std::size_t bytes() const noexcept { return words_.capacity() * sizeof(std::uint64_t); }
    std::size_t entries() const noexcept { return entries_; }
    // Keeps the memory.
    void clear() noexcept;

    // What a table for so many keys takes, before anything is allocated.
    static std::size_t bytes_for(int limbs, std::size_t keys) noexcept;

    // Calls f(const Entry&) for each key that differs; keyed: also for each that is not unique on a side.
    template <class F>
    void differences(bool keyed, F&& f) const {
        const std::size_t stride = slot_words();
        for (std::size_t i = 0; i < words_.size(); i += stride) {
            const std::uint64_t* const slot = &words_[i];
            const std::uint64_t copies = slot[stride - 1];
            Entry entry{
                {}, slot[stride - 2], static_cast<std::uint32_t>(copies), static_cast<std::uint32_t>(copies >> 32)};
            const bool differs = entry.hash_sum != 0 || entry.legacy_copies != entry.new_copies;
            if (differs || (keyed && (entry.legacy_copies > 1 || entry.new_copies > 1))) {
                for (std::size_t limb = 0; limb < stride - 2; limb++) {
                    entry.key[limb] = slot[limb];
                }
                f(static_cast<const Entry&>(entry));
            }
        }
    }

  private:
    // A slot: the limbs, the sum of hashes, the copies (legacy's in the low half). A slot without copies is free.
    std::size_t slot_words() const noexcept { return static_cast<std::size_t>(limbs_) + 2; }

    template <int L, bool New>
    void count(std::span<const Element> rows);
    template <int L>
    void grow(std::size_t slots);

    static constexpr int kConstants = 6;

    std::vector<std::uint64_t> words_;
    std::uint64_t constants_[kConstants];
    std::size_t slots_;
    std::size_t entries_ = 0;
    int limbs_;
};

} // namespace tandem
