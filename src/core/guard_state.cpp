#include "core/guard_state.hpp"

#include <algorithm>
#include <limits>

namespace tandem {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

std::int64_t passed(std::int64_t from, std::int64_t to, std::int64_t most) noexcept {
    if (to <= from || most <= 0) {
        return 0;
    }
    const std::uint64_t gap = static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from);
    return static_cast<std::int64_t>(std::min(gap, static_cast<std::uint64_t>(most)));
}

std::int64_t add(std::int64_t sum, std::int64_t more) noexcept {
    return sum > kMost - more ? kMost : sum + more;
}

} // namespace

std::string_view name(GuardAnswer answer) noexcept {
    switch (answer) {
    case GuardAnswer::clear:
        return "clear";
    case GuardAnswer::inconclusive:
        return "inconclusive";
    case GuardAnswer::pending:
        return "pending";
    case GuardAnswer::fire:
        return "fire";
    }
    return {};
}

GuardAnswer look(const GuardRule& rule, GuardState& state, const GuardLook& at) noexcept {
    const std::int64_t gap = passed(state.looked_at, at.at, rule.longest_gap);
    const bool too_few = at.samples && *at.samples < rule.min_samples;
    if (!at.truth || !*at.truth || too_few) {
        state = {false, 0, 0, at.at, 0};
        return !at.truth || (*at.truth && too_few) ? GuardAnswer::inconclusive : GuardAnswer::clear;
    }
    state.held = state.pending ? add(state.held, gap) : 0;
    if (!state.pending || state.counted_at != at.measured_at) {
        state.seen = add(state.seen, 1);
        state.counted_at = at.measured_at;
    }
    state.pending = true;
    state.looked_at = at.at;
    const bool enough = at.samples || state.seen >= rule.min_samples;
    return state.held >= rule.hold && enough ? GuardAnswer::fire : GuardAnswer::pending;
}

} // namespace tandem
