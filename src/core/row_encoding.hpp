// The encoding of a row that cannot say EQUAL wrongly. Each value is an item that tells where it ends: class, length,
// bytes. So NULL is not '' and not 'NULL', and no byte can move from a column to the next unseen. Two rows give the
// same bytes only if their values are the same, one by one, and what is hashed is these bytes.
//
// What is bounded must be digested, and a digest says so: it has a tag of its own, so that a short value never looks
// like one. Two different values with one digest of 128 bits, or two rows with one hash of 61 bits under a secret that
// was drawn for this comparison, are the only ways to be wrong; at 2^-61 for each row that differs.
#pragma once

#include <bit>
#include <cmath>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "core/element.hpp"
#include "core/key_mix.hpp"
#include "core/short_copy.hpp"

namespace tandem {

// What kind of value an item is. Types that PostgreSQL compares with each other share a class and a form in it: int2,
// int4 and int8 are `integer` by int64(), float4 and float8 are `floating`.
enum class TypeClass : std::uint8_t {
    null,
    boolean,
    integer,
    floating,
    numeric,
    text,
    bytes,
    uuid,
    date_time,
    interval,
    bits,
    network,
    json,
    array,
    record,
    range,
    enumeration,
    geometry,
    image,  // by the bytes of its binary form
    output, // by its text, where a type has nothing better
    digest, // what the caller has digested itself
    error,  // a value that could not be computed
};

// Under which a comparison hashes; drawn anew for each, so that nobody can prepare rows that meet.
struct HashSecret {
    std::uint8_t bytes[192]; // at least XXH3_SECRET_SIZE_MIN
    std::uint64_t seed;
};
static_assert(sizeof(HashSecret::bytes) >= XXH3_SECRET_SIZE_MIN);

HashSecret make_secret(std::uint64_t seed) noexcept;

// One row at a time: reset(), the values, hash() or key(). No heap and no destructor: a longjmp may pass over it. The
// secret must stay where it is as long as the encoder is used.
class RowEncoder {
  public:
    // Longer values are digested, and so is what came before when the buffer is full.
    static constexpr std::size_t kMaxInline = 255;
    static constexpr std::size_t kCapacity = 4096;

    explicit RowEncoder(const HashSecret& secret) noexcept : secret_(&secret) {}

    void reset() noexcept { size_ = 0; }

    void null() noexcept { item(TypeClass::null, 0); }

    void int64(TypeClass type, std::int64_t value) noexcept { word(type, static_cast<std::uint64_t>(value)); }

    // -0 is 0, and all NaNs are one, as for PostgreSQL's =.
    void floating(double value) noexcept {
        value = std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value + 0.0;
        word(TypeClass::floating, std::bit_cast<std::uint64_t>(value));
    }

    // A size that the compiler knows: no loop, no call. The same item as bytes() makes of the same bytes.
    void fixed(TypeClass type, const void* data, std::size_t size) noexcept {
        if (size > kMaxInline) {
            long_value(type, data, size);
        } else if (size > 0) {
            std::memcpy(item(type, size), data, size);
        } else {
            item(type, 0);
        }
    }

    void bytes(TypeClass type, const void* data, std::size_t size) noexcept {
        if (size > kMaxInline) {
            long_value(type, data, size);
        } else {
            copy_short(item(type, size), static_cast<const std::uint8_t*>(data), size);
        }
    }

    // One item of a short head and what follows it, without a copy that puts them together first.
    void headed(TypeClass type, std::uint32_t head, const void* data, std::size_t size) noexcept {
        assert(size + sizeof(head) <= kMaxInline);
        std::uint8_t* const at = item(type, sizeof(head) + size);
        std::memcpy(at, &head, sizeof(head));
        copy_short(at + sizeof(head), static_cast<const std::uint8_t*>(data), size);
    }

    // Around the items of an array, a composite, a range: `count` of them.
    void begin_group(TypeClass type, std::uint32_t count) noexcept {
        std::uint8_t* const at = reserve(6);
        at[0] = kBeginGroup;
        at[1] = static_cast<std::uint8_t>(type);
        for (int i = 0; i < 4; i++) {
            at[2 + i] = static_cast<std::uint8_t>(count >> (8 * i));
        }
    }
    void end_group() noexcept { *reserve(1) = kEndGroup; }

