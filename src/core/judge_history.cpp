#include "core/judge_history.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check(std::span<const double> history, const HistoryOptions& options) {
    check_finite(history, "history");
    if (!(options.threshold > 0 && options.threshold < kInfinity)) {
        throw Error("22023", "threshold is a number of deviations above 0, not " + number_text(options.threshold), {},
                    "3.0 for a z-score, 3.5 for the MAD.");
    }
    if (options.min_points < 2) {
        throw Error("22023", "a history of " + std::to_string(options.min_points) + " has no deviation", {},
                    "Ask for 2 at least; 17 are usual.");
    }
    for (const double v : history) {
        if (options.logarithms && v <= 0) {
            throw Error("22023", "history holds " + number_text(v) + ", which has no logarithm", {},
                        "Judge it without logarithms.");
        }
    }
}

double mean(std::span<const double> values) {
    double sum = 0;
    for (const double v : values) {
        sum += v / static_cast<double>(values.size()); // the sum of large values may not be a number any more
    }
    return sum;
}

double median(std::vector<double>& values) { // reorders them
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 != 0) {
        return *middle;
    }
    const double below = *std::max_element(values.begin(), middle);
    return below + (*middle - below) / 2;
}

// What floating point leaves of two equal numbers is no deviation.
bool same(double a, double b) {
    return std::fabs(a - b) <= 1e-9 * std::max(std::fabs(a), std::fabs(b));
}

double deviations(double value, double center, double spread) {
    if (same(value, center)) {
        return 0;
    }
    if (spread <= 1e-9 * std::fabs(center)) {
        return value > center ? kInfinity : -kInfinity;
    }
    return (value - center) / spread;
}

// The verdict, where there is enough to judge by; else false, with the reason.
bool enough(HistoryJudgement& j, double value, const HistoryOptions& options) {
    if (!std::isfinite(value)) {
        j.reason = std::isnan(value) ? "there is no value to judge"
                                     : "the value is " + number_text(value) + ", which is no measurement";
    } else if (options.logarithms && value <= 0) {
        j.reason = number_text(value) + " has no logarithm to be judged by";
    } else if (j.points < options.min_points) {
        j.reason = number_text(value) + " can't be judged: the history has " + std::to_string(j.points) +
                   " of at least " + std::to_string(options.min_points) + " points";
    } else {
        return true;
    }
    return false;
}

void conclude(HistoryJudgement& j, double value, double usual, const char* center, const char* unit,
              const HistoryOptions& options) {
    const bool beyond = (options.worse != Worse::lower && j.score > options.threshold) ||
                        (options.worse != Worse::higher && j.score < -options.threshold);
    j.verdict = beyond ? Verdict::fail : Verdict::pass;
    const std::string where = number_text(value) + " against a " + center + " of " + number_text(usual) + " over " +
                              std::to_string(j.points) + " points";
    if (std::isinf(j.score)) {
        j.reason = where + ", which never changed";
        return;
    }
    j.reason = where + ": " + number_text(std::round(std::fabs(j.score) * 100) / 100) + " " + unit +
               (j.score < 0 ? " below" : " above") +
               (beyond                                   ? ", more than "
                : std::fabs(j.score) > options.threshold ? ", on the good side of "
                                                         : ", within ") +
               number_text(options.threshold);
}

} // namespace

HistoryJudgement judge_z_score(double value, std::span<const double> history, const HistoryOptions& options) {
    check(history, options);
    HistoryJudgement j{Verdict::inconclusive, {}, kNan, kNan, kNan, static_cast<std::int64_t>(history.size())};
    if (!enough(j, value, options)) {
        return j;
    }
    j.center = mean(history);
    double squares = 0;
    for (const double v : history) {
        squares += (v - j.center) / static_cast<double>(history.size() - 1) * (v - j.center);
    }
    j.spread = std::sqrt(squares);
    j.score = deviations(value, j.center, j.spread);
    conclude(j, value, j.center, "mean", "standard deviations", options);
    return j;
}

HistoryJudgement judge_mad(double value, std::span<const double> history, const HistoryOptions& options) {
    check(history, options);
    HistoryJudgement j{Verdict::inconclusive, {}, kNan, kNan, kNan, static_cast<std::int64_t>(history.size())};
    if (!enough(j, value, options)) {
        return j;
    }
    const auto scaled = [&](double v) { return options.logarithms ? std::log(v) : v; };
    std::vector<double> values(history.begin(), history.end());
    std::transform(values.begin(), values.end(), values.begin(), scaled);
    j.center = median(values);
    double sum = 0;
    for (double& v : values) {
        v = std::fabs(v - j.center);
        sum += v / static_cast<double>(history.size());
    }
    j.spread = median(values);
    // More than half of the history is one value: the mean absolute deviation takes the median's place, scaled to a
    // standard deviation as that one is (Iglewicz and Hoaglin).
    const bool flat = j.spread <= 1e-9 * std::fabs(j.center);
    j.score = flat ? deviations(scaled(value), j.center, sum * 1.2533141373155003)
                   : 0.6745 * deviations(scaled(value), j.center, j.spread);
    conclude(j, value, options.logarithms ? std::exp(j.center) : j.center, "median",
             flat ? "scaled mean deviations" : "scaled median deviations", options);
    return j;
}

Season season(std::int64_t at, std::span<const std::int64_t> times, std::span<const double> values,
              std::int64_t min_points) {
    constexpr std::int64_t kHour = std::int64_t{3600} * 1'000'000;
    if (times.size() != values.size()) {
        throw Error("22023",
                    "history has " + std::to_string(values.size()) + " values and " + std::to_string(times.size()) +
                        " times",
                    {}, "Give one time for each value.");
    }
    const auto hour_in = [](std::int64_t time, std::int64_t hours) {
        const std::int64_t within = time % (hours * kHour);
        return (within < 0 ? within + hours * kHour : within) / kHour;
    };
    for (const std::int64_t hours : {std::int64_t{7} * 24, std::int64_t{24}}) {
        Season s{hours == 24 ? "hour of day" : "hour of week", {}};
        for (std::size_t i = 0; i < times.size(); i++) {
            if (hour_in(times[i], hours) == hour_in(at, hours)) {
                s.values.push_back(values[i]);
            }
        }
        if (static_cast<std::int64_t>(s.values.size()) >= min_points) {
            return s;
        }
    }
    return {"all", {values.begin(), values.end()}};
}

} // namespace tandem
