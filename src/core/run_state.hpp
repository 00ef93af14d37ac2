// The state machine of a run: one table says which verb is legal in which stage and phase, who may ask for it, and what
// it leads to. Everything that moves a run goes through next(); SQL keeps the state, this file keeps the law.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tandem {

enum class Stage : std::uint8_t { off, dualwrite, shadow, live, rampdown, complete };
enum class Phase : std::uint8_t { pending, progressing, paused, waiting_approval, degraded, succeeded, cancelled };
enum class Verb : std::uint8_t { start, synced, promote, pause, resume, rollback, retry, cancel, complete };

struct RunState {
    Stage stage;
    Phase phase;
    int weight;

    friend bool operator==(const RunState&, const RunState&) = default;
};

std::string_view name(Stage stage) noexcept;
std::string_view name(Phase phase) noexcept;
std::string_view name(Verb verb) noexcept;

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
