// The part of a pass that parallel workers share, and what leader and workers do alike.
#pragma once

#include "pg/compare_pass.hpp"

namespace pg::compare {

// May workers read the side in this pass?
bool is_shared(const PassRequest* request, int side);

// What a participant works with; the memory is the caller's.
tandem::Sketch* new_sketch(void* memory, const Shape* shape, std::size_t cells);
tandem::KeySet* new_wanted(void* memory, const Shape* shape, std::size_t capacity);
std::size_t tally_count(const PassRequest* request);

// Cells of 32 bytes do not straddle cache lines where the first begins one.
void* align_pointer(void* pointer);

// Reads one table; `shared`: as far as the others leave it, else all of it.
void open_and_scan(Participant* participant, const Source* source, int side, Oid relation, Snapshot snapshot,
                   ParallelTableScanDesc shared);

// How many of these workers there is shared memory for: in a container it may be 64 MB for all. What it would not hold
// the leader does alone, in memory of his own.
int affordable_workers(const PassRequest* request, int workers);

// The sides that may be shared, by the leader and this many workers.
void run_shared(Participant* participant, const PassRequest* request, int workers, PassResult* result);

// The other sides, by the leader alone.
void read_unshared(Participant* participant, const PassRequest* request);

// What the tallies of the count pass say.
void count_kinds(const Participant* participant, const PassRequest* request, PassResult* result);

} // namespace pg::compare
