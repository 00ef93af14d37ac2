// Reading task_ready in its order.
#pragma once

#include "pg/task_queue.hpp"

namespace pg::queue {

struct Candidate {
    Position at;
    ItemPointerData tid;
};
inline constexpr int kMaxBatch = 128;

// Reads one level, a batch at a time. All cursors of a claim use one index scan, in turn.
struct Reader {
    ReadyTable table;
    IndexScanDesc scan;
    TupleTableSlot* slot;
    SnapshotData dirty; // tells also what open transactions have added and deleted
    bool alone;         // this transaction had removed rows before: what is dead to it is not dead to others
};

struct Cursor {
    Datum tenant; // text
    Datum kind;
    int16 priority;
    LevelScan level;
    Position next; // where the next batch begins
    bool after;    // ... behind the entry there
    bool exhausted;
    bool found; // a task that can be claimed, or will be when an open transaction ends
    TimestampTz next_at;
    Position upto;     // see end_scan()
    int64 dead_behind; // dead entries behind the first one of an open transaction
    Position behind;   // up to where they are dead, but for those of `open`
    bool stopped;      // `behind` stays
    int open_count;
    LeftBehind open[kLeftBehind];
    int count, used;
    Candidate batch[kMaxBatch];
};
static_assert(std::is_trivially_copyable_v<Cursor>);

void begin_reading(Reader* reader, const ReadyTable& table);
void end_reading(Reader* reader);

void open_cursor(const Reader* reader, Cursor* cursor, Level* level, Datum tenant, Datum kind, int16 priority,
                 TimestampTz now, Whole whole);
// The next candidate, or nullptr. `want`: how many more may be asked for.
const Candidate* peek(Reader* reader, Cursor* cursor, int64 want);
inline void take(Cursor* cursor) {
    cursor->used++;
}
void close_cursor(const Reader* reader, Cursor* cursor);

// The row is there for everybody, and no open transaction has deleted it.
bool is_there(Reader* reader, const Candidate& candidate);

// Calls visit(tenant, kind, priority) for every level that has entries, dead ones among them. `tenant`, `kind`: only
// there; nullptr: everywhere.
using Visit = void (*)(void* context, text* tenant, text* kind, int16 priority);
void list_levels(const ReadyTable& table, text* tenant, text* kind, Visit visit, void* context);

// Whose tasks, and of which kinds.
struct Wanted {
    task::Scope scope;
    text** kinds; // nullptr: all
    int kind_count;
    TimestampTz now;
};
struct Source {
    Level* level;
    text* tenant;
    text* kind;
    int16 priority;
};

struct Sources {
    Source* data;
    int count, room;
};

// The levels that may have some that can be claimed now. `next` is lowered to when others may (may be nullptr).
Sources find_sources(const Wanted& wanted, const ReadyTable& table, TimestampTz* next);

} // namespace pg::queue
