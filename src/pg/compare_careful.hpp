// Where a mapping expression fails on some rows: these rows and their errors are set apart, and the comparison goes on
// with the others.
#pragma once

#include "pg/compare_source.hpp"

namespace pg::compare {

struct CarefulRows {
    Tuplestorestate* rows;   // c1, c2, ... of the rows whose expressions all gave a value
    TupleDesc rows_desc;
    Tuplestorestate* failed; // c1, c2, ... as far as they could be had, and failed_columns int[], message, sqlstate, source
    TupleDesc failed_desc;
    std::int64_t row_count;
    std::int64_t failed_count;
};

// Could the error be that of an expression over a row? Not a cancel, not lack of memory, not a missing right.
bool is_rows_fault(int sqlstate);

// Evaluates the row expressions of a relation one row after the other. Needs SPI.
CarefulRows* read_carefully(const SourceRequest* request);

} // namespace pg::compare
