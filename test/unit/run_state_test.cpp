// The state machine, exhaustively: every stage, phase, verb and weight against a list of legal moves written
// by hand from the design. What is not on the list must be refused, with a SQLSTATE, the state and a hint.
#include "core/run_state.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace tandem {

std::ostream& operator<<(std::ostream& out, const RunState& state) {
    return out << name(state.stage) << '/' << name(state.phase) << '@' << state.weight;
}

namespace {

constexpr const char* kLegalMoves = R"(
    start     off/pending                 dualwrite/progressing

    synced    dualwrite/progressing       shadow/progressing

    promote   shadow/progressing          live/progressing
    promote   shadow/waiting_approval     live/progressing
    promote   live/progressing            live/progressing
    promote   live/waiting_approval       live/progressing

    await     dualwrite/progressing       dualwrite/waiting_approval
    await     shadow/progressing          shadow/waiting_approval
    await     live/progressing            live/waiting_approval
    await     rampdown/progressing        rampdown/waiting_approval

    approve   dualwrite/waiting_approval  dualwrite/progressing
    approve   shadow/waiting_approval     shadow/progressing
    approve   live/waiting_approval       live/progressing
    approve   rampdown/waiting_approval   rampdown/progressing

    pause     dualwrite/progressing       dualwrite/paused
    pause     dualwrite/waiting_approval  dualwrite/paused
    pause     shadow/progressing          shadow/paused
    pause     shadow/waiting_approval     shadow/paused
    pause     live/progressing            live/paused
    pause     live/waiting_approval       live/paused
    pause     rampdown/progressing        rampdown/paused
    pause     rampdown/waiting_approval   rampdown/paused

    resume    dualwrite/paused            dualwrite/progressing
    resume    shadow/paused               shadow/progressing
    resume    live/paused                 live/progressing
    resume    rampdown/paused             rampdown/progressing

    rollback  dualwrite/progressing       dualwrite/degraded
    rollback  dualwrite/paused            dualwrite/degraded
    rollback  dualwrite/waiting_approval  dualwrite/degraded
    rollback  dualwrite/degraded          dualwrite/degraded
    rollback  shadow/progressing          shadow/degraded
    rollback  shadow/paused               shadow/degraded
    rollback  shadow/waiting_approval     shadow/degraded
    rollback  shadow/degraded             shadow/degraded
    rollback  live/progressing            shadow/degraded
    rollback  live/paused                 shadow/degraded
    rollback  live/waiting_approval       shadow/degraded
    rollback  live/degraded               shadow/degraded
    rollback  rampdown/progressing        shadow/degraded
    rollback  rampdown/paused             shadow/degraded
    rollback  rampdown/waiting_approval   shadow/degraded
    rollback  rampdown/degraded           shadow/degraded

    retry     dualwrite/degraded          dualwrite/progressing
    retry     shadow/degraded             shadow/progressing
    retry     live/degraded               live/progressing
    retry     rampdown/degraded           rampdown/progressing

    cancel    off/pending                 off/cancelled
    cancel    off/progressing             off/cancelled
    cancel    off/paused                  off/cancelled
    cancel    off/waiting_approval        off/cancelled
    cancel    off/degraded                off/cancelled
    cancel    dualwrite/pending           off/cancelled
    cancel    dualwrite/progressing       off/cancelled
    cancel    dualwrite/paused            off/cancelled
    cancel    dualwrite/waiting_approval  off/cancelled
    cancel    dualwrite/degraded          off/cancelled
    cancel    shadow/pending              off/cancelled
    cancel    shadow/progressing          off/cancelled
    cancel    shadow/paused               off/cancelled
    cancel    shadow/waiting_approval     off/cancelled
    cancel    shadow/degraded             off/cancelled

    rampdown  live/progressing            rampdown/progressing

    complete  live/progressing            complete/succeeded
    complete  rampdown/progressing        complete/succeeded

    rollback_domain  live/progressing          live/degraded
    rollback_domain  live/paused               live/degraded
    rollback_domain  live/waiting_approval     live/degraded
    rollback_domain  live/degraded             live/degraded
    rollback_domain  rampdown/progressing      rampdown/degraded
    rollback_domain  rampdown/paused           rampdown/degraded
    rollback_domain  rampdown/waiting_approval rampdown/degraded
    rollback_domain  rampdown/degraded         rampdown/degraded

