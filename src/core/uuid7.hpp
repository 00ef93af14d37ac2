// UUID version 7 (RFC 9562): 48 bits of milliseconds, 12 bits of a fraction of a millisecond, 62 random bits. Ids made
// one after the other stand one after the other, so their index grows at its end.
#pragma once

#include <cstdint>
#include <cstring>

namespace tandem {

// A maker's ids ascend strictly, also when the clock stands still or is set back.
class Uuid7 {
  public:
    // `microseconds` since 1970; `random`: 8 random bytes. Writes 16 bytes.
    constexpr void make(std::uint64_t microseconds, const unsigned char* random, unsigned char* out) {
        // 60 bits: milliseconds, then 4096ths of one
        std::uint64_t stamp = (microseconds / 1000) << 12 | ((microseconds % 1000) * 4096 / 1000);
        if (stamp <= last_) {
            stamp = last_ + 1;
        }
        last_ = stamp;
        const std::uint64_t high = (stamp >> 12 << 16) | 0x7000U | (stamp & 0xFFFU);
        for (int i = 0; i < 8; i++) {
            out[i] = static_cast<unsigned char>(high >> (56 - 8 * i));
            out[8 + i] = random[i];
        }
        out[8] = static_cast<unsigned char>((out[8] & 0x3FU) | 0x80U);
    }

  private:
    std::uint64_t last_ = 0;
};

} // namespace tandem
