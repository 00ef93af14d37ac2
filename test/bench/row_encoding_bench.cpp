// What a row costs before it reaches the sketch: seven columns as people have them, encoded and hashed; and what a key
// of text and a long value add.
#include "core/row_encoding.hpp"

#include <string>
#include <vector>

#include <benchmark/benchmark.h>

namespace {

using namespace tandem;

struct Row {
    std::int64_t id;
    std::int64_t account;
    double amount;
    std::int64_t changed_at;
    bool active;
    std::string name;
    std::string status;
};

std::vector<Row> rows(int name_size) {
    std::vector<Row> made;
    for (int i = 0; i < 1024; i++) {
        made.push_back({i, i * 7919, i * 0.25, 760'000'000'000'000 + i, i % 2 == 0,
                        std::string(static_cast<std::size_t>(name_size + i % 5), 'n'), i % 3 == 0 ? "open" : "closed"});
    }
    return made;
}

void encode(RowEncoder& encoder, const Row& row) {
    encoder.reset();
    encoder.int64(TypeClass::integer, row.id);
    encoder.int64(TypeClass::integer, row.account);
    encoder.floating(row.amount);
    encoder.int64(TypeClass::date_time, row.changed_at);
    encoder.fixed(TypeClass::boolean, &row.active, 1);
    encoder.bytes(TypeClass::text, row.name.data(), row.name.size());
    encoder.bytes(TypeClass::text, row.status.data(), row.status.size());
}

// The argument: the length of one of the two texts.
void row_hash(benchmark::State& state) {
    const HashSecret secret = make_secret(42);
    RowEncoder encoder(secret);
    const auto made = rows(static_cast<int>(state.range(0)));
    std::size_t i = 0;
    for (auto _ : state) {
        encode(encoder, made[i++ % made.size()]);
        benchmark::DoNotOptimize(encoder.hash());
    }
}
BENCHMARK(row_hash)->Arg(8)->Arg(20)->Arg(100)->Arg(1000);

void row_key(benchmark::State& state) {
    const HashSecret secret = make_secret(42);
    RowEncoder encoder(secret);
    const std::string text(static_cast<std::size_t>(state.range(0)), 'k');
    std::uint64_t limbs[2];
    for (auto _ : state) {
        benchmark::DoNotOptimize(text.data());
        encoder.reset();
        encoder.bytes(TypeClass::text, text.data(), text.size());
        encoder.key(limbs);
        benchmark::DoNotOptimize(limbs);
    }
}
BENCHMARK(row_key)->Arg(16)->Arg(36);

} // namespace