    set_domain  off/pending                 off/pending
    set_domain  off/progressing             off/progressing
    set_domain  off/paused                  off/paused
    set_domain  off/waiting_approval        off/waiting_approval
    set_domain  off/degraded                off/degraded
    set_domain  dualwrite/pending           dualwrite/pending
    set_domain  dualwrite/progressing       dualwrite/progressing
    set_domain  dualwrite/paused            dualwrite/paused
    set_domain  dualwrite/waiting_approval  dualwrite/waiting_approval
    set_domain  dualwrite/degraded          dualwrite/degraded
    set_domain  shadow/pending              shadow/pending
    set_domain  shadow/progressing          shadow/progressing
    set_domain  shadow/paused               shadow/paused
    set_domain  shadow/waiting_approval     shadow/waiting_approval
    set_domain  shadow/degraded             shadow/degraded
    set_domain  live/pending                live/pending
    set_domain  live/progressing            live/progressing
    set_domain  live/paused                 live/paused
    set_domain  live/waiting_approval       live/waiting_approval
    set_domain  live/degraded               live/degraded
    set_domain  rampdown/pending            rampdown/pending
    set_domain  rampdown/progressing        rampdown/progressing
    set_domain  rampdown/paused             rampdown/paused
    set_domain  rampdown/waiting_approval   rampdown/waiting_approval
    set_domain  rampdown/degraded           rampdown/degraded

    restored  dualwrite/progressing       dualwrite/paused
    restored  dualwrite/waiting_approval  dualwrite/paused
    restored  shadow/progressing          shadow/paused
    restored  shadow/waiting_approval     shadow/paused
    restored  live/progressing            live/paused
    restored  live/waiting_approval       live/paused
    restored  rampdown/progressing        rampdown/paused
    restored  rampdown/waiting_approval   rampdown/paused
)";

// Who may ask for a verb, by hand as well.
constexpr const char* kWhoMay = R"(
    start     operator admin
    synced    worker
    promote   operator admin worker
    await     worker
    approve   approver admin worker
    pause     oncall operator admin worker
    resume    operator admin
    rollback  oncall operator admin worker
    retry     operator admin
    cancel    operator admin
    rampdown  operator admin
    complete  operator admin
    rollback_domain  oncall operator admin worker
    set_domain  operator admin
    restored  worker
)";

const std::vector<int> kSteps{5, 25, 50, 75, 100};
const std::vector<int> kWeights{0, 5, 25, 50, 75, 100};

std::string place(Stage stage, Phase phase) {
    return std::string(name(stage)) + "/" + std::string(name(phase));
}

// (verb, from) → to
std::map<std::pair<std::string, std::string>, std::string> legal_moves() {
    std::map<std::pair<std::string, std::string>, std::string> moves;
    std::istringstream lines(kLegalMoves);
    for (std::string verb, from, to; lines >> verb >> from >> to;) {
        moves[{verb, from}] = to;
    }
    return moves;
}

// What the design says about the weight of a legal move; -1: the run's weight stands in the way.
int weight_after(Verb verb, int weight, const std::vector<int>& steps) {
    switch (verb) {
    case Verb::promote:
        for (const int step : steps) {
            if (step > weight) {
                return step;
            }
        }
        return -1;
    case Verb::rollback:
    case Verb::cancel:
        return 0;
    case Verb::rampdown:
    case Verb::complete:
        return weight == 100 ? 100 : -1;
    default:
        return weight;
    }
}

void expect_refused(const RunState& state, Verb verb, const std::vector<int>& steps) {
    try {
        const RunState to = next(state, verb, steps);
        ADD_FAILURE() << name(verb) << " from " << state << " was not refused but led to " << to;
    } catch (const Error& error) {
        EXPECT_STREQ(error.sqlstate(), "55000") << name(verb) << " from " << state;
        EXPECT_STRNE(error.what(), "");
        EXPECT_NE(error.hint(), "") << name(verb) << " from " << state;
        // The detail says where the run is.
        EXPECT_NE(error.detail().find(name(state.stage)), std::string::npos) << error.detail();
        EXPECT_NE(error.detail().find(name(state.phase)), std::string::npos) << error.detail();
        EXPECT_NE(error.detail().find(std::to_string(state.weight)), std::string::npos) << error.detail();
    }
}

