// Wake-ups: workers that LISTEN tandem_task hear when there is something to claim.
//
// NOTIFY in the transactions that make tasks would make their commits wait for one another: it takes a lock of the
// whole database. So a transaction only sets bits in shared memory once it is committed, one for each kind, and whoever
// finds none set before wakes the coordinator. That sends one NOTIFY for all of them: {"kinds": ["mail", ...]}, or
// {"kinds": null} where there were too many kinds to tell.
//
// A notification is a hint and may be sent for nothing. None is lost for good: at each look (tandem.naptime) the
// coordinator tells again what can be claimed, also that of which nobody told it (prepared transactions, a crash, a
// listener that came late). Tasks of a later run_at are told when it comes. Without preload tick() looks.
#include "pg/task_queue_scan.hpp"
#include "pg/worker.hpp"

extern "C" {
#include "commands/async.h"
#include "utils/json.h"
}

namespace pg::queue {
namespace {

constexpr int kMaxDatabases = 16;
constexpr int kKinds = 63; // the last bit: some other kind
constexpr uint64 kOtherKind = uint64{1} << kKinds;
constexpr Size kLongestPayload = 7000; // NOTIFY takes 8000 bytes

// A kind keeps its bit as long as the server runs.
struct Wake {
    Oid database; // InvalidOid: free
    Latch* latch;
    pg_atomic_uint32 kind_count;
    uint8 kind_sizes[kKinds];
    char kinds[kKinds][kLevelText];
    pg_atomic_uint64 pending;
    pg_atomic_uint64 next; // a TimestampTz: what becomes due first, as far as it is known
};
struct Wakes {
    LWLock* lock;
    Wake databases[kMaxDatabases];
};
static_assert(std::is_trivially_copyable_v<Wakes> && std::is_standard_layout_v<Wakes>);

Wakes* wakes = nullptr;
Wake* mine = nullptr; // the coordinator's

// Of this transaction.
uint64 noted = 0;
TimestampTz noted_next = DT_NOEND;

Wake* find_wake() {
    static int known = 0;
    if (wakes == nullptr) {
        return nullptr;
    }
    if (wakes->databases[known].database == MyDatabaseId) {
        return &wakes->databases[known];
    }
    for (int i = 0; i < kMaxDatabases; i++) {
        if (wakes->databases[i].database == MyDatabaseId) {
            known = i;
            return &wakes->databases[i];
        }
    }
    return nullptr;
}

int find_kind(Wake* wake, std::string_view kind) {
    const auto count = static_cast<int>(pg_atomic_read_u32(&wake->kind_count));
    pg_read_barrier();
    for (int i = 0; i < count; i++) {
        if (std::string_view{wake->kinds[i], wake->kind_sizes[i]} == kind) {
            return i;
        }
    }
    return -1;
}

uint64 bit_of(Wake* wake, std::string_view kind) {
    if (kind.size() > kLevelText) {
        return kOtherKind;
    }
    int number = find_kind(wake, kind);
    if (number < 0) {
        LWLockAcquire(wakes->lock, LW_EXCLUSIVE);
        number = find_kind(wake, kind);
        const uint32 count = pg_atomic_read_u32(&wake->kind_count);
        if (number < 0 && count < kKinds) {
            memcpy(wake->kinds[count], kind.data(), kind.size());
            wake->kind_sizes[count] = static_cast<uint8>(kind.size());
            pg_write_barrier();
            pg_atomic_write_u32(&wake->kind_count, count + 1);
            number = static_cast<int>(count);
        }
        LWLockRelease(wakes->lock);
    }
    return number < 0 ? kOtherKind : uint64{1} << number;
}

// True: it is earlier than what was known.
bool lower_next(Wake* wake, TimestampTz at) {
    uint64 known = pg_atomic_read_u64(&wake->next);
    while (at < static_cast<TimestampTz>(known)) {
        if (pg_atomic_compare_exchange_u64(&wake->next, &known, static_cast<uint64>(at))) {
            return true;
        }
    }
    return false;
}

void forget_wake(int, Datum) {
    LWLockAcquire(wakes->lock, LW_EXCLUSIVE);
    mine->database = InvalidOid;
    mine->latch = nullptr;
    LWLockRelease(wakes->lock);
}

// The kinds that a NOTIFY names.
struct Kinds {
    StringInfoData list;
    bool all;
};

void add_kind(Kinds* kinds, std::string_view kind) {
    if (kinds->all) {
        return;
    }
    StringInfoData name;
    initStringInfo(&name);
    escape_json(&name, pnstrdup(kind.data(), kind.size()));
    // Told once; a name within another one is told by its quotes.
    if (strstr(kinds->list.data, name.data) == nullptr) {
        appendStringInfo(&kinds->list, "%s%s", kinds->list.len > 0 ? ", " : "", name.data);
    }
    pfree(name.data);
    kinds->all = kinds->list.len > static_cast<int>(kLongestPayload);
}

void add_bits(Kinds* kinds, const Wake* wake, uint64 bits) {
    kinds->all = kinds->all || (bits & kOtherKind) != 0;
    for (int i = 0; i < kKinds; i++) {
        if ((bits >> i & 1) != 0) {
            add_kind(kinds, {wake->kinds[i], wake->kind_sizes[i]});
        }
    }
}

// What can be claimed now; when the next becomes so.
TimestampTz look_for_tasks(Kinds* kinds) {
    const ReadyTable table = open_ready(AccessShareLock);
    Wanted wanted{};
    wanted.scope.all = true;
    wanted.now = GetCurrentTimestamp();
    TimestampTz next = DT_NOEND;
    const Sources sources = find_sources(wanted, table, &next);
    Reader reader;
    begin_reading(&reader, table);
    auto* cursor = static_cast<Cursor*>(palloc(sizeof(Cursor)));
    for (int i = 0; i < sources.count; i++) {
        const Source& source = sources.data[i];
        open_cursor(&reader, cursor, source.level, PointerGetDatum(source.tenant), PointerGetDatum(source.kind),
                    source.priority, wanted.now, Whole::never);
        if (peek(&reader, cursor, 1) != nullptr) {
            add_kind(kinds, task::view(source.kind));
        } else {
            next = std::min(next, cursor->next_at);
        }
        close_cursor(&reader, cursor);
    }
    pfree(cursor);
    end_reading(&reader);
    close_ready(table);
    return next;
}

void send(Kinds* kinds) {
    if (kinds->all || kinds->list.len > 0) {
        Async_Notify("tandem_task", kinds->all ? "{\"kinds\": null}" : psprintf("{\"kinds\": [%s]}", kinds->list.data));
    }
}

} // namespace

void request_wake_memory() {
    RequestAddinShmemSpace(MAXALIGN(sizeof(Wakes)));
    RequestNamedLWLockTranche("pg_tandem_wake", 1);
}

// Called under AddinShmemInitLock.
void attach_wake_memory() {
    bool found = false;
    wakes = static_cast<Wakes*>(ShmemInitStruct("pg_tandem_wake", sizeof(Wakes), &found));
    if (!found) {
        memset(wakes, 0, sizeof(Wakes));
        wakes->lock = &GetNamedLWLockTranche("pg_tandem_wake")->lock;
        for (Wake& wake : wakes->databases) {
            pg_atomic_init_u32(&wake.kind_count, 0);
            pg_atomic_init_u64(&wake.pending, 0);
            pg_atomic_init_u64(&wake.next, static_cast<uint64>(DT_NOEND));
        }
    }
}

void note_claimable(const text* kind, TimestampTz run_at) {
    Wake* wake = find_wake();
    if (wake == nullptr) {
        return;
    }
    if (run_at > GetCurrentTimestamp()) {
        noted_next = std::min(noted_next, run_at);
    } else {
        noted |= bit_of(wake, task::view(kind));
    }
}

// What a subtransaction noted stays when it is rolled back: listeners find nothing.
void on_transaction_end(bool committed) {
    if (committed && (noted != 0 || noted_next != DT_NOEND)) {
        if (Wake* wake = find_wake()) {
            const bool first = noted != 0 && pg_atomic_fetch_or_u64(&wake->pending, noted) == 0;
            const bool sooner = noted_next != DT_NOEND && lower_next(wake, noted_next);
            Latch* latch = wake->latch;
            if ((first || sooner) && latch != nullptr) {
                SetLatch(latch);
            }
        }
    }
    noted = 0;
    noted_next = DT_NOEND;
}

void begin_waking() {
    LWLockAcquire(wakes->lock, LW_EXCLUSIVE);
    for (Wake& wake : wakes->databases) {
        if (wake.database == InvalidOid) {
            pg_atomic_write_u32(&wake.kind_count, 0);
            pg_atomic_write_u64(&wake.pending, 0);
            pg_atomic_write_u64(&wake.next, static_cast<uint64>(DT_NOEND));
            wake.latch = MyLatch;
            pg_write_barrier();
            wake.database = MyDatabaseId;
            mine = &wake;
            break;
        }
    }
    LWLockRelease(wakes->lock);
    if (mine != nullptr) {
        before_shmem_exit(forget_wake, Datum{0});
    }
}

namespace {

TimestampTz look_at = DT_NOBEGIN;
TimestampTz again_at = DT_NOBEGIN; // when we asked to be called again

TimestampTz known_next() {
    return mine == nullptr ? DT_NOEND : static_cast<TimestampTz>(pg_atomic_read_u64(&mine->next));
}

void send_in_transaction(uint64 bits, bool looks) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    Kinds kinds{};
    initStringInfo(&kinds.list);
    if (looks) {
        if (mine != nullptr) { // before the look: what is noted from now on stays
            pg_atomic_write_u64(&mine->next, static_cast<uint64>(DT_NOEND));
        }
        const TimestampTz next = look_for_tasks(&kinds);
        if (mine != nullptr) {
            (void)lower_next(mine, next);
        }
    }
    if (mine != nullptr) {
        add_bits(&kinds, mine, bits);
    }
    send(&kinds);
    PopActiveSnapshot();
    CommitTransactionCommand();
}

} // namespace

