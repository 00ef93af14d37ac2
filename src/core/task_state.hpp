// The states of a task, and which change leads from which to which, as one word of bits per kind.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tandem {

enum class TaskState : std::uint8_t { pending, claimed, running, done, failed, dead, escalated, cancelled };
inline constexpr int kTaskStates = 8;

std::optional<TaskState> task_state(std::string_view name);
std::string_view task_state_name(TaskState state);

// Bit from * 8 + to is set where the change is legal.
using Transitions = std::uint64_t;
constexpr Transitions transition_bit(TaskState from, TaskState to) {
    return Transitions{1} << (static_cast<unsigned>(from) * kTaskStates + static_cast<unsigned>(to));
}
constexpr bool is_legal(Transitions transitions, TaskState from, TaskState to) {
    return (transitions & transition_bit(from, to)) != 0;
}

// done, dead, cancelled: nothing more is due.
constexpr bool is_finished(TaskState state) {
    return state == TaskState::done || state == TaskState::dead || state == TaskState::cancelled;
}
// Somebody works on it.
constexpr bool is_active(TaskState state) {
    return state == TaskState::claimed || state == TaskState::running;
}

// pending and escalated tasks, and failed ones that have attempts left, can be claimed.
constexpr bool is_claimable(TaskState state, int attempt, int max_attempts) {
    return state == TaskState::pending || state == TaskState::escalated ||
           (state == TaskState::failed && attempt < max_attempts);
}

// The change from a state to itself carries a patch only (progress of a long task): legal wherever the state is not
// finished, and not asked of the table.
constexpr bool may_change(Transitions transitions, TaskState from, TaskState to) {
    return from == to ? !is_finished(from) : is_legal(transitions, from, to);
}

} // namespace tandem
