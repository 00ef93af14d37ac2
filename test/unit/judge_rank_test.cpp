// Mann-Whitney: published examples, and all permutations of small samples, with and without ties.
#include "core/judge_rank.hpp"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

// Hollander and Wolfe, Nonparametric Statistical Methods (1973), p. 69: permeability of the human chorioamnion at term,
// and before. W = 35, one-sided p = 0.1272.
TEST(judge_mann_whitney, hollander_and_wolfe) {
    const std::vector<double> term{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46};
    const std::vector<double> before{1.15, 0.88, 0.90, 0.74, 1.21};
    const auto j = judge_mann_whitney(before, term, {.min_samples = 1});
    EXPECT_EQ(j.u, 35);
    EXPECT_STREQ(j.method, "exact");
    EXPECT_NEAR(j.p_value, 0.1272, 0.00005);
    EXPECT_EQ(j.verdict, Verdict::pass);
}

// The documentation of scipy.stats.mannwhitneyu: age at the diagnosis of diabetes; U = 17, two-sided p = 0.1111 (= 2 *
// 7/126).
TEST(judge_mann_whitney, scipy) {
    const auto j = judge_mann_whitney(std::vector<double>{20, 11, 17, 12}, std::vector<double>{19, 22, 16, 29, 24},
                                      {.min_samples = 1});
    EXPECT_EQ(j.u, 17);
    EXPECT_NEAR(j.p_value, 7.0 / 126, 1e-15);
}

// The documentation of R's wilcox.test: ozone in May and in August (data set airquality). W = 127.5, p = 0.0001208,
// two-sided, by the normal distribution with corrections for ties and continuity.
TEST(judge_mann_whitney, ozone_in_new_york) {
    const std::vector<double> may{41, 36, 12, 18, 28, 23, 19, 8, 7,  16, 11, 14,  18,
                                  14, 34, 6,  30, 11, 1,  11, 4, 32, 23, 45, 115, 37};
    const std::vector<double> august{39, 9,  16, 78, 35, 66, 122, 89,  110, 44, 28,  65, 22,
                                     59, 23, 31, 44, 21, 9,  45,  168, 73,  76, 118, 84, 85};
    const auto j = judge_mann_whitney(may, august, {});
    EXPECT_EQ(j.u, 26 * 26 - 127.5);
    EXPECT_STREQ(j.method, "normal");
    EXPECT_NEAR(2 * j.p_value, 0.0001208, 0.00000005);
    EXPECT_EQ(j.verdict, Verdict::fail);
}

double pairs(const std::vector<double>& legacy, const std::vector<double>& now) {
    double u = 0;
    for (const double n : now) {
        for (const double l : legacy) {
            u += n > l ? 1 : n == l ? 0.5 : 0;
        }
    }
    return u;
}

TEST(judge_mann_whitney, agrees_with_all_permutations) {
    test::Random random;
    for (int round = 0; round < 300; round++) {
        const std::size_t n1 = 1 + random.below(6);
        const std::size_t n2 = 1 + random.below(6);
        const std::uint64_t range = 2 + random.below(12); // a small one makes ties
        std::vector<double> all(n1 + n2);
        std::generate(all.begin(), all.end(), [&] { return static_cast<double>(random.below(range)) / 3; });
        const auto split = [&](unsigned chosen) {
            std::pair<std::vector<double>, std::vector<double>> sides;
            for (std::size_t i = 0; i < all.size(); i++) {
                ((chosen >> i & 1) != 0 ? sides.second : sides.first).push_back(all[i]);
            }
            return sides;
        };
        const unsigned first = ((1U << n2) - 1) << n1;
        const auto [legacy, now] = split(first);
        const double u = pairs(legacy, now);
        int at_least = 0;
        int count = 0;
        for (unsigned chosen = 0; chosen < 1U << all.size(); chosen++) {
            if (static_cast<std::size_t>(__builtin_popcount(chosen)) == n2) {
                const auto [l, n] = split(chosen);
                count++;
                at_least += pairs(l, n) >= u ? 1 : 0;
            }
        }
        const auto j = judge_mann_whitney(legacy, now, {.min_samples = 1});
        EXPECT_EQ(j.u, u);
        EXPECT_STREQ(j.method, "exact");
        EXPECT_NEAR(j.p_value, static_cast<double>(at_least) / count, 1e-12) << n1 << ", " << n2 << " values";
    }
}

// Beside each other at the border: 25 values are exact, 26 are normal.
TEST(judge_mann_whitney, exact_and_normal_meet) {
    test::Random random;
    for (int round = 0; round < 50; round++) {
        std::vector<double> legacy(25);
        std::vector<double> now(25);
        std::generate(legacy.begin(), legacy.end(), [&] { return static_cast<double>(random.below(40)); });
        std::generate(now.begin(), now.end(), [&] { return static_cast<double>(random.below(40) + 4); });
        const auto exact = judge_mann_whitney(legacy, now, {});
        legacy.push_back(21.5);
        const auto normal = judge_mann_whitney(legacy, now, {});
        EXPECT_STREQ(exact.method, "exact");
        EXPECT_STREQ(normal.method, "normal");
        EXPECT_NEAR(exact.p_value, normal.p_value, 0.06);
        EXPECT_EQ(exact.u, pairs(std::vector<double>(legacy.begin(), legacy.end() - 1), now));
    }
}

TEST(judge_mann_whitney, edges) {
    const std::vector<double> same(30, 5.0);
    EXPECT_EQ(judge_mann_whitney(same, same, {}).p_value, 1);
    EXPECT_EQ(judge_mann_whitney(same, same, {}).effect, 0.5);
    const std::vector<double> few(10, 5.0);
    EXPECT_EQ(judge_mann_whitney(few, few, {}).p_value, 1);
    EXPECT_EQ(judge_mann_whitney({}, same, {}).verdict, Verdict::inconclusive);
    EXPECT_EQ(judge_mann_whitney(same, {}, {}).verdict, Verdict::inconclusive);
    EXPECT_THROW(judge_mann_whitney(std::vector<double>{std::nan("")}, same, {}), Error);
    EXPECT_THROW(judge_mann_whitney(same, std::vector<double>{HUGE_VAL}, {}), Error);
    EXPECT_THROW(judge_mann_whitney(same, same, {.alpha = -1}), Error);
    EXPECT_THROW(judge_mann_whitney(same, same, {.min_effect = 1}), Error);
    EXPECT_THROW(judge_mann_whitney(same, same, {.min_samples = 0}), Error);
}

} // namespace
} // namespace tandem
