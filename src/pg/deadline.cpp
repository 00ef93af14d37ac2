// tandem.task_deadline, kept in step with the tasks. Whoever writes a row here has changed or locked the task's own row
// before, so nobody else does at the same time.
#include "pg/deadline.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "access/heapam.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
}

namespace pg::deadline {
namespace {

using task::kNone;
using task::Row;

constexpr int kColumns = 1 + kDeadlines; // task_id, then as Which

struct Names {
    bool registered;
    bool valid;
    Oid heap;
    Oid key;
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
    const Oid schema = get_namespace_oid("tandem", false);
    names.heap = get_relname_relid("task_deadline", schema);
    names.key = get_relname_relid("task_deadline_pkey", schema);
    names.valid = true;
}

HeapTuple form(Relation heap, const pg_uuid_t& id, const Times& times) {
    Datum values[kColumns];
    bool nulls[kColumns];
    values[0] = UUIDPGetDatum(&id);
    nulls[0] = false;
    for (int i = 0; i < kDeadlines; i++) {
        values[i + 1] = TimestampTzGetDatum(times.at[i]);
        nulls[i + 1] = times.at[i] == kNone;
    }
    return heap_form_tuple(RelationGetDescr(heap), values, nulls);
}

// The index entry of a new row, without the executor where there is only our own index.
void insert_entry(const Table& table, HeapTuple tuple, const pg_uuid_t& id) {
    Relation index = index_open(table.key, RowExclusiveLock);
    IndexInfo* info = BuildIndexInfo(index);
    Datum value = UUIDPGetDatum(&id);
    bool isnull = false;
    index_insert(index, &value, &isnull, &tuple->t_self, table.heap, UNIQUE_CHECK_YES, false, info);
    index_close(index, NoLock);
}

bool has_other_indexes(Relation heap) {
    List* indexes = RelationGetIndexList(heap);
    const bool result = list_length(indexes) != 1;
    list_free(indexes);
    return result;
}

bool same(const Times& a, const Times& b) {
    return std::equal(a.at, a.at + kDeadlines, b.at);
}

} // namespace

Table open_table(LOCKMODE mode) {
    if (!names.valid) {
        look_up();
    }
    Table table{table_open(names.heap, mode), names.key};
    if (!names.valid) { // the lock took in that it was made anew
        table_close(table.heap, mode);
        look_up();
        table = {table_open(names.heap, mode), names.key};
    }
    if (RelationGetDescr(table.heap)->natts != kColumns) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table tandem.task_deadline is not the one that this library knows"),
                        errhint("After a new library was installed: ALTER EXTENSION pg_tandem UPDATE.")));
    }
    return table;
}

void close_table(const Table& table) {
    table_close(table.heap, NoLock);
}

Times read_times(Relation heap, HeapTuple tuple, pg_uuid_t* id) {
    Datum values[kColumns];
    bool nulls[kColumns];
    heap_deform_tuple(tuple, RelationGetDescr(heap), values, nulls);
    Times times;
    for (int i = 0; i < kDeadlines; i++) {
        times.at[i] = nulls[i + 1] ? kNone : DatumGetTimestampTz(values[i + 1]);
        times.at[i] = TIMESTAMP_NOT_FINITE(times.at[i]) ? kNone : times.at[i]; // not written by us
    }
    if (id != nullptr) {
        *id = *DatumGetUUIDP(values[0]);
    }
    return times;
}

bool fetch(const Table& table, const pg_uuid_t& id, Snapshot snapshot, Stored& stored) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&id));
    SysScanDesc scan = systable_beginscan(table.heap, table.key, true, snapshot, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    const bool found = HeapTupleIsValid(tuple);
    if (found) {
        stored.place = tuple->t_self;
        stored.times = read_times(table.heap, tuple, nullptr);
        stored.written_here = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
    }
    systable_endscan(scan);
    return found;
}