template <class F>
std::string sqlstate_of(F f) {
    try {
        f();
    } catch (const Error& error) {
        EXPECT_NE(error.hint(), "") << error.what();
        return error.sqlstate();
    }
    return "no error";
}

template <class Visit>
void every_move(const std::vector<int>& weights, Visit visit) {
    for (int stage = 0; stage < kStageCount; stage++) {
        for (int phase = 0; phase < kPhaseCount; phase++) {
            for (int verb = 0; verb < kVerbCount; verb++) {
                for (const int weight : weights) {
                    visit(RunState{static_cast<Stage>(stage), static_cast<Phase>(phase), weight},
                          static_cast<Verb>(verb));
                }
            }
        }
    }
}

void check_against_list(const std::vector<int>& steps, const std::vector<int>& weights) {
    const auto moves = legal_moves();
    std::set<std::pair<std::string, std::string>> seen;
    every_move(weights, [&](const RunState& state, Verb verb) {
        const auto move = moves.find({std::string(name(verb)), place(state.stage, state.phase)});
        const int weight = move == moves.end() ? -1 : weight_after(verb, state.weight, steps);
        if (weight < 0) {
            expect_refused(state, verb, steps);
            return;
        }
        seen.insert(move->first);
        const RunState to = next(state, verb, steps);
        EXPECT_EQ(place(to.stage, to.phase), move->second) << name(verb) << " from " << state;
        EXPECT_EQ(to.weight, weight) << name(verb) << " from " << state;
    });
    EXPECT_EQ(seen.size(), moves.size()) << "the list names a state that does not exist";
}

TEST(run_state, every_move_is_as_the_list_says) {
    check_against_list(kSteps, kWeights);
}

TEST(run_state, every_move_with_other_steps) {
    check_against_list({100}, {0, 100});
    check_against_list({1, 2, 100}, {0, 1, 2, 100});
    check_against_list({50}, {0, 50, 100}); // steps need not end at 100
    check_against_list(kSteps,
                       {1, 30, 99, 100}); // a weight that is no step of this run: the steps were changed meanwhile
}

// A state that no sequence of verbs reaches, or that one reaches and the design does not know, is a mistake in the
// table.
std::set<std::string> reachable(const std::vector<int>& steps, std::vector<RunState>* states = nullptr) {
    std::vector<RunState> todo{{Stage::off, Phase::pending, 0}};
    std::vector<RunState> known = todo;
    const auto add = [&](const RunState& state) {
        if (std::find(known.begin(), known.end(), state) == known.end()) {
            known.push_back(state);
            todo.push_back(state);
        }
    };
    while (!todo.empty()) {
        const RunState state = todo.back();
        todo.pop_back();
        for (int verb = 0; verb < kVerbCount; verb++) {
            try {
                add(next(state, static_cast<Verb>(verb), steps));
            } catch (const Error&) {
            }
        }
    }
    std::set<std::string> places;
    for (const RunState& state : known) {
        places.insert(place(state.stage, state.phase));
    }
    if (states != nullptr) {
        *states = known;
    }
    return places;
}

TEST(run_state, reachable_states_are_these) {
    const std::set<std::string> expected{"off/pending",
                                         "off/cancelled",
                                         "dualwrite/progressing",
                                         "dualwrite/paused",
                                         "dualwrite/degraded",
                                         "dualwrite/waiting_approval",
                                         "shadow/progressing",
                                         "shadow/paused",
                                         "shadow/degraded",
                                         "shadow/waiting_approval",
                                         "live/progressing",
                                         "live/paused",
                                         "live/waiting_approval",
                                         "live/degraded",
                                         "rampdown/progressing",
                                         "rampdown/paused",
                                         "rampdown/waiting_approval",
                                         "rampdown/degraded",
                                         "complete/succeeded"};
    EXPECT_EQ(reachable(kSteps), expected);
}

