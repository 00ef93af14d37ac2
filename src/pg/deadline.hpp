// Deadlines of tasks: start and finish by the SLA policy, and the end of a lease.
//
//   deadline.cpp          tandem.task_deadline kept in step with the task: task_moved()
//   deadline_policy.cpp   due_for(): which deadlines a new task has
//   deadline_ring.cpp     from the committing session to the coordinator, through shared memory
//   deadline_settle.cpp   what happens when one has passed: breach, alert, escalation
//   worker_deadline.cpp   the coordinator's heap: when to look
//
// Truth is in tables: heap and ring only say when to look into which row.
#pragma once

#include "pg/task.hpp"

namespace pg::deadline {

// --- tandem.task_deadline
enum Which { kStartWarn, kStartDue, kFinishWarn, kFinishDue, kLeaseDue, kDeadlines };
struct Times {
    TimestampTz at[kDeadlines]; // task::kNone: nothing is due
};
inline bool is_empty(const Times& times) {
    return std::all_of(times.at, times.at + kDeadlines, [](TimestampTz at) { return at == task::kNone; });
}
// Later than any time that anything is due at, with room for arithmetic.
inline constexpr TimestampTz kNever = PG_INT64_MAX / 2;
// When to look at a task with these deadlines. Ends of leases are looked at ten times a second, all at once: most are
// those of tasks that were finished or extended long before, and nobody waits for the millisecond.
TimestampTz look_at(const Times& times);

struct Table {
    Relation heap;
    Oid key; // the index on task_id
};
Table open_table(LOCKMODE mode);
void close_table(const Table& table); // the lock stays
struct Stored {
    ItemPointerData place;
    Times times;
    bool written_here; // by this transaction
};
bool fetch(const Table& table, const pg_uuid_t& id, Snapshot snapshot, Stored& stored);
Times read_times(Relation heap, HeapTuple tuple, pg_uuid_t* id);
// Writes what is to be due from now on in place of `stored` (nullptr: there is no row as yet); no row where nothing is.
void store(const Table& table, const pg_uuid_t& id, const Stored* stored, const Times& times);

// --- policies
// What a breach makes of a task; nullopt: it is only recorded.
std::optional<tandem::TaskState> escalation_for(const text* kind, const text* severity);

// --- settling
struct Look {
    pg_uuid_t id;
    TimestampTz next; // out: when to look again, or kNever
    bool lease_ended; // out: the queue's rescue is to look at it
};
struct Tally {
    int breaches;
    int warnings;
};
// In a transaction, with a snapshot. Looks at each task's row, and does what is due. `more`, where given, is asked
// again and again while it works: it appends to `looks` what has become due meanwhile, and answers how many there are
// now.
using More = int (*)(void* context);
void settle(Look* looks, int count, Tally& tally, More more = nullptr, void* context = nullptr);

// --- the ring
struct Notice {
    TimestampTz at;
    pg_uuid_t id;
};
// At commit: a task's deadlines were written. `earlier`: than whatever was known of it.
void note(const pg_uuid_t& id, TimestampTz at, bool earlier);
void on_transaction_end(bool committed);

void request_ring_memory();
void attach_ring_memory();
// The coordinator's side. False: there is none left for this database, and only reading the table finds deadlines.
bool take_ring();
// Takes what came since; false where some did not fit, and the table must be read. Count of `notices`.
bool drain(Notice* notices, int most, int* count);
// While the table is read in slices every notice is wanted, also of deadlines that became later: rows move.
void want_every_notice(bool every);
// Before going to sleep. False: something came, don't. From now on a notice before `until` sets the latch.
bool may_sleep(TimestampTz until);
inline constexpr int kRingSize = 8192;

} // namespace pg::deadline
