// When an alert fires and when it is over: one rule over one series, looked at again and again.
//
//   idle     ── the condition holds ──▶  pending  ── it held for `hold` ──▶  firing
//   pending  ── it does not ──▶  idle
//   firing   ── the value has been clear for `clear_hold` ──▶  idle (resolved)
//
// Clear is what is beyond clear_threshold; between the two thresholds nothing begins and nothing ends (hysteresis).
// Time is the time that was seen to pass between looks: a clock that is set back takes nothing away and adds nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tandem {

enum class Comparator : std::uint8_t { more, more_or_equal, less, less_or_equal, equal, unequal };
// What a series without a usable value means: nothing, the condition, or all clear.
enum class NoData : std::uint8_t { keep, fire, resolve };
enum class AlertPhase : std::uint8_t { idle, pending, firing };
enum class AlertAction : std::uint8_t { none, fire, repeat, resolve };

struct AlertRule {
    Comparator comparator;
    double threshold;
    double clear_threshold;
    std::int64_t hold; // microseconds, as all times here
    std::int64_t clear_hold;
    std::int64_t stale; // a measurement older than this is no data
    NoData no_data;
};

struct AlertState {
    AlertPhase phase = AlertPhase::idle;
    std::int64_t held = 0; // pending: how long the condition held; firing: how long it has been clear
    bool clearing = false; // firing, and clear at the last look
    std::int64_t looked_at = 0;
    std::int64_t counted_at = 0; // the measurement that was last counted as a repetition

    friend bool operator==(const AlertState&, const AlertState&) = default;
};

struct AlertLook {
    std::int64_t at;
    std::optional<double> value; // nothing or NaN: no data
    std::int64_t measured_at;
};

// Throw tandem::Error 22023 on an unknown name.
Comparator parse_comparator(std::string_view text);
NoData parse_no_data(std::string_view text);
AlertPhase parse_alert_phase(std::string_view text);
std::string_view name(AlertPhase phase) noexcept;
std::string_view name(AlertAction action) noexcept;

// Does the value meet the condition? Never for NaN.
bool meets(double value, Comparator comparator, double threshold) noexcept;

// Throws tandem::Error 22023 unless every value that is clear does not meet the condition.
void check_alert_rule(const AlertRule& rule);

// One look: the state after it, and what is to be done.
AlertAction look(const AlertRule& rule, AlertState& state, const AlertLook& at) noexcept;

} // namespace tandem
