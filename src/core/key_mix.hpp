// Mixing of keys for tables: products of 128 bits folded to 64, as in wyhash. Not for what must stay stable between
// releases; every seed gives other functions, so that nobody can prepare keys that meet.
#pragma once

#include <cstdint>

#include "core/element.hpp"

namespace tandem {

constexpr std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) noexcept {
    const field::Wide product = static_cast<field::Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// The n-th value of the sequence that a seed begins.
constexpr std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t n) noexcept {
    std::uint64_t z = seed + (n + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

// Odd: it serves as a multiplier.
constexpr std::uint64_t seed_constant(std::uint64_t seed, std::uint64_t n) noexcept {
    return splitmix64(seed, n) | 1;
}

// A key's limbs to 64 bits that want one more fold_multiply each before they are used.
template <int L>
constexpr std::uint64_t mix_key(const std::uint64_t* key, const std::uint64_t* constants) noexcept {
    static_assert(L >= 1 && L <= kMaxLimbs);
    if constexpr (L == 1) {
        return fold_multiply(key[0] ^ constants[0], constants[1]);
    } else if constexpr (L == 2) {
        return fold_multiply(key[0] ^ constants[0], key[1] ^ constants[1]);
    } else {
        return fold_multiply(key[0] ^ constants[0], key[1] ^ constants[1]) ^
               fold_multiply(key[2] ^ constants[2], constants[3]);
    }
}

// f.operator()<L>() for the number of limbs: the loops inside know it at compile time.
template <class F>
decltype(auto) with_limbs(int limbs, F&& f) {
    switch (limbs) {
    case 1:
        return f.template operator()<1>();
    case 2:
        return f.template operator()<2>();
    default:
        return f.template operator()<3>();
    }
}

} // namespace tandem
