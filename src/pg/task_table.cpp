#include "pg/task_table.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "catalog/pg_am.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
}

namespace pg::task {
namespace {

struct ColumnShape {
    const char* name;
    Oid type;
};
constexpr ColumnShape kShape[kColumns] = {
    {"id", UUIDOID},
    {"version", INT8OID},
    {"created_at", TIMESTAMPTZOID},
    {"updated_at", TIMESTAMPTZOID},
    {"run_at", TIMESTAMPTZOID},
    {"priority", INT2OID},
    {"attempt", INT2OID},
    {"max_attempts", INT2OID},
    {"kind", TEXTOID},
    {"severity", TEXTOID},
    {"state", TEXTOID},
    {"tenant", TEXTOID},
    {"owner", TEXTOID},
    {"payload", JSONBOID},
    {"idem_key", TEXTOID},
    {"started_at", TIMESTAMPTZOID},
    {"finished_at", TIMESTAMPTZOID},
    {"start_due", TIMESTAMPTZOID},
    {"finish_due", TIMESTAMPTZOID},
    {"worker", TEXTOID},
    {"lease_token", INT8OID},
    {"lease_until", TIMESTAMPTZOID},
    {"result", JSONBOID},
};

struct Names {
    bool registered;
    bool valid;
    Oid heap;
    Oid key;
    Oid idem_key;
};
Names names{};

void on_invalidation(Datum, Oid relid) {
    if (relid == InvalidOid || relid == names.heap) {
        names.valid = false;
    }
}

void look_up() {
    if (!names.registered) {
        watch_relations(on_invalidation);
        names.registered = true;
    }
    const Oid schema = get_namespace_oid("tandem", true);
    names.heap = schema == InvalidOid ? InvalidOid : get_relname_relid("task", schema);
    if (names.heap == InvalidOid) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table tandem.task does not exist"),
                        errhint("CREATE EXTENSION pg_tandem, or ALTER EXTENSION pg_tandem UPDATE.")));
    }
    names.key = get_relname_relid("task_pkey", schema);
    names.idem_key = get_relname_relid("task_idem_key", schema);
    names.valid = true;
}

[[noreturn]] void wrong_shape(const char* what) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table tandem.task is not the one that this library knows"), errdetail("Differs: %s.", what),
                    errhint("After a new library was installed: ALTER EXTENSION pg_tandem UPDATE.")));
    pg_unreachable();
}

void check_shape(Relation heap) {
    const TupleDesc desc = RelationGetDescr(heap);
    if (desc->natts < kColumns || desc->natts > kMostColumns) {
        wrong_shape("the number of columns");
    }
    for (int i = 0; i < kColumns; i++) {
        const FormData_pg_attribute* column = TupleDescAttr(desc, i);
        if (column->atttypid != kShape[i].type || strcmp(NameStr(column->attname), kShape[i].name) != 0) {
            wrong_shape(kShape[i].name);
        }
    }
    if (heap->rd_rel->relam != HEAP_TABLE_AM_OID) {
        wrong_shape("its access method, which must be heap");
    }
    if (names.key == InvalidOid || names.idem_key == InvalidOid) {
        wrong_shape("its indexes task_pkey and task_idem_key");
    }
}

// What varies in width and may be NULL, as pointers.
text* text_or_null(const Columns& columns, Column column) {
    return columns.nulls[column] ? nullptr : DatumGetTextPP(columns.values[column]);
}
TimestampTz time_or_none(const Columns& columns, Column column) {
    return columns.nulls[column] ? kNone : DatumGetTimestampTz(columns.values[column]);
}
void store_text(Columns& columns, Column column, text* value) {
    columns.nulls[column] = value == nullptr;
    columns.values[column] = PointerGetDatum(value);
}
void store_time(Columns& columns, Column column, TimestampTz value) {
    columns.nulls[column] = value == kNone;
    columns.values[column] = TimestampTzGetDatum(value);
}

} // namespace

