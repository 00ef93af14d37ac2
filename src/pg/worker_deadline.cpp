// The coordinator's deadlines: a heap that says when to look at which task, filled from the ring as tasks are
// committed, and by reading the table: when the coordinator starts, when the ring overflowed, and every half minute for
// what neither told (prepared transactions, restores).
//
// Reading goes in slices, each with a snapshot of its own, so that deadlines need not wait for it. It makes a new heap,
// which drops what is out of date in the old one. A row that moves within the table between two slices may be missed by
// both; so while the table is read, every change of a row is told through the ring, not only those to an earlier time.
#include "core/deadline_heap.hpp" // before PostgreSQL's headers

#include "pg/deadline.hpp"
#include "pg/task_queue_lease.hpp"
#include "pg/worker.hpp"

extern "C" {
#include "access/heapam.h"
#include "storage/bufmgr.h"
}

namespace pg::worker {
namespace {

using deadline::kNever;
using deadline::Look;

constexpr int kBatch = 1024;               // tasks in one transaction
constexpr int kFailuresInARow = 3;         // then it is not the tasks
constexpr int64 kFailedRetry = 10'000'000; // microseconds
constexpr long kReadEveryMs = 30'000;
constexpr long kReadWithoutRingMs = 1000;
constexpr int64 kSlice = 2'000; // microseconds
constexpr std::size_t kMostStale = 65'536;

} // namespace

struct DeadlineKeeper {
    tandem::DeadlineHeap heap;
    tandem::DeadlineHeap next_heap; // while the table is read
    std::size_t open_rows;          // when it was last read
    bool has_ring;
    bool reading;
    bool read_again; // the ring overflowed
    TimestampTz read_at;
    // where reading is
    Oid file;
    BlockNumber block;
    BlockNumber blocks;
    BlockNumber slice; // blocks; as many as fit into the time
    int count;
    Look looks[kBatch];
    deadline::Notice notices[deadline::kRingSize];
};

namespace {

tandem::Deadline make_entry(const pg_uuid_t& id, TimestampTz at) {
    tandem::Deadline entry{at, 0, 0};
    memcpy(&entry.id_high, id.data, sizeof(entry.id_high));
    memcpy(&entry.id_low, id.data + sizeof(entry.id_high), sizeof(entry.id_low));
    return entry;
}

pg_uuid_t id_of(const tandem::Deadline& entry) {
    pg_uuid_t id;
    memcpy(id.data, &entry.id_high, sizeof(entry.id_high));
    memcpy(id.data + sizeof(entry.id_high), &entry.id_low, sizeof(entry.id_low));
    return id;
}

void begin_transaction(const char* activity) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, activity);
}

void end_transaction() {
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);
}

// Takes what is due out of the heap, up to a batch. A task may be there twice: then nothing is found the second time.
int collect(void* context) {
    auto* keeper = static_cast<DeadlineKeeper*>(context);
    const TimestampTz now = GetCurrentTimestamp();
    while (keeper->count < kBatch && !keeper->heap.empty() && keeper->heap.first().time <= now) {
        keeper->looks[keeper->count++] = {id_of(keeper->heap.first()), kNever, false};
        keeper->heap.pop();
    }
    return keeper->count;
}

bool settle(Look* looks, int count, deadline::More more, DeadlineKeeper* keeper) {
    return survives("pg_tandem: settling deadlines", [&] {
        begin_transaction("pg_tandem coordinator: settling deadlines");
        deadline::Tally tally{};
        deadline::settle(looks, count, tally, more, keeper);
        end_transaction();
    });
}

// Tasks whose lease has ended, in a transaction of their own: nobody waits for the millisecond, as for a breach.
void rescue(DeadlineKeeper* keeper) {
    const Look* begin = keeper->looks;
    const Look* end = begin + keeper->count;
    if (std::none_of(begin, end, [](const Look& look) { return look.lease_ended; })) {
        return;
    }
    survives("pg_tandem: taking tasks back whose lease has ended", [&] {
        begin_transaction("pg_tandem coordinator: taking tasks back whose lease has ended");
        for (const Look* look = begin; look != end; look++) {
            if (look->lease_ended) {
                queue::rescue(look->id);
            }
        }
        end_transaction();
    });
}

// The batch failed: each task on its own, so that the one at fault is found and the others are not held up by it.
void settle_singly(DeadlineKeeper* keeper) {
    int failures = 0;
    for (int i = 0; i < keeper->count; i++) {
        if (failures < kFailuresInARow && settle(keeper->looks + i, 1, nullptr, keeper)) {
            failures = 0;
            continue;
        }
        failures++;
        keeper->looks[i].lease_ended = false;
        keeper->looks[i].next = GetCurrentTimestamp() + kFailedRetry;
    }
}

