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

constexpr std::array<std::string_view, kStageCount> kStages{"off",  "dualwrite", "shadow",
                                                            "live", "rampdown",  "complete"};
constexpr std::array<std::string_view, kPhaseCount> kPhases{"pending",  "progressing", "paused",   "waiting_approval",
                                                            "degraded", "succeeded",   "cancelled"};
constexpr std::array<std::string_view, kVerbCount> kVerbs{
    "start", "synced", "promote",  "await",    "approve",         "pause",      "resume",  "rollback",
    "retry", "cancel", "rampdown", "complete", "rollback_domain", "set_domain", "restored"};
constexpr std::array<std::string_view, kWhoCount> kWho{"oncall", "approver", "operator", "admin", "worker"};

constexpr Set kOpen = set(pending, progressing, paused, waiting_approval, degraded);
constexpr Set kMoving = set(progressing, waiting_approval);
constexpr Set kArmed = set(dualwrite, shadow, live, rampdown); // the mirrors are there
constexpr Set kServed = set(shadow, live, rampdown);           // equal sides are a matter of traffic
constexpr Set kSplit = set(live, rampdown);                    // keys are on the new side
constexpr Set kBraked = set(progressing, paused, waiting_approval, degraded);
constexpr Set kOperators = set(Who::operate, Who::admin);
constexpr Set kAnybody = set(Who::oncall, Who::operate, Who::admin, Who::worker);