Table open_table(LOCKMODE mode) {
    for (;;) {
        const bool known = names.valid;
        if (!known) {
            look_up();
        }
        Table table{};
        table.heap = try_table_open(names.heap, mode);
        // The lock takes in invalidations: was it dropped or changed while we waited?
        if (table.heap != nullptr && names.valid) {
            if (!known) {
                check_shape(table.heap);
            }
            table.idem_key = names.idem_key;
            table.key = index_open(names.key, mode);
            return table;
        }
        if (table.heap != nullptr) {
            table_close(table.heap, mode);
        }
        names.valid = false;
    }
}

void close_table(const Table& table) {
    index_close(table.key, NoLock);
    table_close(table.heap, NoLock);
}

void read_row(const Table& table, HeapTuple tuple, Columns& columns, Row& row) {
    heap_deform_tuple(tuple, RelationGetDescr(table.heap), columns.values, columns.nulls);
    row.id = *DatumGetUUIDP(columns.values[kId]);
    row.version = DatumGetInt64(columns.values[kVersion]);
    row.created_at = DatumGetTimestampTz(columns.values[kCreatedAt]);
    row.updated_at = DatumGetTimestampTz(columns.values[kUpdatedAt]);
    row.run_at = DatumGetTimestampTz(columns.values[kRunAt]);
    row.priority = DatumGetInt16(columns.values[kPriority]);
    row.attempt = DatumGetInt16(columns.values[kAttempt]);
    row.max_attempts = DatumGetInt16(columns.values[kMaxAttempts]);
    row.kind = text_or_null(columns, kKind);
    row.severity = text_or_null(columns, kSeverity);
    row.tenant = text_or_null(columns, kTenant);
    row.owner = text_or_null(columns, kOwner);
    row.payload = columns.values[kPayload];
    row.idem_key = text_or_null(columns, kIdemKey);
    row.started_at = time_or_none(columns, kStartedAt);
    row.finished_at = time_or_none(columns, kFinishedAt);
    row.start_due = time_or_none(columns, kStartDue);
    row.finish_due = time_or_none(columns, kFinishDue);
    row.worker = text_or_null(columns, kWorker);
    row.lease_token = columns.nulls[kLeaseToken] ? kNone : DatumGetInt64(columns.values[kLeaseToken]);
    row.lease_until = time_or_none(columns, kLeaseUntil);
    row.result = columns.nulls[kResult] ? Datum{0} : columns.values[kResult];
    const text* state = text_or_null(columns, kState);
    const std::optional<tandem::TaskState> known = tandem::task_state(view(state));
    if (!known) {
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a task is in no known state: \"%s\"", text_to_cstring(state)),
                 errdetail("id: %s", DatumGetCString(DirectFunctionCall1(uuid_out, columns.values[kId]))),
                 errhint("tandem.task is written by tandem's functions only.")));
    }
    row.state = *known;
}

void store_row(const Row& row, Columns& columns) {
    columns.values[kVersion] = Int64GetDatum(row.version);
    columns.values[kUpdatedAt] = TimestampTzGetDatum(row.updated_at);
    columns.values[kRunAt] = TimestampTzGetDatum(row.run_at);
    columns.values[kPriority] = Int16GetDatum(row.priority);
    columns.values[kAttempt] = Int16GetDatum(row.attempt);
    columns.values[kMaxAttempts] = Int16GetDatum(row.max_attempts);
    store_text(columns, kSeverity, row.severity);
    store_text(columns, kState, state_text(row.state));
    columns.values[kPayload] = row.payload;
    store_time(columns, kStartedAt, row.started_at);
    store_time(columns, kFinishedAt, row.finished_at);
    store_time(columns, kStartDue, row.start_due);
    store_time(columns, kFinishDue, row.finish_due);
    store_text(columns, kWorker, row.worker);
    columns.nulls[kLeaseToken] = row.lease_token == kNone;
    columns.values[kLeaseToken] = Int64GetDatum(row.lease_token);
    store_time(columns, kLeaseUntil, row.lease_until);
    columns.nulls[kResult] = row.result == Datum{0};
    columns.values[kResult] = row.result;
}

