// Are more of new's calls bad than of legacy's? The two-proportion test, one-sided: z with the pooled proportion (NIST/
// SEMATECH e-Handbook, 7.3.3), and Fisher's exact test where the least count that is to be expected is small. The usual
// limit is 5 (Cochran 1954), which is meant for a level of 5 %; so far out in the tail as alpha is, z is still wrong by
// a factor of 3 there, and the exact test costs next to nothing up to 50. The bounds of the difference are Newcombe's
// (Statistics in Medicine 17, 1998, method 10: Wilson scores combined).
#pragma once

#include "core/judge.hpp"

namespace tandem {

struct Tally {
    std::int64_t n;
    std::int64_t bad;
};

struct ProportionOptions {
    double alpha = 0.0025;          // how often it may fail where new is no worse
    std::int64_t min_samples = 100; // on each side
    double min_difference = 0;      // a smaller one is no failure, however sure
};

inline constexpr double kExactBelow = 50;

struct ProportionJudgement {
    Verdict verdict;
    std::string reason;
    double legacy_rate, new_rate; // NaN where n = 0
    double lower, upper; // of new_rate - legacy_rate, each with confidence 1 - alpha; NaN where a side has n = 0
    double p_value;      // NaN where inconclusive
    const char* method;  // "z", "exact"; nullptr where inconclusive
};

ProportionJudgement judge_proportions(Tally legacy, Tally now, const ProportionOptions& options);

} // namespace tandem
