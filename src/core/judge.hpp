// What every test of the family judge_* answers: a verdict, and the reason in words that hold the numbers. Each header
// names its method and where it was published; docs/statistics.md says how often each is wrong.
//
//   pass          nothing speaks against it, and there was enough to look at
//   fail          worse, and by more than chance explains
//   inconclusive  too little to look at, or nothing that can be judged; never an error, never a pass
//
// Data that cannot be (negative counts, NaN in a sample, a probability above 1) are an Error 22023, for they come from
// a mistake of the caller; data that are not there are inconclusive.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace tandem {

enum class Verdict : std::uint8_t { pass, fail, inconclusive };
const char* name(Verdict verdict) noexcept;

// On which side of what is usual a value is bad.
enum class Worse : std::uint8_t { higher, lower, both };
Worse parse_worse(const char* word); // Error 22023 for any other word

// A chance of being wrong, of which the test is given: above 0 and up to 0.5.
void check_alpha(double alpha);
void check_finite(std::span<const double> sample, const char* name);

// A value that stands `count` times.
struct Weighted {
    double value;
    std::int64_t count;
};
// A sample in ascending order, equal values together. `counts`: empty for one each, else one for each value; 0 is left
// out.
std::vector<Weighted> weighted(std::span<const double> values, std::span<const std::int64_t> counts, const char* name);
double total(std::span<const Weighted> sample) noexcept;

// Numbers as a reason writes them: four significant digits, and all of a whole number; "1.25 %"; "p = 0.0123" or "p <
// 0.0001".
std::string number_text(double value);
std::string percent_text(double part);
std::string p_text(double p);

} // namespace tandem
