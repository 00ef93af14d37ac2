#include "core/metric_value.hpp"

#include <charconv>
#include <cmath>
#include <system_error>

namespace tandem {
namespace {

bool is_word(std::string_view text, std::string_view lower) noexcept {
    if (text.size() != lower.size()) {
        return false;
    }
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != lower[i]) {
            return false;
        }
    }
    return true;
}

// Digits with at most one point, at least one digit, and perhaps an exponent: from_chars takes "inf" and "nan(...)",
// too.
bool is_plain(std::string_view text) noexcept {
    std::size_t i = 0;
    bool digit = false;
    bool point = false;
    for (; i < text.size(); i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            digit = true;
        } else if (text[i] == '.' && !point) {
            point = true;
        } else {
            break;
        }
    }
    if (i == text.size() || !digit) {
        return digit;
    }
    if (text[i] != 'e' && text[i] != 'E') {
        return false;
    }
    i++;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) {
        i++;
    }
    if (i == text.size()) {
        return false;
    }
    for (; i < text.size(); i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return true;
}

constexpr std::string_view kSpaces = " \t\n\r\v\f";

} // namespace

MetricValue read_metric_value(std::string_view text) noexcept {
    using Kind = MetricValue::Kind;
    const std::size_t first = text.find_first_not_of(kSpaces);
    if (first == std::string_view::npos) {
        return {Kind::text, 0};
    }
    text = text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
    bool negative = false;
    if (text.front() == '+' || text.front() == '-') {
        negative = text.front() == '-';
        text.remove_prefix(1);
    }
    if (is_word(text, "nan")) {
        return {Kind::nan, 0};
    }
    if (is_word(text, "infinity") || is_word(text, "inf")) {
        return {Kind::infinite, 0};
    }
    if (!is_plain(text)) {
        return {Kind::text, 0};
    }
    double value = 0;
    const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec == std::errc::result_out_of_range) {
        // Too large, or nearer to 0 than a double can be; the latter is 0.
        const std::size_t exponent = text.find_first_of("eE");
        const bool tiny =
            exponent != std::string_view::npos ? text[exponent + 1] == '-' : text.front() == '0' || text.front() == '.';
        return tiny ? MetricValue{Kind::number, 0} : MetricValue{Kind::too_large, 0};
    }
    return {Kind::number, negative ? -value : value};
}

} // namespace tandem
