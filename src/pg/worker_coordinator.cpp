// The coordinator: one per database that has the extension.
//
//   deadlines  as they fall due; it sleeps to the next one
//   rounds     every naptime, and when woken: asks the tables which runs need work, keeps one executor alive for each
//   of them, writes its
//              heartbeat
//   chores     in slices of a few milliseconds
//
// Deadlines go first: a round or a slice begins only where the next deadline is some milliseconds away, unless it has
// been put off for long.
#include "pg/deadline.hpp"
#include "pg/observe.hpp"
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

DeadlineKeeper* deadlines = nullptr;

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

// One round in one transaction.
Extension round(Backoffs* backoffs) {
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
        return extension;
    }
    if (extension == Extension::other_version) {
        static bool said = false;
        if (!said) {
            ereport(WARNING, (errmsg("pg_tandem's library is version %s, but another is installed in this database",
                                     TANDEM_VERSION),
                              errhint("ALTER EXTENSION pg_tandem UPDATE; the worker idles until then.")));
            said = true;
        }
        return extension;
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
    return extension;
}

// --- chores

// Calls a function that answers with one value, in a transaction of its own. Is that neither NULL nor 0?
bool call_round(const char* query) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, query);
    if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(query, false, 1) != SPI_OK_SELECT || SPI_processed != 1) {
        elog(ERROR, "%s failed", query);
    }
    bool isnull = false;
    const bool result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull) != 0 && !isnull;
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);
    return result;
}

long seal_events() {
    return call_round("SELECT tandem.audit_seal_round()") ? 0 : naptime_ms;
}

long save_observed() {
    (void)call_round("SELECT tandem.observe_round()");
    return observe::save_every_ms;
}

constexpr long kReadingMs = 5000;
constexpr long kReadingCost = 200; // reading metrics takes half a percent of the time at most
constexpr long kForgetMs = 10'000;

long read_metrics() {
    const TimestampTz began = GetCurrentTimestamp();
    (void)call_round("SELECT tandem.metric_round() IS NULL");
    return std::max(kReadingMs, kReadingCost * TimestampDifferenceMilliseconds(began, GetCurrentTimestamp()));
}

long look_for_alerts() {
    (void)call_round("SELECT tandem.alert_round() IS NULL");
    return naptime_ms;
}

long forget() {
    return call_round(
               "SELECT tandem.forget_measurements(500) + tandem.forget_batches(100) + tandem.forget_refusals(100) > 0")
               ? 0
               : kForgetMs;
}

constexpr Chore kChores[] = {
    {"pg_tandem: telling who waits for tasks", queue::wake_listeners, queue::has_waking_to_do, 5},
    {"pg_tandem: reading deadlines", [] { return read_deadlines(deadlines); }, nullptr, 0},
    {"pg_tandem: sealing events", seal_events, nullptr, 0},
    {"pg_tandem: saving what was observed", save_observed, nullptr, 0},
    {"pg_tandem: reading metrics", read_metrics, nullptr, 0},
    {"pg_tandem: looking for alerts", look_for_alerts, nullptr, 0},
    {"pg_tandem: forgetting what is old", forget, nullptr, 0},
};
constexpr int kChoreCount = std::size(kChores);
constexpr long kChoreBackoffMs = 10'000; // after an error
constexpr int64 kQuiet = 5'000;          // microseconds to the next deadline, or more: time for something else
// What waits for longer than that is done all the same.
constexpr int64 kRoundPatience = 500'000;
constexpr int64 kChorePatience = 50'000;
constexpr int64 kCostPatience = 50;        // ... but what takes long waits so many times as long
constexpr int64 kLongestWait = 60'000'000; // a clock that is set back must not put anything off for longer

struct ChoreTimes {
    TimestampTz next[kChoreCount];
    TimestampTz done[kChoreCount];
    int64 took[kChoreCount]; // the last time: it begins only where there is as much time, and more
};

// Has it been put off for so long that it is done whatever is due?
bool starves(const ChoreTimes* times, int i, TimestampTz now) {
    return now - times->next[i] >= std::max(kChorePatience, kCostPatience * times->took[i]);
}

bool any_starves(const ChoreTimes* times, TimestampTz now) {
    for (int i = 0; i < kChoreCount; i++) {
        if (starves(times, i, now)) {
            return true;
        }
    }
    return false;
}

