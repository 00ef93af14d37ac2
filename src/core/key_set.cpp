#include "core/key_set.hpp"

#include <bit>
#include <cassert>
#include <string>

#include "core/error.hpp"

namespace tandem {
namespace {

// One cache line of its own: what is written by an insert is not read by every probe.
constexpr std::size_t kHeaderWords = 8;

// 16 bits for each key, of which it sets two: one of about 60 other keys passes. From 1 kB, up to 256 kB.
constexpr std::size_t kBitsPerKey = 16;
constexpr std::size_t kMinFilterWords = 128;
constexpr std::size_t kMaxFilterWords = std::size_t{32} * 1024;
constexpr std::size_t kMinBitsPerKey = 4;

// Half of the slots stay free.
constexpr std::size_t slots_for(std::size_t keys) {
    return keys * 2 + 8;
}

} // namespace

std::size_t KeySet::filter_words_for(std::size_t keys) noexcept {
    if (keys > kMaxFilterWords * 64 / kMinBitsPerKey) {
        return 0;
    }
    return std::clamp(std::bit_ceil(keys * kBitsPerKey / 64), kMinFilterWords, kMaxFilterWords);
}

std::size_t KeySet::bytes(std::size_t keys, int limbs) noexcept {
    return (kHeaderWords + filter_words_for(keys) + slots_for(keys) * static_cast<std::size_t>(limbs)) *
           sizeof(std::uint64_t);
}

KeySet::KeySet(void* zeroed_memory, int limbs, std::size_t capacity, std::uint64_t seed) noexcept
    : size_(static_cast<std::uint64_t*>(zeroed_memory)), filter_(size_ + kHeaderWords),
      slots_(filter_ + filter_words_for(capacity)), filter_words_(filter_words_for(capacity)),
      slot_count_(slots_for(capacity)), capacity_(capacity), limbs_(limbs) {
    assert(limbs >= 1 && limbs <= kMaxLimbs);
    assert(reinterpret_cast<std::uintptr_t>(zeroed_memory) % alignof(std::uint64_t) == 0);
    for (int i = 0; i < kConstants; i++) {
        constants_[i] = seed_constant(seed ^ 0x6b657973, static_cast<std::uint64_t>(i));
    }
}

bool KeySet::insert(const std::uint64_t key[kMaxLimbs]) {
    const std::uint64_t hash = hash_of(key);
    std::uint64_t* const slot = find(key, hash);
    if (slot[0] != 0) {
        return false;
    }
    if (*size_ >= capacity_) {
        throw Error("XX000", "a set of keys is full", "It was made for " + std::to_string(capacity_) + " keys.");
    }
    slot[0] = key[0] + 1;
    std::copy(key + 1, key + limbs_, slot + 1);
    if (filter_words_ != 0) {
        filter_[hash & (filter_words_ - 1)] |= bits_of(hash);
    }
    ++*size_;
    return true;
}

} // namespace tandem
