// Against history: certified values of NIST, the documentation of R, Shiffler's bound; hours of the week against a
// calendar.
#include "core/judge_history.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

// NIST Statistical Reference Datasets, univariate: NumAcc1 to NumAcc4, with certified means and standard deviations.
// They are made to break the formula of the textbook.
TEST(judge_history, nist_reference_datasets) {
    const auto check = [](const std::vector<double>& data, double mean, double deviation, double tolerance) {
        const auto j = judge_z_score(mean, data, {.min_points = 2});
        EXPECT_NEAR(j.center, mean, 1e-9 * mean);
        EXPECT_NEAR(j.spread, deviation, tolerance);
    };
    check({10000001, 10000003, 10000002}, 10000002, 1, 1e-12);
    const auto alternating = [](double first, double low, double high) {
        std::vector<double> data{first};
        for (int i = 0; i < 500; i++) {
            data.push_back(low);
            data.push_back(high);
        }
        return data;
    };
    check(alternating(1.2, 1.1, 1.3), 1.2, 0.1, 1e-13);
    check(alternating(1000000.2, 1000000.1, 1000000.3), 1000000.2, 0.1, 1e-9);
    check(alternating(10000000.2, 10000000.1, 10000000.3), 10000000.2, 0.1, 1e-8);
}

// The documentation of R's mad(): of 1:9 and of c(1:8, 100) it is 2, without its constant.
TEST(judge_history, mad_of_r) {
    const auto a = judge_mad(12, std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9}, {.min_points = 9, .threshold = 3.5});
    EXPECT_EQ(a.spread, 2);
    EXPECT_EQ(a.center, 5);
    EXPECT_NEAR(a.score, 0.6745 * 7 / 2, 1e-12);
    const auto b = judge_mad(12, std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 100}, {.min_points = 9, .threshold = 3.5});
    EXPECT_EQ(b.spread, 2);
    EXPECT_EQ(b.verdict, Verdict::pass);
    EXPECT_EQ(
        judge_mad(16, std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 100}, {.min_points = 9, .threshold = 3.5}).verdict,
        Verdict::fail);
}

// Shiffler, The American Statistician 42 (1988): within a sample of n no z-score is above (n - 1) / sqrt(n). Of ten it
// can't reach 3, however wild; what is not in its own sample can.
TEST(judge_history, the_tested_point_is_excluded) {
    std::vector<double> ten{1, 2, 1, 2, 1, 2, 1, 2, 1, 1e9};
    EXPECT_LT(judge_z_score(1e9, ten, {.min_points = 10}).score, 9 / std::sqrt(10) + 1e-9);
    EXPECT_EQ(judge_z_score(1e9, ten, {.min_points = 10}).verdict, Verdict::pass);
    ten.pop_back();
    EXPECT_EQ(judge_z_score(1e9, ten, {.min_points = 9}).verdict, Verdict::fail);
}

double naive_median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v.size() % 2 != 0 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

TEST(judge_history, scores_agree_with_their_definition) {
    test::Random random;
    for (int round = 0; round < 2000; round++) {
        std::vector<double> h(17 + random.below(30));
        std::generate(h.begin(), h.end(), [&] { return std::pow(1.001, static_cast<double>(random.below(8000))); });
        const double value = std::pow(1.001, static_cast<double>(random.below(12000)));
        const bool logs = random.chance(0.5);
        const HistoryOptions options{.worse = static_cast<Worse>(random.below(3)), .logarithms = logs};
        const double n = static_cast<double>(h.size());
        const double mean = std::accumulate(h.begin(), h.end(), 0.0) / n;
        double squares = 0;
        for (const double v : h) {
            squares += (v - mean) * (v - mean);
        }
        const auto z = judge_z_score(value, h, options);
        EXPECT_NEAR(z.score, (value - mean) / std::sqrt(squares / (n - 1)), 1e-9 * std::fabs(z.score) + 1e-9);
        const bool fails =
            (options.worse != Worse::lower && z.score > 3) || (options.worse != Worse::higher && z.score < -3);
        EXPECT_EQ(z.verdict, fails ? Verdict::fail : Verdict::pass);

        std::vector<double> scaled = h;
        std::transform(scaled.begin(), scaled.end(), scaled.begin(), [&](double v) { return logs ? std::log(v) : v; });
        const double median = naive_median(scaled);
        std::transform(scaled.begin(), scaled.end(), scaled.begin(), [&](double v) { return std::fabs(v - median); });
        const auto m = judge_mad(value, h, options);
        EXPECT_NEAR(m.score, 0.6745 * ((logs ? std::log(value) : value) - median) / naive_median(scaled),
                    1e-9 * std::fabs(m.score) + 1e-9);
    }
}