void copy_row(Row& row) {
    const auto copy = [](text* value) {
        return value == nullptr
                   ? nullptr
                   : reinterpret_cast<text*>(DatumGetPointer(datumCopy(PointerGetDatum(value), false, -1)));
    };
    row.kind = copy(row.kind);
    row.severity = copy(row.severity);
    row.tenant = copy(row.tenant);
    row.owner = copy(row.owner);
    row.idem_key = copy(row.idem_key);
    row.worker = copy(row.worker);
    row.payload = datumCopy(row.payload, false, -1);
    row.result = row.result == Datum{0} ? row.result : datumCopy(row.result, false, -1);
}

bool fetch(const Table& table, const pg_uuid_t& id, Snapshot snapshot, Found& found) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&id));
    IndexScanDesc scan = begin_index_scan(table.heap, table.key, snapshot, 1);
    index_rescan(scan, &key, 1, nullptr, 0);
    bool is_found = false;
    while (ItemPointer tid = index_getnext_tid(scan, ForwardScanDirection)) {
        found.buffer = ReadBuffer(table.heap, ItemPointerGetBlockNumber(tid));
        heap_page_prune_opt(table.heap, found.buffer); // as any index scan: it makes room for the next HOT update
        LockBuffer(found.buffer, BUFFER_LOCK_SHARE);
        ItemPointerData position = *tid;
        bool all_dead = false;
        is_found = heap_hot_search_buffer(&position, table.heap, found.buffer, snapshot, &found.tuple, &all_dead, true);
        LockBuffer(found.buffer, BUFFER_LOCK_UNLOCK);
        // A version that an open transaction has made is no answer; the one that it replaces stands elsewhere.
        if (is_found && snapshot->snapshot_type == SNAPSHOT_DIRTY && TransactionIdIsValid(snapshot->xmin)) {
            is_found = false;
        }
        if (is_found) {
            pgstat_count_heap_fetch(table.key);
            break;
        }
        ReleaseBuffer(found.buffer);
        scan->kill_prior_tuple = all_dead && !scan->xactStartedInRecovery;
    }
    index_endscan(scan);
    return is_found;
}

bool fetch_current(const Table& table, const pg_uuid_t& id, Found& found) {
    found.updater = InvalidTransactionId;
    if (IsolationIsSerializable()) {
        return fetch(table, id, GetTransactionSnapshot(), found);
    }
    SnapshotData dirty;
    InitDirtySnapshot(dirty);
    if (fetch(table, id, &dirty, found)) {
        found.updater = dirty.xmax;
        return true;
    }
    // A version that moved to another page between our looks at the index and at its page is missed by a dirty
    // snapshot; by no other one.
    Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
    const bool is_found = fetch(table, id, latest, found);
    UnregisterSnapshot(latest);
    return is_found;
}

void insert_index_entries(const Table& table, HeapTuple tuple, UpdateIndexes indexes) {
    EState* estate = CreateExecutorState();
    auto* relation = makeNode(ResultRelInfo);
    // Range table index 0: nobody asks a range table, which is not there, for the updated columns.
    InitResultRelInfo(relation, table.heap, 0, nullptr, 0);
    ExecOpenIndices(relation, false);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(RelationGetDescr(table.heap), &TTSOpsHeapTuple);
    ExecStoreHeapTuple(tuple, slot, false);
    slot->tts_tableOid = RelationGetRelid(table.heap);
    slot->tts_tid = tuple->t_self;
    insert_index_tuples(relation, slot, estate, indexes, nullptr, nullptr);
    ExecDropSingleTupleTableSlot(slot);
    ExecCloseIndices(relation);
    FreeExecutorState(estate);
}

} // namespace pg::task
