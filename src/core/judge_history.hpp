// Is a value unlike what it was before? Against the history's mean by its standard deviation (z-score), or against its
// median by the median absolute deviation, times 0.6745 (modified z-score; Iglewicz and Hoaglin, How to Detect and
// Handle Outliers, 1993; NIST/SEMATECH e-Handbook, 1.3.5.17), which a few wild values in the history do not blind.
//
// The history does not hold the value that is judged: inside its own sample of n no value has a z-score above (n - 1) /
// sqrt(n), so 3.0 could not be passed with fewer than 11, and hardly with 17.
#pragma once

#include "core/judge.hpp"

namespace tandem {

struct HistoryOptions {
    std::int64_t min_points = 17; // fewer are inconclusive; one a day, as a rule
    double threshold = 3.0;
    Worse worse = Worse::both;
    bool logarithms = false; // judge_mad() only: of what is skewed, as times are; values then are above 0
};

struct HistoryJudgement {
    Verdict verdict;
    std::string reason;
    double score; // in deviations; infinite where a history that never changed is left; NaN where there is none
    double center, spread; // mean and standard deviation, or median and median absolute deviation (of the logarithms)
    std::int64_t points;
};

HistoryJudgement judge_z_score(double value, std::span<const double> history, const HistoryOptions& options);
HistoryJudgement judge_mad(double value, std::span<const double> history, const HistoryOptions& options);

// Which of the history to judge by: what lies at the same hour of the week; while there is not enough of that, the same
// hour of the day; else all of it. Times are microseconds of local time, such that a multiple of a week is one and the
// same hour.
struct Season {
    const char* name; // "hour of week", "hour of day", "all"
    std::vector<double> values;
};
Season season(std::int64_t at, std::span<const std::int64_t> times, std::span<const double> values,
              std::int64_t min_points);

} // namespace tandem