bool begin_reading(DeadlineKeeper* keeper) {
    keeper->next_heap.clear();
    keeper->next_heap.reserve(keeper->open_rows + keeper->open_rows / 8 + 1024);
    keeper->read_again = false;
    keeper->reading = true;
    keeper->file = InvalidOid;
    deadline::want_every_notice(true); // first this, then the table
    return true;
}

// Some blocks of the table. False: that was all.
bool read_slice(DeadlineKeeper* keeper) {
    bool more = true;
    begin_transaction("pg_tandem coordinator: reading deadlines");
    const deadline::Table table = deadline::open_table(AccessShareLock);
    const BlockNumber blocks = RelationGetNumberOfBlocks(table.heap);
    if (keeper->file != table.heap->rd_rel->relfilenode) { // the first slice, or it was rewritten meanwhile
        keeper->file = table.heap->rd_rel->relfilenode;
        keeper->block = 0;
        keeper->blocks = blocks;
        keeper->next_heap.clear();
    }
    const BlockNumber end = std::min(keeper->blocks, blocks); // what comes behind it is told by the ring
    if (keeper->block < end) {
        const BlockNumber count = std::min(keeper->slice, end - keeper->block);
        Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
        TableScanDesc scan = table_beginscan_strat(table.heap, snapshot, 0, nullptr, true, false);
        heap_setscanlimits(scan, keeper->block, count);
        while (HeapTuple tuple = heap_getnext(scan, ForwardScanDirection)) {
            pg_uuid_t id;
            const TimestampTz at = deadline::look_at(deadline::read_times(table.heap, tuple, &id));
            if (at < kNever) {
                keeper->next_heap.push(make_entry(id, at));
            }
        }
        table_endscan(scan);
        UnregisterSnapshot(snapshot);
        keeper->block += count;
    }
    more = keeper->block < end;
    deadline::close_table(table);
    end_transaction();
    return more;
}

} // namespace

DeadlineKeeper* open_deadlines() {
    auto* keeper = new DeadlineKeeper{};
    keeper->has_ring = deadline::take_ring();
    keeper->slice = 32;
    if (!keeper->has_ring) {
        ereport(LOG, (errmsg("pg_tandem: there is no place in shared memory for the deadlines of this database"),
                      errdetail("They are found by reading tandem.task_deadline every second.")));
    }
    return keeper;
}

TimestampTz next_deadline(DeadlineKeeper* keeper) {
    int count = 0;
    if (!deadline::drain(keeper->notices, deadline::kRingSize, &count)) {
        keeper->read_again = true;
    }
    for (int i = 0; i < count; i++) {
        const tandem::Deadline entry = make_entry(keeper->notices[i].id, keeper->notices[i].at);
        keeper->heap.push(entry);
        if (keeper->reading) {
            keeper->next_heap.push(entry);
        }
    }
    return keeper->heap.empty() ? kNever : keeper->heap.first().time;
}

bool settle_deadlines(DeadlineKeeper* keeper) {
    keeper->count = 0;
    const bool ok = settle(keeper->looks, collect(keeper), collect, keeper);
    if (!ok) {
        settle_singly(keeper);
    }
    for (int i = 0; i < keeper->count; i++) {
        if (keeper->looks[i].next < kNever) {
            keeper->heap.push(make_entry(keeper->looks[i].id, keeper->looks[i].next));
        }
    }
    rescue(keeper);
    return ok;
}

long read_deadlines(DeadlineKeeper* keeper) {
    if (!keeper->reading) {
        const bool outgrown = keeper->heap.size() > 2 * keeper->open_rows + kMostStale;
        const long every = keeper->has_ring ? kReadEveryMs : kReadWithoutRingMs;
        const TimestampTz now = GetCurrentTimestamp();
        const TimestampTz due = TimestampTzPlusMilliseconds(keeper->read_at, every);
        if (!keeper->read_again && !outgrown && now >= keeper->read_at && now < due) {
            return std::min(1000L, TimestampDifferenceMilliseconds(now, due));
        }
        begin_reading(keeper);
    }
    const TimestampTz begun = GetCurrentTimestamp();
    const bool more = read_slice(keeper);
    const int64 took = GetCurrentTimestamp() - begun;
    keeper->slice = took < kSlice / 2 ? std::min<BlockNumber>(keeper->slice * 2, 1024)
                    : took > kSlice   ? std::max<BlockNumber>(keeper->slice / 2, 8)
                                      : keeper->slice;
    if (more) {
        return 0;
    }
    keeper->reading = false;
    deadline::want_every_notice(false);
    keeper->heap.swap(keeper->next_heap);
    keeper->open_rows = keeper->heap.size();
    tandem::DeadlineHeap().swap(keeper->next_heap);
    keeper->read_at = GetCurrentTimestamp();
    return 0;
}

} // namespace pg::worker
