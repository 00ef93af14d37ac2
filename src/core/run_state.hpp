// The state machine of a run: one table says which verb is legal in which stage and phase, who may ask for it, what
// else must hold, and what it leads to. Everything that moves a run goes through next(); SQL keeps the state, this file
// keeps the law, and law() shows it: docs/runs.md and the levels of 15_authorize.sql are tested against it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tandem {

enum class Stage : std::uint8_t { off, dualwrite, shadow, live, rampdown, complete };
enum class Phase : std::uint8_t { pending, progressing, paused, waiting_approval, degraded, succeeded, cancelled };
enum class Verb : std::uint8_t {
    start,
    synced,
    promote,
    await,
    approve,
    pause,
    resume,
    rollback,
    retry,
    cancel,
    rampdown,
    complete,
    rollback_domain, // one domain goes back alone
    set_domain,
    restored
};
// Levels of people, as grant_role() grants them, and the machine: the worker, or a tick().
enum class Who : std::uint8_t { oncall, approver, operate, admin, worker };

constexpr int kStageCount = 6;
constexpr int kPhaseCount = 7;
constexpr int kVerbCount = 15;
constexpr int kWhoCount = 5;

// A set of the values of one of these enumerations.
using Set = std::uint16_t;
template <class... E>
constexpr Set set(E... e) {
    return static_cast<Set>(((1u << static_cast<unsigned>(e)) | ...));
}
template <class E>
constexpr bool has(Set s, E e) {
    return (s & (1u << static_cast<unsigned>(e))) != 0;
}

struct RunState {
    Stage stage;
    Phase phase;
    int weight;

    friend bool operator==(const RunState&, const RunState&) = default;
};

// A row of the law: in these stages and phases the verb is legal and leads to this stage and phase; an empty `to` keeps
// what is. `guard` says in words what SQL checks besides.
struct Rule {
    Verb verb;
    Set stages;
    Set phases;
    std::optional<Stage> to_stage;
    std::optional<Phase> to_phase;
    Set who;
    std::string_view guard;
};
std::span<const Rule> law() noexcept;

std::string_view name(Stage stage) noexcept;
std::string_view name(Phase phase) noexcept;
std::string_view name(Verb verb) noexcept;
std::string_view name(Who who) noexcept;

// Throw tandem::Error 22023 on an unknown name.
Stage parse_stage(std::string_view text);
Phase parse_phase(std::string_view text);
Verb parse_verb(std::string_view text);

// The step that follows `weight`; nothing when the last is reached. Steps ascend strictly within 1..100.
std::optional<int> next_step(std::span<const int> steps, int weight) noexcept;

// Throws tandem::Error 22023 unless the steps ascend strictly within 1..100 and there is at least one.
void check_steps(std::span<const int> steps);

// What the verb leads to. `to_weight` is read by promote only, and defaults to the next step.
// Throws tandem::Error: 55000 for an illegal move (DETAIL: the state, HINT: what is missing), 22023 for a weight that
// is not a step.
RunState next(const RunState& state, Verb verb, std::span<const int> steps, std::optional<int> to_weight = {});

} // namespace tandem
