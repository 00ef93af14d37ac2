// One change of a row, and the mirrored write that follows from it: by the kept statements of its plan.
#pragma once

#include "pg/mirror_plan.hpp"

namespace pg {

struct Change {
    enum class Kind { insert, update, remove };
    Kind kind;
    HeapTuple before; // update, remove: the row as it was
    HeapTuple after;  // insert, update: the row as it became
};

// What a row trigger saw; the tuples are the trigger's.
Change change_of(const TriggerData* data);

// Has this transaction changed the row again since? An application's trigger that fired before us may have, and its
// change was then mirrored before ours: the row as it was here is no news any more. `slot` is one of the relation.
bool superseded(Relation source, HeapTuple tuple, TupleTableSlot* slot);

// The mirrored write of one row, as the current user. Within SPI. `wait`: a row that is not there yet is not made, and
// the answer is false.
bool write_row(const MirrorPlan* plan, Relation source, const Change& change, bool wait);

} // namespace pg
