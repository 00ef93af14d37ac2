// tandem.task as C++ opens and reads it: attribute numbers are fixed, and checked once per backend.
#pragma once

#include "pg/task.hpp"

namespace pg::task {

// The columns, in the order of control/install/11_task.sql.
enum Column : int {
    kId,
    kVersion,
    kCreatedAt,
    kUpdatedAt,
    kRunAt,
    kPriority,
    kAttempt,
    kMaxAttempts,
    kKind,
    kSeverity,
    kState,
    kTenant,
    kOwner,
    kPayload,
    kIdemKey,
    kStartedAt,
    kFinishedAt,
    kStartDue,
    kFinishDue,
    kWorker,
    kLeaseToken,
    kLeaseUntil,
    kResult,
    kColumns
};
// An administrator may add columns: they are kept as they are.
inline constexpr int kMostColumns = 64;

struct Table {
    Relation heap;
    Relation key; // the index on id
    Oid idem_key; // the unique index of the idempotency keys
};

// Locks stay until the end of the transaction, as after any statement.
Table open_table(LOCKMODE mode);
void close_table(const Table& table);

// A row with all of its columns. Values point into the tuple.
struct Columns {
    Datum values[kMostColumns];
    bool nulls[kMostColumns];
};
void read_row(const Table& table, HeapTuple tuple, Columns& columns, Row& row);
void store_row(const Row& row, Columns& columns);
// Texts and datums of the row are copied into the current memory context.
void copy_row(Row& row);

// A version of a task in its buffer, which is pinned.
struct Found {
    Buffer buffer;
    HeapTupleData tuple;
    TransactionId updater; // an open transaction that has changed or deleted it
};
// The version that the snapshot shows; found.updater is left alone.
bool fetch(const Table& table, const pg_uuid_t& id, Snapshot snapshot, Found& found);
// What is committed now, or was written by this transaction; in SERIALIZABLE: what the transaction's snapshot shows.
bool fetch_current(const Table& table, const pg_uuid_t& id, Found& found);

// change(), for callers who change several tasks: they begin once, with begin_writing(), open_table() and
// current_scope().
void begin_writing();
Outcome change_in(const Table& table, const Scope& scope, const pg_uuid_t& id, Wait wait, const Note& note,
                  Decide decide, void* context);
template <class F>
Outcome change_in(const Table& table, const Scope& scope, const pg_uuid_t& id, Wait wait, const Note& note,
                  F&& decide) {
    return change_in(table, scope, id, wait, note, decision_of<F>, context_of(decide));
}

// Index entries of a tuple that was stored.
void insert_index_entries(const Table& table, HeapTuple tuple, UpdateIndexes indexes);

} // namespace pg::task
