// Arithmetic in the field of p = 2^61-1, in which the sketch keeps its sums. A Mersenne prime is reduced by a shift and
// an addition, and a product of two elements fits 128 bits. Every value is below p, unless it says otherwise.
#pragma once

#include <cstdint>

#ifdef POSTGRES_H
#error "src/core includes no PostgreSQL header"
#endif

namespace tandem {

inline constexpr int kPrimeBits = 61;
inline constexpr std::uint64_t kPrime = (1ull << kPrimeBits) - 1;

namespace field {

__extension__ using Wide = unsigned __int128;

// A value from -p to p-1, in two's complement, brought to 0 .. p-1. By arithmetic: which way it goes is a toss, and a
// branch on it would cost more than all the rest.
constexpr std::uint64_t lift(std::uint64_t value) noexcept {
    return value + (kPrime & (0 - (value >> 63)));
}

// Any 64-bit value to its remainder.
constexpr std::uint64_t reduce(std::uint64_t value) noexcept {
    return lift((value & kPrime) + (value >> kPrimeBits) - kPrime); // before: at most 7
}

constexpr std::uint64_t add(std::uint64_t a, std::uint64_t b) noexcept {
    return lift(a + b - kPrime);
}

constexpr std::uint64_t sub(std::uint64_t a, std::uint64_t b) noexcept {
    return lift(a - b);
}

constexpr std::uint64_t negate(std::uint64_t a) noexcept {
    return a == 0 ? 0 : kPrime - a;
}

constexpr std::uint64_t mul(std::uint64_t a, std::uint64_t b) noexcept {
    // Of 8ab the upper word is what ab has above its 61st bit, and the lower one 8 times what is below: the two words
    // of a machine's product, with no shift across them.
    const Wide product = static_cast<Wide>(a << 3) * b;
    return add(static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product) >> 3);
}

// 1/a = a^(p-2); 0 for 0. About 70 multiplications: who has many inverts them together, by one.
constexpr std::uint64_t inverse(std::uint64_t a) noexcept {
    // p-2 = 4 (2^59-1) + 1. Raise to 2^n-1 for n = the leading bits of 59, one bit more each time.
    std::uint64_t power = a;
    for (int n = 1, bit = 16; bit > 0; bit /= 2) {
        std::uint64_t doubled = power;
        for (int i = 0; i < n; i++) {
            doubled = mul(doubled, doubled);
        }
        power = mul(doubled, power);
        n *= 2;
        if ((59 & bit) != 0) {
            power = mul(mul(power, power), a);
            n++;
        }
    }
    power = mul(power, power);
    power = mul(power, power);
    return mul(power, a);
}

} // namespace field
} // namespace tandem
