// What a row contributes to a comparison: its key and the hash of all that is compared of it.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/mersenne.hpp"

namespace tandem {

inline constexpr int kMaxLimbs = 3;

// key: up to 3 limbs, each below p, unused ones 0. hash: 1 .. p-1; 0 would be a row that nobody sees.
struct Element {
    std::uint64_t key[kMaxLimbs];
    std::uint64_t hash;
};
static_assert(sizeof(Element) == 32 && std::is_trivially_copyable_v<Element>);

// A hash of 64 bits as the hash of an element: 1 .. p-1.
constexpr std::uint64_t field_hash(std::uint64_t hash) noexcept {
    const std::uint64_t reduced = field::reduce(hash);
    return reduced == 0 ? 1 : reduced;
}

// 61 bits hold every value but the last one, so keys that fill their type are cut into limbs of 60 bits: 64 bits take
// two limbs, 128 bits (uuid) three. The same value must be cut in the same way on both sides.
inline constexpr int kLimbBits = 60;

constexpr void limbs_of(std::uint64_t value, std::uint64_t limbs[2]) noexcept {
    limbs[0] = value & ((1ull << kLimbBits) - 1);
    limbs[1] = value >> kLimbBits;
}
constexpr void limbs_of(std::uint64_t high, std::uint64_t low, std::uint64_t limbs[3]) noexcept {
    const field::Wide value = (static_cast<field::Wide>(high) << 64) | low;
    for (int i = 0; i < kMaxLimbs; i++) {
        limbs[i] = static_cast<std::uint64_t>(value >> (i * kLimbBits)) & ((1ull << kLimbBits) - 1);
    }
}

} // namespace tandem
