// fit(): a text in so many columns of a terminal, cut or filled up: what psql would count, with wide characters as two,
// combining ones as none. Control characters, which may move the cursor or worse, are replaced.
#include "pg/prelude.hpp"

namespace pg {
namespace {

constexpr std::string_view kCut = "\xE2\x80\xA6"; // …

// A control character's picture (U+2400 and on), or one that turns the text's direction: what stands for it.
void append_visible(StringInfo line, const char* at, int bytes, bool utf8) {
    const auto c = static_cast<unsigned char>(*at);
    if (utf8 && bytes == 1) {
        const char picture[] = {'\xE2', '\x90', static_cast<char>(c == 0x7F ? 0xA1 : 0x80 + c)};
        appendBinaryStringInfo(line, picture, sizeof picture);
    } else {
        appendStringInfoChar(line, '?');
    }
}

bool turns_direction(const char* at, int bytes, bool utf8) {
    const auto* b = reinterpret_cast<const unsigned char*>(at);
    return utf8 && bytes == 3 && b[0] == 0xE2 &&
           ((b[1] == 0x80 && b[2] >= 0xAA && b[2] <= 0xAE) || (b[1] == 0x81 && b[2] >= 0xA6 && b[2] <= 0xA9));
}

Datum fit(FunctionCallInfo fcinfo) {
    const text* value = PG_GETARG_TEXT_PP(0);
    const int width = std::clamp(PG_GETARG_INT32(1), 0, 10000);
    const bool right = PG_GETARG_BOOL(2);
    const bool utf8 = GetDatabaseEncoding() == PG_UTF8;

    StringInfoData line;
    initStringInfo(&line);
    int columns = 0;
    int keep = 0; // bytes that leave room for the sign of a cut
    int keep_columns = 0;
    bool cut = false;
    const char* at = VARDATA_ANY(value);
    const char* end = at + VARSIZE_ANY_EXHDR(value);
    while (at < end) {
        const int bytes = std::min(pg_mblen(at), static_cast<int>(end - at));
        int more = pg_dsplen(at);
        const bool replace = more < 0 || turns_direction(at, bytes, utf8);
        more = replace ? 1 : more;
        if (columns + more > width) {
            cut = true;
            break;
        }
        if (replace) {
            append_visible(&line, at, bytes, utf8);
        } else {
            appendBinaryStringInfo(&line, at, bytes);
        }
        columns += more;
        if (columns < width) {
            keep = line.len;
            keep_columns = columns;
        }
        at += bytes;
    }
    if (cut && width > 0) {
        line.len = keep;
        columns = keep_columns + 1;
        if (utf8) {
            appendBinaryStringInfo(&line, kCut.data(), static_cast<int>(kCut.size()));
        } else {
            appendStringInfoChar(&line, '~');
        }
    }
    StringInfoData padded;
    initStringInfo(&padded);
    if (!right) {
        appendBinaryStringInfo(&padded, line.data, line.len);
    }
    for (; columns < width; columns++) {
        appendStringInfoChar(&padded, ' ');
    }
    if (right) {
        appendBinaryStringInfo(&padded, line.data, line.len);
    }
    PG_RETURN_TEXT_P(cstring_to_text_with_len(padded.data, padded.len));
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_fit) {
    return pg::entry([&] { return pg::fit(fcinfo); });
}