void store(const Table& table, const pg_uuid_t& id, const Stored* stored, const Times& times) {
    if (stored == nullptr ? is_empty(times) : same(stored->times, times)) {
        return;
    }
    if (stored != nullptr && stored->written_here) {
        CommandCounterIncrement(); // what this command has written it can't change
    }
    const bool others = has_other_indexes(table.heap);
    if (is_empty(times)) {
        ItemPointerData place = stored->place;
        simple_heap_delete(table.heap, &place);
        return;
    }
    HeapTuple tuple = form(table.heap, id, times);
    if (stored == nullptr) {
        if (others) {
            CatalogTupleInsert(table.heap, tuple);
        } else {
            heap_insert(table.heap, tuple, GetCurrentCommandId(true), 0, nullptr);
            insert_entry(table, tuple, id);
        }
    } else {
        ItemPointerData place = stored->place;
        if (others) {
            CatalogTupleUpdate(table.heap, &place, tuple);
        } else {
#if PG_VERSION_NUM >= 160000
            TU_UpdateIndexes indexes;
            simple_heap_update(table.heap, &place, tuple, &indexes);
#else
            simple_heap_update(table.heap, &place, tuple);
#endif
            if (!HeapTupleIsHeapOnly(tuple)) {
                insert_entry(table, tuple, id);
            }
        }
    }
    heap_freetuple(tuple);
    const TimestampTz at = look_at(times);
    note(id, at, stored == nullptr || at < look_at(stored->times));
}

TimestampTz look_at(const Times& times) {
    constexpr int64 kLeaseGrain = 100'000;
    TimestampTz result = kNever;
    for (int i = 0; i < kLeaseDue; i++) {
        result = times.at[i] == kNone ? result : std::min(result, times.at[i]);
    }
    const TimestampTz lease = times.at[kLeaseDue];
    if (lease != kNone && lease < kNever) {
        const int64 beyond = (lease % kLeaseGrain + kLeaseGrain) % kLeaseGrain;
        result = std::min(result, beyond == 0 ? lease : lease + kLeaseGrain - beyond);
    }
    return result;
}

// A task that was started or finished too late keeps that deadline here: the breach is whoever's who settles it, and so
// is made once.
void task_moved(const Row* before, const Row& after, const Due* due) {
    if (before == nullptr) {
        Times times{};
        if (due != nullptr) {
            times = {{due->start_warn, due->start_due, due->finish_warn, due->finish_due, kNone}};
        }
        times.at[kLeaseDue] = after.lease_until;
        if (!is_empty(times)) {
            const Table table = open_table(RowExclusiveLock);
            store(table, after.id, nullptr, times);
            close_table(table);
        }
        return;
    }
    if (before->started_at == after.started_at && before->finished_at == after.finished_at &&
        before->lease_until == after.lease_until) {
        return;
    }
    const bool has_policy = after.start_due != kNone || after.finish_due != kNone;
    if (!has_policy && before->lease_until == after.lease_until) {
        return;
    }
    const Table table = open_table(RowExclusiveLock);
    Stored stored;
    const bool is_stored = fetch(table, after.id, SnapshotSelf, stored);
    Times times = is_stored ? stored.times : Times{};
    if (before->finished_at != kNone &&
        after.finished_at == kNone) { // it is to be done again: what was met may still be missed
        times.at[kFinishWarn] = times.at[kFinishDue] = after.finish_due;
    }
    const auto end = [&times](Which warn, Which due_at, TimestampTz ended) {
        if (ended != kNone) {
            times.at[warn] = kNone;
            times.at[due_at] = times.at[due_at] != kNone && ended > times.at[due_at] ? times.at[due_at] : kNone;
        }
    };
    end(kStartWarn, kStartDue, after.started_at != kNone ? after.started_at : after.finished_at);
    end(kFinishWarn, kFinishDue, after.finished_at);
    times.at[kLeaseDue] = after.lease_until;
    store(table, after.id, is_stored ? &stored : nullptr, times);
    close_table(table);
}

} // namespace pg::deadline