bool has_traffic(Stage stage) {
    return stage == Stage::live || stage == Stage::rampdown || stage == Stage::complete;
}

// Weight above 0 means traffic on the new side: only from live on.
TEST(run_state, weight_is_a_step_and_only_where_traffic_is) {
    std::vector<RunState> states;
    reachable(kSteps, &states);
    for (const RunState& state : states) {
        EXPECT_NE(std::find(kWeights.begin(), kWeights.end(), state.weight), kWeights.end()) << state;
        EXPECT_EQ(state.weight > 0, has_traffic(state.stage)) << state;
    }
}

TEST(run_state, rollback_beats_everything_while_traffic_is_on_the_new_side) {
    std::vector<RunState> states;
    reachable(kSteps, &states);
    for (const RunState& state : states) {
        if (state.stage == Stage::live || state.stage == Stage::rampdown) {
            const RunState to = next(state, Verb::rollback, kSteps);
            EXPECT_EQ(to, (RunState{Stage::shadow, Phase::degraded, 0})) << state;
            EXPECT_EQ(next(to, Verb::rollback, kSteps), to) << "idempotent";
        }
    }
}

// No dead end: from everywhere a run can be finished or cancelled.
TEST(run_state, every_run_can_end) {
    std::vector<RunState> states;
    reachable(kSteps, &states);
    std::set<std::string> ending{"off/cancelled", "complete/succeeded"};
    for (bool grown = true; grown;) {
        grown = false;
        for (const RunState& state : states) {
            for (int verb = 0; verb < kVerbCount && ending.count(place(state.stage, state.phase)) == 0; verb++) {
                try {
                    const RunState to = next(state, static_cast<Verb>(verb), kSteps);
                    if (ending.count(place(to.stage, to.phase)) != 0) {
                        ending.insert(place(state.stage, state.phase));
                        grown = true;
                    }
                } catch (const Error&) {
                }
            }
        }
    }
    EXPECT_EQ(ending, reachable(kSteps));
}

// What law() shows is what next() does, verb by verb, and no two rows speak of the same state.
TEST(run_state, the_law_that_is_shown_is_the_law) {
    const auto moves = legal_moves();
    std::set<std::pair<std::string, std::string>> shown;
    for (const Rule& rule : law()) {
        for (int stage = 0; stage < kStageCount; stage++) {
            for (int phase = 0; phase < kPhaseCount; phase++) {
                const auto from = static_cast<Stage>(stage);
                const auto in = static_cast<Phase>(phase);
                if (!has(rule.stages, from) || !has(rule.phases, in)) {
                    continue;
                }
                const auto move = moves.find({std::string(name(rule.verb)), place(from, in)});
                ASSERT_NE(move, moves.end()) << name(rule.verb) << " from " << place(from, in);
                EXPECT_EQ(move->second, place(rule.to_stage.value_or(from), rule.to_phase.value_or(in)));
                EXPECT_TRUE(shown.insert(move->first).second) << "two rows for " << place(from, in);
            }
        }
    }
    EXPECT_EQ(shown.size(), moves.size());
}

TEST(run_state, who_may_is_as_the_list_says) {
    std::map<std::string, std::set<std::string>> expected;
    std::istringstream lines(kWhoMay);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string verb;
        if (words >> verb) {
            for (std::string who; words >> who;) {
                expected[verb].insert(who);
            }
        }
    }
    std::map<std::string, std::set<std::string>> found;
    for (const Rule& rule : law()) {
        std::set<std::string> who;
        for (int i = 0; i < kWhoCount; i++) {
            if (has(rule.who, static_cast<Who>(i))) {
                who.insert(std::string(name(static_cast<Who>(i))));
            }
        }
        const auto before = found.emplace(name(rule.verb), who);
        EXPECT_EQ(before.first->second, who) << "two rows of " << name(rule.verb) << " differ in who may";
    }
    EXPECT_EQ(found, expected);
}

