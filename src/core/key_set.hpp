// The keys that a sketch has told, asked for each row of the pass that fetches the rows which differ. Nearly every row
// is not among them: a small bitmap, which stays in a core's own cache, says so before the table itself is looked at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/element.hpp"
#include "core/key_mix.hpp"

namespace tandem {

// A view: the set lies in the caller's memory, which must be zeroed before the first view of it, and may be shared:
// there are no pointers in it. Views with the same memory, limbs, capacity and seed are the same set. One process
// inserts; when it is done, any number may ask. Unused limbs of a key are 0.
class KeySet {
  public:
    static std::size_t bytes(std::size_t keys, int limbs) noexcept;

    KeySet(void* zeroed_memory, int limbs, std::size_t capacity, std::uint64_t seed) noexcept;

    // false: it was there already. Throws tandem::Error XX000 when one more than `capacity` comes.
    bool insert(const std::uint64_t key[kMaxLimbs]);

    bool contains(const std::uint64_t key[kMaxLimbs]) const noexcept {
        const std::uint64_t hash = hash_of(key);
        return may_contain(hash) && find(key, hash)[0] != 0;
    }

    // For batches: brings what contains() will look at.
    void prefetch(const std::uint64_t key[kMaxLimbs]) const noexcept {
        const std::uint64_t hash = hash_of(key);
        if (may_contain(hash)) {
            __builtin_prefetch(slots_ + home_of(hash));
        }
    }

    std::size_t size() const noexcept { return static_cast<std::size_t>(*size_); }

  private:
    // The bitmap is a power of two of words, and each key sets two bits of one word. 0: so many keys that it would not
    // stay in the cache, and would be too full to help.
    static std::size_t filter_words_for(std::size_t keys) noexcept;

    std::uint64_t hash_of(const std::uint64_t* key) const noexcept {
        return fold_multiply(mix_key<kMaxLimbs>(key, constants_) ^ constants_[4], constants_[5]);
    }
    bool may_contain(std::uint64_t hash) const noexcept {
        const std::uint64_t bits = bits_of(hash);
        return filter_words_ == 0 || (filter_[hash & (filter_words_ - 1)] & bits) == bits;
    }
    static std::uint64_t bits_of(std::uint64_t hash) noexcept {
        return (std::uint64_t{1} << (hash >> 20 & 63)) | (std::uint64_t{1} << (hash >> 26 & 63));
    }
    std::size_t home_of(std::uint64_t hash) const noexcept {
        return static_cast<std::size_t>((static_cast<field::Wide>(hash) * slot_count_) >> 64) *
               static_cast<std::size_t>(limbs_);
    }
    // The key's slot, or the free one where it belongs. A first limb is kept plus 1: 0 is a free slot.
    std::uint64_t* find(const std::uint64_t* key, std::uint64_t hash) const noexcept {
        std::uint64_t* const end = slots_ + slot_count_ * static_cast<std::size_t>(limbs_);
        for (std::uint64_t* slot = slots_ + home_of(hash);;) {
            if (slot[0] == 0 || (slot[0] == key[0] + 1 && std::equal(slot + 1, slot + limbs_, key + 1))) {
                return slot;
            }
            slot += limbs_;
            slot = slot == end ? slots_ : slot;
        }
    }

    static constexpr int kConstants = 6;

    std::uint64_t* size_;
    std::uint64_t* filter_;
    std::uint64_t* slots_;
    std::size_t filter_words_;
    std::size_t slot_count_;
    std::size_t capacity_;
    std::uint64_t constants_[kConstants];
    int limbs_;
};
static_assert(std::is_trivially_copyable_v<KeySet> && std::is_trivially_destructible_v<KeySet>);

} // namespace tandem
