// The launcher: static, one per cluster. It reads shared catalogs only, so it cannot know where the extension is: it
// starts a coordinator in a database once, and again when something happened there (CREATE EXTENSION pokes it) or when
// the coordinator died. A coordinator that finds no extension says so and leaves.
#include "pg/worker.hpp"

namespace pg::worker {
namespace {

constexpr int kMaxDatabases = 1024;
constexpr long kLookMs = 10'000;    // new databases (CREATE DATABASE ... TEMPLATE) are seen at this pace
constexpr long kAbsentMs = 300'000; // a database without the extension is asked again at this pace, or when poked
constexpr long kFirstBackoffMs = 1000;
constexpr long kLastBackoffMs = 60'000;

struct Watched {
    Oid database;
    bool seen;   // in pg_database at the last look
    bool absent; // the extension is not there, said its coordinator
    long backoff_ms;
    TimestampTz not_before;
    TimestampTz started;
    BackgroundWorkerHandle* handle;
};

struct Watch {
    int count;
    Watched databases[kMaxDatabases];
};

Watched* find(Watch* watch, Oid database) {
    for (int i = 0; i < watch->count; i++) {
        if (watch->databases[i].database == database) {
            return &watch->databases[i];
        }
    }
    return nullptr;
}

// Brings the list in step with pg_database. A database not seen before is wanted.
void look(Watch* watch) {
    for (int i = 0; i < watch->count; i++) {
        watch->databases[i].seen = false;
    }
    StartTransactionCommand();
    (void)GetTransactionSnapshot();
    Relation databases = table_open(DatabaseRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(databases, InvalidOid, false, nullptr, 0, nullptr);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        auto* form = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (form->datistemplate || !form->datallowconn) {
            continue;
        }
        Watched* watched = find(watch, form->oid);
        if (watched == nullptr && watch->count < kMaxDatabases) {
            watched = &watch->databases[watch->count++];
            *watched = Watched{};
            watched->database = form->oid;
        }
        if (watched != nullptr) {
            watched->seen = true;
        }
    }
    systable_endscan(scan);
    table_close(databases, AccessShareLock);
    CommitTransactionCommand();
    for (int i = 0; i < watch->count;) {
        if (!watch->databases[i].seen && watch->databases[i].handle == nullptr) {
            watch->databases[i] = watch->databases[--watch->count];
        } else {
            i++;
        }
    }
}

void take_pokes(Watch* watch) {
    Poke pokes[kMaxPokes];
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    const int count = shared->poke_count;
    const bool everywhere = shared->look_everywhere;
    memcpy(pokes, shared->pokes, sizeof(pokes));
    shared->poke_count = 0;
    shared->look_everywhere = false;
    LWLockRelease(shared->lock);
    if (everywhere ||
        std::any_of(pokes, pokes + count, [&](const Poke& p) { return find(watch, p.database) == nullptr; })) {
        look(watch); // a database made since the last look
    }
    for (int i = 0; everywhere && i < watch->count; i++) {
        watch->databases[i].not_before = 0;
    }
    for (int i = 0; i < count; i++) {
        Watched* watched = find(watch, pokes[i].database);
        if (watched != nullptr) {
            watched->absent = !pokes[i].wanted;
            watched->backoff_ms = 0;
            watched->not_before = watched->absent ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kAbsentMs) : 0;
        }
    }
}

// A coordinator that left within a minute of its start failed: wait longer each time.
void note_end(Watched* watched, TimestampTz now) {
    pfree(watched->handle);
    watched->handle = nullptr;
    if (watched->absent) {
        return;
    }
    const bool lived = TimestampDifferenceExceeds(watched->started, now, 60'000);
    watched->backoff_ms =
        lived || watched->backoff_ms == 0 ? kFirstBackoffMs : std::min(watched->backoff_ms * 2, kLastBackoffMs);
    watched->not_before = TimestampTzPlusMilliseconds(now, watched->backoff_ms);
}

bool held(Oid database, TimestampTz now) {
    LWLockAcquire(shared->lock, LW_SHARED);
    const bool result = shared->held_database == database && shared->held_until > now;
    LWLockRelease(shared->lock);
    return result;
}

void serve(Watch* watch) {
    const TimestampTz now = GetCurrentTimestamp();
    for (int i = 0; i < watch->count; i++) {
        Watched* watched = &watch->databases[i];
        if (watched->handle != nullptr) {
            pid_t pid = 0;
            if (GetBackgroundWorkerPid(watched->handle, &pid) == BGWH_STOPPED) {
                note_end(watched, now);
            }
            continue;
        }
        if (!watched->seen || watched->not_before > now || held(watched->database, now)) {
            continue;
        }
        watched->handle =
            start_worker("tandem_coordinator_main", "pg_tandem coordinator", {watched->database, InvalidOid, 0});
        watched->started = now;
        watched->absent = false;
        // No slot free: all of max_worker_processes are in use. Tried again at the next look.
        watched->not_before = TimestampTzPlusMilliseconds(now, kFirstBackoffMs);
    }
}

void forget_me(int, Datum) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->launcher = nullptr;
    LWLockRelease(shared->lock);
}

void launcher_loop() {
    set_up_signals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    before_shmem_exit(forget_me, Datum{0});
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->launcher = MyLatch;
    LWLockRelease(shared->lock);

    auto* watch = static_cast<Watch*>(MemoryContextAllocZero(TopMemoryContext, sizeof(Watch)));
    const uint32 event = wait_event("PgTandemLauncher");
    TimestampTz next_look = 0;
    for (;;) {
        if (GetCurrentTimestamp() >= next_look) {
            look(watch);
            next_look = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kLookMs);
        }
        take_pokes(watch);
        serve(watch);
        nap(naptime_ms, event);
    }
}

} // namespace

void register_launcher() {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = 5;
    strlcpy(worker.bgw_library_name, "pg_tandem", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "tandem_launcher_main", BGW_MAXLEN);
    strlcpy(worker.bgw_name, "pg_tandem launcher", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "pg_tandem launcher", BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}

} // namespace pg::worker

extern "C" PGDLLEXPORT void tandem_launcher_main(Datum);
extern "C" void tandem_launcher_main(Datum) {
    pg::entry([] { pg::worker::launcher_loop(); });
}
