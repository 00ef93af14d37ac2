// What may stand in an HTML page as a value, in a text or in a quoted attribute, whatever bytes it has.
//
// The answer is pure ASCII: & < > " ' and everything beyond ASCII as character references, so that a page shows the
// same in any encoding that it may be saved or sent in. What HTML forbids or a reader can't see is made visible:
// control characters by their pictures (U+2400 and on), bytes that are no UTF-8, noncharacters, C1 controls and those
// characters that turn the direction of the text behind them by U+FFFD.
#pragma once

#include <cstddef>
#include <string_view>

namespace tandem {

constexpr std::size_t kHtmlGrowth = 8; // bytes that one byte may become

// Writes what stands for a UTF-8 text; `out` has room for kHtmlGrowth times its bytes. Returns behind the last byte.
char* put_html(char* out, std::string_view utf8) noexcept;

} // namespace tandem