// Does the chore that has waited longest of those that are due and may begin. False: there is none.
bool do_chore(ChoreTimes* times, TimestampTz now, int64 time_left) {
    int chosen = -1;
    for (int i = 0; i < kChoreCount; i++) {
        times->next[i] = std::min(times->next[i], now + kLongestWait);
        if (kChores[i].is_wanted != nullptr && kChores[i].is_wanted()) {
            const TimestampTz pause_ends =
                TimestampTzPlusMilliseconds(std::min(times->done[i], now), kChores[i].pause_ms);
            times->next[i] = std::min(times->next[i], std::max(now, pause_ends));
        }
        const bool may_begin =
            times->next[i] <= now && (time_left >= std::max(kQuiet, 2 * times->took[i]) || starves(times, i, now));
        if (may_begin && (chosen < 0 || times->next[i] < times->next[chosen])) {
            chosen = i;
        }
    }
    if (chosen < 0) {
        return false;
    }
    const Chore& chore = kChores[chosen];
    long wait_ms = kChoreBackoffMs;
    survives(chore.name, [&] { wait_ms = chore.slice(); });
    times->done[chosen] = GetCurrentTimestamp();
    times->took[chosen] = std::clamp<int64>(times->done[chosen] - now, 0, kLongestWait);
    if (times->took[chosen] > kQuiet) {
        elog(DEBUG1, "%s took %.1f ms", chore.name, static_cast<double>(times->took[chosen]) / 1000);
    }
    times->next[chosen] = TimestampTzPlusMilliseconds(times->done[chosen], wait_ms);
    return true;
}

// When a chore is due that is not due yet. One that is put off, as a deadline is near, is asked again after that.
TimestampTz next_chore(const ChoreTimes* times, TimestampTz now) {
    TimestampTz next = deadline::kNever;
    for (const TimestampTz at : times->next) {
        next = at > now ? std::min(next, at) : next;
    }
    return next;
}

constexpr int64 kTroubleMs = 100;

void coordinator_loop() {
    set_up_signals();
    const StartRequest request = start_request();
    BackgroundWorkerInitializeConnectionByOid(request.database, InvalidOid, 0);
    if (!take_slot(kCoordinator)) {
        return;
    }
    pin_settings();
    // Where we deadlock with somebody, such as DROP EXTENSION, we find it first and give way.
    SetConfigOption("deadlock_timeout", "10ms", PGC_SUSET, PGC_S_OVERRIDE);
    SetConfigOption("jit", "off", PGC_USERSET, PGC_S_OVERRIDE); // nothing here runs for long, and all of it often
    auto* backoffs = static_cast<Backoffs*>(MemoryContextAllocZero(TopMemoryContext, sizeof(Backoffs)));
    auto* chores = static_cast<ChoreTimes*>(MemoryContextAllocZero(TopMemoryContext, sizeof(ChoreTimes)));
    deadlines = open_deadlines();
    queue::begin_waking();
    const uint32 event = wait_event("PgTandemCoordinator");
    TimestampTz next_round = 0;
    TimestampTz trouble_until = 0; // deadlines met an error: not before
    Extension extension = Extension::present;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        const bool ours = extension == Extension::present;
        TimestampTz now = GetCurrentTimestamp();
        next_round = was_woken()
                         ? now
                         : std::min(next_round,
                                    TimestampTzPlusMilliseconds(now, naptime_ms)); // also where the clock was set back
        trouble_until = std::min(trouble_until, TimestampTzPlusMilliseconds(now, kTroubleMs));
        const TimestampTz next = ours ? std::max(next_deadline(deadlines), trouble_until) : deadline::kNever;
        const bool others_starve = now - next_round >= kRoundPatience || (ours && any_starves(chores, now));
        if (next <= now && !others_starve) {
            if (!settle_deadlines(deadlines)) {
                trouble_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kTroubleMs);
                next_round = now; // is the extension still there?
            }
            continue;
        }
        const bool quiet = next - now >= kQuiet;
        if (next_round <= now && (quiet || now - next_round >= kRoundPatience)) {
            extension = round(backoffs);
            if (extension == Extension::absent) {
                break;
            }
            next_round = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), naptime_ms);
            continue;
        }
        if (ours && do_chore(chores, now, next - now)) {
            continue;
        }
        TimestampTz until = next;
        if (quiet) { // else what is put off is asked again after the deadline
            until = std::min({next, next_round, ours ? next_chore(chores, now) : deadline::kNever});
        }
        now = GetCurrentTimestamp();
        if (until > now && deadline::may_sleep(until)) {
            nap(std::min<long>(TimestampDifferenceMilliseconds(now, until), naptime_ms), event);
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
