// Values that take more than a look at a stored column: expressions over a row, evaluated by PostgreSQL.
//
// Nothing volatile stands in a comparison, so an expression gives the same for the same stored values. Statuses, codes
// and flags have few of them: what was computed for the last ones is kept, and taken again.
#pragma once

#include "pg/prelude.hpp"

#include "core/memo.hpp"

namespace pg::compare {

struct Computed {
    ExprState* state;
    int last;      // the highest column that it reads
    int arguments; // how many columns it reads, where its results are kept; else 0
    AttrNumber* argument;
    TupleDesc desc; // of the table
    tandem::Memo* memo;
    Datum* results; // by the memo's place
    bool* nulls;
    std::int16_t length; // of its type
    bool by_value;
    MemoryContext memory;
};
static_assert(std::is_trivially_destructible_v<Computed>);

// In the current memory context, which has to outlive it.
Computed* make_computed(Node* expression, TupleDesc desc);

// The highest column of the table that the expression reads; a whole row reads all.
int last_column(Node* expression, TupleDesc desc);

// The value of the row that the context shows, whose columns, up to the last that it reads, stand in values and nulls.
// What it returns is good until it is asked again, or until the memory of the row is reset.
Datum compute(Computed* computed, ExprContext* context, const Datum* values, const bool* nulls, bool* is_null);

} // namespace pg::compare
