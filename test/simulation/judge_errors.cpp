// How often the tests of core/judge_* fail where nothing is worse, and how often they find what is: by simulation, over
// many samples of distributions as latencies and errors have them. Prints the tables of docs/statistics.md, and returns
// 1 where a rate is above what that page promises.
//
//   tandem_judge_errors [ROUNDS [SEED]]      20000 rounds for each row take three minutes; ctest runs a few
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>

#include "core/judge_burn.hpp"
#include "core/judge_history.hpp"
#include "core/judge_proportion.hpp"
#include "core/judge_quantile.hpp"
#include "core/judge_rank.hpp"

namespace {

using namespace tandem;

std::mt19937_64 engine;
double uniform() {
    return (static_cast<double>(engine() >> 11) + 0.5) * 0x1p-53;
}
double normal() {
    static double spare = 0;
    static bool has_spare = false;
    has_spare = !has_spare;
    if (!has_spare) {
        return spare;
    }
    const double r = std::sqrt(-2 * std::log(uniform()));
    const double angle = 2 * 3.14159265358979323846 * uniform();
    spare = r * std::sin(angle);
    return r * std::cos(angle);
}

struct Shape {
    const char* name;
    double (*draw)();
};
// Milliseconds. "cached": nine calls of ten are answered from memory. "buckets": those of a histogram of 32 an octave.
const Shape kShapes[] = {
    {"exponential", [] { return -10 * std::log(uniform()); }},
    {"log-normal, sigma 1", [] { return 10 * std::exp(normal()); }},
    {"Pareto, 1.5 (heavy tail)", [] { return 10 * std::pow(uniform(), -1 / 1.5); }},
    {"cached, two modes", [] { return (uniform() < 0.9 ? 1 : 50) * std::exp(0.3 * normal()); }},
    {"exponential in buckets", [] { return std::exp2(std::floor(std::log2(-10 * std::log(uniform())) * 32) / 32); }},
    {"whole milliseconds", [] { return std::ceil(-5 * std::log(uniform())); }},
};

long rounds = 20000;
bool kept = true; // every promise, so far

// Rounds until the row has cost about as much as any other.
long rounds_for(double values) {
    return std::clamp(static_cast<long>(4e7 / values * static_cast<double>(rounds) / 20000), std::min(rounds, 400L),
                      rounds);
}

double share(long n, const std::function<bool()>& fails) {
    long count = 0;
    for (long i = 0; i < n; i++) {
        count += fails() ? 1 : 0;
    }
    return static_cast<double>(count) / static_cast<double>(n);
}

// A promise is broken where the rate is above it by more than the simulation leaves open.
void row(const std::string& name, long n, double rate, double promised) {
    const double noise = 4 * std::sqrt(promised * (1 - promised) / static_cast<double>(n));
    const bool broken = rate > promised + noise;
    kept = kept && !broken;
    std::printf("| %s | %ld | %.2f %% | < %g %%%s |\n", name.c_str(), n, 100 * rate, 100 * promised,
                broken ? " BROKEN" : "");
    std::fflush(stdout);
}

void heading(const char* what) {
    std::printf("\n| %s | rounds | fails | promised |\n|---|---:|---:|---:|\n", what);
}

std::vector<double> sample(const Shape& shape, long n, double times = 1) {
    std::vector<double> values(static_cast<std::size_t>(n));
    std::generate(values.begin(), values.end(), [&] { return times * shape.draw(); });
    return values;
}
std::vector<Weighted> sorted_sample(const Shape& shape, long n, double times = 1) {
    return weighted(sample(shape, n, times), {}, "sample");
}
Tally tally(long n, double p) {
    return {n, std::binomial_distribution<std::int64_t>(n, p)(engine)};
}
std::string in_row(const char* format, double a, double b = 0) {
    char buffer[100];
    std::snprintf(buffer, sizeof buffer, format, a, b);
    return buffer;
}

void proportions() {
    heading("judge_proportions(), both sides alike");
    for (const double p : {0.001, 0.01, 0.05, 0.3}) {
        for (const long n : {200L, 1000L, 10000L, 1000000L}) {
            row(in_row("%.0f calls a side, %g %% bad", static_cast<double>(n), 100 * p), rounds,
                share(rounds, [&] { return judge_proportions(tally(n, p), tally(n, p), {}).verdict == Verdict::fail; }),
                0.003);
        }
    }
    row("20000 of legacy, 1000 of new, 1 % bad", rounds,
        share(rounds,
              [&] { return judge_proportions(tally(20000, 0.01), tally(1000, 0.01), {}).verdict == Verdict::fail; }),
        0.003);
}

void quantiles() {
    heading("judge_quantile(), both sides alike, max_ratio 1 (the default is 1.1)");
    for (const double q : {0.5, 0.95, 0.99}) {
        for (const Shape& shape : kShapes) {
            for (const long n : {700L, 5000L}) {
                const long r = rounds_for(2.0 * static_cast<double>(n));
                row("p" + in_row("%g of %.0f: ", 100 * q, static_cast<double>(n)) + shape.name, r,
                    share(r,
                          [&] {
                              return judge_quantile(sorted_sample(shape, n), sorted_sample(shape, n),
                                                    {.quantile = q, .max_ratio = 1})
                                         .verdict == Verdict::fail;
                          }),
                    0.005);
            }
        }
    }
}

void ranks() {
    heading("judge_mann_whitney(), both sides alike, min_effect 0.5 (the default is 0.56)");
    for (const Shape& shape : kShapes) {
        for (const long n : {10L, 25L, 30L, 1000L}) {
            const long r = rounds_for(n <= 25 ? 4e3 : 4.0 * static_cast<double>(n));
            row(in_row("%.0f a side: ", static_cast<double>(n)) + shape.name, r,
                share(r,
                      [&] {
                          return judge_mann_whitney(sample(shape, n), sample(shape, n), {.min_effect = 0.5}).verdict ==
                                 Verdict::fail;
                      }),
                0.003);
        }
    }
}

void histories() {
    heading("judge_z_score() and judge_mad(), one more value of the same distribution");
    const Shape shapes[] = {{"normal", [] { return 100 + 5 * normal(); }},
                            {"log-normal, sigma 0.5", [] { return 10 * std::exp(0.5 * normal()); }},
                            {"uniform", uniform}};
    for (const Shape& shape : shapes) {
        for (const long n : {17L, 60L, 200L}) {
            const auto with = [&](auto test, HistoryOptions options) {
                return share(rounds,
                             [&] { return test(shape.draw(), sample(shape, n), options).verdict == Verdict::fail; });
            };
            const std::string of = in_row(", %.0f points: ", static_cast<double>(n)) + shape.name;
            row("z-score" + of, rounds, with(judge_z_score, {}), 0.05);
            row("MAD" + of, rounds, with(judge_mad, {.threshold = 3.5}), 0.05);
            row("MAD of logarithms, worse => higher" + of, rounds,
                with(judge_mad, {.threshold = 3.5, .worse = Worse::higher, .logarithms = true}), 0.05);
        }
    }
}

void burns() {
    heading("judge_burn_rate(), errors as the budget has them: burn rate 1");
    for (const double objective : {0.99, 0.999}) {
        for (const long n : {1200L, 12000L, 120000L}) { // in the hour
            row(in_row("%.0f calls an hour, objective %g %%", static_cast<double>(n), 100 * objective), rounds,
                share(
                    rounds,
                    [&] {
                        const double p = 1 - objective;
                        // 5 min, the rest of 30 min, of the hour, of 6 hours
                        const Tally a = tally(n / 12, p);
                        const Tally b = tally(n * 5 / 12, p);
                        const Tally c = tally(n / 2, p);
                        const Tally d = tally(n * 5, p);
                        const Tally half{a.n + b.n, a.bad + b.bad};
                        const Tally hour{half.n + c.n, half.bad + c.bad};
                        const Tally six{hour.n + d.n, hour.bad + d.bad};
                        return judge_burn_rate(objective, {{{{hour, a}}, {{six, half}}}}, 100).verdict == Verdict::fail;
                    }),
                0.01);
        }
    }
}

// judge_sides() of 36_judge.sql
bool default_set(const Shape& shape, long n, double errors, double times, double worse_errors) {
    const auto legacy = sorted_sample(shape, n);
    const auto now = sorted_sample(shape, n, times);
    return judge_proportions(tally(n, errors), tally(n, worse_errors), {}).verdict == Verdict::fail ||
           judge_quantile(legacy, now, {.quantile = 0.95}).verdict == Verdict::fail ||
           judge_quantile(legacy, now, {.quantile = 0.99}).verdict == Verdict::fail;
}

void sides() {
    heading("judge_sides(), the default set: any of its three tests");
    for (const Shape& shape : kShapes) {
        for (const long n : {300L, 1000L, 5000L}) {
            const long r = rounds_for(2.0 * static_cast<double>(n));
            row(in_row("%.0f calls a side, 1 %% bad: ", static_cast<double>(n)) + shape.name, r,
                share(r, [&] { return default_set(shape, n, 0.01, 1, 0.01); }), 0.01);
        }
    }
}

void power() {
    std::printf("\n| judge_sides(), where new is worse | rounds | found |\n|---|---:|---:|\n");
    const auto found = [](const std::string& name, const Shape& shape, long n, double times, double errors) {
        const long r = rounds_for(4.0 * static_cast<double>(n));
        std::printf("| %s | %ld | %.2f %% |\n", name.c_str(), r,
                    100 * share(r, [&] { return default_set(shape, n, 0.01, times, errors); }));
    };
    for (const long n : {1000L, 5000L}) {
        const std::string of = in_row("%.0f calls a side: ", static_cast<double>(n));
        found(of + "errors 1 % -> 2 %", kShapes[1], n, 1, 0.02);
        found(of + "errors 1 % -> 4 %", kShapes[1], n, 1, 0.04);
        found(of + "1.3 times as slow, exponential", kShapes[0], n, 1.3, 0.01);
        found(of + "1.5 times as slow, exponential", kShapes[0], n, 1.5, 0.01);
        found(of + "1.5 times as slow, log-normal", kShapes[1], n, 1.5, 0.01);
        found(of + "2 times as slow, log-normal", kShapes[1], n, 2, 0.01);
    }
}

} // namespace

int main(int argc, char** argv) {
    rounds = argc > 1 ? std::max(std::atol(argv[1]), 100L) : 20000;
    const unsigned long seed = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 42;
    engine.seed(seed);
    std::printf("%ld rounds at most, seed %lu\n", rounds, seed);
    proportions();
    quantiles();
    ranks();
    histories();
    burns();
    sides();
    power();
    std::printf("\n%s\n", kept ? "every rate is within what is promised" : "a rate is above what is promised");
    return kept ? 0 : 1;
}
