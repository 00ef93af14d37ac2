#include "core/judge.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace tandem {

const char* name(Verdict verdict) noexcept {
    switch (verdict) {
    case Verdict::pass:
        return "pass";
    case Verdict::fail:
        return "fail";
    case Verdict::inconclusive:
        break;
    }
    return "inconclusive";
}

Worse parse_worse(const char* word) {
    if (std::strcmp(word, "higher") == 0) {
        return Worse::higher;
    }
    if (std::strcmp(word, "lower") == 0) {
        return Worse::lower;
    }
    if (std::strcmp(word, "both") == 0) {
        return Worse::both;
    }
    throw Error(
        "22023", "worse is higher, lower or both, not \"" + std::string(word).substr(0, 63) + "\"", {},
        "It says on which side of what is usual a value is bad: higher for a latency, lower for a success rate.");
}

void check_alpha(double alpha) {
    if (!(alpha > 0 && alpha <= 0.5)) { // NaN, too
        throw Error("22023", "alpha is above 0 and up to 0.5, not " + number_text(alpha),
                    "It is how often the test may fail where nothing is worse.", "For example 0.0025.");
    }
}

void check_finite(std::span<const double> sample, const char* name) {
    for (const double value : sample) {
        if (!std::isfinite(value)) {
            throw Error("22023", std::string(name) + " holds " + number_text(value) + ", which is no measurement", {},
                        "Leave out what was not measured, or write NULL for it.");
        }
    }
}

std::vector<Weighted> weighted(std::span<const double> values, std::span<const std::int64_t> counts, const char* name) {
    check_finite(values, name);
    if (!counts.empty() && counts.size() != values.size()) {
        throw Error("22023",
                    std::string(name) + " has " + std::to_string(values.size()) + " values and " +
                        std::to_string(counts.size()) + " counts",
                    {}, "Give one count for each value, or none at all.");
    }
    std::vector<Weighted> sample;
    sample.reserve(values.size());
    for (std::size_t i = 0; i < values.size(); i++) {
        const std::int64_t count = counts.empty() ? 1 : counts[i];
        if (count < 0) {
            throw Error("22023", std::string(name) + " has a negative count, " + std::to_string(count));
        }
        if (count > 0) {
            sample.push_back({values[i], count});
        }
    }
    std::sort(sample.begin(), sample.end(), [](const Weighted& a, const Weighted& b) { return a.value < b.value; });
    std::size_t kept = 0;
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < sample.size(); i++) {
        if (__builtin_add_overflow(sum, sample[i].count, &sum)) {
            throw Error("22003", std::string(name) + " counts more than there can be");
        }
        if (kept > 0 && sample[kept - 1].value == sample[i].value) {
            sample[kept - 1].count += sample[i].count;
        } else {
            sample[kept++] = sample[i];
        }
    }
    sample.resize(kept);
    return sample;
}

double total(std::span<const Weighted> sample) noexcept {
    double sum = 0;
    for (const Weighted& w : sample) {
        sum += static_cast<double>(w.count);
    }
    return sum;
}

std::string number_text(double value) {
    if (std::isnan(value)) {
        return "NaN";
    }
    if (std::isinf(value)) {
        return value > 0 ? "Infinity" : "-Infinity";
    }
    char buffer[64];
    const bool whole = value == std::floor(value) && std::fabs(value) < 1e15;
    std::snprintf(buffer, sizeof buffer, whole ? "%.0f" : "%.4g", value == 0 ? 0.0 : value);
    return buffer;
}

std::string percent_text(double part) {
    char buffer[64];
    const double percent = part * 100;
    std::snprintf(buffer, sizeof buffer, percent != 0 && std::fabs(percent) < 0.01 ? "%.2g %%" : "%.2f %%", percent);
    return buffer;
}

std::string p_text(double p) {
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, p < 0.0001 ? "p < 0.0001" : p < 0.1 ? "p = %.4f" : "p = %.2f", p);
    return buffer;
}

} // namespace tandem
