// The distributions that the tests of judge_*.hpp need, by Boost.Math. In a room of their own: Boost's headers take
// long to compile, and nobody else shall see them. Nothing here throws: a value outside of a function's domain gives
// NaN.
#pragma once

#include <cstdint>

#ifdef POSTGRES_H
#error "src/core includes no PostgreSQL header"
#endif

namespace tandem {

// P(Z > z) of the standard normal distribution, exact far out in the tail, too; and the z beyond which `tail` of it
// lies.
double normal_tail(double z);
double normal_quantile(double tail);

// Of the number of hits in n independent trials, each a hit with probability p: P(X = k) and P(X <= k).
double binomial_density(double k, double n, double p);
double binomial_at_most(double k, double n, double p);

// P(X >= x), where X is how many of `drawn` things, drawn from `total` without putting back, are among `marked`. This
// is the one-sided p-value of Fisher's exact test.
double hypergeometric_at_least(std::int64_t x, std::int64_t drawn, std::int64_t marked, std::int64_t total);

} // namespace tandem
