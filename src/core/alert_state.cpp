#include "core/alert_state.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "core/error.hpp"

namespace tandem {
namespace {

template <class Value>
struct Name {
    std::string_view text;
    Value value;
};

constexpr std::array<Name<Comparator>, 6> kComparators{{{">", Comparator::more},
                                                        {">=", Comparator::more_or_equal},
                                                        {"<", Comparator::less},
                                                        {"<=", Comparator::less_or_equal},
                                                        {"=", Comparator::equal},
                                                        {"<>", Comparator::unequal}}};
constexpr std::array<Name<NoData>, 3> kNoData{
    {{"keep", NoData::keep}, {"fire", NoData::fire}, {"resolve", NoData::resolve}}};
constexpr std::array<Name<AlertPhase>, 3> kPhases{
    {{"idle", AlertPhase::idle}, {"pending", AlertPhase::pending}, {"firing", AlertPhase::firing}}};
constexpr std::array<Name<AlertAction>, 4> kActions{{{"none", AlertAction::none},
                                                     {"fire", AlertAction::fire},
                                                     {"repeat", AlertAction::repeat},
                                                     {"resolve", AlertAction::resolve}}};

template <class Names>
auto parse(const Names& names, std::string_view text, const char* what) {
    for (const auto& name : names) {
        if (name.text == text) {
            return name.value;
        }
    }
    std::string known;
    for (const auto& name : names) {
        known += (known.empty() ? "" : ", ") + std::string(name.text);
    }
    throw Error("22023", "unknown " + std::string(what) + " \"" + std::string(text.substr(0, 63)) + "\"", {},
                "Known are: " + known + ".");
}

template <class Names, class Value>
std::string_view text_of(const Names& names, Value value) noexcept {
    for (const auto& name : names) {
        if (name.value == value) {
            return name.text;
        }
    }
    return {};
}

bool is_clear(double value, const AlertRule& rule) noexcept {
    return !meets(value, rule.comparator, rule.clear_threshold);
}

constexpr std::int64_t kLongest = 10LL * 366 * 86'400 * 1'000'000; // sums of it stay within 64 bits

// Microseconds that passed since the last look.
std::int64_t passed(std::int64_t from, std::int64_t to) noexcept {
    if (to <= from) {
        return 0;
    }
    const std::uint64_t gap = static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from);
    return static_cast<std::int64_t>(std::min(gap, static_cast<std::uint64_t>(kLongest)));
}

std::int64_t add(std::int64_t held, std::int64_t gap) noexcept {
    return std::min(held, kLongest) + gap;
}

bool is_stale(const AlertRule& rule, const AlertLook& at) noexcept {
    const auto later = static_cast<std::uint64_t>(std::max(at.at, at.measured_at));
    const auto earlier = static_cast<std::uint64_t>(std::min(at.at, at.measured_at));
    return later - earlier > static_cast<std::uint64_t>(rule.stale);
}

} // namespace

Comparator parse_comparator(std::string_view text) {
    return parse(kComparators, text, "comparator");
}
NoData parse_no_data(std::string_view text) {
    return parse(kNoData, text, "meaning of no data");
}
AlertPhase parse_alert_phase(std::string_view text) {
    return parse(kPhases, text, "phase of an alert");
}
std::string_view name(AlertPhase phase) noexcept {
    return text_of(kPhases, phase);
}
std::string_view name(AlertAction action) noexcept {
    return text_of(kActions, action);
}

bool meets(double value, Comparator comparator, double threshold) noexcept {
    switch (comparator) {
    case Comparator::more:
        return value > threshold;
    case Comparator::more_or_equal:
        return value >= threshold;
    case Comparator::less:
        return value < threshold;
    case Comparator::less_or_equal:
        return value <= threshold;
    case Comparator::equal:
        return value == threshold;
    case Comparator::unequal:
        return value < threshold || value > threshold;
    }
    return false;
}

void check_alert_rule(const AlertRule& rule) {
    if (!std::isfinite(rule.threshold) || !std::isfinite(rule.clear_threshold)) {
        throw Error("22023", "the threshold of an alert is a finite number", {},
                    "NaN and Infinity are met by nothing.");
    }
    const bool up = rule.comparator == Comparator::more || rule.comparator == Comparator::more_or_equal;
    const bool down = rule.comparator == Comparator::less || rule.comparator == Comparator::less_or_equal;
    if ((up && rule.clear_threshold > rule.threshold) || (down && rule.clear_threshold < rule.threshold) ||
        (!up && !down && rule.clear_threshold != rule.threshold)) {
        throw Error("22023", "clear_threshold is on the wrong side of threshold",
                    "A value could meet the condition and be clear at once.",
                    up     ? "For > and >= it is the threshold or less."
                    : down ? "For < and <= it is the threshold or more."
                           : "For = and <> there is no other: leave it out.");
    }
    if (rule.hold < 0 || rule.clear_hold < 0 || rule.stale <= 0) {
        throw Error("22023", "the times of an alert must not be negative", {},
                    "hold and clear_hold from 0 on, stale_after more than 0.");
    }
}

AlertAction look(const AlertRule& rule, AlertState& state, const AlertLook& at) noexcept {
    const std::int64_t gap = passed(state.looked_at, at.at);
    state.looked_at = at.at;
    const bool known = at.value.has_value() && !std::isnan(*at.value) && !is_stale(rule, at);
    const bool bad = known ? meets(*at.value, rule.comparator, rule.threshold) : rule.no_data == NoData::fire;
    const bool clear = known ? is_clear(*at.value, rule) : rule.no_data == NoData::resolve;

    if (state.phase == AlertPhase::firing) {
        if (!clear) {
            state.clearing = false;
            state.held = 0;
            const bool counts = bad && known && state.counted_at != at.measured_at;
            state.counted_at = counts ? at.measured_at : state.counted_at;
            return counts ? AlertAction::repeat : AlertAction::none;
        }
        state.held = state.clearing ? add(state.held, gap) : 0;
        state.clearing = true;
        if (state.held < rule.clear_hold) {
            return AlertAction::none;
        }
        state = {AlertPhase::idle, 0, false, at.at, state.counted_at};
        return AlertAction::resolve;
    }

    if (!bad) {
        state.phase = AlertPhase::idle;
        state.held = 0;
        return AlertAction::none;
    }
    state.held = state.phase == AlertPhase::pending ? add(state.held, gap) : 0;
    state.phase = AlertPhase::pending;
    if (state.held < rule.hold) {
        return AlertAction::none;
    }
    state = {AlertPhase::firing, 0, false, at.at, at.measured_at};
    return AlertAction::fire;
}

} // namespace tandem
