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

PassResult* run_pass(const PassRequest* request) {
    Participant* participant = make_participant(request->shape, request->pass);
    void* memory = nullptr;
    if (request->pass == Pass::sketch) {
        const std::size_t size = tandem::Sketch::bytes(request->shape->limbs, request->cells) + 64;
        memory = palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
        participant->sketch = new_sketch(align_pointer(memory), request->shape, request->cells);
    } else if (request->pass == Pass::radix) {
        participant->radix = RadixFiles::create(request->shape->limbs, request->shape->seed);
    } else {
        participant->wanted = new_wanted(request->wanted_memory, request->shape, request->wanted_capacity);
    }
    if (request->pass == Pass::count) {
        participant->tallies = static_cast<Tally*>(
            palloc_extended(sizeof(Tally) * tally_count(request), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    }

    const int workers = planned_workers(request);
    participant->leader = true;
    double rows = 0;
    std::int64_t blocks = 0;
    for (const Source* source : request->sources) {
        rows += source->tuples;
        blocks += source->blocks;
    }
    show(kRowsTotal, static_cast<std::int64_t>(rows));
    show(kBlocksTotal, blocks);
    show(kProcesses, workers + 1);
    bool shared = false;
    for (int side = 0; side < kSides; side++) {
        participant->stores[side] = {request->stores[side], nullptr};
        if (!is_walked(request, side)) {
            read_query(participant, side, request->requests[side]);
        } else if (workers == 0 || !is_shared(request, side)) {
            scan_serially(participant, request, side);
        } else {
            shared = true;
        }
    }
    if (shared) {
        run_shared(participant, request, workers);
    }
    auto* result = static_cast<PassResult*>(palloc0(sizeof(PassResult)));
    result->counts = participant->counts;
    result->sketch = participant->sketch;
    result->sketch_memory = memory;
    result->radix = participant->radix;
    result->tallies = participant->tallies;
    result->tally_count = request->pass == Pass::count ? tally_count(request) : 0;
    return result;
}

} // namespace pg::compare
