// One JSON value as it stands in a damaged file, made into one that PostgreSQL's jsonb takes, where that is safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {

// What was done to a value, as bits.
enum JsonRepair : std::uint32_t {
    kRepairComma = 1,    // a comma too many, or too few
    kRepairControl = 2,  // a raw control character in a string, or a NUL byte anywhere
    kRepairEncoding = 4, // bytes that are no UTF-8, replaced by U+FFFD
    kRepairEscape =
        8, // \u0000, half of a surrogate pair, a backslash before nothing: U+FFFD, or the backslash kept as a character
    kRepairWord = 16,   // None, True, NaN, ...
    kRepairNumber = 32, // 007, +1, .5, or larger than numeric can hold: then it is kept as text
    kRepairBrace = 64,  // the closing brace
};

struct CleanJson {
    bool ok = false;
    std::uint32_t repairs = 0; // 0: the bytes are JSON as they stand, and `text` is empty
    std::string text;
    const char* reason = nullptr; // why it is not ok
    std::size_t offset = 0;       // ... and where
};

// `json` is one object. `unclosed`: its closing brace is missing. One pass, no recursion.
CleanJson clean_json(std::string_view json, bool unclosed);

// The repairs in words, one after the other with "; ".
std::string describe_repairs(std::uint32_t repairs);

// A file in UTF-16, by its byte order mark or by the NUL that stands beside every character of JSON's own.
bool is_utf16(std::string_view bytes, bool& big_endian);
std::string utf16_to_utf8(std::string_view bytes, bool big_endian);
// How many bytes of UTF-16 a piece of that UTF-8 was.
std::size_t utf16_size(std::string_view utf8);

} // namespace tandem
