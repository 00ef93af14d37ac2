// What the comparison's core costs for each row: the sketch at sizes that fit a core's cache and at sizes that do not,
// the peeling, the match table behind it, and the probe of the pass that fetches the differing rows. ns: see Time /
// items.
#include "core/sketch.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/key_set.hpp"
#include "core/match_table.hpp"

namespace {

using namespace tandem;

constexpr std::size_t kRows = 1 << 18;
constexpr std::size_t kSlice = 1024; // as a scan hands them over

// As tables are: the first limb ascends. The slices are what the processor has at hand.
std::vector<Element> rows(int limbs, std::size_t count = kRows) {
    std::mt19937_64 random(1);
    std::vector<Element> made(count);
    for (std::size_t i = 0; i < count; i++) {
        made[i] = {{i, 0, 0}, field_hash(random())};
        for (int limb = 1; limb < limbs; limb++) {
            made[i].key[limb] = field::reduce(random());
        }
    }
    return made;
}

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

struct Cells {
    Cells(int limbs, std::size_t cells)
        : memory(std::aligned_alloc(64, (Sketch::bytes(limbs, cells) + 63) / 64 * 64)),
          view(clear(memory.get(), limbs, cells), limbs, cells, 42) {}
    static void* clear(void* memory, int limbs, std::size_t cells) {
        return std::memset(memory, 0, Sketch::bytes(limbs, cells));
    }
    std::unique_ptr<void, Free> memory;
    Sketch view;
};

void per_row(benchmark::State& state, std::size_t rows) {
    const auto all = static_cast<double>(state.iterations()) * static_cast<double>(rows);
    state.counters["row"] = benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Arguments: limbs, cells.
void sketch_add(benchmark::State& state) {
    const auto made = rows(static_cast<int>(state.range(0)));
    Cells cells(static_cast<int>(state.range(0)), static_cast<std::size_t>(state.range(1)));
    for (auto _ : state) {
        for (std::size_t i = 0; i < made.size(); i += kSlice) {
            cells.view.add({&made[i], kSlice});
        }
    }
    per_row(state, made.size());
}
BENCHMARK(sketch_add)->ArgsProduct({{1, 2, 3}, {4096, 65'536, 1 << 20}})->Unit(benchmark::kMillisecond);

// At the load for which cells_for() makes it.
void sketch_decode(benchmark::State& state) {
    const int limbs = static_cast<int>(state.range(0));
    const auto made = rows(limbs, static_cast<std::size_t>(state.range(1)));
    Cells cells(limbs, Sketch::cells_for(made.size()));
    for (auto _ : state) {
        state.PauseTiming();
        cells.view.add(made);
        state.ResumeTiming();
        if (!cells.view.decode().complete) {
            state.SkipWithError("not complete");
            break;
        }
    }
    per_row(state, made.size());
}
BENCHMARK(sketch_decode)->ArgsProduct({{1, 2}, {2400, 600'000}})->Unit(benchmark::kMillisecond);

// Both sides of a partition of so many keys.
void match_table(benchmark::State& state) {
    const int limbs = static_cast<int>(state.range(0));
    const auto made = rows(limbs, static_cast<std::size_t>(state.range(1)));
    MatchTable table(limbs, made.size());
    for (auto _ : state) {
        table.clear();
        table.add_legacy(made);
        table.add_new(made);
        std::size_t found = 0;
        table.differences(true, [&](const MatchTable::Entry&) { found++; });
        benchmark::DoNotOptimize(found);
    }
    per_row(state, 2 * made.size());
}
BENCHMARK(match_table)->ArgsProduct({{1, 2}, {16'384, 1 << 20}})->Unit(benchmark::kMillisecond);

void partition(benchmark::State& state) {
    const auto made = rows(2);
    std::size_t i = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(radix_of(made[i++ % made.size()], 8, 42));
    }
}
BENCHMARK(partition);

// Nearly every row is not in the set; the argument is how many keys are.
void key_set(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    std::vector<std::uint64_t> memory(KeySet::bytes(count, 1) / 8);
    KeySet set(memory.data(), 1, count, 42);
    for (std::size_t i = 0; i < count; i++) {
        const std::uint64_t key[] = {kRows + i * 7919, 0, 0};
        set.insert(key);
    }
    const auto made = rows(1);
    for (auto _ : state) {
        std::size_t found = 0;
        for (std::size_t i = 0; i < made.size(); i += 32) {
            for (std::size_t j = i; j < i + 32; j++) {
                set.prefetch(made[j].key);
            }
            for (std::size_t j = i; j < i + 32; j++) {
                found += set.contains(made[j].key) ? 1 : 0;
            }
        }
        benchmark::DoNotOptimize(found);
    }
    per_row(state, made.size());
}
BENCHMARK(key_set)->Arg(100)->Arg(100'000)->Arg(4'000'000)->Unit(benchmark::kMillisecond);

} // namespace
