#include "core/judge_distribution.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <boost/version.hpp>

// Boost's root finder includes <iostream> for a debugging aid, which with g++ 12 is an object with a constructor here.
#if defined(_GLIBCXX_RELEASE) && _GLIBCXX_RELEASE < 13 && !defined(_GLIBCXX_IOSTREAM)
#define _GLIBCXX_IOSTREAM 1 // NOLINT(bugprone-reserved-identifier)
#include <ostream>
#endif
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>

#if BOOST_VERSION < 108800
// Before 1.88 Boost.Math calls its functions once while a program starts, by objects with constructors, so that
// constants of types wider than double are made before there are threads. Those of double need no making, and a library
// that is loaded into a server has no business there: for double these objects are empty.
namespace boost::math {
namespace detail {
template <class Policy, class Tag>
struct erf_initializer<double, Policy, Tag> {
    static void force_instantiate() {}
};
template <class Policy>
struct erf_inv_initializer<double, Policy> {
    static void force_instantiate() {}
};
template <class Policy>
struct igamma_initializer<double, Policy> {
    static void force_instantiate() {}
};
template <class Policy>
struct lgamma_initializer<double, Policy> {
    static void force_instantiate() {}
};
template <class Policy, class Tag>
struct log1p_initializer<double, Policy, Tag> {
    static void force_instantiate() {}
};
template <class Policy, class Tag>
struct expm1_initializer<double, Policy, Tag> {
    static void force_instantiate() {}
};
} // namespace detail
namespace lanczos {
template <class Lanczos>
struct lanczos_initializer<Lanczos, double> {
    static void force_instantiate() {}
};
template <class Lanczos>
struct lanczos_initializer<Lanczos, long double> {
    static void force_instantiate() {}
};
} // namespace lanczos
} // namespace boost::math
#endif

namespace tandem {
namespace {

namespace math = boost::math;
using Quiet = math::policies::policy<math::policies::domain_error<math::policies::ignore_error>,
                                     math::policies::pole_error<math::policies::ignore_error>,
                                     math::policies::overflow_error<math::policies::ignore_error>,
                                     math::policies::evaluation_error<math::policies::ignore_error>,
                                     math::policies::rounding_error<math::policies::ignore_error>,
                                     math::policies::indeterminate_result_error<math::policies::ignore_error>,
                                     math::policies::promote_double<false>>;
using Normal = math::normal_distribution<double, Quiet>;
using Binomial = math::binomial_distribution<double, Quiet>;

} // namespace

double normal_tail(double z) {
    if (std::isinf(z)) {
        return z > 0 ? 0 : 1;
    }
    return math::cdf(math::complement(Normal(), z));
}

double normal_quantile(double tail) {
    return math::quantile(math::complement(Normal(), tail));
}

double binomial_density(double k, double n, double p) {
    if (k < 0 || k > n) {
        return 0;
    }
    return math::pdf(Binomial(n, p), k);
}

double binomial_at_most(double k, double n, double p) {
    if (k < 0) {
        return 0;
    }
    return k >= n ? 1 : math::cdf(Binomial(n, p), k);
}

// The first probability by three binomial ones, as Loader does it (R's dhyper): exact where factorials would have lost
// all digits. From there by the ratio of neighbours, until what is left adds nothing.
double hypergeometric_at_least(std::int64_t x, std::int64_t drawn, std::int64_t marked, std::int64_t total) {
    if (drawn < 0 || marked < 0 || drawn > total || marked > total) {
        return std::numeric_limits<double>::quiet_NaN();
    }
    const std::int64_t least = std::max<std::int64_t>(0, drawn - (total - marked));
    const std::int64_t most = std::min(drawn, marked);
    if (x <= least) {
        return 1;
    }
    if (x > most) {
        return 0;
    }
    const double d = static_cast<double>(drawn);
    const double m = static_cast<double>(marked);
    const double n = static_cast<double>(total);
    const double p = d / n;
    // Summed outwards from x: upwards where x lies above the mode, else downwards, and taken from 1.
    const bool upwards = static_cast<double>(x) > (d + 1) * (m + 1) / (n + 2);
    double k = static_cast<double>(upwards ? x : x - 1);
    double term = binomial_density(k, m, p) * binomial_density(d - k, n - m, p) / binomial_density(d, n, p);
    double sum = 0;
    while (term > sum * 1e-18) {
        sum += term;
        if (upwards) {
            term *= (m - k) * (d - k) / ((k + 1) * (n - m - d + k + 1));
            k++;
        } else {
            term *= k * (n - m - d + k) / ((m - k + 1) * (d - k + 1));
            k--;
        }
    }
    return std::clamp(upwards ? sum : 1 - sum, 0.0, 1.0);
}

} // namespace tandem
