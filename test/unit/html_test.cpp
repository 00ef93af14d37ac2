// A value in a page: what a browser reads from it is the value, whatever bytes it has, and never markup.
#include "core/html.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

std::string html(std::string_view value) {
    std::string out(value.size() * kHtmlGrowth, '\0');
    out.resize(static_cast<std::size_t>(put_html(out.data(), value) - out.data()));
    return out;
}

// As a browser reads it: the characters behind the references. Anything that could be markup, or is no ASCII, fails.
std::vector<std::uint32_t> read(const std::string& page) {
    std::vector<std::uint32_t> codes;
    for (std::size_t i = 0; i < page.size(); i++) {
        const char c = page[i];
        EXPECT_TRUE(static_cast<unsigned char>(c) < 0x7F && (c >= 0x20 || c == '\t' || c == '\n')) << page;
        EXPECT_EQ(std::string_view("<>\"'").find(c), std::string_view::npos) << page;
        if (c != '&') {
            codes.push_back(static_cast<unsigned char>(c));
            continue;
        }
        const std::size_t end = page.find(';', i);
        EXPECT_NE(end, std::string::npos) << page;
        const std::string name = page.substr(i + 1, end - i - 1);
        if (name.starts_with("#")) {
            codes.push_back(static_cast<std::uint32_t>(std::stoul(name.substr(1))));
        } else {
            EXPECT_TRUE(name == "amp" || name == "lt" || name == "gt" || name == "quot") << name;
            codes.push_back(name == "amp" ? '&' : name == "lt" ? '<' : name == "gt" ? '>' : '"');
        }
        i = end;
    }
    return codes;
}

std::string utf8(std::uint32_t code) {
    const auto byte = [](std::uint32_t b) { return static_cast<char>(b); };
    if (code < 0x80) {
        return {byte(code)};
    }
    if (code < 0x800) {
        return {byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))};
    }
    if (code < 0x10000) {
        return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
    }
    return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)), byte(0x80 | (code >> 6 & 0x3F)),
            byte(0x80 | (code & 0x3F))};
}

bool forbidden(std::uint32_t code) { // by the HTML standard, or turning the direction of what follows
    return (code >= 0x80 && code <= 0x9F) || (code >= 0xFDD0 && code <= 0xFDEF) || code % 0x10000 >= 0xFFFE ||
           (code >= 0xD800 && code <= 0xDFFF) || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069);
}

TEST(Html, Examples) {
    EXPECT_EQ(html(""), "");
    EXPECT_EQ(html("plain, with a space\tand\na line"), "plain, with a space\tand\na line");
    EXPECT_EQ(html("<script>alert('1')</script>"), "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;");
    EXPECT_EQ(html("\" onload=\"x"), "&quot; onload=&quot;x");
    EXPECT_EQ(html("&lt;"), "&amp;lt;");
    EXPECT_EQ(html("\u00FC\u4E2D\U0001F418"), "&#252;&#20013;&#128024;");
    EXPECT_EQ(html("\x1B[31m\r\x7F"), "&#9243;[31m&#9229;&#9249;");
    EXPECT_EQ(html("a\u202Eb"), "a&#65533;b");
    EXPECT_EQ(html("\xC0\xBC"), "&#65533;&#65533;") << "an overlong <";
    EXPECT_EQ(html("\xE2\x82"), "&#65533;&#65533;") << "cut off";
    EXPECT_EQ(html("\xED\xA0\x80"), "&#65533;&#65533;&#65533;") << "half of a pair";
    EXPECT_EQ(html("\xF4\x90\x80\x80"), "&#65533;&#65533;&#65533;&#65533;") << "beyond Unicode";
}

TEST(Html, EveryCharacter) {
    for (std::uint32_t code = 0; code <= 0x10FFFF;
         code += code >= 0x20000 && code % 0x10000 < 0xFF00 ? 85 : 1) { // and the last of each plane
        if (code >= 0xD800 && code <= 0xDFFF) {
            continue;
        }
        const std::uint32_t expected = forbidden(code)                               ? 0xFFFD
                                       : code == 0x7F                                ? 0x2421
                                       : code < 0x20 && code != '\t' && code != '\n' ? 0x2400 + code
                                                                                     : code;
        ASSERT_EQ(read(html(utf8(code))), std::vector{expected}) << code;
    }
}

TEST(Html, AnyBytes) {
    test::Random random;
    for (int round = 0; round < 20000; round++) {
        std::string bytes(random.below(24), '\0');
        for (char& c : bytes) { // mostly what begins or ends something
            constexpr std::string_view kLikely = "<>&\"';#x/\x80\xBF\xC3\xE2\xED\xEF\xF0\xF4\xFF";
            c = random.chance(0.7) ? kLikely[random.below(kLikely.size())] : static_cast<char>(random.below(256));
        }
        for (const std::uint32_t code : read(html(bytes))) {
            ASSERT_FALSE(forbidden(code));
        }
        ASSERT_FALSE(HasFailure());
    }
}

} // namespace
} // namespace tandem
