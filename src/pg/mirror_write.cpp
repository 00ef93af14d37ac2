// mirror_write: the mirrored write of one row, through the three statements of its direction. It is right in every
// case; mirror_bulk is the faster way for many rows, and comes back here whenever something is out of the ordinary.
#include "pg/mirror_write.hpp"

extern "C" {
#include "utils/datum.h"
}

namespace pg {
namespace {

struct Row {
    Datum* values;
    char* nulls;
};

Row allocate(int columns) {
    return {static_cast<Datum*>(palloc(sizeof(Datum) * (columns + 1))), static_cast<char*>(palloc(columns + 1))};
}

void fill(const Row& row, int offset, const MirrorPlan* plan, HeapTuple tuple, TupleDesc desc) {
    for (int i = 0; i < plan->columns; i++) {
        bool isnull = false;
        row.values[offset + i] = heap_getattr(tuple, plan->attributes[i], desc, &isnull);
        row.nulls[offset + i] = isnull ? 'n' : ' ';
    }
}

// An UPDATE that touches nothing the other side knows needs no write there.
bool same(const Row& row, const MirrorPlan* plan, TupleDesc desc) {
    for (int i = 0; i < plan->columns; i++) {
        const int j = plan->columns + i;
        Form_pg_attribute attribute = TupleDescAttr(desc, plan->attributes[i] - 1);
        if (row.nulls[i] != row.nulls[j] ||
            (row.nulls[i] == ' ' &&
             !datumIsEqual(row.values[i], row.values[j], attribute->attbyval, attribute->attlen))) {
            return false;
        }
    }
    return true;
}

// What is there now counts, also for a transaction with a snapshot of its own: the backfill may have copied a row
// behind it. Whoever else changed the row of the other side changed the row of this side as well, and the user's own
// statement met that conflict.
uint64 execute(SPIPlanPtr plan, const Row& row) {
    Snapshot snapshot = IsolationUsesXactSnapshot() ? GetLatestSnapshot() : InvalidSnapshot;
    const int code = SPI_execute_snapshot(plan, row.values, row.nulls, snapshot, InvalidSnapshot, false, true, 0);
    if (code < 0) {
        elog(ERROR, "SPI_execute_snapshot returned %s", SPI_result_code_string(code));
    }
    return SPI_processed;
}

bool superseded(Relation source, HeapTuple tuple) {
    TupleTableSlot* slot = table_slot_create(source, nullptr);
    const bool result = pg::superseded(source, tuple, slot);
    ExecDropSingleTupleTableSlot(slot);
    return result;
}

} // namespace

Change change_of(const TriggerData* data) {
    if (TRIGGER_FIRED_BY_INSERT(data->tg_event)) {
        return {Change::Kind::insert, nullptr, data->tg_trigtuple};
    }
    if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        return {Change::Kind::remove, data->tg_trigtuple, nullptr};
    }
    return {Change::Kind::update, data->tg_trigtuple, data->tg_newtuple};
}

bool superseded(Relation source, HeapTuple tuple, TupleTableSlot* slot) {
    const bool current = table_tuple_fetch_row_version(source, &tuple->t_self, SnapshotSelf, slot);
    ExecClearTuple(slot);
    return !current;
}

bool write_row(const MirrorPlan* plan, Relation source, const Change& change, bool wait) {
    TupleDesc desc = RelationGetDescr(source);
    Row row = allocate(2 * plan->columns);
    switch (change.kind) {
    case Change::Kind::insert:
        if (wait) {
            return false;
        }
        fill(row, 0, plan, change.after, desc);
        if (!superseded(source, change.after)) {
            execute(plan->upsert, row);
        }
        return true;
    case Change::Kind::remove:
        fill(row, 0, plan, change.before, desc);
        execute(plan->remove, row);
        return true;
    case Change::Kind::update:
        fill(row, 0, plan, change.after, desc);
        fill(row, plan->columns, plan, change.before, desc);
        if (same(row, plan, desc)) {
            return true;
        }
        if (superseded(source, change.after)) {
            // What it became is there already; what it was must not stay under another key.
            execute(plan->remove, {row.values + plan->columns, row.nulls + plan->columns});
            return true;
        }
        // Addressed by the OLD key. No row there (not yet copied): the whole row is written.
        if (execute(plan->update, row) == 0) {
            if (wait) {
                return false;
            }
            execute(plan->upsert, row);
        }
    }
    return true;
}

} // namespace pg
