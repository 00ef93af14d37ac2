// When a guard fires: one condition over metrics, looked at again and again.
//
//   clear    ── the condition is true ──▶  pending  ── for `hold`, over enough samples ──▶  fire
//   pending  ── it is false, or nobody can tell ──▶  clear
//
// That a guard has fired is kept by who asks, who asks no more until the guard is armed again.
//
// Time is the time that was seen to pass between looks: a clock that is set back takes nothing away and adds nothing,
// and while nobody looked for long, no more than `longest_gap` counts. Where no metric of the condition tells how many
// samples are behind it, each measurement that was seen is one.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tandem {

enum class GuardAnswer : std::uint8_t { clear, inconclusive, pending, fire };

struct GuardRule {
    std::int64_t hold; // microseconds, as all times here
    std::int64_t min_samples;
    std::int64_t longest_gap;
};

struct GuardState {
    bool pending = false;
    std::int64_t held = 0;       // how long the condition has been true
    std::int64_t seen = 0;       // measurements at which it was
    std::int64_t looked_at = 0;  // the last look, whatever it said
    std::int64_t counted_at = 0; // the measurement that was counted last

    friend bool operator==(const GuardState&, const GuardState&) = default;
};

struct GuardLook {
    std::int64_t at;
    std::optional<bool> truth; // nothing: the condition is NULL, or failed
    std::optional<std::int64_t> samples;
    std::int64_t measured_at;
};

std::string_view name(GuardAnswer answer) noexcept;

// One look: the state after it, and what it means.
GuardAnswer look(const GuardRule& rule, GuardState& state, const GuardLook& at) noexcept;

} // namespace tandem
