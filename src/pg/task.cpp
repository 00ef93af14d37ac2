#include "pg/task.hpp"

#include "core/uuid7.hpp"
#include "pg/audit.hpp"
#include "pg/task_table.hpp"

extern "C" {
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
}

namespace pg::task {
namespace {

using enum tandem::TaskState;

// The texts of the states, as they are stored.
struct StateText {
    int32 header;
    char data[12];
};
constexpr StateText make_state_text(std::string_view name) {
    StateText result{};
#ifdef WORDS_BIGENDIAN
    result.header = static_cast<int32>(VARHDRSZ + name.size());
#else
    result.header = static_cast<int32>(VARHDRSZ + name.size()) << 2;
#endif
    for (std::size_t i = 0; i < name.size(); i++) {
        result.data[i] = name[i];
    }
    return result;
}
constexpr StateText kStateTexts[tandem::kTaskStates] = {
    make_state_text("pending"), make_state_text("claimed"), make_state_text("running"),   make_state_text("done"),
    make_state_text("failed"),  make_state_text("dead"),    make_state_text("escalated"), make_state_text("cancelled")};

[[noreturn]] void serialization_failure() {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access to a task due to concurrent update"),
                    errdetail("The task has changed since this transaction's snapshot was taken."),
                    errhint("Retry the transaction.")));
    pg_unreachable();
}

// In REPEATABLE READ: does the transaction's snapshot show an older version of what was found? Then it would show both,
// the older one and ours, if we wrote.
bool shows_older_version(const Table& table, const pg_uuid_t& id, Found& found) {
    Snapshot snapshot = GetTransactionSnapshot();
    LockBuffer(found.buffer, BUFFER_LOCK_SHARE);
    const bool is_visible = HeapTupleSatisfiesVisibility(&found.tuple, snapshot, found.buffer);
    LockBuffer(found.buffer, BUFFER_LOCK_UNLOCK);
    if (is_visible) {
        return false;
    }
    Found older;
    const bool has_older = fetch(table, id, snapshot, older);
    if (has_older) {
        ReleaseBuffer(older.buffer);
    }
    return has_older;
}

void move(const Row* before, const Row& after, const deadline::Due* due) {
    queue::task_moved(before, after);
    deadline::task_moved(before, after, due);
}

// `at`: when it happened, which an imported row's updated_at is not.
void tell(const Row* before, const Row& after, const Note& note, const deadline::Due* due, TimestampTz at) {
    audit::Event event{};
    event.kind = note.event;
    event.reason = note.reason;
    event.task_id = &after.id;
    event.state = state_text(after.state);
    event.version = after.version;
    event.evidence = note.evidence;
    event.at = at;
    audit::append(event);
    move(before, after, due);
}

} // namespace

text* state_text(tandem::TaskState state) {
    return reinterpret_cast<text*>(const_cast<StateText*>(&kStateTexts[static_cast<int>(state)]));
}

void move_to(Row& row, tandem::TaskState to, TimestampTz now) {
    const tandem::TaskState from = row.state;
    if (to == from) {
        return;
    }
    row.state = to;
    const bool held = tandem::is_active(from) || (from == escalated && to == running && row.lease_until != kNone);
    if (tandem::is_active(to) && !held) {
        row.attempt = static_cast<int16>(std::min<int>(row.attempt + 1, PG_INT16_MAX));
        row.worker = nullptr;
        row.lease_token = kNone;
        row.lease_until = kNone;
    }
    if (row.started_at == kNone && (tandem::is_active(to) || to == done || to == failed)) {
        row.started_at = now;
    }
    row.finished_at = tandem::is_finished(to) ? now : kNone;
    if (!tandem::is_active(to) && to != escalated) {
        row.lease_until = kNone;
    }
    if (to == pending) {
        row.worker = nullptr;
        row.lease_token = kNone;
        if (from == failed || tandem::is_finished(from)) {
            row.run_at = now;
        }
        if (tandem::is_finished(from)) {
            row.attempt = 0;
        }
    }
}

void begin_writing() {
    PreventCommandIfReadOnly("a change of a task");
    PreventCommandIfParallelMode("a change of a task");
    // What this statement wrote before is visible to what follows: one task may be changed twice by one statement.
    CommandCounterIncrement();
}

Outcome change(const pg_uuid_t& id, Wait wait, const Note& note, Decide decide, void* context) {
    begin_writing();
    const Table table = open_table(RowExclusiveLock);
    const Outcome outcome = change_in(table, current_scope(), id, wait, note, decide, context);
    close_table(table);
    return outcome;
}