TEST(judge_history, a_history_that_hardly_changes) {
    std::vector<double> flat(20, 0.1 + 0.2);
    EXPECT_EQ(judge_z_score(0.3, flat, {}).score, 0) << "what floating point leaves is no deviation";
    EXPECT_EQ(judge_mad(0.3, flat, {}).verdict, Verdict::pass);
    EXPECT_EQ(judge_z_score(0.31, flat, {}).verdict, Verdict::fail);
    EXPECT_EQ(judge_mad(0.29, flat, {}).score, -HUGE_VAL);
    EXPECT_EQ(judge_mad(0.29, flat, {.worse = Worse::higher}).verdict, Verdict::pass);
    // more than half are the same: the mean absolute deviation is taken, 1.253314 * (4 * 1 / 20)
    std::vector<double> mostly(20, 0.0);
    std::fill(mostly.begin(), mostly.begin() + 4, 1.0);
    EXPECT_NEAR(judge_mad(1, mostly, {.threshold = 3.5}).score, 1 / (1.253314 * 0.2), 1e-5);
}

TEST(judge_history, too_little_or_nothing_to_judge) {
    const std::vector<double> h(16, 1.0);
    EXPECT_EQ(judge_z_score(1, h, {}).verdict, Verdict::inconclusive);
    EXPECT_EQ(judge_mad(1, {}, {}).verdict, Verdict::inconclusive);
    const std::vector<double> enough(17, 1.0);
    EXPECT_EQ(judge_z_score(1, enough, {}).verdict, Verdict::pass);
    EXPECT_EQ(judge_z_score(std::nan(""), enough, {}).verdict, Verdict::inconclusive);
    EXPECT_EQ(judge_mad(HUGE_VAL, enough, {}).verdict, Verdict::inconclusive);
    EXPECT_EQ(judge_mad(-1, enough, {.logarithms = true}).verdict, Verdict::inconclusive);
    EXPECT_THROW(judge_mad(1, std::vector<double>{0}, {.logarithms = true}), Error);
    EXPECT_THROW(judge_z_score(1, std::vector<double>{std::nan("")}, {}), Error);
    EXPECT_THROW(judge_z_score(1, enough, {.min_points = 1}), Error);
    EXPECT_THROW(judge_z_score(1, enough, {.threshold = 0}), Error);
    EXPECT_THROW(parse_worse("up"), Error);
    const std::vector<double> huge{1.7e308, 1.7e308, 1.6e308, 1.5e308};
    EXPECT_TRUE(std::isfinite(judge_mad(1.7e308, huge, {.min_points = 4}).score)) << "sums of large values";
}

// Hours by the calendar of the standard library; weeks of microseconds since the epoch begin on a Thursday, and that
// does not matter.
TEST(judge_history, hours_of_the_week) {
    test::Random random;
    using namespace std::chrono;
    const auto hour_of = [](std::int64_t time, bool of_week) {
        const sys_time<microseconds> t{microseconds{time}};
        const auto day = floor<days>(t);
        return floor<hours>(t - day).count() +
               (of_week ? 24 * static_cast<std::int64_t>(weekday{day}.c_encoding()) : 0);
    };
    for (int round = 0; round < 200; round++) {
        const auto anywhere = [&] {
            return static_cast<std::int64_t>(random.below(400)) * 86400 * 1'000'000 -
                   std::int64_t{200} * 86400 * 1'000'000 + static_cast<std::int64_t>(random.below(86400)) * 1'000'000;
        };
        std::vector<std::int64_t> times(500 * (1 + random.below(8)));
        std::generate(times.begin(), times.end(), anywhere);
        std::vector<double> values(times.size());
        std::iota(values.begin(), values.end(), 0.0);
        const std::int64_t at = anywhere();
        const auto at_least = static_cast<std::int64_t>(1 + random.below(40));
        std::vector<double> expected;
        const char* name = "all";
        for (const bool of_week : {true, false}) {
            expected.clear();
            for (std::size_t i = 0; i < times.size(); i++) {
                if (hour_of(times[i], of_week) == hour_of(at, of_week)) {
                    expected.push_back(values[i]);
                }
            }
            if (static_cast<std::int64_t>(expected.size()) >= at_least) {
                name = of_week ? "hour of week" : "hour of day";
                break;
            }
        }
        const Season s = season(at, times, values, at_least);
        EXPECT_STREQ(s.name, name);
        EXPECT_EQ(s.values, *name == 'a' ? values : expected);
    }
    EXPECT_THROW(season(0, std::vector<std::int64_t>{1}, {}, 1), Error);
}

} // namespace
} // namespace tandem
