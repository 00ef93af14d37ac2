// Two proportions: published examples; Fisher's test against an enumeration of all tables, in exact arithmetic; the
// bounds against their definition.
#include "core/judge_proportion.hpp"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "core/judge_distribution.hpp"
#include "random.hpp"

namespace tandem {
namespace {

// Agresti, Categorical Data Analysis (2nd ed.), 3.1: the Physicians' Health Study, myocardial infarction under placebo
// (189 of 11034) and aspirin (104 of 11037). Pearson's chi-square is 25.01; that is the square of z.
TEST(judge_proportions, physicians_health_study) {
    const auto j = judge_proportions({11037, 104}, {11034, 189}, {});
    EXPECT_STREQ(j.method, "z");
    EXPECT_NEAR(std::pow(normal_quantile(j.p_value), 2), 25.01, 0.005);
    EXPECT_NEAR(j.new_rate, 0.0171, 0.00005);
    EXPECT_NEAR(j.legacy_rate, 0.0094, 0.00005);
    EXPECT_EQ(j.verdict, Verdict::fail);
    EXPECT_EQ(judge_proportions({11034, 189}, {11037, 104}, {}).verdict, Verdict::pass);
}

// Fisher, The Design of Experiments (1935): the lady who tasted tea had 3 of 4 right; P = 17/70.
TEST(judge_proportions, the_lady_tasting_tea) {
    const auto j = judge_proportions({4, 1}, {4, 3}, {.min_samples = 1});
    EXPECT_STREQ(j.method, "exact");
    EXPECT_NEAR(j.p_value, 17.0 / 70, 1e-15);
}

// Fisher (1970), as in the documentation of R's fisher.test: convictions of twins of criminals, 2 of 17 dizygotic and
// 10 of 13 monozygotic; one-sided p = 0.0004652.
TEST(judge_proportions, criminal_twins) {
    const auto j = judge_proportions({17, 2}, {13, 10}, {.min_samples = 1});
    EXPECT_STREQ(j.method, "exact");
    EXPECT_NEAR(j.p_value, 0.0004652, 0.00000005);
    EXPECT_EQ(j.verdict, Verdict::fail);
}

// Newcombe, Statistics in Medicine 17 (1998), table II, method 10, at 95 %: 56/70 - 48/80: 0.0524 to 0.3339; 9/10 -
// 3/10: 0.1705 to 0.8090; 10/10 - 0/20: 0.6791 to 1.
TEST(judge_proportions, newcombes_intervals) {
    const double alpha = 0.025;
    const auto a = judge_proportions({80, 48}, {70, 56}, {.alpha = alpha});
    EXPECT_NEAR(a.lower, 0.0524, 0.00005);
    EXPECT_NEAR(a.upper, 0.3339, 0.00005);
    const auto b = judge_proportions({10, 3}, {10, 9}, {.alpha = alpha});
    EXPECT_NEAR(b.lower, 0.1705, 0.00005);
    EXPECT_NEAR(b.upper, 0.8090, 0.00005);
    const auto c = judge_proportions({20, 0}, {10, 10}, {.alpha = alpha});
    EXPECT_NEAR(c.lower, 0.6791, 0.00005);
    EXPECT_EQ(c.upper, 1);
}

__extension__ using Wide = unsigned __int128;

Wide choose(int n, int k) {
    Wide result = 1;
    for (int i = 0; i < k; i++) {
        result = result * static_cast<Wide>(n - i) / static_cast<Wide>(i + 1);
    }
    return result;
}

TEST(judge_proportions, fishers_test_agrees_with_an_enumeration_of_all_tables) {
    test::Random random;
    for (int round = 0; round < 5000; round++) {
        const int n1 = 1 + static_cast<int>(random.below(40));
        const int n2 = 1 + static_cast<int>(random.below(40));
        const int bad1 = static_cast<int>(random.below(static_cast<std::uint64_t>(n1) + 1));
        const int bad2 = static_cast<int>(random.below(static_cast<std::uint64_t>(n2) + 1));
        const int bad = bad1 + bad2;
        Wide at_least = 0;
        for (int x = bad2; x <= std::min(n2, bad); x++) {
            at_least += bad - x <= n1 ? choose(n2, x) * choose(n1, bad - x) : 0;
        }
        const double expected =
            static_cast<double>(static_cast<long double>(at_least) / static_cast<long double>(choose(n1 + n2, bad)));
        EXPECT_NEAR(hypergeometric_at_least(bad2, n2, bad, n1 + n2), expected, 1e-13 + 1e-11 * expected)
            << bad1 << " of " << n1 << ", " << bad2 << " of " << n2;
    }
}

// Where both can be computed, they are near each other, and a rare event among very many calls is no trouble.
TEST(judge_proportions, exact_and_z_meet) {
    // with Yates's correction for continuity, as Fisher's test has it by itself
    EXPECT_NEAR(hypergeometric_at_least(560, 10000, 1060, 20000),
                normal_tail((0.056 - 0.050 - 1.0 / 10000) / std::sqrt(0.053 * 0.947 * 2 / 10000)), 0.0002);
    // of 7 bad calls in 4e9 + 1e9, 5 were new's: P(X >= 5), X binomial with 7 and 1/5 for all that matters
    double expected = 0;
    for (int k = 5; k <= 7; k++) {
        expected += static_cast<double>(choose(7, k)) * std::pow(0.2, k) * std::pow(0.8, 7 - k);
    }
    const auto j = judge_proportions({4'000'000'000, 2}, {1'000'000'000, 5}, {});
    EXPECT_STREQ(j.method, "exact");
    EXPECT_NEAR(j.p_value, expected, 1e-8);
}

TEST(judge_proportions, far_out_in_the_tail) {
    EXPECT_NEAR(std::log10(normal_tail(30)), -197.3093, 0.0005); // Abramowitz and Stegun, 26.2: -log Q(30) = 197.30921
    EXPECT_EQ(judge_proportions({1'000'000, 0}, {1'000'000, 1'000'000}, {}).verdict, Verdict::fail);
    EXPECT_EQ(judge_proportions({1'000'000, 1'000'000}, {1'000'000, 0}, {}).p_value, 1);
    EXPECT_EQ(judge_proportions({1000, 0}, {1000, 0}, {}).p_value, 1);
    EXPECT_EQ(judge_proportions({1000, 1000}, {1000, 1000}, {}).verdict, Verdict::pass);
}

TEST(judge_proportions, numbers_are_always_numbers) {
    test::Random random;
    for (int round = 0; round < 20000; round++) {
        const auto side = [&] {
            const auto n = static_cast<std::int64_t>(random() >> (12 + random.below(52)));
            return Tally{n, n == 0 ? 0 : static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(n) + 1))};
        };
        const Tally l = side();
        const Tally n = side();
        const auto j = judge_proportions(l, n, {.min_samples = 1});
        EXPECT_FALSE(j.reason.empty());
        if (l.n > 0 && n.n > 0) {
            EXPECT_GE(j.p_value, 0) << l.bad << '/' << l.n << ' ' << n.bad << '/' << n.n;
            EXPECT_LE(j.p_value, 1);
            EXPECT_LE(j.lower, j.new_rate - j.legacy_rate + 1e-12);
            EXPECT_GE(j.upper, j.new_rate - j.legacy_rate - 1e-12);
        } else {
            EXPECT_EQ(j.verdict, Verdict::inconclusive);
        }
    }
}

TEST(judge_proportions, what_cannot_be_is_refused) {
    EXPECT_THROW(judge_proportions({10, 11}, {10, 1}, {}), Error);
    EXPECT_THROW(judge_proportions({-1, 0}, {10, 1}, {}), Error);
    EXPECT_THROW(judge_proportions({10, 1}, {10, -1}, {}), Error);
    EXPECT_THROW(judge_proportions({10, 1}, {10, 1}, {.alpha = 0}), Error);
    EXPECT_THROW(judge_proportions({10, 1}, {10, 1}, {.alpha = std::nan("")}), Error);
    EXPECT_THROW(judge_proportions({10, 1}, {10, 1}, {.min_difference = 1}), Error);
    EXPECT_THROW(judge_proportions({10, 1}, {10, 1}, {.min_samples = 0}), Error);
}

} // namespace
} // namespace tandem