Outcome change_in(const Table& table, const Scope& scope, const pg_uuid_t& id, Wait wait, const Note& note,
                  Decide decide, void* context) {
    Outcome outcome = Outcome::missing;
    Found found;
    Columns columns;
    Row before;
    while (fetch_current(table, id, found)) {
        read_row(table, &found.tuple, columns, before);
        if (!is_visible(scope, before.tenant)) {
            ReleaseBuffer(found.buffer);
            break;
        }
        if (wait == Wait::skip_locked && TransactionIdIsValid(found.updater)) {
            ReleaseBuffer(found.buffer);
            outcome = Outcome::skipped;
            break;
        }
        Row after = before;
        after.version++;
        const TimestampTz now = GetCurrentTimestamp();
        after.updated_at = now;
        const Decision decision = decide(context, before, after);
        if (decision == Decision::leave) {
            ReleaseBuffer(found.buffer);
            if (TransactionIdIsValid(found.updater)) { // what it makes of the task may be decided differently
                XactLockTableWait(found.updater, table.heap, &found.tuple.t_self, XLTW_Update);
                continue;
            }
            outcome = Outcome::left;
            break;
        }
        if (IsolationUsesXactSnapshot() && !IsolationIsSerializable() && shows_older_version(table, id, found)) {
            if (wait == Wait::block) {
                serialization_failure();
            }
            ReleaseBuffer(found.buffer);
            outcome = Outcome::skipped;
            break;
        }
        if (decision == Decision::touch) {
            after.version = before.version;
            after.updated_at = before.updated_at;
        }
        store_row(after, columns);
        HeapTuple tuple = heap_form_tuple(RelationGetDescr(table.heap), columns.values, columns.nulls);
        UpdateIndexes indexes = kNoIndexes;
        TM_FailureData failure;
        const TM_Result result = update_tuple(table.heap, &found.tuple.t_self, tuple, GetCurrentCommandId(true),
                                              wait == Wait::block, &failure, &indexes);
        if (result == TM_Ok) {
            if (indexes != kNoIndexes) {
                insert_index_entries(table, tuple, indexes);
            }
            if (decision == Decision::touch) {
                move(&before, after, nullptr);
            } else {
                tell(&before, after, note, nullptr, now);
            }
            ReleaseBuffer(found.buffer);
            heap_freetuple(tuple);
            outcome = Outcome::written;
            break;
        }
        ReleaseBuffer(found.buffer);
        heap_freetuple(tuple);
        if (result == TM_BeingModified) {
            outcome = Outcome::skipped;
            break;
        }
        if (result != TM_Updated && result != TM_Deleted) {
            elog(ERROR, "unexpected result of an update of tandem.task: %d", static_cast<int>(result));
        }
        if (IsolationIsSerializable()) {
            serialization_failure();
        }
        CHECK_FOR_INTERRUPTS();
    }
    return outcome;
}

bool find(const pg_uuid_t& id, Row& row) {
    const Table table = open_table(AccessShareLock);
    const Scope scope = current_scope();
    Found found;
    bool is_found = fetch_current(table, id, found);
    if (is_found) {
        Columns columns;
        read_row(table, &found.tuple, columns, row);
        is_found = is_visible(scope, row.tenant);
        if (is_found) {
            copy_row(row);
        }
        ReleaseBuffer(found.buffer);
    }
    close_table(table);
    return is_found;
}

