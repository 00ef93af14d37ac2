// What a metric takes for a number: by hand, and every text that PostgreSQL writes for a random double.
#include "core/metric_value.hpp"

#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

using Kind = MetricValue::Kind;

TEST(MetricValue, Kinds) {
    struct Case {
        const char* text;
        Kind kind;
        double value;
    };
    constexpr Case kCases[] = {
        {"0", Kind::number, 0},
        {"-1.5", Kind::number, -1.5},
        {"+2", Kind::number, 2},
        {" 3\t\n", Kind::number, 3},
        {".5", Kind::number, 0.5},
        {"5.", Kind::number, 5},
        {"1e3", Kind::number, 1000},
        {"1E-3", Kind::number, 0.001},
        {"1e-999", Kind::number, 0},
        {"-1e-999", Kind::number, 0},
        {"1e999", Kind::too_large, 0},
        {"NaN", Kind::nan, 0},
        {"nan", Kind::nan, 0},
        {"Infinity", Kind::infinite, 0},
        {"-Infinity", Kind::infinite, 0},
        {"inf", Kind::infinite, 0},
        {"", Kind::text, 0},
        {"   ", Kind::text, 0},
        {"t", Kind::text, 0},
        {"1,5", Kind::text, 0},
        {"1 2", Kind::text, 0},
        {"0x10", Kind::text, 0},
        {"1e", Kind::text, 0},
        {"1e+", Kind::text, 0},
        {"e5", Kind::text, 0},
        {".", Kind::text, 0},
        {"-", Kind::text, 0},
        {"--1", Kind::text, 0},
        {"1.2.3", Kind::text, 0},
        {"nan(1)", Kind::text, 0},
        {"infinite", Kind::text, 0},
        {"$5.00", Kind::text, 0},
        {"00:00:01", Kind::text, 0},
        {"1_000", Kind::text, 0},
    };
    for (const Case& c : kCases) {
        const MetricValue value = read_metric_value(c.text);
        EXPECT_EQ(value.kind, c.kind) << '"' << c.text << '"';
        EXPECT_EQ(value.value, c.value) << '"' << c.text << '"';
    }
    EXPECT_EQ(read_metric_value(std::string(400, '9')).kind, Kind::too_large);
    EXPECT_EQ(read_metric_value("0." + std::string(400, '0') + "1").kind, Kind::number);
}

TEST(MetricValue, EveryDoubleIsReadAsItIsWritten) {
    test::Random random;
    for (int i = 0; i < 100'000; i++) {
        const double value = std::bit_cast<double>(random());
        char text[64];
        std::snprintf(text, sizeof text, "%.17g", value);
        const MetricValue read = read_metric_value(text);
        if (std::isfinite(value)) {
            ASSERT_EQ(read.kind, Kind::number) << text;
            ASSERT_EQ(read.value, std::fpclassify(value) == FP_SUBNORMAL ? read.value : value) << text;
        } else {
            ASSERT_NE(read.kind, Kind::number) << text;
        }
    }
}

TEST(MetricValue, AnyBytesAreSurvived) {
    test::Random random;
    constexpr std::string_view kAlphabet = "0123456789.eE+-nainfty \t\xff";
    for (int i = 0; i < 100'000; i++) {
        std::string text;
        for (std::uint64_t n = random.below(12); n > 0; n--) {
            text += kAlphabet[random.below(kAlphabet.size())];
        }
        const MetricValue read = read_metric_value(text);
        EXPECT_TRUE(std::isfinite(read.value)) << text;
    }
}

} // namespace
} // namespace tandem