// Whoever follows the hint of a refused verb must get on by it: the verbs that it names are legal where the run is, or
// (after "then") where the first of them leads.
TEST(run_state, a_hint_names_no_verb_that_is_refused_as_well) {
    std::vector<RunState> states;
    reachable(kSteps, &states);
    for (const RunState& state : states) {
        for (int verb = 0; verb < kVerbCount; verb++) {
            std::string hint;
            try {
                next(state, static_cast<Verb>(verb), kSteps);
                continue;
            } catch (const Error& error) {
                hint = error.hint();
            }
            for (int named = 0; named < kVerbCount; named++) {
                const std::string call = std::string(name(static_cast<Verb>(named))) + "()";
                const std::size_t at = hint.find(call);
                if (at == std::string::npos || hint.rfind("then ", at) != std::string::npos ||
                    hint.find("after " + call) != std::string::npos ||
                    hint.find("until " + call) != std::string::npos) {
                    continue;
                }
                EXPECT_NO_THROW(next(state, static_cast<Verb>(named), kSteps))
                    << name(static_cast<Verb>(verb)) << " from " << state << ": " << hint;
            }
        }
    }
}

TEST(run_state, nothing_moves_a_run_that_has_ended) {
    for (const RunState& state :
         {RunState{Stage::off, Phase::cancelled, 0}, RunState{Stage::complete, Phase::succeeded, 100}}) {
        for (int verb = 0; verb < kVerbCount; verb++) {
            expect_refused(state, static_cast<Verb>(verb), kSteps);
        }
    }
}

