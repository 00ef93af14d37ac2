// The queue: which tasks can be claimed, in what order, and who is told about them.
//
//   task_queue.cpp        tandem.task_ready: one row for each claimable task, kept by task_moved()
//   task_queue_level.cpp  levels: what is known of each (tenant, kind, priority) without reading the index
//   task_queue_scan.cpp   reads task_ready in order, from where the level says
//   task_queue_claim.cpp  task_claim()
//   task_queue_lease.cpp  task_heartbeat(), task_finish(), rescue
//   task_queue_wake.cpp   NOTIFY tandem_task, sent by the coordinator
//
// Why levels. A claimed task's row and index entry stay until no snapshot can see them: while any session holds an old
// one, for as long as that takes. They are at the head of the order, where every claim begins, and each claim would
// step over all of them: here queue tables collapse. So a level remembers up to where everything is dead, and a claim
// begins there. That is exact, not a guess: see task_queue_level.cpp.
#pragma once

#include "pg/task.hpp"

namespace pg::queue {

// Where an entry stands within its level.
struct Position {
    TimestampTz run_at;
    pg_uuid_t id;
};
static_assert(std::is_trivially_copyable_v<Position>);
inline constexpr Position kBeginning{DT_NOBEGIN, {}};
inline bool operator<(const Position& a, const Position& b) {
    return a.run_at != b.run_at ? a.run_at < b.run_at : memcmp(a.id.data, b.id.data, UUID_LEN) < 0;
}
inline bool same_id(const pg_uuid_t& a, const pg_uuid_t& b) {
    return memcmp(a.data, b.data, UUID_LEN) == 0;
}

// Somebody may claim it: it is in a state that allows it, and nobody holds it. An escalated task keeps its lease.
inline bool can_be_claimed(const task::Row& row) {
    return tandem::is_claimable(row.state, row.attempt, row.max_attempts) && row.lease_until == task::kNone &&
           !task::is_reserved(task::view(row.kind));
}

// --- tandem.task_ready and its one index, opened
struct ReadyTable {
    Relation heap;
    Relation order;
};
enum ReadyColumn { kTenant = 1, kKind, kPriority, kRunAt, kTaskId, kReadyColumns = kTaskId };
ReadyTable open_ready(LOCKMODE mode);
void close_ready(const ReadyTable& table); // the lock stays until the end of the transaction
// Removes a row that is there though the task is not claimable, or no task is.
void remove_stale(const ReadyTable& table, ItemPointer tid);
// The next removal by task_moved() is this task's, and its row is here: spares it the search.
void expect_removal(const pg_uuid_t& id, ItemPointer tid);
// This transaction has removed ready rows. They are dead to itself only, and it must tell nobody what it sees from then
// on.
bool has_removed();

// --- levels
inline constexpr int kLevelText = 64;
inline constexpr int kLeftBehind = 8;

// An open transaction's oldest entry in front of `from`.
struct LeftBehind {
    TransactionId xid;
    Position position;
};

struct Level {
    Oid database;
    Oid file;         // of task_ready: TRUNCATE, or another table after DROP EXTENSION, has another one
    uint32 text_hash; // of tenant and kind
    int16 priority;
    uint8 tenant_size, kind_size;
    char tenant[kLevelText];
    char kind[kLevelText];

    slock_t mutex;        // for what follows
    uint64 added;         // entries that were added
    uint64 lowered;       // entries that were added where a scan has been
    Position from;        // everything before it is dead, but for what was left behind
    TimestampTz scanned;  // `from` is raised up to here at most
    TimestampTz next_at;  // nothing can be claimed before
    TimestampTz whole_at; // when it was last read from the beginning, and how long that took
    int64 whole_us;
    int left_count;
    LeftBehind left[kLeftBehind];
};
static_assert(std::is_trivially_copyable_v<Level>);

// What a scan of a level begins with, and what it found.
struct LevelScan {
    Level* level; // nullptr: there was no room for it, and all of it is read every time
    bool whole;   // from the beginning
    Position from;
    TimestampTz begun;
    TimestampTz limit; // see Level::scanned
    uint64 added, lowered;
    bool stopped; // `upto` is an entry that is not dead
    int left_count;
    LeftBehind left[kLeftBehind];
};

struct Levels; // all of them: of the cluster where the library is preloaded, else of this session
void request_levels_memory();
void attach_levels_memory();
Levels* levels();
bool are_shared(const Levels* all);
// Visits the levels of a table, in no order.
int level_count(const Levels* all);
Level* level_at(Levels* all, int i);
// nullptr: there is no room, or a name is longer than kLevelText: then complete() says no from now on.
Level* find_level(Levels* all, const ReadyTable& table, std::string_view tenant, std::string_view kind, int16 priority);
// Every level that has entries stands here: no need to look for them in the index.
bool are_complete(const Levels* all, const ReadyTable& table);
void end_listing(Levels* all, const ReadyTable& table);
uint32 hash_names(std::string_view tenant, std::string_view kind);

// An entry was added to the index; to be called after that.
void entry_added(Level* level, const Position& position);
// Nothing in it can be claimed now.
bool may_skip(const Levels* all, Level* level, TimestampTz now);
// When that may change; DT_NOBEGIN: not known.
TimestampTz next_time(Level* level);
// How often all of a level is read: seldom by a claim, once a second by one that found nothing otherwise.
enum class Whole { never, seldom, often };
LevelScan begin_scan(Level* level, TimestampTz now, Whole whole);
// `upto`: all before it is dead, or stands in scan.left. `next_at`: nothing can be claimed before.
void end_scan(const LevelScan& scan, const Position& upto, TimestampTz next_at);

// In _PG_init: a subtransaction that is rolled back brings back what it removed.
void register_callbacks();

// --- wake-ups
// A task became claimable, or will be at run_at: told at commit.
void note_claimable(const text* kind, TimestampTz run_at);
void on_transaction_end(bool committed);
void request_wake_memory();
void attach_wake_memory();

// The coordinator's chore. Where there is no room for its database, listeners hear of tasks at every look only.
void begin_waking();
bool has_waking_to_do();
// In no transaction: sends what committed transactions noted, and what became due; once in a naptime whatever can be
// claimed. Answers after how many milliseconds it wants to be called again.
long wake_listeners();

} // namespace pg::queue
