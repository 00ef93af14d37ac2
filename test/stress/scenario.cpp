#include "scenario.hpp"

#include <initializer_list>
#include <utility>

namespace stress {

namespace {

Mix mix(std::initializer_list<std::pair<Action, int>> weights) {
    Mix all{};
    for (const auto& [action, weight] : weights) {
        all[static_cast<std::size_t>(action)] = weight;
    }
    return all;
}

using A = Action;

Mix everything() {
    return mix({{A::increment, 30},
                {A::stale, 5},
                {A::increment_many, 8},
                {A::strict, 6},
                {A::interrupted, 2},
                {A::undone, 2},
                {A::savepoint, 2},
                {A::create, 20},
                {A::create_poison, 1},
                {A::cancel, 2},
                {A::work, 20},
                {A::die, 2}});
}
Mix contention() {
    return mix({{A::increment, 60}, {A::stale, 5}, {A::increment_many, 20}, {A::strict, 10}, {A::savepoint, 5}});
}
Mix queue() {
    return mix({{A::create, 50}, {A::work, 25}});
}
Mix dying() {
    return mix({{A::create, 40}, {A::work, 15}, {A::die, 15}});
}
Mix dead_letters() {
    return mix({{A::create, 10}, {A::create_poison, 20}, {A::work, 40}});
}
Mix cancels() {
    return mix({{A::interrupted, 30}, {A::undone, 20}, {A::savepoint, 20}, {A::cancel, 20}, {A::work, 10}});
}
Mix emergencies() {
    return mix({{A::alarm, 50}, {A::respond, 50}});
}

} // namespace

std::vector<Phase> phases(const Options& options) {
    std::vector<Phase> all;
    const auto timed = [&](const char* name, int threads, double seconds, Mix weights, int hot_tasks,
                           bool snapshot = false) {
        all.push_back({.name = name,
                       .threads = options.threads > 0 ? options.threads : threads,
                       .seconds = seconds,
                       .mix = weights,
                       .hot_tasks = hot_tasks,
                       .hold_snapshot = snapshot});
    };
    switch (options.command) {
    case Command::quick:
        timed("everything", 8, 5, everything(), 10);
        timed("emergency", 8, 2, emergencies(), 1);
        break;
    case Command::full: {
        const double held = options.hold_snapshot > 0 ? options.hold_snapshot : 60;
        timed("everything", 16, 40, everything(), 20);
        timed("contention", 32, 25, contention(), 5);
        timed("queue", 16, 20, queue(), 1);
        timed("queue, old snapshot", 16, held, queue(), 1, true);
        timed("dying workers", 16, 30, dying(), 1);
        timed("dead letters", 8, 15, dead_letters(), 1);
        timed("cancels", 16, 20, cancels(), 10);
        timed("emergency", 24, 40, emergencies(), 1);
        timed("120 connections", 120, 20, everything(), 40);
        break;
    }
    case Command::emergency:
        timed("emergency", 24, 20, emergencies(), 1);
        break;
    case Command::load: {
        const int threads = options.threads > 0 ? options.threads : 20;
        // Creates them, changes each ten times, in batches too, and finishes all (by drain_phase).
        all.push_back({.name = "create",
                       .threads = threads,
                       .seconds = 1,
                       .calls = options.tasks,
                       .mix = mix({{A::create_load, 1}}),
                       .hot_tasks = 1});
        all.push_back({.name = "change",
                       .threads = threads,
                       .seconds = 4,
                       .calls = std::int64_t{options.tasks} * 10,
                       .mix = mix({{A::increment, 80}, {A::stale, 5}, {A::increment_many, 5}, {A::strict, 10}}),
                       .hot_are_created = true});
        break;
    }
    }
    return all;
}

Phase drain_phase(const Options& options) {
    const int threads = options.command == Command::load ? (options.threads > 0 ? options.threads : 20) : 4;
    return {.name = "finish what is left", .threads = threads, .seconds = 2, .mix = mix({{A::drain, 1}})};
}

} // namespace stress
