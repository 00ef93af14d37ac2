// The digest of a set of rows: 128 bits that do not depend on the order of the rows, on the machine, on the server or
// on the release, and that are drawn from no secret, so that two of them made anywhere may be held side by side.
//
// A row's items are class, length, bytes: no byte can move from a column to the next unseen. Rows are hashed, and the
// hashes are summed: a row that stands twice counts twice. What is here is for ever: a change of it changes the digests
// that people have kept.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem {

// What kind of value an item is. Values that are equal share class and bytes, whatever their types: 1, 1::bigint and
// 1.00 are the number "1".
enum class DigestClass : std::uint8_t {
    null = 0,
    boolean = 1,
    number = 2,   // its shortest decimal
    floating = 3, // as a double
    text = 4,     // in UTF-8
    bytes = 5,
    uuid = 6,
    date = 7,
    timestamp = 8,
    timestamptz = 9,
    time = 10,
    interval = 11, // in microseconds
    enumeration = 12,
    json = 13,
    array = 14,
    record = 15,
    range = 16,
    money = 17,
    output = 18, // by its text, where a type has nothing better
    folded = 31, // what stood before in a long row
};

// One item behind the other, in a buffer of the caller with room for min(size, kMaxInline) + kOverhead. Returns its
// length.
struct DigestItem {
    static constexpr std::size_t kMaxInline = 1024; // longer values are hashed
    static constexpr std::size_t kOverhead = 32;

    static std::size_t put(std::uint8_t* to, DigestClass type, const void* data, std::size_t size) noexcept;
    static std::size_t put_word(std::uint8_t* to, DigestClass type, std::uint64_t value) noexcept;
    // -0 is 0, and all NaNs are one.
    static std::size_t put_double(std::uint8_t* to, double value) noexcept;
    // Before the items of a value that holds values; what it is called in its class.
    static std::size_t put_group(std::uint8_t* to, DigestClass type, std::uint32_t what) noexcept;
};

class RowDigest {
  public:
    void add(const std::uint8_t* row, std::size_t size) noexcept;
    void merge(const RowDigest& other) noexcept;

    // 32 hexadecimal digits.
    static constexpr std::size_t kDigits = 32;
    void write(char* digits) const noexcept;

    std::uint64_t rows() const noexcept { return rows_; }

    // As bytes, for another process: parallel workers.
    static constexpr std::size_t kBytes = 24;
    void save(std::uint8_t* to) const noexcept;
    static RowDigest load(const std::uint8_t* from) noexcept;

  private:
    void add(std::uint64_t low, std::uint64_t high) noexcept;

    // Not one of 128 bits: memory of PostgreSQL's is aligned to 8 bytes.
    std::uint64_t low_ = 0;
    std::uint64_t high_ = 0;
    std::uint64_t rows_ = 0;
};

} // namespace tandem
