// The coordinator: one per database that has the extension. Each round it asks the tables which runs need work, keeps
// one executor alive for each of them, and writes its heartbeat.
#include "pg/task_queue.hpp"
#include "pg/worker.hpp"

namespace pg::worker {
namespace {

constexpr int kMaxRuns = 64;
constexpr long kFirstBackoffMs = 500;
constexpr long kLastBackoffMs = 60'000;

struct Due {
    int32 run;
    Oid owner;
    TimestampTz round_at;
};

// When an executor for the run may start again.
struct Backoff {
    int32 run;
    long backoff_ms;
    TimestampTz started;
};

struct Backoffs {
    int count;
    Backoff entries[kMaxRuns];
};

// Listeners are told of new tasks so often at most.
constexpr long kWakeEveryMs = 5;

enum class Extension { absent, other_version, present };

Extension find_extension() {
    Extension result = Extension::absent;
    Relation relation = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("pg_tandem"));
    SysScanDesc scan = systable_beginscan(relation, ExtensionNameIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        bool isnull = false;
        const Datum version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &isnull);
        const bool ours = !isnull && strcmp(TextDatumGetCString(version), TANDEM_VERSION) == 0;
        result = ours ? Extension::present : Extension::other_version;
    }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return result;
}

// The runs that need an executor; writes the heartbeat in the same transaction.
int ask_tables(Due* due) {
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    if (SPI_execute("SELECT run_id, owner, round_at FROM tandem.coordinator_round()", false, kMaxRuns) !=
        SPI_OK_SELECT) {
        elog(ERROR, "the coordinator's query failed");
    }
    const int count = static_cast<int>(SPI_processed);
    for (int i = 0; i < count; i++) {
        bool isnull = false;
        HeapTuple tuple = SPI_tuptable->vals[i];
        due[i].run = DatumGetInt32(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
        due[i].owner = DatumGetObjectId(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
        due[i].round_at = DatumGetTimestampTz(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull));
    }
    SPI_finish();
    return count;
}

// An executor that made no round since it was started failed: its run waits longer each time.
bool may_start(Backoffs* backoffs, const Due& due, TimestampTz now) {
    Backoff* end = backoffs->entries + backoffs->count;
    Backoff* entry = std::find_if(backoffs->entries, end, [&](const Backoff& b) { return b.run == due.run; });
    if (entry == end) {
        if (backoffs->count == kMaxRuns) {
            backoffs->count = 0;
            entry = backoffs->entries;
        }
        backoffs->count++;
        *entry = {due.run, kFirstBackoffMs, now};
        return true;
    }
    const bool lived = due.round_at > entry->started;
    if (!lived && !TimestampDifferenceExceeds(entry->started, now, static_cast<int>(entry->backoff_ms))) {
        return false;
    }
    *entry = {due.run, lived ? kFirstBackoffMs : std::min(entry->backoff_ms * 2, kLastBackoffMs), now};
    return true;
}

enum class Round { done, idle, leave };

// One round in one transaction.
Round round(Backoffs* backoffs) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, "pg_tandem coordinator: looking for work");
    const Extension extension = find_extension();
    static Due due[kMaxRuns];
    const int count = extension == Extension::present ? ask_tables(due) : 0;
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);

    if (extension == Extension::absent) {
        return Round::leave;
    }
    if (extension == Extension::other_version) {
        static bool said = false;
        if (!said) {
            ereport(WARNING, (errmsg("pg_tandem's library is version %s, but another is installed in this database",
                                     TANDEM_VERSION),
                              errhint("ALTER EXTENSION pg_tandem UPDATE; the worker idles until then.")));
            said = true;
        }
        return Round::idle;
    }
    const TimestampTz now = GetCurrentTimestamp();
    int started = 0; // have no slot as yet
    for (int i = 0; i < count; i++) {
        if (slot_taken(MyDatabaseId, due[i].run)) {
            continue;
        }
        if (executors_running() + started >= max_executors) {
            ask_for_place(); // an executor leaves after its round, and this run is the first in the next look
            break;
        }
        if (may_start(backoffs, due[i], now)) {
            BackgroundWorkerHandle* handle =
                start_worker("tandem_executor_main", "pg_tandem executor", {MyDatabaseId, due[i].owner, due[i].run});
            if (handle != nullptr) {
                started++;
                pfree(handle);
            }
        }
    }
    return Round::done;
}

// Between rounds: what sessions tell at commit, and what becomes due. Until `until`, or until somebody wants a round.
void serve(TimestampTz until, uint32 event) {
    bool look = true;
    for (;;) {
        const TimestampTz next = std::min(until, queue::wake_listeners(look));
        look = false;
        const TimestampTz now = GetCurrentTimestamp();
        if (now >= until) {
            return;
        }
        nap(std::clamp<long>(TimestampDifferenceMilliseconds(now, next), 1, naptime_ms), event);
        if (take_look()) {
            return;
        }
        pg_usleep(kWakeEveryMs * 1000L);
    }
}

void coordinator_loop() {
    set_up_signals();
    const StartRequest request = start_request();
    BackgroundWorkerInitializeConnectionByOid(request.database, InvalidOid, 0);
    if (!take_slot(kCoordinator)) {
        return;
    }
    pin_settings();
    auto* backoffs = static_cast<Backoffs*>(MemoryContextAllocZero(TopMemoryContext, sizeof(Backoffs)));
    const uint32 event = wait_event("PgTandemCoordinator");
    (void)queue::begin_waking();
    for (Round made = round(backoffs); made != Round::leave; made = round(backoffs)) {
        if (made == Round::idle) {
            nap(naptime_ms, event);
        } else {
            serve(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), naptime_ms), event);
        }
    }
    poke(MyDatabaseId, false);
}

} // namespace
} // namespace pg::worker

extern "C" PGDLLEXPORT void tandem_coordinator_main(Datum);
extern "C" void tandem_coordinator_main(Datum) {
    pg::entry([] { pg::worker::coordinator_loop(); });
}
