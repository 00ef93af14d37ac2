// test_decoding's text, as it is written for every kind of name, type and value.
#include "core/decoded_change.hpp"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace tandem {
namespace {

using Kind = DecodedChange::Kind;

std::string shown(const DecodedRow& row) {
    std::string result = row.present ? "" : "nothing";
    for (const DecodedColumn& column : row.columns) {
        result += (result.empty() ? "" : "|") + column.name + "=" +
                  (column.unchanged ? "unchanged"
                   : column.value   ? "<" + *column.value + ">"
                                    : "NULL");
    }
    return result;
}

TEST(decoded_change, reads_what_test_decoding_writes) {
    auto change = parse_decoded_change("table public.t: INSERT: id[integer]:-1 note[text]:'it''s [x]: ' n[numeric]:NaN "
                                       "b[boolean]:true bits[bit varying]:B'101' gone[text]:null");
    ASSERT_TRUE(change);
    EXPECT_EQ(change->kind, Kind::insert);
    EXPECT_EQ(change->relation, "public.t");
    EXPECT_EQ(shown(change->new_row), "id=<-1>|note=<it's [x]: >|n=<NaN>|b=<true>|bits=<101>|gone=NULL");
    EXPECT_EQ(shown(change->old_row), "nothing");

    change = parse_decoded_change(
        "table \"my: \"\"shop\"\"\".\"Order\": UPDATE: old-key: \"a[1]\"\"\"[integer[]]:'{1,2}' new-tuple: "
        "\"a[1]\"\"\"[integer[]]:'{3}' v[\"odd]type\"]:' new-tuple: ' long[text]:unchanged-toast-datum");
    ASSERT_TRUE(change);
    EXPECT_EQ(change->kind, Kind::update);
    EXPECT_EQ(change->relation, "\"my: \"\"shop\"\"\".\"Order\"");
    EXPECT_EQ(shown(change->old_row), "a[1]\"=<{1,2}>");
    EXPECT_EQ(shown(change->new_row), "a[1]\"=<{3}>|v=< new-tuple: >|long=unchanged");

    EXPECT_EQ(shown(parse_decoded_change("table s.t: UPDATE: id[integer]:1 v[text]:'a\nb'")->new_row),
              "id=<1>|v=<a\nb>");
    EXPECT_EQ(shown(parse_decoded_change("table s.t: DELETE: id[integer]:1")->old_row), "id=<1>");
    EXPECT_EQ(shown(parse_decoded_change("table s.t: DELETE: (no-tuple-data)")->old_row), "nothing");
    change = parse_decoded_change("table s.a, s.b: TRUNCATE: restart_seqs cascade");
    ASSERT_TRUE(change);
    EXPECT_EQ(change->kind, Kind::truncate);
    EXPECT_EQ(change->relation, "s.a, s.b");
    EXPECT_FALSE(parse_decoded_change("BEGIN"));
    EXPECT_FALSE(parse_decoded_change("COMMIT 1"));
    EXPECT_FALSE(parse_decoded_change("message: transactional: 1 prefix: x, sz: 1 content:x"));
}

TEST(decoded_change, refuses_what_it_does_not_write) {
    for (const char* line :
         {"table ", "table s.t", "table s.t: ", "table s.t: MERGE: a[b]:1", "table s.t: INSERT: a",
          "table s.t: INSERT: a[b", "table s.t: INSERT: a[b]", "table s.t: INSERT: a[b]:'x",
          "table s.t: INSERT: a[b]:'x''", "table s.t: INSERT: a[b]:'x'y", "table s.t: UPDATE: old-key: a[b]:1",
          "table s.t: DELETE: \"a[b]:1", "table s.t: DELETE: \"[b]:1"}) {
        EXPECT_THROW(parse_decoded_change(line), Error) << line;
    }
}

// Any bytes: an answer or an Error, and no read beyond the end.
TEST(decoded_change, survives_any_bytes) {
    const std::string base = "table \"s\".t: UPDATE: old-key: a[integer[]]:'x''y' new-tuple: a[integer[]]:null "
                             "\"b\"[text]:unchanged-toast-datum c[int]:1";
    std::mt19937 random(1);
    for (int i = 0; i < 50'000; i++) {
        std::string line = base.substr(0, random() % (base.size() + 1));
        for (unsigned j = random() % 4; j > 0 && line.size() > 6; j--) {
            line[6 + random() % (line.size() - 6)] = "\"'[]: x("[random() % 8];
        }
        try {
            parse_decoded_change(line);
        } catch (const Error&) {
        }
    }
}

} // namespace
} // namespace tandem
