// Any state, verb and steps: the state machine answers or throws tandem::Error, and what it answers keeps the
// law.
#include "core/run_state.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/error.hpp"
#include "input.hpp"

namespace {

using namespace tandem;

bool told_in_full(const Error& error) {
    const bool known = std::strcmp(error.sqlstate(), "55000") == 0 || std::strcmp(error.sqlstate(), "22023") == 0;
    return known && std::strlen(error.what()) > 0 && !error.hint().empty();
}

template <class F>
bool succeeds(F f) {
    try {
        f();
        return true;
    } catch (const Error& error) {
        fuzz::require(told_in_full(error));
        return false;
    }
}

bool traffic_is_possible(const RunState& state) {
    return state.weight == 0 || state.stage == Stage::live || state.stage == Stage::rampdown ||
           state.stage == Stage::complete;
}

void try_names(std::string_view text) {
    succeeds([&] { fuzz::require(name(parse_stage(text)) == text); });
    succeeds([&] { fuzz::require(name(parse_phase(text)) == text); });
    succeeds([&] { fuzz::require(name(parse_verb(text)) == text); });
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    RunState state{static_cast<Stage>(input.below(kStageCount)), static_cast<Phase>(input.below(kPhaseCount)), 0};
    const bool sane = input.below(4) != 0; // a weight and steps as tables hold them, or anything at all
    state.weight = sane ? static_cast<int>(input.below(101)) : input.take<int>();
    std::vector<int> steps(input.below(12));
    for (int& step : steps) {
        step = sane ? static_cast<int>(input.below(101)) : input.take<int>();
    }
    const bool lawful = succeeds([&] { check_steps(steps); });

    for (unsigned moves = input.below(16) + 1; moves > 0; moves--) {
        const Verb verb = static_cast<Verb>(input.below(kVerbCount));
        std::optional<int> to_weight;
        if (input.below(2) == 1) {
            to_weight = input.take<int>();
        }
        RunState to{};
        if (!succeeds([&] { to = next(state, verb, steps, to_weight); })) {
            continue;
        }
        if (lawful && sane && traffic_is_possible(state)) {
            fuzz::require(traffic_is_possible(to));
            fuzz::require(to.weight >= 0 && to.weight <= 100);
            const bool is_step = std::find(steps.begin(), steps.end(), to.weight) != steps.end();
            fuzz::require(to.weight == 0 || to.weight == state.weight || is_step || to.stage == Stage::complete);
            fuzz::require(verb == Verb::promote || verb == Verb::complete || to.weight <= state.weight);
        }
        state = to;
    }
    try_names(input.rest());
    return 0;
}
