#include "core/judge_quantile.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/judge_distribution.hpp"

namespace tandem {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double at_rank(std::span<const Weighted> sample, double rank) {
    for (const Weighted& w : sample) {
        rank -= static_cast<double>(w.count);
        if (rank <= 0) {
            return w.value;
        }
    }
    return sample.back().value;
}

// The first of low .. high for which is_true, which stays true from there on; high + 1 where there is none.
template <class F>
double first(double low, double high, F is_true) {
    while (low <= high) {
        const double middle = std::floor(low + (high - low) / 2);
        if (is_true(middle)) {
            high = middle - 1;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

std::string label(double quantile) {
    return "p" + number_text(std::round(quantile * 1e6) / 1e4);
}

} // namespace

QuantileBounds quantile_bounds(std::span<const Weighted> sample, double quantile, double alpha) {
    const double n = total(sample);
    if (n == 0) {
        return {kNan, kNan, kNan};
    }
    // Below the true quantile lie as many of n as a binomial distribution says. So the value at rank r is above it with
    // probability P(X <= r - 1), the one at rank s below it with P(X >= s).
    const double r = first(1, n, [&](double k) { return binomial_at_most(k - 1, n, quantile) > alpha; }) - 1;
    const double s = first(1, n, [&](double k) { return binomial_at_most(k - 1, n, quantile) >= 1 - alpha; });
    const double rank = std::max(1.0, std::ceil(n * quantile - 1e-9 * n * quantile));
    return {at_rank(sample, rank), r < 1 ? -kInfinity : at_rank(sample, r), s > n ? kInfinity : at_rank(sample, s)};
}

QuantileJudgement judge_quantile(std::span<const Weighted> legacy, std::span<const Weighted> now,
                                 const QuantileOptions& options) {
    if (!(options.quantile > 0 && options.quantile < 1)) {
        throw Error("22023", "a quantile lies between 0 and 1, not at " + number_text(options.quantile), {},
                    "0.95 for the p95.");
    }
    if (!(options.max_ratio >= 1 && options.max_ratio < kInfinity)) {
        throw Error("22023", "max_ratio is 1 or more, not " + number_text(options.max_ratio), {},
                    "1.1 lets new be a tenth slower.");
    }
    if (options.min_samples < 1) {
        throw Error("22023", "min_samples is 1 or more, not " + std::to_string(options.min_samples));
    }
    check_alpha(options.alpha);
    for (const std::span<const Weighted> side : {legacy, now}) {
        if (!side.empty() && side.front().value < 0) {
            throw Error("22023",
                        "a ratio of quantiles needs values of 0 or more, not " + number_text(side.front().value));
        }
    }
    const double legacy_n = total(legacy);
    const double now_n = total(now);
    const QuantileBounds l = quantile_bounds(legacy, options.quantile, options.alpha);
    const QuantileBounds n = quantile_bounds(now, options.quantile, options.alpha);
    QuantileJudgement j{Verdict::inconclusive, {}, l.value, n.value, kNan, kNan, kNan};
    const auto side = [&](const char* name, double count, double value) {
        return std::string(name) + " " + (count > 0 ? number_text(value) + " of " : "none of ") + number_text(count);
    };
    const std::string sides =
        label(options.quantile) + ": " + side("new", now_n, n.value) + ", " + side("legacy", legacy_n, l.value);
    if (legacy_n > 0 && now_n > 0 && l.value > 0) {
        j.ratio = n.value / l.value;
        // A bound of 0 or none at all lies infinitely far away, on a scale of logarithms.
        const auto distance = [](double from, double to) {
            return from == to ? 0.0 : from <= 0 || to == kInfinity ? kInfinity : std::log(to / from);
        };
        j.lower =
            n.value == 0 ? 0 : j.ratio * std::exp(-std::hypot(distance(n.lower, n.value), distance(l.value, l.upper)));
        j.upper = n.value == 0 && n.upper == 0
                      ? 0.0
                      : j.ratio * std::exp(std::hypot(distance(n.value, n.upper), distance(l.lower, l.value)));
        if (std::isnan(j.upper)) {
            j.upper = kInfinity;
        }
    }
    // The upper bound of legacy decides whether new can be found worse at all.
    const auto needed = std::max(static_cast<double>(options.min_samples),
                                 std::ceil(std::log(options.alpha) / std::log(options.quantile)));
    if (legacy_n < needed || now_n < static_cast<double>(options.min_samples)) {
        j.reason = sides + "; " +
                   (now_n == 0      ? "new had no traffic"
                    : legacy_n == 0 ? "legacy had no traffic"
                                    : "too few to judge") +
                   ", which takes " + std::to_string(options.min_samples) + " of new and " + number_text(needed) +
                   " of legacy";
        return j;
    }
    if (l.value == 0 && n.value > 0) {
        j.reason = sides + "; there is no ratio to 0";
        return j;
    }
    if (l.value == 0) {
        j.verdict = Verdict::pass;
        j.reason = sides + ": both 0";
        return j;
    }
    const std::string ratio = sides + ": " + number_text(j.ratio) + " times, ";
    if (j.lower > options.max_ratio) {
        j.verdict = Verdict::fail;
        j.reason = ratio + "at least " + number_text(j.lower) + ", above " + number_text(options.max_ratio);
    } else if (j.ratio <= options.max_ratio) {
        j.verdict = Verdict::pass;
        j.reason = ratio + "not above " + number_text(options.max_ratio) +
                   (j.upper < kInfinity ? "; at most " + number_text(j.upper) : "");
    } else {
        j.reason = ratio + "above " + number_text(options.max_ratio) + ", but it may be as little as " +
                   number_text(j.lower) + ": more samples are needed";
    }
    return j;
}

} // namespace tandem