constexpr std::array kLaw{
    Rule{Verb::start, set(off), set(pending), dualwrite, progressing, kOperators,
         "preflight clean, the way back included; gates before dualwrite signed"},
    Rule{Verb::synced, set(dualwrite), set(progressing), shadow, progressing, set(Who::worker),
         "every row copied, both sides equal, gates before shadow signed"},
    Rule{Verb::promote, set(shadow, live), kMoving, live, progressing, set(Who::operate, Who::admin, Who::worker),
         "a higher step; promotion_blockers() names nothing, but that people need not wait for the hold"},
    // A gate: nothing else stands in the way. Validation, guards and rollback stay armed.
    Rule{Verb::await,
         kArmed,
         set(progressing),
         {},
         waiting_approval,
         set(Who::worker),
         "nothing but an unsigned gate stands in the way"},
    Rule{Verb::approve,
         kArmed,
         set(waiting_approval),
         {},
         progressing,
         set(Who::approver, Who::admin, Who::worker),
         "the gates in the way are signed"},
    Rule{Verb::pause, kArmed, kMoving, {}, paused, kAnybody, "nothing"},
    Rule{Verb::resume, kArmed, set(paused), {}, progressing, kOperators, "nothing"},
    // Idempotent, and legal in every phase in which traffic may be on the new side.
    Rule{Verb::rollback, kServed, kBraked, shadow, degraded, kAnybody, "a reason; no approval"},
    // During the backfill no traffic has moved: a run that finds differences there stays where it is, degraded.
    Rule{Verb::rollback, set(dualwrite), kBraked, dualwrite, degraded, kAnybody, "a reason; no approval"},
    // One domain goes back alone: the others keep their weight, and the run is not promoted further.
    Rule{Verb::rollback_domain,
         kSplit,
         kBraked,
         {},
         degraded,
         kAnybody,
         "a reason; no approval; another domain has keys on new, else it is rollback"},
    Rule{Verb::retry,
         kServed,
         set(degraded),
         {},
         progressing,
         kOperators,
         "a clean comparison; gates that were passed signed anew"},
    // The worker's first comparison is to come: what is missing is copied again.
    Rule{Verb::retry, set(dualwrite), set(degraded), {}, progressing, kOperators, "nothing"},
    Rule{Verb::cancel, set(off, dualwrite, shadow), kOpen, off, cancelled, kOperators, "weight 0"},
    Rule{Verb::rampdown, set(live), set(progressing), Stage::rampdown, progressing, kOperators,
         "by complete(), where the option retention is above 0; weight 100, both sides equal, gates before rampdown "
         "signed"},
    Rule{Verb::complete, set(live, rampdown), set(progressing), Stage::complete, succeeded, kOperators,
         "weight 100, both sides equal, gates before complete signed, retention over"},
    // The run stays where it is, in the next epoch: every session asks anew which side serves the domain.
    Rule{Verb::set_domain,
         set(off, dualwrite, shadow, live, rampdown),
         kOpen,
         {},
         {},
         kOperators,
         "on at a weight above 0: what binds a promotion and a retry, and a clean comparison of the domain"},
    // Nobody asked for the run in this database.
    Rule{Verb::restored,
         kArmed,
         kMoving,
         {},
         paused,
         set(Who::worker),
         "the database is a copy of the one in which the run was moved last"},
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

// What the caller of an illegal verb asked for, in his words.
std::string spoken(Verb verb) {
    switch (verb) {
    case Verb::rollback_domain:
        return "rollback a domain of";
    case Verb::set_domain:
        return "switch a domain of";
    default:
        return std::string(name(verb));
    }
}

// What the caller of an illegal verb is told: what is to be done first, or that nothing can be.
std::string_view missing(const RunState& state, Verb verb) {
    if (state.phase == cancelled) {
        return "It was cancelled and stays so: create_run() makes another one.";
    }
    if (state.stage == Stage::complete) {
        return verb == Verb::rollback || verb == Verb::rollback_domain
                   ? "There is no way back after complete(): the mirrors are gone, and legacy has none "
                     "of the writes made since."
                   : "It is complete: nothing moves it any more.";
    }
    if (verb == Verb::synced || verb == Verb::await || verb == Verb::approve) {
        return "The worker and those who sign gates move a run so, nobody by hand: see status().waiting_for.";
    }
    if (verb == Verb::restored) {
        return "The worker pauses a run so that moves in a copy of its database, nobody by hand: see "
               "status().waiting_for.";
    }
    if (verb == Verb::set_domain) {
        return "It is over: its domains stay as they are.";
    }
    if (verb == Verb::start) {
        return "It is started already: see status().waiting_for.";
    }
    if (state.stage == off) {
        return verb == Verb::rollback || verb == Verb::rollback_domain
                   ? "There is nothing to roll back: cancel() ends it."
                   : "start() it first.";
    }
    if (verb == Verb::cancel) {
        return "A run is cancelled at weight 0 only: rollback() first.";
    }
    if (verb == Verb::rollback_domain) {
        return "No domain has keys on the new side: rollback() takes all of it back.";
    }
    switch (state.phase) {
    case paused:
        return verb == Verb::pause   ? "It is paused already: resume() lets it go on."
               : verb == Verb::retry ? "It is not rolled back, but paused: resume() lets it go on."
                                     : "resume() it first.";
    case degraded:
        return verb == Verb::pause ? "It is rolled back, and stands still until retry()."
                                   : "It is rolled back: retry() it first, once its differences are mended.";
    case waiting_approval:
        return verb == Verb::retry ? "It is not rolled back: it waits for the sign_off() of a gate."
                                   : "It waits for the sign_off() of a gate.";
    default:
        break;
    }
    switch (verb) {
    case Verb::resume:
    case Verb::retry:
        return "It is progressing already: see status().waiting_for.";
    case Verb::promote:
        return state.stage == dualwrite
                   ? "The worker takes it to shadow first, when every row is copied and both sides "
                     "are equal."
                   : "It has taken its last step: complete() ends it, rollback() takes it back.";
    default:
        if (state.stage == Stage::rampdown) {
            return "It is there already: complete() ends it.";
        }
        return state.stage == dualwrite
                   ? "The worker takes it to shadow first, when every row is copied and both sides "
                     "are equal; then promote() it to 100 %."
                   : "promote() it to 100 % first.";
    }
}

int promoted_weight(const RunState& state, std::span<const int> steps, std::optional<int> to_weight) {
    const auto step = next_step(steps, state.weight);
    if (!step) {
        throw Error("55000", "the run is at its last step", describe(state),
                    state.weight != kMaxWeight ? "Its steps end below 100 %: rollback() and cancel() end such a run."
                    : state.phase == waiting_approval ? "A gate is to be signed, then complete() ends it."
                                                      : "Finish it with complete().");
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
std::string_view name(Who who) noexcept {
    return kWho[static_cast<std::size_t>(who)];
}

std::span<const Rule> law() noexcept {
    return kLaw;
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
    for (const Rule& rule : kLaw) {
        if (rule.verb != verb || !has(rule.stages, state.stage) || !has(rule.phases, state.phase)) {
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
        case Verb::rampdown:
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
    throw Error("55000", "cannot " + spoken(verb) + " the run in its present state", describe(state),
                std::string(missing(state, verb)));
}

} // namespace tandem