// Random runs with random steps. TANDEM_SEED repeats one.
TEST(run_state, random_walks_keep_the_law) {
    const char* given = std::getenv("TANDEM_SEED");
    const unsigned long seed = given != nullptr ? std::strtoul(given, nullptr, 10) : std::random_device{}();
    std::cout << "TANDEM_SEED=" << seed << '\n';
    SCOPED_TRACE("TANDEM_SEED=" + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto up_to = [&random](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };

    for (int walk = 0; walk < 300; walk++) {
        std::set<int> some;
        for (int count = 1 + up_to(6); count > 0; count--) {
            some.insert(1 + up_to(100));
        }
        const std::vector<int> steps(some.begin(), some.end());
        ASSERT_NO_THROW(check_steps(steps));
        RunState state{Stage::off, Phase::pending, 0};
        for (int move = 0; move < 200; move++) {
            const Verb verb = static_cast<Verb>(up_to(kVerbCount));
            const std::optional<int> to_weight = up_to(3) == 0 ? std::optional<int>(up_to(140) - 20) : std::nullopt;
            const RunState before = state;
            try {
                state = next(state, verb, steps, to_weight);
            } catch (const Error& error) {
                const std::string sqlstate = error.sqlstate();
                ASSERT_TRUE(sqlstate == "55000" || (sqlstate == "22023" && verb == Verb::promote)) << error.what();
                ASSERT_NE(error.detail(), "");
                ASSERT_NE(error.hint(), "");
                ASSERT_EQ(state, before) << "a refused move changes nothing";
                continue;
            }
            const bool is_step = some.count(state.weight) != 0;
            ASSERT_TRUE(state.weight == 0 || is_step) << state;
            ASSERT_EQ(state.weight > 0, has_traffic(state.stage)) << state;
            if (verb == Verb::promote) {
                ASSERT_GT(state.weight, before.weight);
                ASSERT_TRUE(!to_weight || state.weight == *to_weight);
            }
            if (state.stage == Stage::live || state.stage == Stage::rampdown) {
                ASSERT_EQ(next(state, Verb::rollback, steps).weight, 0) << state;
            }
        }
    }
}

TEST(run_state, promote_takes_a_weight_that_is_a_higher_step) {
    const RunState live{Stage::live, Phase::progressing, 25};
    EXPECT_EQ(next(live, Verb::promote, kSteps).weight, 50);
    EXPECT_EQ(next(live, Verb::promote, kSteps, 50).weight, 50);
    EXPECT_EQ(next(live, Verb::promote, kSteps, 100).weight, 100) << "steps may be skipped";
    EXPECT_EQ(next({Stage::shadow, Phase::progressing, 0}, Verb::promote, kSteps, 75),
              (RunState{Stage::live, Phase::progressing, 75}));
    for (const int weight : {25, 5, 0, -1, 26, 99, 101, 2'147'483'647, -2'147'483'647 - 1}) {
        EXPECT_EQ(sqlstate_of([&] { next(live, Verb::promote, kSteps, weight); }), "22023") << weight;
    }
    const RunState last{Stage::live, Phase::progressing, 100};
    EXPECT_EQ(sqlstate_of([&] { next(last, Verb::promote, kSteps); }), "55000");
    EXPECT_EQ(sqlstate_of([&] { next(last, Verb::promote, kSteps, 100); }), "55000");
}

TEST(run_state, other_verbs_read_no_weight) {
    EXPECT_EQ(next({Stage::live, Phase::progressing, 25}, Verb::pause, kSteps, 77),
              (RunState{Stage::live, Phase::paused, 25}));
    EXPECT_EQ(next({Stage::live, Phase::paused, 25}, Verb::rollback, kSteps, 77),
              (RunState{Stage::shadow, Phase::degraded, 0}));
}

TEST(run_state, next_step) {
    EXPECT_EQ(next_step(kSteps, 0), 5);
    EXPECT_EQ(next_step(kSteps, 4), 5);
    EXPECT_EQ(next_step(kSteps, 5), 25);
    EXPECT_EQ(next_step(kSteps, 99), 100);
    EXPECT_EQ(next_step(kSteps, 100), std::nullopt);
    EXPECT_EQ(next_step(kSteps, -1), 5);
    EXPECT_EQ(next_step({}, 0), std::nullopt);
}

TEST(run_state, check_steps) {
    const auto check = [](std::vector<int> steps) { return sqlstate_of([&] { check_steps(steps); }); };
    EXPECT_EQ(check({5, 25, 50, 75, 100}), "no error");
    EXPECT_EQ(check({1}), "no error");
    EXPECT_EQ(check({100}), "no error");
    std::vector<int> all(100);
    for (int i = 0; i < 100; i++) {
        all[static_cast<std::size_t>(i)] = i + 1;
    }
    EXPECT_EQ(check(all), "no error");
    for (const auto& bad : std::vector<std::vector<int>>{{},
                                                         {0},
                                                         {-5},
                                                         {101},
                                                         {5, 5},
                                                         {25, 5},
                                                         {5, 25, 24},
                                                         {5, 101},
                                                         {0, 5},
                                                         {2'147'483'647},
                                                         {-2'147'483'647 - 1}}) {
        EXPECT_EQ(check(bad), "22023");
    }
}

TEST(run_state, names_are_parsed_back) {
    for (int i = 0; i < kStageCount; i++) {
        EXPECT_EQ(parse_stage(name(static_cast<Stage>(i))), static_cast<Stage>(i));
    }
    for (int i = 0; i < kPhaseCount; i++) {
        EXPECT_EQ(parse_phase(name(static_cast<Phase>(i))), static_cast<Phase>(i));
    }
    for (int i = 0; i < kVerbCount; i++) {
        EXPECT_EQ(parse_verb(name(static_cast<Verb>(i))), static_cast<Verb>(i));
    }
}

TEST(run_state, unknown_names_are_refused) {
    const std::string nul("live\0", 5);
    const std::string huge(1'000'000, 'x');
    for (const std::string_view text :
         {std::string_view{}, std::string_view{" live"}, std::string_view{"Live"}, std::string_view{"liv"},
          std::string_view{"lives"}, std::string_view{nul}, std::string_view{huge}, std::string_view{"\xff\xfe"}}) {
        EXPECT_EQ(sqlstate_of([&] { parse_stage(text); }), "22023");
        EXPECT_EQ(sqlstate_of([&] { parse_phase(text); }), "22023");
        EXPECT_EQ(sqlstate_of([&] { parse_verb(text); }), "22023");
    }
    try {
        parse_verb("promoted");
        FAIL();
    } catch (const Error& error) {
        EXPECT_STREQ(error.what(), "unknown verb \"promoted\"");
        EXPECT_NE(error.hint().find("promote"), std::string::npos) << "the hint lists what is known";
    }
}

} // namespace
} // namespace tandem
