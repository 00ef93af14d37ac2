// What sketch.cpp and sketch_decode.cpp both know of a cell: its words, and where a key's four cells are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/key_mix.hpp"

namespace tandem::cell {

// The order of the words; the key's limbs follow kHash.
inline constexpr std::size_t kHash = 0;
inline constexpr std::size_t kKey = 1;
template <int L>
inline constexpr std::size_t kCheck = L + 1;
template <int L>
inline constexpr std::size_t kSign = L + 2;
template <int L>
inline constexpr std::size_t kWords = L + 3;

// Two words at a time, as every 64-bit machine can (SSE2, NEON): sums of values of -p .. p-1 brought to 0 .. p-1, as
// field::lift does. A vector of the compiler: no intrinsics, nothing to find out at run time.
typedef std::int64_t Pair __attribute__((vector_size(16)));

inline void lift_pair(std::uint64_t* words, Pair value) noexcept {
    value += (value >> 63) & static_cast<std::int64_t>(kPrime);
    std::memcpy(words, &value, sizeof(value));
}
inline Pair pair(const void* words) noexcept {
    Pair value;
    std::memcpy(&value, words, sizeof(value));
    return value;
}

// words += what, where `what` is given less p, as prepared for several cells.
template <std::size_t Count>
inline void add_less_p(std::uint64_t* words, const std::uint64_t* what_less_p) noexcept {
#pragma GCC unroll 3
    for (std::size_t i = 0; i + 2 <= Count; i += 2) {
        lift_pair(words + i, pair(words + i) + pair(what_less_p + i));
    }
    if constexpr (Count % 2 != 0) {
        words[Count - 1] = field::lift(words[Count - 1] + what_less_p[Count - 1]);
    }
}
inline void add(std::uint64_t* words, const std::uint64_t* what, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; i++) {
        words[i] = field::add(words[i], what[i]);
    }
}
inline void subtract(std::uint64_t* words, const std::uint64_t* what, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; i++) {
        words[i] = field::sub(words[i], what[i]);
    }
}

// Which of the sketch's constants serve what; 0 to 3 are mix_key's.
inline constexpr int kFirstPosition = 4;
inline constexpr int kCheckConstant = 8;
inline constexpr int kSignConstant = 10;

// All that is derived from a key: four positions, which are 32-bit pieces of two mixes, and of a third mix the check
// and the key's part of the sign. p itself may be a check; to field::mul it is 0.
struct Places {
    std::uint64_t first;
    std::uint64_t second;
    std::uint64_t third;

    std::uint64_t check() const noexcept { return third >> (64 - kPrimeBits); }
    std::uint64_t sign() const noexcept { return third & 1; }
};

template <int L>
inline Places places_of(const std::uint64_t* key, const std::uint64_t* constants) noexcept {
    const std::uint64_t mixed = mix_key<L>(key, constants);
    return {fold_multiply(mixed ^ constants[kFirstPosition], constants[kFirstPosition + 1]),
            fold_multiply(mixed ^ constants[kFirstPosition + 2], constants[kFirstPosition + 3]),
            fold_multiply(mixed ^ constants[kCheckConstant], constants[kCheckConstant + 1])};
}

// The cell of the key within sub-table `table` of `quarter` cells: multiply and shift, for up to 2^32 cells.
template <int Table>
inline std::size_t position(const Places& places, std::size_t quarter) noexcept {
    const std::uint64_t mix = Table < 2 ? places.first : places.second;
    const std::uint64_t piece = Table % 2 == 0 ? mix >> 32 : mix & 0xffffffff;
    return quarter * Table + static_cast<std::size_t>((piece * quarter) >> 32);
}

} // namespace tandem::cell
