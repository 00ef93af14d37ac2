// Any bytes as a value in a page: pure ASCII comes out, no longer than promised, and nothing in it is markup.
#include "core/html.hpp"

#include <string>

#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view value(reinterpret_cast<const char*>(data), size);
    std::string page(size * tandem::kHtmlGrowth + 1, '\xFF');
    const auto end = static_cast<std::size_t>(tandem::put_html(page.data(), value) - page.data());
    fuzz::require(end <= size * tandem::kHtmlGrowth && page[end] == '\xFF');
    for (std::size_t i = 0; i < end; i++) {
        const auto c = static_cast<unsigned char>(page[i]);
        fuzz::require(c < 0x7F && (c >= 0x20 || c == '\t' || c == '\n'));
        fuzz::require(c != '<' && c != '>' && c != '"' && c != '\'');
        if (c == '&') {
            const std::size_t last = page.find(';', i);
            fuzz::require(last != std::string::npos && last < end && last - i <= 9); // &#1114111;
        }
    }
    return 0;
}