bool has_waking_to_do() {
    return mine != nullptr && (pg_atomic_read_u64(&mine->pending) != 0 || known_next() < again_at);
}

long wake_listeners() {
    const TimestampTz now = GetCurrentTimestamp();
    look_at = std::min(look_at, TimestampTzPlusMilliseconds(now, worker::naptime_ms)); // a clock that was set back
    const bool looks = look_at <= now || known_next() <= now;
    if (looks) {
        look_at = TimestampTzPlusMilliseconds(now, worker::naptime_ms);
    }
    const uint64 bits = mine == nullptr ? 0 : pg_atomic_exchange_u64(&mine->pending, 0);
    if (bits != 0 || looks) {
        send_in_transaction(bits, looks);
    }
    again_at = std::min(look_at, known_next());
    return std::max<long>(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), again_at), 1);
}

} // namespace pg::queue

// Tells listeners, at commit, what can be claimed. What the coordinator does by itself.
TANDEM_FUNCTION(tandem_task_notify) {
    return pg::entry([&]() -> Datum {
        PreventCommandDuringRecovery("task_notify()");
        pg::queue::Kinds kinds{};
        initStringInfo(&kinds.list);
        (void)pg::queue::look_for_tasks(&kinds);
        pg::queue::send(&kinds);
        PG_RETURN_BOOL(kinds.all || kinds.list.len > 0);
    });
}
