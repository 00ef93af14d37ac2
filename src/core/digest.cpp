#include "core/digest.hpp"

#include <bit>
#include <cmath>
#include <cstring>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

namespace tandem {
namespace {

// Least significant byte first, whatever the machine.
void store(std::uint8_t* to, std::uint64_t value, int bytes) noexcept {
    for (int i = 0; i < bytes; i++) {
        to[i] = static_cast<std::uint8_t>(value >> (8 * i));
    }
}

std::uint64_t fetch(const std::uint8_t* from) noexcept {
    std::uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | from[i];
    }
    return value;
}

constexpr std::uint8_t kLong = 0x80;
constexpr std::uint8_t kGroup = 0x40;

} // namespace

std::size_t DigestItem::put(std::uint8_t* to, DigestClass type, const void* data, std::size_t size) noexcept {
    const auto tag = static_cast<std::uint8_t>(type);
    if (size <= kMaxInline) {
        to[0] = tag;
        store(to + 1, size, 4);
        if (size > 0) {
            std::memcpy(to + 5, data, size);
        }
        return 5 + size;
    }
    const XXH128_hash_t hash = XXH3_128bits(data, size);
    to[0] = tag | kLong;
    store(to + 1, size, 8);
    store(to + 9, hash.low64, 8);
    store(to + 17, hash.high64, 8);
    return 25;
}

std::size_t DigestItem::put_word(std::uint8_t* to, DigestClass type, std::uint64_t value) noexcept {
    to[0] = static_cast<std::uint8_t>(type);
    store(to + 1, 8, 4);
    store(to + 5, value, 8);
    return 13;
}

std::size_t DigestItem::put_double(std::uint8_t* to, double value) noexcept {
    constexpr std::uint64_t kNaN = 0x7ff8'0000'0000'0000;
    return put_word(to, DigestClass::floating, std::isnan(value) ? kNaN : std::bit_cast<std::uint64_t>(value + 0.0));
}

std::size_t DigestItem::put_group(std::uint8_t* to, DigestClass type, std::uint32_t what) noexcept {
    to[0] = static_cast<std::uint8_t>(type) | kGroup;
    store(to + 1, what, 4);
    return 5;
}

void RowDigest::add(std::uint64_t low, std::uint64_t high) noexcept {
    low_ += low;
    high_ += high + (low_ < low ? 1 : 0);
}

void RowDigest::add(const std::uint8_t* row, std::size_t size) noexcept {
    const XXH128_hash_t hash = XXH3_128bits(row, size);
    add(hash.low64, hash.high64);
    rows_++;
}

void RowDigest::merge(const RowDigest& other) noexcept {
    add(other.low_, other.high_);
    rows_ += other.rows_;
}

void RowDigest::save(std::uint8_t* to) const noexcept {
    store(to, low_, 8);
    store(to + 8, high_, 8);
    store(to + 16, rows_, 8);
}

RowDigest RowDigest::load(const std::uint8_t* from) noexcept {
    RowDigest result;
    result.low_ = fetch(from);
    result.high_ = fetch(from + 8);
    result.rows_ = fetch(from + 16);
    return result;
}

// The sum is hashed once more, with the number of rows: no arithmetic leads from one digest to another.
void RowDigest::write(char* digits) const noexcept {
    std::uint8_t bytes[kBytes];
    save(bytes);
    const XXH128_hash_t hash = XXH3_128bits(bytes, sizeof(bytes));
    for (int i = 0; i < 32; i++) {
        const std::uint64_t half = i < 16 ? hash.high64 : hash.low64;
        digits[i] = "0123456789abcdef"[half >> (60 - 4 * (i % 16)) & 15];
    }
}

} // namespace tandem
