// memcpy() for what is nearly always short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tandem {

// Names and numbers are short; a call of memcpy would cost more than the copy.
inline void copy_short(std::uint8_t* to, const std::uint8_t* from, std::size_t size) noexcept {
    if (size >= 16) {
        for (std::size_t i = 0; i + 16 < size; i += 16) {
            std::memcpy(to + i, from + i, 16);
        }
        std::memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        std::uint64_t first;
        std::uint64_t last;
        std::memcpy(&first, from, 8);
        std::memcpy(&last, from + size - 8, 8);
        std::memcpy(to, &first, 8);
        std::memcpy(to + size - 8, &last, 8);
    } else if (size >= 4) {
        std::uint32_t first;
        std::uint32_t last;
        std::memcpy(&first, from, 4);
        std::memcpy(&last, from + size - 4, 4);
        std::memcpy(to, &first, 4);
        std::memcpy(to + size - 4, &last, 4);
    } else if (size > 0) {
        to[0] = from[0];
        to[size / 2] = from[size / 2];
        to[size - 1] = from[size - 1];
    }
}

} // namespace tandem
