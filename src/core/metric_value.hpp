// The text of a value as a metric reads it: a finite number, or why it is none.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem {

struct MetricValue {
    enum class Kind : std::uint8_t { number, nan, infinite, too_large, text };
    Kind kind;
    double value; // of a number; else 0
};

// Reads what PostgreSQL writes for a number: digits, a point, an exponent, NaN, Infinity. Anything else is text, a
// boolean's "t" among it.
MetricValue read_metric_value(std::string_view text) noexcept;

} // namespace tandem
