#include "pg/compare_pass.hpp"

#include "pg/compare_parallel.hpp"
#include "pg/compare_progress.hpp"
#include "pg/compare_radix.hpp"

extern "C" {
#include "access/parallel.h"
#include "optimizer/cost.h"
#include "optimizer/paths.h"
}

namespace pg::compare {
namespace {

bool is_walked(const PassRequest* request, int side) {
    return request->sources[side]->path != Path::executor;
}

// As PostgreSQL gives workers to a scan: one more for each threefold size above the minimum.
int workers_for(std::int64_t blocks) {
    int workers = 0;
    if (min_parallel_table_scan_size == 0) {
        return max_parallel_workers_per_gather;
    }
    for (std::int64_t threshold = std::max(min_parallel_table_scan_size, 1); blocks >= threshold; threshold *= 3) {
        workers++;
    }
    return std::min(workers, max_parallel_workers_per_gather);
}

int planned_workers(const PassRequest* request) {
    std::int64_t largest = 0;
    bool any = false;
    for (int side = 0; side < kSides; side++) {
        if (is_shared(request, side)) {
            largest = std::max(largest, request->sources[side]->blocks);
            any = true;
        }
    }
    return any && !IsInParallelMode() ? workers_for(largest) : 0;
}

void scan_serially(Participant* participant, const PassRequest* request, int side) {
    const Source* source = request->sources[side];
    ListCell* cell = nullptr;
    foreach (cell, source->tables) {
        open_and_scan(participant, source, side, lfirst_oid(cell), GetActiveSnapshot(), nullptr);
    }
}

} // namespace

int processes_for(const PassRequest* request) {
    return planned_workers(request) + 1;
}

void read_unshared(Participant* participant, const PassRequest* request) {
    for (int side = 0; side < kSides; side++) {
        participant->stores[side] = {request->stores[side], nullptr};
        if (!is_walked(request, side)) {
            read_query(participant, side, request->requests[side]);
        } else if (!is_shared(request, side)) {
            scan_serially(participant, request, side);
        }
    }
}

void count_kinds(const Participant* participant, const PassRequest* request, PassResult* result) {
    const std::size_t places = tally_count(request);
    result->exact = true;
    for (std::size_t i = 0; i < places; i++) {
        Tally& tally = participant->tallies[i];
        const std::uint32_t legacy = pg_atomic_read_u32(&tally.copies[kLegacy]);
        const std::uint32_t other = pg_atomic_read_u32(&tally.copies[kNew]);
        if (legacy == 0 && other == 0) {
            continue;
        }
        result->exact = result->exact && !(legacy == 1 && other == 1 && pg_atomic_read_u64(&tally.hash_sum) == 0);
        result->kinds.count(legacy, other);
    }
}

namespace {

void show_totals(const PassRequest* request, int workers) {
    double rows = 0;
    std::int64_t blocks = 0;
    for (const Source* source : request->sources) {
        rows += source->tuples;
        blocks += source->blocks;
    }
    show(kRowsTotal, static_cast<std::int64_t>(rows));
    show(kBlocksTotal, blocks);
    show(kProcesses, workers + 1);
}

void prepare(Participant* participant, const PassRequest* request, PassResult* result) {
    switch (request->pass) {
    case Pass::sketch: {
        const std::size_t size = tandem::Sketch::bytes(request->shape->limbs, request->cells) + 64;
        result->sketch_memory = palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
        result->sketch = new_sketch(align_pointer(result->sketch_memory), request->shape, request->cells);
        participant->sketch = result->sketch;
        break;
    }
    case Pass::radix:
        result->radix = RadixFiles::create(request->shape->limbs, request->shape->seed);
        participant->radix = result->radix;
        break;
    case Pass::fetch:
    case Pass::count:
        participant->wanted = new_wanted(request->wanted_memory, request->shape, request->wanted_capacity);
        break;
    }
}

// All of it by the leader.
void run_alone(Participant* participant, const PassRequest* request, PassResult* result) {
    if (request->pass == Pass::count) {
        participant->tallies = static_cast<Tally*>(
            palloc_extended(sizeof(Tally) * tally_count(request), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    }
    read_unshared(participant, request);
    for (int side = 0; side < kSides; side++) {
        if (is_shared(request, side)) {
            scan_serially(participant, request, side);
        }
    }
    if (request->pass == Pass::count) {
        count_kinds(participant, request, result);
        pfree(participant->tallies);
    }
}

} // namespace

PassResult* run_pass(const PassRequest* request) {
    Participant* participant = make_participant(request->shape, request->pass);
    auto* result = static_cast<PassResult*>(palloc0(sizeof(PassResult)));
    prepare(participant, request, result);
    participant->leader = true;
    const int workers = affordable_workers(request, planned_workers(request));
    show_totals(request, workers);
    if (workers == 0) {
        run_alone(participant, request, result);
    } else {
        if (request->pass != Pass::count) {
            read_unshared(participant, request);
        }
        run_shared(participant, request, workers, result);
    }
    result->counts = participant->counts;
    return result;
}

} // namespace pg::compare
