#include "core/judge_rank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/judge_distribution.hpp"

namespace tandem {
namespace {

struct Value {
    double value;
    bool is_new;
};

struct Ranks {
    std::vector<std::int64_t> doubled; // of each value, ascending: twice its midrank is a whole number
    std::int64_t doubled_sum_of_new;
    double ties; // sum of t^3 - t
};

Ranks rank(std::span<const double> legacy, std::span<const double> now) {
    std::vector<Value> all;
    all.reserve(legacy.size() + now.size());
    for (const double v : legacy) {
        all.push_back({v, false});
    }
    for (const double v : now) {
        all.push_back({v, true});
    }
    std::sort(all.begin(), all.end(), [](const Value& a, const Value& b) { return a.value < b.value; });
    Ranks ranks{{}, 0, 0};
    ranks.doubled.reserve(all.size());
    for (std::size_t i = 0; i < all.size();) {
        std::size_t end = i;
        while (end < all.size() && all[end].value == all[i].value) {
            end++;
        }
        const auto doubled = static_cast<std::int64_t>(i + 1 + end); // first rank + last rank
        const double t = static_cast<double>(end - i);
        ranks.ties += t * t * t - t;
        for (; i < end; i++) {
            ranks.doubled.push_back(doubled);
            ranks.doubled_sum_of_new += all[i].is_new ? doubled : 0;
        }
    }
    return ranks;
}

// P(sum of the ranks of `size` values drawn at random >= sum). ways[k * width + s]: how many sets of k values have the
// sum s.
double exact_tail(const Ranks& ranks, std::size_t size, std::int64_t sum) {
    const std::int64_t most =
        std::accumulate(ranks.doubled.end() - static_cast<std::ptrdiff_t>(size), ranks.doubled.end(), std::int64_t{0});
    const auto width = static_cast<std::size_t>(most) + 1;
    std::vector<double> ways((size + 1) * width, 0.0); // exact: below 2^53 up to kExactRanks
    ways[0] = 1;
    for (const std::int64_t rank : ranks.doubled) {
        const auto r = static_cast<std::size_t>(rank);
        for (std::size_t k = size; k > 0; k--) {
            for (std::size_t s = width; s-- > r;) {
                ways[k * width + s] += ways[(k - 1) * width + s - r];
            }
        }
    }
    double all = 0;
    double at_least = 0;
    for (std::size_t s = 0; s < width; s++) {
        all += ways[size * width + s];
        at_least += static_cast<std::int64_t>(s) >= sum ? ways[size * width + s] : 0;
    }
    return at_least / all;
}

} // namespace

RankJudgement judge_mann_whitney(std::span<const double> legacy, std::span<const double> now,
                                 const RankOptions& options) {
    check_finite(legacy, "legacy");
    check_finite(now, "new");
    check_alpha(options.alpha);
    if (!(options.min_effect >= 0.5 && options.min_effect < 1)) {
        throw Error("22023",
                    "min_effect is a part of all pairs, from 0.5 to below 1, not " + number_text(options.min_effect),
                    {}, "0.5 lets any difference fail that is sure; 0.56 is a small effect, 0.71 a large one.");
    }
    if (options.min_samples < 1) {
        throw Error("22023", "min_samples is 1 or more, not " + std::to_string(options.min_samples));
    }
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    RankJudgement j{Verdict::inconclusive, {}, kNan, kNan, kNan, nullptr};
    const double n1 = static_cast<double>(legacy.size());
    const double n2 = static_cast<double>(now.size());
    const double least = static_cast<double>(options.min_samples);
    Ranks ranks{};
    if (n1 > 0 && n2 > 0) {
        ranks = rank(legacy, now);
        j.u = static_cast<double>(ranks.doubled_sum_of_new) / 2 - n2 * (n2 + 1) / 2;
        j.effect = j.u / (n1 * n2);
    }
    if (n1 < least || n2 < least) {
        j.reason = number_text(n2) + " of new, " + number_text(n1) + " of legacy: too few to judge, which takes " +
                   number_text(least) + " on each side";
        return j;
    }
    if (legacy.size() <= kExactRanks && now.size() <= kExactRanks) {
        j.method = "exact";
        j.p_value = exact_tail(ranks, now.size(), ranks.doubled_sum_of_new);
    } else {
        j.method = "normal";
        const double n = n1 + n2;
        const double variance = n1 * n2 / 12 * (n + 1 - ranks.ties / (n * (n - 1)));
        j.p_value = variance > 0 ? normal_tail((j.u - n1 * n2 / 2 - 0.5) / std::sqrt(variance)) : 1;
    }
    const std::string said = "new is the higher one in " + percent_text(j.effect) + " of pairs (" + number_text(n2) +
                             " of new, " + number_text(n1) + " of legacy), " + p_text(j.p_value) + " (Mann-Whitney, " +
                             j.method + ")";
    const bool significant = j.p_value < options.alpha;
    j.verdict = significant && j.effect >= options.min_effect ? Verdict::fail : Verdict::pass;
    j.reason = said + (j.verdict == Verdict::fail ? ", below " + number_text(options.alpha)
                       : significant              ? ": surely, but in less than " + percent_text(options.min_effect)
                       : j.effect > 0.5           ? ": not more than chance explains"
                                                  : ": not worse");
    return j;
}

} // namespace tandem
