// glyph(): a sign by its name, or what ASCII has for it where the database's encoding is not UTF-8.
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

struct Glyph {
    std::string_view name;
    std::string_view utf8;
    std::string_view ascii;
};

constexpr Glyph kGlyphs[] = {
    {"yes", "\xE2\x9C\x93", "+"},         {"no", "\xE2\x9C\x97", "x"},           {"dot", "\xC2\xB7", "."},
    {"bullet", "\xE2\x80\xA2", "o"},      {"up", "\xE2\x96\xB2", "^"},           {"pause", "\xE2\x80\x96", "="},
    {"retry", "\xE2\x86\xBB", "@"},       {"to", "\xE2\x86\x92", "->"},          {"times", "\xC3\x97", "x"},
    {"minus", "\xE2\x88\x92", "-"},       {"full", "\xE2\x96\x88", "#"},         {"empty", "\xE2\x96\x91", "."},
    {"line", "\xE2\x94\x80", "-"},        {"side", "\xE2\x94\x82", "|"},         {"left", "\xE2\x94\x9C", "+"},
    {"right", "\xE2\x94\xA4", "+"},       {"top left", "\xE2\x95\xAD", "+"},     {"top right", "\xE2\x95\xAE", "+"},
    {"bottom left", "\xE2\x95\xB0", "+"}, {"bottom right", "\xE2\x95\xAF", "+"}, {"level 1", "\xE2\x96\x81", "_"},
    {"level 2", "\xE2\x96\x82", "."},     {"level 3", "\xE2\x96\x83", "-"},      {"level 4", "\xE2\x96\x84", "~"},
    {"level 5", "\xE2\x96\x85", "="},     {"level 6", "\xE2\x96\x86", "+"},      {"level 7", "\xE2\x96\x87", "*"},
    {"level 8", "\xE2\x96\x88", "#"},
};

Datum glyph(FunctionCallInfo fcinfo) {
    const text* argument = PG_GETARG_TEXT_PP(0);
    const std::string_view name(VARDATA_ANY(argument), VARSIZE_ANY_EXHDR(argument));
    for (const Glyph& glyph : kGlyphs) {
        if (glyph.name == name) {
            const std::string_view sign = GetDatabaseEncoding() == PG_UTF8 ? glyph.utf8 : glyph.ascii;
            PG_RETURN_TEXT_P(cstring_to_text_with_len(sign.data(), static_cast<int>(sign.size())));
        }
    }
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is no such glyph"),
                    errhint("tandem.glyph('yes'), tandem.glyph('level 8')")));
    pg_unreachable();
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_glyph) {
    return pg::entry([&] { return pg::glyph(fcinfo); });
}

TANDEM_FUNCTION(tandem_fit) {
    return pg::entry([&] { return pg::fit(fcinfo); });
}
