#include "core/judge_proportion.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/judge_distribution.hpp"

namespace tandem {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
// Beyond this, integers are no longer exact as a double; and no store answers that many calls.
constexpr std::int64_t kMost = std::int64_t{1} << 52;

void check(const Tally& t, const char* side) {
    if (t.n < 0 || t.bad < 0 || t.bad > t.n || t.n > kMost) {
        throw Error("22023",
                    std::string(side) + " can't have " + std::to_string(t.bad) + " bad of " + std::to_string(t.n),
                    "Both are counts from 0 to 2^52, and no more are bad than there are.");
    }
}

double rate(const Tally& t) {
    return t.n == 0 ? kNan : static_cast<double>(t.bad) / static_cast<double>(t.n);
}

struct Interval {
    double lower, upper;
};

// Wilson's score interval.
Interval wilson(const Tally& t, double z) {
    const double n = static_cast<double>(t.n);
    const double bad = static_cast<double>(t.bad);
    const double middle = 2 * bad + z * z;
    const double width = z * std::sqrt(z * z + 4 * bad * (n - bad) / n);
    const double scale = 2 * (n + z * z);
    return {t.bad == 0 ? 0 : (middle - width) / scale, t.bad == t.n ? 1 : (middle + width) / scale};
}

std::string side_text(const char* side, const Tally& t) {
    return std::string(side) + " " + std::to_string(t.bad) + " of " + std::to_string(t.n) +
           (t.n == 0 ? "" : " (" + percent_text(rate(t)) + ")");
}

} // namespace

ProportionJudgement judge_proportions(Tally legacy, Tally now, const ProportionOptions& options) {
    check(legacy, "legacy");
    check(now, "new");
    check_alpha(options.alpha);
    if (options.min_samples < 1) {
        throw Error("22023", "min_samples is 1 or more, not " + std::to_string(options.min_samples));
    }
    if (!(options.min_difference >= 0 && options.min_difference < 1)) {
        throw Error("22023", "min_difference is a part, from 0 to below 1, not " + number_text(options.min_difference),
                    {}, "0.001 lets a tenth of a percent more pass.");
    }
    ProportionJudgement j{Verdict::inconclusive, {}, rate(legacy), rate(now), kNan, kNan, kNan, nullptr};
    const std::string sides = "bad: " + side_text("new", now) + ", " + side_text("legacy", legacy);
    if (legacy.n > 0 && now.n > 0) {
        const double z = normal_quantile(options.alpha);
        const Interval l = wilson(legacy, z);
        const Interval n = wilson(now, z);
        const double difference = j.new_rate - j.legacy_rate;
        j.lower = difference - std::hypot(j.new_rate - n.lower, l.upper - j.legacy_rate);
        j.upper = difference + std::hypot(n.upper - j.new_rate, j.legacy_rate - l.lower);
    }
    if (now.n < options.min_samples || legacy.n < options.min_samples) {
        j.reason = sides + "; " +
                   (now.n == 0      ? "new had no traffic"
                    : legacy.n == 0 ? "legacy had no traffic"
                                    : "too few to judge") +
                   ", which takes " + std::to_string(options.min_samples) + " on each side";
        return j;
    }

    const double n1 = static_cast<double>(legacy.n);
    const double n2 = static_cast<double>(now.n);
    const double bad = static_cast<double>(legacy.bad) + static_cast<double>(now.bad);
    const double pooled = bad / (n1 + n2);
    const double least_expected = std::min(n1, n2) * std::min(pooled, 1 - pooled);
    if (least_expected < kExactBelow) {
        j.method = "exact";
        j.p_value = hypergeometric_at_least(now.bad, now.n, legacy.bad + now.bad, legacy.n + now.n);
    } else {
        j.method = "z";
        j.p_value = normal_tail((j.new_rate - j.legacy_rate) / std::sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2)));
    }
    const double difference = j.new_rate - j.legacy_rate;
    const bool significant = j.p_value < options.alpha && difference > 0;
    const std::string evidence = p_text(j.p_value) + (j.method[0] == 'z' ? " (pooled z)" : " (Fisher's exact test)");
    j.verdict = significant && difference >= options.min_difference ? Verdict::fail : Verdict::pass;
    if (j.verdict == Verdict::fail) {
        j.reason = sides + ": worse by " + percent_text(difference) + " of the calls, at least " +
                   percent_text(std::max(j.lower, 0.0)) + "; " + evidence + ", below " + number_text(options.alpha);
    } else if (significant) {
        j.reason = sides + ": worse, " + evidence + ", but by less than " + percent_text(options.min_difference);
    } else {
        j.reason = sides + ": " + (difference > 0 ? "not more than chance explains, " : "not worse, ") + evidence +
                   "; worse by " + percent_text(std::max(j.upper, 0.0)) + " at most";
    }
    return j;
}

} // namespace tandem
