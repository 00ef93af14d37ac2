// A comparison on its way: what was asked for, how its sides are read, what was found.
#pragma once

#include "pg/compare_pass.hpp"
#include "pg/compare_radix.hpp"

namespace pg::compare {

struct Comparison {
    SourceRequest requests[kSides];
    Source* sources[kSides];
    Shape* shape; // nullptr: the sides have no encoding in common
    const char* key_names;
    const char* judge;             // over the candidates' rows
    const char* null_keys;         // over all rows: is there a NULL in a key?
    const char* otherwise;         // over all rows
    const char* careful_null_keys; // the same two where rows of legacy are set apart, as an expression fails on them
    const char* careful;
    const char* counted; // where only counts are wanted: with the counts as parameters; else nullptr
    const char* sample;  // rows and differences of a sample of legacy of $1 per cent; nullptr: there is none to be had
    bool refused;        // the error is the comparison's own
};

struct Outcome {
    const char* method;
    Counts counts;
    Tuplestorestate* rows[kSides]; // nullptr: judged over all rows
    TupleDesc descs[kSides];
    std::int64_t candidates;
    bool counted; // the kinds are known
    Kinds kinds;
};

// The arguments of execute_comparison().
Comparison* read_arguments(FunctionCallInfo fcinfo);

// nullptr: a column whose values have no common encoding, or whose keys cannot be hashed.
Shape* make_shape(FunctionCallInfo fcinfo, int columns);

// Finds the rows that may differ, by passes over both sides, which must be open. Needs SPI.
Outcome* find(Comparison* comparison);

// Nothing was found, as nothing was looked for: all rows have to be judged.
Outcome* join_all();

// Shows rows to the SQL that is executed in this SPI connection, as a table of this name.
void register_rows(const char* name, Tuplestorestate* rows, TupleDesc desc, std::int64_t count);

// Raises the ERROR where there are any.
void refuse_null_keys(Comparison* comparison, const Counts& counts);

} // namespace pg::compare
