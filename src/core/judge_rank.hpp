// Are new's values higher than legacy's, whatever their distribution? Mann and Whitney's U (Annals of Mathematical
// Statistics 18, 1947), one-sided. Small samples: the exact distribution over all ways to deal the ranks, also with
// ties (midranks; Streitberg and Roehmel 1986). Else the normal one, with the variance corrected for ties and 1/2 for
// continuity.
#pragma once

#include "core/judge.hpp"

namespace tandem {

struct RankOptions {
    double alpha = 0.0025;
    // How often at least a value of new is the higher one of a pair: 0.5 is as often as not, 0.56 a small effect, 0.64
    // a medium, 0.71 a large one (Vargha and Delaney 2000). With many samples any difference is sure, and most do not
    // matter.
    double min_effect = 0.56;
    std::int64_t min_samples = 8; // on each side
};

struct RankJudgement {
    Verdict verdict;
    std::string reason;
    double u;      // pairs in which new is higher; equal ones count half
    double effect; // u as a part of all pairs; NaN where there is none
    double p_value;
    const char* method; // "exact", "normal"; nullptr where inconclusive
};

inline constexpr std::size_t kExactRanks = 25; // on each side: up to here the distribution is exact

RankJudgement judge_mann_whitney(std::span<const double> legacy, std::span<const double> now,
                                 const RankOptions& options);

} // namespace tandem
