// Rows of a table by the columns of a unique index, by the equality that the mirror's statements use.
#pragma once

#include "pg/mirror_plan.hpp"

namespace pg::bulk {

struct Lookup {
    Relation index;
    IndexScanDesc scan;
    int count;
    AttrNumber columns[INDEX_MAX_KEYS]; // of the table, in the index's order
    ScanKeyData keys[INDEX_MAX_KEYS];
    Snapshot snapshot;
    ItemPointerData last; // where the last row was found
    int luck;             // how often the next row was the one behind it
};

// The index that a Lookup can use, or none: to find it takes longer than to look up a row.
Oid key_index(Relation relation, const Columns& key);

void open_lookup(Lookup& lookup, Relation relation, Oid index, Snapshot snapshot);
void close_lookup(Lookup& lookup);

// The row with the key that stands in these values of its table; no key column is NULL there.
bool find(Lookup& lookup, const Datum* values, TupleTableSlot* slot);

} // namespace pg::bulk
