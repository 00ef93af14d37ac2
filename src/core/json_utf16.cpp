// State files in UTF-16, as some editors and shells save them.
#include "core/json_clean.hpp"

namespace tandem {

bool is_utf16(std::string_view bytes, bool& big_endian) {
    if (bytes.size() < 4) {
        return false;
    }
    const std::string_view mark = bytes.substr(0, 2);
    if (mark == "\xFF\xFE" || mark == "\xFE\xFF") {
        big_endian = mark[0] == '\xFE';
        return true;
    }
    const auto begins_json = [](char c) { return c == '{' || c == '['; };
    const auto ascii = [](char c) { return c >= '\t' && c < 127; };
    if (begins_json(bytes[0]) && bytes[1] == '\0' && ascii(bytes[2]) && bytes[3] == '\0') {
        big_endian = false;
        return true;
    }
    big_endian = true;
    return bytes[0] == '\0' && begins_json(bytes[1]) && bytes[2] == '\0' && ascii(bytes[3]);
}

std::string utf16_to_utf8(std::string_view bytes, bool big_endian) {
    const auto unit = [&](std::size_t i) {
        const auto first = static_cast<unsigned char>(bytes[i]);
        const auto second = static_cast<unsigned char>(bytes[i + 1]);
        return static_cast<char32_t>(big_endian ? first << 8 | second : second << 8 | first);
    };
    std::string result;
    result.reserve(bytes.size() / 2 + bytes.size() / 8);
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
        char32_t code = unit(i);
        if (code >= 0xD800 && code <= 0xDFFF) {
            const char32_t next = i + 3 < bytes.size() ? unit(i + 2) : 0;
            if (code <= 0xDBFF && next >= 0xDC00 && next <= 0xDFFF) {
                code = 0x10000 + ((code - 0xD800) << 10) + (next - 0xDC00);
                i += 2;
            } else {
                code = 0xFFFD;
            }
        }
        if (code < 0x80) {
            result += static_cast<char>(code);
        } else if (code < 0x800) {
            result += static_cast<char>(0xC0 | code >> 6);
            result += static_cast<char>(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
            result += static_cast<char>(0xE0 | code >> 12);
            result += static_cast<char>(0x80 | (code >> 6 & 0x3F));
            result += static_cast<char>(0x80 | (code & 0x3F));
        } else {
            result += static_cast<char>(0xF0 | code >> 18);
            result += static_cast<char>(0x80 | (code >> 12 & 0x3F));
            result += static_cast<char>(0x80 | (code >> 6 & 0x3F));
            result += static_cast<char>(0x80 | (code & 0x3F));
        }
    }
    return result;
}

std::size_t utf16_size(std::string_view utf8) {
    std::size_t units = 0;
    for (const char c : utf8) {
        const auto byte = static_cast<unsigned char>(c);
        units += (byte & 0xC0) == 0x80 ? 0 : byte >= 0xF0 ? 2 : 1;
    }
    return units * 2;
}

} // namespace tandem
