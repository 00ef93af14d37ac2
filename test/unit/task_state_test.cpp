// The states of a task and the word of bits that says which change is legal: every pair, every bit.
#include "core/task_state.hpp"

#include <bit>
#include <map>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TaskState state(int i) {
    return static_cast<TaskState>(i);
}

TEST(task_state, names_are_read_back) {
    const std::string_view names[] = {"pending", "claimed", "running",   "done",
                                      "failed",  "dead",    "escalated", "cancelled"};
    for (int i = 0; i < kTaskStates; i++) {
        EXPECT_EQ(task_state_name(state(i)), names[i]);
        ASSERT_TRUE(task_state(names[i]).has_value()) << names[i];
        EXPECT_EQ(*task_state(names[i]), state(i));
    }
}

TEST(task_state, nothing_else_is_a_name) {
    for (const std::string_view name :
         {"", "p", "pendin", "pending ", " pending", "Pending", "PENDING", "canceled", "pending\n", "\xff\xfe"}) {
        EXPECT_FALSE(task_state(name).has_value()) << name;
    }
    EXPECT_FALSE(task_state(std::string_view("done\0", 5)).has_value()) << "a NUL is a byte like any other";
    EXPECT_FALSE(task_state(std::string(100'000, 'd')).has_value());
}

TEST(task_state, each_change_has_a_bit_of_its_own) {
    Transitions all = 0;
    for (int from = 0; from < kTaskStates; from++) {
        for (int to = 0; to < kTaskStates; to++) {
            const Transitions bit = transition_bit(state(from), state(to));
            EXPECT_EQ(std::popcount(bit), 1);
            EXPECT_EQ(all & bit, 0U) << from << " to " << to;
            all |= bit;
        }
    }
    EXPECT_EQ(all, ~Transitions{0});
}

// Against every single transition, and against all and none of them.
TEST(task_state, a_change_is_legal_where_its_bit_is_set) {
    for (int bit = -2; bit < 64; bit++) {
        const Transitions transitions = bit == -2 ? 0 : bit == -1 ? ~Transitions{0} : Transitions{1} << bit;
        for (int from = 0; from < kTaskStates; from++) {
            for (int to = 0; to < kTaskStates; to++) {
                const bool is_set = bit == -1 || bit == from * 8 + to;
                EXPECT_EQ(is_legal(transitions, state(from), state(to)), is_set);
                if (from != to) {
                    EXPECT_EQ(may_change(transitions, state(from), state(to)), is_set);
                }
            }
        }
    }
}

// done, dead and cancelled end a task: a patch comes too late.
TEST(task_state, to_itself_until_it_is_finished) {
    const std::map<TaskState, bool> finished{{TaskState::pending, false},   {TaskState::claimed, false},
                                             {TaskState::running, false},   {TaskState::done, true},
                                             {TaskState::failed, false},    {TaskState::dead, true},
                                             {TaskState::escalated, false}, {TaskState::cancelled, true}};
    for (const auto& [state, is] : finished) {
        EXPECT_EQ(is_finished(state), is) << task_state_name(state);
        EXPECT_EQ(may_change(0, state, state), !is) << task_state_name(state);
        EXPECT_EQ(may_change(~Transitions{0}, state, state), !is) << task_state_name(state);
    }
}

TEST(task_state, what_can_be_claimed) {
    for (int i = 0; i < kTaskStates; i++) {
        const TaskState s = state(i);
        const bool open = s == TaskState::pending || s == TaskState::escalated;
        EXPECT_EQ(is_claimable(s, 0, 5), open || s == TaskState::failed) << task_state_name(s);
        EXPECT_EQ(is_claimable(s, 4, 5), open || s == TaskState::failed) << task_state_name(s);
        EXPECT_EQ(is_claimable(s, 5, 5), open) << task_state_name(s) << " with no attempt left";
        EXPECT_EQ(is_claimable(s, 6, 5), open) << task_state_name(s);
        EXPECT_EQ(is_active(s), s == TaskState::claimed || s == TaskState::running);
    }
}

} // namespace
} // namespace tandem
