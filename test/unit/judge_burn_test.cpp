// Burn rates: the figures of the Site Reliability Workbook, and every way in which two windows can agree or not.
#include "core/judge_burn.hpp"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

// The Site Reliability Workbook, chapter 5: for an objective of 99.9 %, a burn rate of 14.4 is an error rate of 1.44 %,
// one of 6 is 0.6 % (table 5-8 and the rules below it); at an error rate of 100 % the rate is 1000.
TEST(judge_burn_rate, workbook) {
    EXPECT_NEAR(burn_rate({10000, 144}, 0.999), 14.4, 1e-9);
    EXPECT_NEAR(burn_rate({1000, 6}, 0.999), 6, 1e-9);
    EXPECT_NEAR(burn_rate({77, 77}, 0.999), 1000, 1e-9);
    EXPECT_TRUE(std::isnan(burn_rate({0, 0}, 0.999)));
    // just below and just above both factors
    EXPECT_EQ(
        judge_burn_rate(0.999, {{{{{100000, 1439}, {10000, 1439}}}, {{{100000, 599}, {10000, 599}}}}}, 100).verdict,
        Verdict::pass);
    const auto fast = judge_burn_rate(0.999, {{{{{100000, 1441}, {10000, 145}}}, {{{100000, 599}, {10000, 59}}}}}, 100);
    EXPECT_EQ(fast.verdict, Verdict::fail);
    EXPECT_STREQ(fast.pair, "fast");
    const auto slow = judge_burn_rate(0.999, {{{{{100000, 1439}, {10000, 143}}}, {{{100000, 601}, {10000, 61}}}}}, 100);
    EXPECT_EQ(slow.verdict, Verdict::fail);
    EXPECT_STREQ(slow.pair, "slow");
}

TEST(judge_burn_rate, fails_where_both_windows_of_a_pair_do) {
    test::Random random;
    for (int round = 0; round < 20000; round++) {
        const double objective = 1 - std::pow(10, -1 - 3 * static_cast<double>(random.below(1000)) / 999);
        std::array<std::array<Tally, 2>, 2> w{};
        bool fails = false;
        bool any = false;
        for (std::size_t i = 0; i < 2; i++) {
            const auto long_n = static_cast<std::int64_t>(random.below(5000));
            const auto short_n = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(long_n) + 1));
            const double rate = (1 - objective) * static_cast<double>(random.below(300)) / 10;
            const auto bad = [&](std::int64_t n, std::int64_t most) {
                return std::min({n, most, static_cast<std::int64_t>(static_cast<double>(n) * rate)});
            };
            const std::int64_t long_bad = bad(long_n, long_n);
            w[i] = {{{long_n, long_bad}, {short_n, bad(short_n, long_bad)}}};
            if (long_n >= 100 && short_n > 0) {
                any = true;
                const double factor = i == 0 ? 14.4 : 6;
                fails |= static_cast<double>(w[i][0].bad) / static_cast<double>(long_n) / (1 - objective) > factor &&
                         static_cast<double>(w[i][1].bad) / static_cast<double>(short_n) / (1 - objective) > factor;
            }
        }
        const auto j = judge_burn_rate(objective, w, 100);
        EXPECT_EQ(j.verdict, !any ? Verdict::inconclusive : fails ? Verdict::fail : Verdict::pass) << j.reason;
        EXPECT_FALSE(j.reason.empty());
    }
}

TEST(judge_burn_rate, what_cannot_be_is_refused) {
    EXPECT_THROW(burn_rate({1, 0}, 1), Error);
    EXPECT_THROW(burn_rate({1, 0}, 0), Error);
    EXPECT_THROW(burn_rate({1, 0}, std::nan("")), Error);
    EXPECT_THROW(burn_rate({1, 2}, 0.9), Error);
    EXPECT_THROW(judge_burn_rate(0.9, {{{{{1, 0}, {2, 0}}}, {{{1, 0}, {1, 0}}}}}, 1), Error);
    EXPECT_THROW(judge_burn_rate(0.9, {{{{{1, 0}, {1, 0}}}, {{{1, 0}, {1, 0}}}}}, 0), Error);
}

} // namespace
} // namespace tandem
