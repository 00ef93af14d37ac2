// Many changes of one table written to the other side at a time, past the executor: as its plan would, for a table on
// which nothing of the application's listens.
#pragma once

#include "pg/mirror_write.hpp"

namespace pg::bulk {

// May changes of this source be written together, and after all triggers of their statement? Only where nobody can tell
// the difference: no trigger of the application after a row or statement of the source, none at all on the target.
// Finds the indexes of the keys. Within SPI, as the plan's owner.
bool possible(MirrorPlan* plan, Relation source, Oid function);

// Within a subtransaction: begin(), write() for one table after the other, and finish(), which fires the triggers of
// all, with the settings that a statement of the owner's has: cascades get to other tables. Each raises an ERROR also
// where the rows are such that write_row() is needed, and then all of it must be undone.
void begin();
// Writes changes in order. Within SPI, as the plan's owner. `function` is the mirror's.
void write(const MirrorPlan* plan, Relation source, const Change* changes, int count, Oid function);
void finish(Oid owner);

// The row that the upsert makes, kept with the plan, where no setting has a say in it nor in how it is stored; else
// NIL. Within SPI, as the plan's owner; it must be possible().
List* settled_row(const MirrorPlan* plan);

// One UPDATE, without a subtransaction. It needs a settled row, and no settings pinned. Within SPI, as the plan's
// owner. false: nothing was written, as write_row() is needed.
bool update_one(const MirrorPlan* plan, Relation source, const Change& change, Oid function);

} // namespace pg::bulk
