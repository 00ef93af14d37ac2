// The executor: one per active run, connected as the run's owner, so that nothing it executes can do more than the
// owner may. A round is one transaction of tandem.execute_round(), the same that tandem.tick() calls; what a round did
// and when the next is due come back from it. Before it, tandem.begin_step() shows what it will do.
#include "pg/worker.hpp"

extern "C" {
#include "storage/pmsignal.h"
}

namespace pg::worker {
namespace {

struct Round {
    bool done;
    long wait_ms;
};

// Statements of a round are executed in transactions of their own.
void begin_transaction(const char* activity) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, activity);
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
}

void end_transaction() {
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);
}

// So that people see the step while it is being taken. Is it a batch of the backfill?
bool begin_step(int32 run) {
    begin_transaction("SELECT tandem.begin_step(...)");
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(run)};
    if (SPI_execute_with_args("SELECT tandem.begin_step($1)", 1, types, values, nullptr, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1) {
        elog(ERROR, "the executor's query failed");
    }
    const char* step = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    const bool is_batch = step != nullptr && strcmp(step, "tandem.backfill_batch") == 0;
    // Nothing is lost with it but that view of things; and a backfill makes a batch every few milliseconds.
    (void)set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
    end_transaction();
    return is_batch;
}

constexpr long kLongestMs = 1000; // somebody may add a metric

constexpr const char* kSampling = "SELECT next, wait_ms FROM tandem.execute_sampling($1, $2, $3)";
constexpr const char* kChecks = "SELECT next, wait_ms FROM tandem.execute_checks($1, $2, $3)";

// The metrics or checks of the run that are due, each in a transaction of its own: what a query of theirs does, and how
// long it takes, must not be the round's. Milliseconds until there may be more.
long ask_due(int32 run, const char* sql) {
    const TimestampTz began = GetCurrentTimestamp();
    NameData name; // as long as that of a metric or a check may be
    bool chosen = false;
    for (;;) {
        const bool more = !TimestampDifferenceExceeds(began, GetCurrentTimestamp(), kLongestMs);
        begin_transaction(sql);
        Oid types[3] = {INT4OID, TEXTOID, BOOLOID};
        Datum values[3] = {Int32GetDatum(run), chosen ? CStringGetTextDatum(NameStr(name)) : Datum{0},
                           BoolGetDatum(more)};
        const char nulls[4] = {' ', chosen ? ' ' : 'n', ' ', '\0'};
        if (SPI_execute_with_args(sql, 3, types, values, nulls, false, 1) != SPI_OK_SELECT || SPI_processed != 1) {
            elog(ERROR, "the executor's query failed");
        }
        const char* next = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
        chosen = next != nullptr;
        if (chosen) {
            namestrcpy(&name, next);
        }
        bool isnull = false;
        const int32 wait_ms = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
        end_transaction();
        CHECK_FOR_INTERRUPTS();
        if (!chosen) {
            return isnull ? kLongestMs : std::min<long>(wait_ms, kLongestMs);
        }
    }
}

// A look at the guards, which stands whatever becomes of the round.
void look_at_guards(int32 run) {
    begin_transaction("SELECT tandem.execute_guards(...)");
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(run)};
    if (SPI_execute_with_args("SELECT tandem.execute_guards($1)", 1, types, values, nullptr, false, 1) !=
        SPI_OK_SELECT) {
        elog(ERROR, "the executor's query failed");
    }
    end_transaction();
}

// One batch in a transaction of its own. Could the next one follow at once?
bool execute_batch(int32 run) {
    begin_transaction("SELECT tandem.execute_batch(...)");
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(run)};
    if (SPI_execute_with_args("SELECT tandem.execute_batch($1)", 1, types, values, nullptr, false, 1) !=
            SPI_OK_SELECT ||
        SPI_processed != 1) {
        elog(ERROR, "the executor's query failed");
    }
    bool isnull = false;
    const bool more = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    end_transaction();
    return more;
}

long sample(int32 run) {
    const long metrics = ask_due(run, kSampling);
    return std::min(metrics, ask_due(run, kChecks));
}

