#include "core/html.hpp"

#include <charconv>
#include <cstdint>
#include <cstring>

namespace tandem {
namespace {

constexpr std::uint32_t kReplacement = 0xFFFD;

struct Decoded {
    std::uint32_t code;
    std::size_t size;
};

// The character that a text begins with; a byte that begins none is one replacement.
Decoded decode(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
    const std::uint8_t first = byte(0);
    const std::size_t size = first < 0x80   ? 1
                             : first < 0xC2 ? 0
                             : first < 0xE0 ? 2
                             : first < 0xF0 ? 3
                             : first < 0xF5 ? 4
                                            : 0;
    if (size == 0 || size > text.size()) {
        return {kReplacement, 1};
    }
    if (size == 1) {
        return {first, 1};
    }
    std::uint32_t code = first & (0xFFU >> (size + 1));
    for (std::size_t i = 1; i < size; i++) {
        if ((byte(i) & 0xC0) != 0x80) {
            return {kReplacement, 1};
        }
        code = code << 6 | (byte(i) & 0x3FU);
    }
    const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        return {kReplacement, 1};
    }
    return {code, size};
}

std::uint32_t visible(std::uint32_t code) noexcept {
    if (code < 0x20 && code != '\t' && code != '\n') {
        return 0x2400 + code;
    }
    if (code == 0x7F) {
        return 0x2421;
    }
    const bool control = code > 0x7F && code < 0xA0;
    const bool nobody = (code & 0xFFFE) == 0xFFFE || (code >= 0xFDD0 && code <= 0xFDEF);
    const bool turns = (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
    return control || nobody || turns ? kReplacement : code;
}

char* put(char* out, std::string_view text) noexcept {
    std::memcpy(out, text.data(), text.size());
    return out + text.size();
}

} // namespace

char* put_html(char* out, std::string_view utf8) noexcept {
    while (!utf8.empty()) {
        const Decoded decoded = decode(utf8);
        const std::uint32_t code = visible(decoded.code);
        utf8.remove_prefix(decoded.size);
        switch (code) {
        case '&':
            out = put(out, "&amp;");
            break;
        case '<':
            out = put(out, "&lt;");
            break;
        case '>':
            out = put(out, "&gt;");
            break;
        case '"':
            out = put(out, "&quot;");
            break;
        case '\'':
            out = put(out, "&#39;");
            break;
        default:
            if (code < 0x80) {
                *out++ = static_cast<char>(code);
            } else {
                out = put(out, "&#");
                out = std::to_chars(out, out + 7, code).ptr;
                *out++ = ';';
            }
        }
    }
    return out;
}

} // namespace tandem
