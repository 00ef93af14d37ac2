// Is a quantile of new's latencies (p95, p99) higher than legacy's, and by how much at least? The quantile of each side
// has bounds that assume nothing about the distribution: order statistics, by the binomial distribution (Hahn and
// Meeker, Statistical Intervals, 5.2). Those of the ratio come from both by MOVER on the logarithms (Zou and Donner,
// Statistics in Medicine 27, 2008; for medians Price and Bonett 2002).
//
// A sample may be the buckets of a histogram: a value with how often it stands there. The ratio then is as exact as
// they are.
#pragma once

#include "core/judge.hpp"

namespace tandem {

struct QuantileOptions {
    double quantile = 0.95;
    double max_ratio = 1.1; // new may be this much of legacy
    double alpha = 0.0025;
    std::int64_t min_samples = 100; // on each side
};

// One side's quantile: the value at rank ceil(n q). A bound that would need more samples is -Infinity or Infinity.
struct QuantileBounds {
    double value, lower, upper;
};
QuantileBounds quantile_bounds(std::span<const Weighted> sample, double quantile, double alpha);

struct QuantileJudgement {
    Verdict verdict;
    std::string reason;
    double legacy, now;  // the quantiles; NaN where n = 0
    double ratio;        // NaN where there is none
    double lower, upper; // of the ratio, each with confidence 1 - alpha; NaN where there is none
};

QuantileJudgement judge_quantile(std::span<const Weighted> legacy, std::span<const Weighted> now,
                                 const QuantileOptions& options);

} // namespace tandem
