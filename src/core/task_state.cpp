#include "core/task_state.hpp"

#include <array>

namespace tandem {
namespace {

constexpr std::array<std::string_view, kTaskStates> kNames{"pending", "claimed", "running",   "done",
                                                           "failed",  "dead",    "escalated", "cancelled"};

} // namespace

std::optional<TaskState> task_state(std::string_view name) {
    for (std::size_t i = 0; i < kNames.size(); i++) {
        if (name == kNames[i]) {
            return static_cast<TaskState>(i);
        }
    }
    return std::nullopt;
}

std::string_view task_state_name(TaskState state) {
    return kNames[static_cast<std::size_t>(state)];
}

} // namespace tandem
