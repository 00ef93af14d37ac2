// What sketch.cpp and sketch_decode.cpp both know of a cell: its words, and where a key's four cells are.
#pragma once

#include <cstddef>
#include <cstdint>

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

// Which of the sketch's constants serve what; 0 to 3 are mix_key's.
inline constexpr int kFirstPosition = 4;
inline constexpr int kCheckConstant = 8;
inline constexpr int kSignConstant = 10;

// All that is derived from a key. The four positions are 32-bit pieces of two mixes; the check is a third.
struct Places {
    std::uint64_t first;
    std::uint64_t second;
    std::uint64_t check;
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