namespace {

tandem::Uuid7 ids;

void make_id(pg_uuid_t& id, TimestampTz now) {
    unsigned char random[8];
    if (!pg_strong_random(random, sizeof random)) {
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random id")));
    }
    constexpr int64 kToUnixEpoch = static_cast<int64>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
    ids.make(static_cast<std::uint64_t>(std::max<int64>(now + kToUnixEpoch, 0)), random, id.data);
}

bool is_zero(const pg_uuid_t& id) {
    constexpr pg_uuid_t kZero{};
    return memcmp(&id, &kZero, sizeof kZero) == 0;
}

// The id of the row at a place where a conflict was found; false: it is gone again.
bool id_at(const Table& table, ItemPointer place, pg_uuid_t& id) {
    TupleTableSlot* slot = table_slot_create(table.heap, nullptr);
    const bool is_there = table_tuple_fetch_row_version(table.heap, place, SnapshotAny, slot);
    if (is_there) {
        bool isnull = false;
        id = *DatumGetUUIDP(slot_getattr(slot, kId + 1, &isnull));
    }
    ExecDropSingleTupleTableSlot(slot);
    return is_there;
}

// Inserts as ON CONFLICT DO NOTHING does. false: `conflict` says where the other row is.
bool insert_unless_there(const Table& table, HeapTuple tuple, List* arbiters, ItemPointer conflict) {
    EState* estate = CreateExecutorState();
    auto* relation = makeNode(ResultRelInfo);
    InitResultRelInfo(relation, table.heap, 0, nullptr, 0);
    ExecOpenIndices(relation, true);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(RelationGetDescr(table.heap), &TTSOpsHeapTuple);
    bool inserted = false;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        ExecStoreHeapTuple(tuple, slot, false);
        slot->tts_tableOid = RelationGetRelid(table.heap);
        if (!has_no_conflict(relation, slot, estate, conflict, arbiters)) {
            break;
        }
        const uint32 token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
        table_tuple_insert_speculative(table.heap, slot, GetCurrentCommandId(true), 0, nullptr, token);
        bool lost = false;
        list_free(insert_index_tuples(relation, slot, estate, kAllIndexes, &lost, arbiters));
        table_tuple_complete_speculative(table.heap, slot, token, !lost);
        SpeculativeInsertionLockRelease(GetCurrentTransactionId());
        ResetPerTupleExprContext(estate);
        if (!lost) {
            inserted = true;
            break;
        }
    }
    ExecDropSingleTupleTableSlot(slot);
    ExecCloseIndices(relation);
    FreeExecutorState(estate);
    return inserted;
}

} // namespace

bool insert(Row& row, const Note& note) {
    begin_writing();
    const Table table = open_table(RowExclusiveLock);
    const TimestampTz now = GetCurrentTimestamp();
    List* arbiters = row.idem_key != nullptr ? list_make1_oid(table.idem_key) : nullptr;
    if (is_zero(row.id)) {
        make_id(row.id, now);
    } else {
        arbiters = lappend_oid(arbiters, RelationGetRelid(table.key));
    }
    row.version = row.version == 0 ? 1 : row.version;
    row.created_at = row.created_at == kNone ? now : row.created_at;
    row.updated_at = row.updated_at == kNone ? now : row.updated_at;
    row.run_at = row.run_at == kNone ? row.created_at : row.run_at;
    const deadline::Due due = deadline::due_for(row.kind, row.severity, row.created_at, row.run_at);
    row.start_due = due.start_due;
    row.finish_due = due.finish_due;

    Columns columns;
    const TupleDesc desc = RelationGetDescr(table.heap);
    std::fill_n(columns.nulls, desc->natts, true); // columns that an administrator has added
    std::fill_n(columns.values, desc->natts, Datum{0});
    std::fill_n(columns.nulls, static_cast<int>(kColumns), false);
    store_row(row, columns);
    columns.values[kId] = UUIDPGetDatum(&row.id);
    columns.values[kCreatedAt] = TimestampTzGetDatum(row.created_at);
    columns.values[kKind] = PointerGetDatum(row.kind);
    columns.values[kTenant] = PointerGetDatum(row.tenant);
    columns.values[kOwner] = PointerGetDatum(row.owner);
    columns.values[kIdemKey] = PointerGetDatum(row.idem_key);
    columns.nulls[kIdemKey] = row.idem_key == nullptr;
    HeapTuple tuple = heap_form_tuple(desc, columns.values, columns.nulls);

    bool inserted = false;
    for (;;) {
        if (arbiters == nullptr) {
            heap_insert(table.heap, tuple, GetCurrentCommandId(true), 0, nullptr);
            insert_index_entries(table, tuple, kAllIndexes);
            inserted = true;
            break;
        }
        ItemPointerData conflict;
        inserted = insert_unless_there(table, tuple, arbiters, &conflict);
        if (inserted) {
            break;
        }
        pg_uuid_t id;
        Found found;
        if (id_at(table, &conflict, id) && fetch_current(table, id, found)) {
            read_row(table, &found.tuple, columns, row);
            copy_row(row);
            ReleaseBuffer(found.buffer);
            break;
        }
        if (IsolationIsSerializable()) {
            serialization_failure();
        }
        CHECK_FOR_INTERRUPTS();
    }
    if (inserted) {
        tell(nullptr, row, note, &due, now);
    }
    heap_freetuple(tuple);
    close_table(table);
    return inserted;
}

} // namespace pg::task
