#include "core/judge_burn.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem {

double burn_rate(Tally tally, double objective) {
    if (!(objective > 0 && objective < 1)) {
        throw Error("22023", "an objective lies between 0 and 1, not at " + number_text(objective),
                    "At 1 there is no budget that could burn.", "0.999 for 99.9 % good.");
    }
    if (tally.n < 0 || tally.bad < 0 || tally.bad > tally.n) {
        throw Error("22023", "there can't be " + std::to_string(tally.bad) + " bad of " + std::to_string(tally.n));
    }
    if (tally.n == 0) {
        return std::numeric_limits<double>::quiet_NaN();
    }
    return static_cast<double>(tally.bad) / static_cast<double>(tally.n) / (1 - objective);
}

BurnJudgement judge_burn_rate(double objective, const std::array<std::array<Tally, 2>, 2>& windows,
                              std::int64_t min_samples) {
    if (min_samples < 1) {
        throw Error("22023", "min_samples is 1 or more, not " + std::to_string(min_samples));
    }
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    BurnJudgement j{Verdict::inconclusive, {}, nullptr, kNan, kNan};
    double nearest = -1;
    std::int64_t most = 0;
    for (std::size_t i = 0; i < kBurnPairs.size(); i++) {
        const auto& [long_window, short_window] = windows[i];
        const double long_rate = burn_rate(long_window, objective);
        const double short_rate = burn_rate(short_window, objective); // both, so that both are checked
        if (short_window.n > long_window.n || short_window.bad > long_window.bad) {
            throw Error("22023",
                        std::string("the short window of pair ") + kBurnPairs[i].name + " holds more than its long one",
                        {},
                        "The order is fast long, fast short, slow long, slow short; a short window is the end of its "
                        "long one.");
        }
        most = std::max(most, long_window.n);
        if (long_window.n < min_samples || short_window.n == 0) {
            continue;
        }
        const double near = std::min(long_rate, short_rate) / kBurnPairs[i].factor;
        if (near > nearest) {
            nearest = near;
            j.pair = kBurnPairs[i].name;
            j.long_rate = long_rate;
            j.short_rate = short_rate;
            j.verdict = near > 1 ? Verdict::fail : Verdict::pass;
            j.reason = "the error budget of " + percent_text(1 - objective) + " burns " +
                       number_text(std::round(long_rate * 100) / 100) +
                       " times as fast as it may in the long window (" + std::to_string(long_window.bad) + " of " +
                       std::to_string(long_window.n) + "), " + number_text(std::round(short_rate * 100) / 100) +
                       " times in the short one (" + std::to_string(short_window.bad) + " of " +
                       std::to_string(short_window.n) + "): " + (near > 1 ? "both above " : "not both above ") +
                       number_text(kBurnPairs[i].factor) + " (" + kBurnPairs[i].name + ")";
        }
    }
    if (j.pair == nullptr) {
        j.reason = most == 0 ? "there was no traffic"
                   : most >= min_samples
                       ? "there was no traffic lately"
                       : "too few to judge: " + std::to_string(most) + " of at least " + std::to_string(min_samples);
    }
    return j;
}

} // namespace tandem
