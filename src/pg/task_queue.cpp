// task_ready: one row for each task that can be claimed now or from run_at on, kept here and nowhere else, together with the
// task. A row is inserted or deleted, never updated: so an entry of the index is one row, and its columns are all there is to know.
#include "pg/task_queue.hpp"

extern "C" {
#include "access/heapam.h"
#include "catalog/index.h"
}

namespace pg::queue {
namespace {

FullTransactionId removed_in{}; // the transaction that removed rows last

struct Expected {
    pg_uuid_t id;
    ItemPointerData tid;
    bool set;
};
Expected expected{};

Oid ready_relation(const char* name) {
    const Oid schema = get_namespace_oid("tandem", false);
    const Oid relation = get_relname_relid(name, schema);
    if (!OidIsValid(relation)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("there is no tandem.%s", name),
                        errhint("The extension's tables must not be dropped or renamed.")));
    }
    return relation;
}

// Is the task's row there?
bool is_row_of(Relation heap, ItemPointer tid, const pg_uuid_t& id) {
    TupleTableSlot* slot = MakeSingleTupleTableSlot(RelationGetDescr(heap), &TTSOpsBufferHeapTuple);
    bool result = false;
    if (table_tuple_fetch_row_version(heap, tid, SnapshotSelf, slot)) {
        bool isnull = false;
        result = same_id(*DatumGetUUIDP(slot_getattr(slot, kTaskId, &isnull)), id);
    }
    ExecDropSingleTupleTableSlot(slot);
    return result;
}

bool find_row(const ReadyTable& table, const task::Row& row, ItemPointer tid) {
    pg_uuid_t id = row.id;
    if (expected.set && same_id(expected.id, id) && is_row_of(table.heap, &expected.tid, id)) {
        *tid = expected.tid;
        return true;
    }
    ScanKeyData keys[kReadyColumns];
    const Datum values[kReadyColumns] = {PointerGetDatum(row.tenant), PointerGetDatum(row.kind),
                                         Int16GetDatum(row.priority), TimestampTzGetDatum(row.run_at),
                                         UUIDPGetDatum(&id)};
    constexpr RegProcedure equal[kReadyColumns] = {F_TEXTEQ, F_TEXTEQ, F_INT2EQ, F_TIMESTAMPTZ_EQ, F_UUID_EQ};
    for (int i = 0; i < kReadyColumns; i++) {
        ScanKeyEntryInitialize(&keys[i], 0, static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber, InvalidOid,
                               table.order->rd_indcollation[i], equal[i], values[i]);
    }
    IndexScanDesc scan = begin_index_scan(table.heap, table.order, SnapshotSelf, kReadyColumns);
    index_rescan(scan, keys, kReadyColumns, nullptr, 0);
    TupleTableSlot* slot = table_slot_create(table.heap, nullptr);
    const bool found = index_getnext_slot(scan, ForwardScanDirection, slot);
    if (found) {
        *tid = slot->tts_tid;
    }
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    return found;
}

void remove(const ReadyTable& table, const task::Row& row) {
    ItemPointerData tid;
    if (find_row(table, row, &tid)) {
        simple_heap_delete(table.heap, &tid);
        removed_in = GetTopFullTransactionId();
    }
    expected.set = false;
}

void add(const ReadyTable& table, const task::Row& row) {
    pg_uuid_t id = row.id;
    Datum values[kReadyColumns] = {PointerGetDatum(row.tenant), PointerGetDatum(row.kind), Int16GetDatum(row.priority),
                                   TimestampTzGetDatum(row.run_at), UUIDPGetDatum(&id)};
    bool nulls[kReadyColumns] = {};
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(table.heap), values, nulls);
    heap_insert(table.heap, tuple, GetCurrentCommandId(true), 0, nullptr);
    IndexInfo* info = BuildIndexInfo(table.order);
    (void)index_insert(table.order, values, nulls, &tuple->t_self, table.heap, UNIQUE_CHECK_YES, false, info);
    pfree(info);
    heap_freetuple(tuple);
    Levels* all = levels();
    Level* level = find_level(all, table, task::view(row.tenant), task::view(row.kind), row.priority);
    if (level != nullptr) {
        entry_added(level, {row.run_at, row.id});
    }
}

} // namespace

ReadyTable open_ready(LOCKMODE mode) {
    ReadyTable table;
    table.heap = table_open(ready_relation("task_ready"), mode);
    table.order = index_open(ready_relation("task_ready_order"), mode);
    return table;
}

void close_ready(const ReadyTable& table) {
    index_close(table.order, NoLock);
    table_close(table.heap, NoLock);
}

void remove_stale(const ReadyTable& table, ItemPointer tid) {
    TM_FailureData failure;
    const CommandId command = GetCurrentCommandId(true);
    // Not TM_Ok: somebody else was faster.
    if (heap_delete(table.heap, tid, command, InvalidSnapshot, false, &failure, false) == TM_Ok) {
        removed_in = GetTopFullTransactionId();
    }
}

void expect_removal(const pg_uuid_t& id, ItemPointer tid) {
    expected = {id, *tid, true};
}

bool has_removed() {
    return FullTransactionIdIsValid(removed_in) &&
           FullTransactionIdEquals(removed_in, GetTopFullTransactionIdIfAny());
}

void task_moved(const task::Row* before, const task::Row& after) {
    const bool was = before != nullptr && can_be_claimed(*before);
    const bool is = can_be_claimed(after);
    if (!was && !is) {
        return;
    }
    if (was && is && before->priority == after.priority && before->run_at == after.run_at) {
        return;
    }
    const ReadyTable table = open_ready(RowExclusiveLock);
    if (was) {
        remove(table, *before);
    }
    if (is) {
        add(table, after);
        note_claimable(after.kind, after.run_at);
    }
    close_ready(table);
}

} // namespace pg::queue
