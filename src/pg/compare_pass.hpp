// One pass over both sides, by as many processes as PostgreSQL would give a scan of these tables, under one snapshot.
#pragma once

#include "pg/compare_scan.hpp"

namespace pg::compare {

struct PassRequest {
    Pass pass;
    Shape* shape;
    Source* sources[kSides];
    const SourceRequest* requests[kSides];
    std::size_t cells;   // of the sketch
    void* wanted_memory; // of the key set, and its size
    std::size_t wanted_capacity;
    Tuplestorestate* stores[kSides]; // what is fetched goes here
};

struct PassResult {
    Counts counts;
    tandem::Sketch* sketch; // merged
    void* sketch_memory;
    RadixFiles* radix;
    Kinds kinds; // of the count pass
    bool exact;  // no key was told that has one row on each side, with the same hash
};

// How many processes will work on the pass: their sketches share the memory of the comparison.
int processes_for(const PassRequest* request);

PassResult* run_pass(const PassRequest* request);

// The rows of a source of the executor, by SQL.
void read_query(Participant* participant, int side, const SourceRequest* request);

} // namespace pg::compare
