// Rows of one heap table stored many at a time, as COPY does: one call of the table, one record of the log and one lock
// of the page for all that go on it. For a table on which nothing of the application's listens, opened by the caller.
#pragma once

#include "pg/prelude.hpp"

extern "C" {
#include "nodes/execnodes.h"
}

namespace pg::bulk {

struct Inserter {
    static constexpr int kMostRows = 100;
    static constexpr Size kMostBytes = 65536; // memory, where rows are wide; COPY has the same limits

    ResultRelInfo* result;
    EState* estate;
    CommandId command;
    TupleDesc row; // of the table: pins of many slots are dear
    int count;
    Size bytes;
    TupleTableSlot* slots[kMostRows];
};

// In the memory context that it is to live in; the indexes are open.
void open_inserter(Inserter& inserter, ResultRelInfo* result, EState* estate, CommandId command);

// An empty row: its values and nulls are filled in, then add_row() takes a copy. It is stored later, with others.
TupleTableSlot* next_row(Inserter& inserter);
void add_row(Inserter& inserter);

// Stores all that were added, with their index entries, and queues their triggers.
void store_rows(Inserter& inserter);
void close_inserter(Inserter& inserter);

// Could a CHECK of the table, or of a domain in it, look at rows that are not stored yet? Any volatile function might.
bool checks_may_look_at_rows(Relation table);

// What the executor looks at before it stores a row; computes its generated columns.
void check_row(ResultRelInfo* result, EState* estate, TupleTableSlot* slot);

} // namespace pg::bulk
