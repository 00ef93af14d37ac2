// Reads the columns of a stored tuple in one walk over its bytes, without a slot around it.
//
// The same as PostgreSQL's own deforming, over a table of 8 bytes a column instead of its catalog rows. Held against
// slots by the tests.
#pragma once

#include "pg/prelude.hpp"

namespace pg::compare {

struct WalkColumn {
    std::int16_t length;  // -1: varlena, -2: cstring
    std::uint8_t align;   // 1, 2, 4, 8
    bool by_value;
    std::int32_t offset;  // where it always stands; -1: it depends on the values before
};

struct TupleWalk {
    TupleDesc desc;
    int columns; // how far to walk
    WalkColumn* column;
};
static_assert(std::is_trivially_destructible_v<TupleWalk>);

TupleWalk* plan_walk(TupleDesc desc, int columns);

// Columns 1 .. walk->columns of the tuple into values and nulls. By-reference values point into the tuple.
void walk_tuple(const TupleWalk* walk, HeapTuple tuple, Datum* values, bool* nulls);

} // namespace pg::compare