Round round(int32 run) {
    look_at_guards(run);
    if (begin_step(run)) {
        const TimestampTz began = GetCurrentTimestamp();
        while (execute_batch(run) && !TimestampDifferenceExceeds(began, GetCurrentTimestamp(), kLongestMs)) {
            CHECK_FOR_INTERRUPTS();
        }
    }
    begin_transaction("SELECT tandem.execute_round(...)");
    Oid types[1] = {INT4OID};
    Datum values[1] = {Int32GetDatum(run)};
    if (SPI_execute_with_args("SELECT done, wait_ms FROM tandem.execute_round($1)", 1, types, values, nullptr, false,
                              1) != SPI_OK_SELECT ||
        SPI_processed != 1) {
        elog(ERROR, "the executor's query failed");
    }
    bool isnull = false;
    const Round result = {
        DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
        static_cast<long>(DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)))};
    end_transaction();
    return result;
}

// The failure of a round becomes an event that status() shows; the coordinator starts the next executor after a
// backoff.
void report_failure(int32 run, ErrorData* error) {
    error->elevel = LOG;
    ThrowErrorData(error); // at LOG it writes the server's log and returns
    AbortCurrentTransaction();
    begin_transaction("SELECT tandem.executor_failed(...)");
    Oid types[3] = {INT4OID, TEXTOID, TEXTOID};
    Datum values[3] = {Int32GetDatum(run), CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
                       CStringGetTextDatum(error->message != nullptr ? error->message : "")};
    SPI_execute_with_args("SELECT tandem.executor_failed($1, $2, $3)", 3, types, values, nullptr, false, 1);
    end_transaction();
}

// Conflicts with other sessions are tried again at once; anything else ends this executor.
bool is_conflict(int sqlerrcode) {
    return sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE || sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
           sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

void executor_loop() {
    set_up_signals();
    const StartRequest request = start_request();
    BackgroundWorkerInitializeConnectionByOid(request.database, request.owner, kBypassRoleLogin);
    if (!take_slot(request.run)) {
        return;
    }
    pin_settings();
    // Where we deadlock with somebody, such as DROP EXTENSION, we find it first and give way.
    SetConfigOption("deadlock_timeout", "10ms", PGC_SUSET, PGC_S_OVERRIDE);
    const uint32 event = wait_event("PgTandemExecutor");
    constexpr int kMaxConflicts = 20;
    constexpr int kTurnMs = 2000;
    const TimestampTz started = GetCurrentTimestamp();
    int conflicts = 0;
    TimestampTz next_sampling = 0;
    for (;;) {
        Round result{};
        ErrorData* failure = nullptr;
        MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
        try {
            call([&] { result = round(request.run); });
        } catch (const Error& error) {
            if (error.data() == nullptr) {
                throw; // no memory even for the error: this executor ends
            }
            failure = error.data();
        }
        MemoryContextSwitchTo(context);
        if (failure == nullptr) {
            conflicts = 0;
            const TimestampTz now = GetCurrentTimestamp();
            // the second: the clock was set back
            if (next_sampling <= now || next_sampling > TimestampTzPlusMilliseconds(now, kLongestMs) || was_woken()) {
                long wait_ms = kLongestMs;
                survives("pg_tandem: measuring a run's metrics, making its checks",
                         [&] { wait_ms = sample(request.run); });
                next_sampling = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
            }
            result.wait_ms = std::clamp<long>(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_sampling), 0,
                                              result.wait_ms);
            // Where runs wait for a place, this one gives its own up; a backfill that could go on at once, after a
            // while.
            const bool turn_is_over =
                result.wait_ms > 0 || TimestampDifferenceExceeds(started, GetCurrentTimestamp(), kTurnMs);
            if (result.done || (turn_is_over && place_is_asked_for())) {
                return;
            }
        } else if (is_conflict(failure->sqlerrcode) && ++conflicts < kMaxConflicts) {
            AbortCurrentTransaction();
            FreeErrorData(failure);
            result.wait_ms = 10L * conflicts;
        } else {
            report_failure(request.run, failure);
            // What is wrong with the rounds may be what they tell.
            survives("pg_tandem: measuring a run's metrics, making its checks", [&] { (void)sample(request.run); });
            proc_exit(1);
        }
        if (result.wait_ms > 0) {
            nap(result.wait_ms, event);
        } else {
            if (!PostmasterIsAlive()) {
                proc_exit(1); // who never naps would go on without it, and keep another from starting
            }
            CHECK_FOR_INTERRUPTS();
        }
    }
}

} // namespace
} // namespace pg::worker

extern "C" PGDLLEXPORT void tandem_executor_main(Datum);
extern "C" void tandem_executor_main(Datum) {
    pg::entry([] { pg::worker::executor_loop(); });
}
