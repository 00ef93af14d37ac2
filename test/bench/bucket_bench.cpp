// What route() costs in the core: the bucket of a key, by the length of keys that people have (a bigint, a
// uuid, a long text).
#include "core/bucket.hpp"

#include <string>

#include <benchmark/benchmark.h>

namespace {

void bucket_of(benchmark::State& state) {
    std::string key(static_cast<std::size_t>(state.range(0)), 'k');
    for (auto _ : state) {
        benchmark::DoNotOptimize(key.data());
        benchmark::DoNotOptimize(tandem::bucket_of(42, key));
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(bucket_of)->Arg(8)->Arg(36)->Arg(200);

} // namespace
