// What one move of a run costs: legal, and refused (an exception with its texts).
#include "core/run_state.hpp"

#include <benchmark/benchmark.h>

#include "core/error.hpp"

namespace {

using namespace tandem;

constexpr int kSteps[] = {5, 25, 50, 75, 100};

void next_legal(benchmark::State& state) {
    RunState run{Stage::live, Phase::progressing, 25};
    for (auto _ : state) {
        benchmark::DoNotOptimize(run);
        benchmark::DoNotOptimize(next(run, Verb::promote, kSteps));
    }
}
BENCHMARK(next_legal);

void next_refused(benchmark::State& state) {
    RunState run{Stage::complete, Phase::succeeded, 100};
    for (auto _ : state) {
        benchmark::DoNotOptimize(run);
        try {
            benchmark::DoNotOptimize(next(run, Verb::rollback, kSteps));
        } catch (const Error& error) {
            benchmark::DoNotOptimize(error.sqlstate());
        }
    }
}
BENCHMARK(next_refused);

} // namespace
