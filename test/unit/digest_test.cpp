// A digest is for ever: the same on every machine and in every release, and not to be fooled by boundaries or copies.
#include "core/digest.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem {
namespace {

struct Row {
    std::vector<std::uint8_t> bytes;

    Row& text(const std::string& value) {
        return grow(value.size(), [&](std::uint8_t* to) {
            return DigestItem::put(to, DigestClass::text, value.data(), value.size());
        });
    }
    Row& null() {
        return grow(0, [](std::uint8_t* to) { return DigestItem::put(to, DigestClass::null, nullptr, 0); });
    }
    Row& floating(double value) {
        return grow(0, [&](std::uint8_t* to) { return DigestItem::put_double(to, value); });
    }
    template <class F>
    Row& grow(std::size_t size, F put) {
        const std::size_t at = bytes.size();
        bytes.resize(at + std::min(size, DigestItem::kMaxInline) + DigestItem::kOverhead);
        bytes.resize(at + put(bytes.data() + at));
        return *this;
    }
};

std::string digest(const std::vector<Row>& rows) {
    RowDigest result;
    for (const Row& row : rows) {
        result.add(row.bytes.data(), row.bytes.size());
    }
    char digits[RowDigest::kDigits];
    result.write(digits);
    return {digits, sizeof(digits)};
}

TEST(digest, is_what_it_was) {
    EXPECT_EQ(digest({}), "10e45c7ce2292320743df94ee4c78a2a");
    EXPECT_EQ(digest({Row{}}), "86ea031839b207b18e8df4d6b82fac2c");
    EXPECT_EQ(digest({Row{}.text("a").null().floating(1.5)}), "807b210be3bae37d6e7f0b907c6ab4e6");
    EXPECT_EQ(digest({Row{}.text(std::string(5000, 'x'))}), "1b612b12f3c10e7c10e149b4b1eb6dde");
}

TEST(digest, does_not_depend_on_the_order_of_rows) {
    std::vector<Row> rows;
    for (int i = 0; i < 1000; i++) {
        rows.push_back(Row{}.text(std::to_string(i)).null());
    }
    const std::string sorted = digest(rows);
    std::shuffle(rows.begin(), rows.end(), std::mt19937(7));
    EXPECT_EQ(digest(rows), sorted);
}

TEST(digest, knows_where_a_value_ends) {
    EXPECT_NE(digest({Row{}.text("ab").text("c")}), digest({Row{}.text("a").text("bc")}));
    EXPECT_NE(digest({Row{}.text("").null()}), digest({Row{}.null().text("")}));
    EXPECT_NE(digest({Row{}.text("")}), digest({Row{}.null()}));
    EXPECT_NE(digest({Row{}.text("a"), Row{}.text("b")}), digest({Row{}.text("a").text("b")}));
}

TEST(digest, copies_count) {
    const Row a = Row{}.text("a");
    const Row b = Row{}.text("b");
    EXPECT_NE(digest({a, a}), digest({b, b}));
    EXPECT_NE(digest({a, a}), digest({}));
    EXPECT_NE(digest({a, a, b}), digest({a, b, b}));
    EXPECT_NE(digest({a}), digest({a, a, a}));
    std::vector<Row> many(256, a);
    EXPECT_NE(digest(many), digest({}));
}

// The same values swapped between two rows: a sum of what is linear would not see it.
TEST(digest, sees_values_swapped_between_rows) {
    EXPECT_NE(digest({Row{}.text("1").text("x"), Row{}.text("2").text("y")}),
              digest({Row{}.text("1").text("y"), Row{}.text("2").text("x")}));
}

TEST(digest, floats_are_what_equals_says) {
    EXPECT_EQ(digest({Row{}.floating(0.0)}), digest({Row{}.floating(-0.0)}));
    EXPECT_EQ(digest({Row{}.floating(std::nan("1"))}), digest({Row{}.floating(-std::nan("2"))}));
    EXPECT_NE(digest({Row{}.floating(0.1)}), digest({Row{}.floating(0.1F)}));
}

TEST(digest, long_values_are_told_apart) {
    for (const std::size_t size : {1023U, 1024U, 1025U, 100'000U}) {
        std::string value(size, 'x');
        const std::string before = digest({Row{}.text(value)});
        value[size / 2] = 'y';
        EXPECT_NE(digest({Row{}.text(value)}), before) << size;
        EXPECT_NE(digest({Row{}.text(value + "x")}), before) << size;
    }
}

TEST(digest, parts_make_the_whole) {
    RowDigest whole;
    RowDigest first;
    RowDigest second;
    for (int i = 0; i < 100; i++) {
        const Row row = Row{}.text(std::to_string(i % 10));
        whole.add(row.bytes.data(), row.bytes.size());
        (i < 37 ? first : second).add(row.bytes.data(), row.bytes.size());
    }
    std::uint8_t bytes[RowDigest::kBytes];
    second.save(bytes);
    first.merge(RowDigest::load(bytes));
    char a[RowDigest::kDigits];
    char b[RowDigest::kDigits];
    whole.write(a);
    first.write(b);
    EXPECT_EQ(std::string(a, sizeof(a)), std::string(b, sizeof(b)));
    EXPECT_EQ(whole.rows(), first.rows());
}

} // namespace
} // namespace tandem
