#include "core/run_state.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "core/bucket.hpp"
#include "core/error.hpp"

namespace tandem {
namespace {

using enum Stage;
using enum Phase;

constexpr std::array<std::string_view, 6> kStages{"off", "dualwrite", "shadow", "live", "rampdown", "complete"};
constexpr std::array<std::string_view, 7> kPhases{"pending",  "progressing", "paused",   "waiting_approval",
                                                  "degraded", "succeeded",   "cancelled"};
constexpr std::array<std::string_view, 9> kVerbs{"start",    "synced", "promote", "pause",   "resume",
                                                 "rollback", "retry",  "cancel",  "complete"};

using Set = std::uint16_t;
template <class... E>
constexpr Set set(E... e) {
    return static_cast<Set>(((1u << static_cast<unsigned>(e)) | ...));
}
template <class E>
constexpr bool has(Set s, E e) {
    return (s & (1u << static_cast<unsigned>(e))) != 0;
}

constexpr Set kAnyOpenPhase = set(pending, progressing, paused, waiting_approval, degraded);

// A row: in these stages and phases the verb is legal and leads to this stage and phase; an empty `to` keeps what is.
struct Rule {
    Verb verb;
    Set stages;
    Set phases;
    std::optional<Stage> to_stage;
    std::optional<Phase> to_phase;
    std::string_view needs; // what an illegal move is told
};

constexpr std::array kRules{
    Rule{Verb::start, set(off), set(pending), dualwrite, progressing,
         "A run is started once, from stage off. status() shows where it is."},
    Rule{Verb::synced, set(dualwrite), set(progressing), shadow, progressing,
         "Only the worker ends the backfill, when every row is copied and no difference is left."},
    Rule{Verb::promote, set(shadow, live), set(progressing, waiting_approval), live, progressing,
         "A run is promoted in stage shadow or live while its phase is progressing: start() it, resume() it, or "
         "retry() it after its differences are mended."},
    Rule{Verb::pause,
         set(dualwrite, shadow, live),
         set(progressing, waiting_approval),
         {},
         paused,
         "Only a run that is progressing can be paused."},
    Rule{Verb::resume,
         set(dualwrite, shadow, live),
         set(paused),
         {},
         progressing,
         "Only a paused run can be resumed; a degraded one needs retry()."},
    // Idempotent, and legal in every phase in which traffic may be on the new side.
    Rule{Verb::rollback, set(shadow, live), set(progressing, paused, waiting_approval, degraded), shadow, degraded,
         "There is nothing to roll back before stage shadow (cancel() ends such a run), and no way back after "
         "complete()."},
    // During the backfill no traffic has moved: a run that finds differences there stays where it is, degraded.
    Rule{Verb::rollback, set(dualwrite), set(progressing, paused, waiting_approval, degraded), dualwrite, degraded, {}},
    Rule{Verb::retry,
         set(dualwrite, shadow, live),
         set(degraded),
         {},
         progressing,
         "Only a degraded run can be retried."},
    Rule{Verb::cancel, set(off, dualwrite, shadow), kAnyOpenPhase, off, cancelled,
         "A run is cancelled at weight 0 only: rollback() first. A complete run cannot be cancelled."},
    Rule{Verb::complete, set(live), set(progressing), Stage::complete, succeeded,
         "A run is completed from stage live at 100 %, while its phase is progressing."},
};

template <class E, std::size_t N>
E parse(const std::array<std::string_view, N>& names, std::string_view text, const char* what) {
    const auto found = std::find(names.begin(), names.end(), text);
    if (found == names.end()) {
        std::string known;
        for (const auto name : names) {
            known.append(known.empty() ? "" : ", ").append(name);
        }
        throw Error("22023", std::string("unknown ") + what + " \"" + std::string(text) + "\"", {},
                    "Known are: " + known + ".");
    }
    return static_cast<E>(found - names.begin());
}

std::string describe(const RunState& state) {
    return "The run is in stage " + std::string(name(state.stage)) + ", phase " + std::string(name(state.phase)) +
           ", at weight " + std::to_string(state.weight) + ".";
}

int promoted_weight(const RunState& state, std::span<const int> steps, std::optional<int> to_weight) {
    const auto step = next_step(steps, state.weight);
    if (!step) {
        throw Error("55000", "the run is at its last step", describe(state),
                    state.weight == kMaxWeight ? "Finish it with complete()."
                                               : "Its steps end below 100 %: rollback() and cancel() end such a run.");
    }
    if (!to_weight) {
        return *step;
    }
    if (*to_weight <= state.weight) {
        throw Error("22023", "cannot promote to weight " + std::to_string(*to_weight), describe(state),
                    "A promotion goes up; rollback() takes traffic back.");
    }
    if (std::find(steps.begin(), steps.end(), *to_weight) == steps.end()) {
        std::string known;
        for (const int s : steps) {
            known.append(known.empty() ? "" : ", ").append(std::to_string(s));
        }
        throw Error("22023", "weight " + std::to_string(*to_weight) + " is not a step of this run", describe(state),
                    "Its steps are: " + known + ".");
    }
    return *to_weight;
}

} // namespace

std::string_view name(Stage stage) noexcept {
    return kStages[static_cast<std::size_t>(stage)];
}
std::string_view name(Phase phase) noexcept {
    return kPhases[static_cast<std::size_t>(phase)];
}
std::string_view name(Verb verb) noexcept {
    return kVerbs[static_cast<std::size_t>(verb)];
}

Stage parse_stage(std::string_view text) {
    return parse<Stage>(kStages, text, "stage");
}
Phase parse_phase(std::string_view text) {
    return parse<Phase>(kPhases, text, "phase");
}
Verb parse_verb(std::string_view text) {
    return parse<Verb>(kVerbs, text, "verb");
}

std::optional<int> next_step(std::span<const int> steps, int weight) noexcept {
    const auto found = std::find_if(steps.begin(), steps.end(), [weight](int s) { return s > weight; });
    return found == steps.end() ? std::nullopt : std::optional<int>(*found);
}

void check_steps(std::span<const int> steps) {
    int last = 0;
    for (const int step : steps) {
        if (step <= last || step > 100) {
            throw Error("22023", "steps must ascend strictly within 1 to 100",
                        "Step " + std::to_string(step) + " follows " + std::to_string(last) + ".",
                        "For example: '{5,25,50,75,100}'.");
        }
        last = step;
    }
    if (steps.empty()) {
        throw Error("22023", "a run needs at least one step", {}, "For example: '{5,25,50,75,100}'.");
    }
}

RunState next(const RunState& state, Verb verb, std::span<const int> steps, std::optional<int> to_weight) {
    std::string_view needs;
    for (const Rule& rule : kRules) {
        if (rule.verb != verb) {
            continue;
        }
        if (needs.empty()) {
            needs = rule.needs;
        }
        if (!has(rule.stages, state.stage) || !has(rule.phases, state.phase)) {
            continue;
        }
        RunState to{rule.to_stage.value_or(state.stage), rule.to_phase.value_or(state.phase), state.weight};
        switch (verb) {
        case Verb::promote:
            to.weight = promoted_weight(state, steps, to_weight);
            break;
        case Verb::rollback:
        case Verb::cancel:
            to.weight = 0;
            break;
        case Verb::complete:
            // Who is served by legacy until now would be moved without any step.
            if (state.weight != kMaxWeight) {
                throw Error("55000", "the run is not at 100 %", describe(state),
                            next_step(steps, state.weight)
                                ? "Promote it to its last step first."
                                : "Its steps end below 100 %: rollback() and cancel() end such a run.");
            }
            break;
        default:
            break;
        }
        return to;
    }
    throw Error("55000", "cannot " + std::string(name(verb)) + " the run in its present state", describe(state),
                std::string(needs));
}

} // namespace tandem