    // The row's hash, 1 .. p-1.
    std::uint64_t hash() const noexcept {
        return field_hash(XXH3_64bits_withSecret(buffer_, size_, secret_->bytes, sizeof(secret_->bytes)));
    }

    // 122 bits of a hash as the key of an element: for keys that do not fit limbs, and rows without a key.
    void key(std::uint64_t limbs[2]) const noexcept {
        const XXH128_hash_t hash = XXH3_128bits_withSecret(buffer_, size_, secret_->bytes, sizeof(secret_->bytes));
        limbs[0] = field::reduce(hash.low64);
        limbs[1] = field::reduce(hash.high64);
    }

    // What has been encoded since reset(), for tests and fuzzers.
    std::size_t size() const noexcept { return size_; }
    const std::uint8_t* data() const noexcept { return buffer_; }

  private:
    // First bytes of items that are no plain value; above every TypeClass.
    static constexpr std::uint8_t kEndGroup = 0xfb;
    static constexpr std::uint8_t kBeginGroup = 0xfc;
    static constexpr std::uint8_t kLong = 0xfd;
    static constexpr std::uint8_t kFolded = 0xfe;

    // Where it is full depends on the items alone, so equal rows are folded at the same place.
    std::uint8_t* reserve(std::size_t size) noexcept {
        if (size_ + size > kCapacity) [[unlikely]] {
            fold();
        }
        std::uint8_t* const at = buffer_ + size_;
        size_ += size;
        return at;
    }

    std::uint8_t* item(TypeClass type, std::size_t size) noexcept {
        std::uint8_t* const at = reserve(2 + size);
        const std::uint8_t head[2] = {static_cast<std::uint8_t>(type), static_cast<std::uint8_t>(size)};
        std::memcpy(at, head, sizeof(head)); // one store
        return at + 2;
    }

    void word(TypeClass type, std::uint64_t value) noexcept { store(item(type, 8), value); }

    // Least significant byte first, whatever the machine.
    static void store(std::uint8_t* to, std::uint64_t value) noexcept {
        if constexpr (std::endian::native == std::endian::big) {
            value = __builtin_bswap64(value);
        }
        std::memcpy(to, &value, sizeof(value));
    }

    void store_digest(std::uint8_t* to, const void* data, std::size_t size) const noexcept {
        const XXH128_hash_t digest = XXH3_128bits_withSecret(data, size, secret_->bytes, sizeof(secret_->bytes));
        store(to, digest.low64);
        store(to + 8, digest.high64);
    }

    [[gnu::noinline]] void long_value(TypeClass type, const void* data, std::size_t size) noexcept {
        std::uint8_t* const at = reserve(26);
        at[0] = kLong;
        at[1] = static_cast<std::uint8_t>(type);
        store(at + 2, size);
        store_digest(at + 10, data, size);
    }

    // What is there becomes the first item of what follows.
    [[gnu::noinline]] void fold() noexcept {
        std::uint8_t digest[16];
        store_digest(digest, buffer_, size_);
        buffer_[0] = kFolded;
        std::memcpy(buffer_ + 1, digest, sizeof(digest));
        size_ = 1 + sizeof(digest);
    }

    const HashSecret* secret_;
    std::size_t size_ = 0;
    std::uint8_t buffer_[kCapacity]; // not cleared: size_ says what is there; not aligned: palloc aligns to 8
};
static_assert(std::is_trivially_copyable_v<RowEncoder> && std::is_trivially_destructible_v<RowEncoder>);

// Every byte from the seed: XXH3_generateSecret_fromSeed() leaves differences between the bytes that anybody knows.
inline HashSecret make_secret(std::uint64_t seed) noexcept {
    HashSecret secret{{}, seed};
    for (std::size_t i = 0; i < sizeof(secret.bytes); i += 8) {
        const std::uint64_t word = splitmix64(seed, i / 8);
        std::memcpy(secret.bytes + i, &word, sizeof(word));
    }
    return secret;
}

} // namespace tandem
