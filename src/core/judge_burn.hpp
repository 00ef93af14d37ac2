// Is an error budget burning too fast? The burn rate is the part that was bad over the part that may be: at 1 the
// budget lasts just as long as its period. Judged in two windows together (Google, The Site Reliability Workbook,
// chapter 5, table 5-8): the long one shows that it matters, the short one that it goes on. 14.4 in 1 h and 5 min burns
// 2 % of a 30-day budget, 6 in 6 h and 30 min 5 %; for another period the windows are longer or shorter, so that these
// percentages stay.
#pragma once

#include <array>

#include "core/judge_proportion.hpp"

namespace tandem {

struct BurnPair {
    const char* name;
    double factor; // a burn rate above this one is too fast
};
inline constexpr std::array<BurnPair, 2> kBurnPairs{
    {{"fast", 14.4}, {"slow", 6}}}; // their windows: burn_windows() in 36_judge.sql

// NaN where n = 0.
double burn_rate(Tally tally, double objective);

struct BurnJudgement {
    Verdict verdict;
    std::string reason;
    const char* pair;             // the one that failed, else that which came nearest; nullptr where none has traffic
    double long_rate, short_rate; // its burn rates
};

// Long and short window of each of kBurnPairs. min_samples: of a long window, fewer are not judged.
BurnJudgement judge_burn_rate(double objective, const std::array<std::array<Tally, 2>, 2>& windows,
                              std::int64_t min_samples);

} // namespace tandem
