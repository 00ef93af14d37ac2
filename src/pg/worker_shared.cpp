// What the worker's tiers share: slots in shared memory, signals, naps, and starting one another.
#include "pg/observe_hooks.hpp"
#include "pg/worker.hpp"

namespace pg::worker {

Shared* shared = nullptr;
int naptime_ms = 1000;
int max_executors = 4;

namespace {

constexpr const char* kTranche = "pg_tandem";
Slot* my_slot = nullptr;

void give_slot_back(int, Datum) {
    if (my_slot != nullptr) {
        LWLockAcquire(shared->lock, LW_EXCLUSIVE);
        *my_slot = Slot{};
        LWLockRelease(shared->lock);
        my_slot = nullptr;
    }
}

} // namespace

void request_shared_memory() {
    RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
    RequestNamedLWLockTranche(kTranche, 1);
}

void attach_shared_memory() {
    bool found = false;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = static_cast<Shared*>(ShmemInitStruct("pg_tandem", sizeof(Shared), &found));
    if (!found) {
        memset(shared, 0, sizeof(Shared));
        shared->lock = &GetNamedLWLockTranche(kTranche)->lock;
    }
    LWLockRelease(AddinShmemInitLock);
}

bool take_slot(int32 run) {
    before_shmem_exit(give_slot_back, Datum{0});
    const TimestampTz now = GetCurrentTimestamp();
    Slot* free_slot = nullptr;
    int executors = 0;
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    for (Slot& slot : shared->slots) {
        executors += slot.used && slot.run != kCoordinator ? 1 : 0;
    }
    for (Slot& slot : shared->slots) {
        if (shared->held_database == MyDatabaseId && shared->held_until > now) {
            break; // we started while the database was being emptied
        }
        if (run != kCoordinator && executors >= max_executors) {
            break; // others were faster
        }
        if (!slot.used) {
            free_slot = free_slot == nullptr ? &slot : free_slot;
        } else if (slot.database == MyDatabaseId && slot.run == run) {
            free_slot = nullptr; // one is at work already
            break;
        }
    }
    if (free_slot != nullptr) {
        *free_slot = Slot{true, MyDatabaseId, run, MyProcPid, MyLatch, false};
        my_slot = free_slot;
    }
    LWLockRelease(shared->lock);
    return free_slot != nullptr;
}

bool slot_taken(Oid database, int32 run) {
    bool taken = false;
    LWLockAcquire(shared->lock, LW_SHARED);
    for (const Slot& slot : shared->slots) {
        taken = taken || (slot.used && slot.database == database && slot.run == run);
    }
    LWLockRelease(shared->lock);
    return taken;
}

int executors_running() {
    int count = 0;
    LWLockAcquire(shared->lock, LW_SHARED);
    for (const Slot& slot : shared->slots) {
        count += slot.used && slot.run != kCoordinator ? 1 : 0;
    }
    LWLockRelease(shared->lock);
    return count;
}

void ask_for_place() {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->crowded_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 2 * naptime_ms);
    LWLockRelease(shared->lock);
}

bool place_is_asked_for() {
    LWLockAcquire(shared->lock, LW_SHARED);
    const bool result = shared->crowded_until > GetCurrentTimestamp();
    LWLockRelease(shared->lock);
    return result;
}

void poke(Oid database, bool wanted) {
    if (shared == nullptr) {
        return;
    }
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    if (shared->poke_count < kMaxPokes) {
        shared->pokes[shared->poke_count++] = {database, wanted};
    } else {
        shared->look_everywhere = true;
    }
    if (shared->launcher != nullptr) {
        SetLatch(shared->launcher);
    }
    LWLockRelease(shared->lock);
}

void wake(Oid database) {
    if (shared == nullptr) {
        return;
    }
    LWLockAcquire(shared->lock, LW_SHARED);
    for (Slot& slot : shared->slots) {
        if (slot.used && slot.database == database) {
            slot.woken = true; // several may write that at the same time
            SetLatch(slot.latch);
        }
    }
    LWLockRelease(shared->lock);
}

bool was_woken() {
    if (my_slot == nullptr || !my_slot->woken) {
        return false;
    }
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    my_slot->woken = false;
    LWLockRelease(shared->lock);
    return true;
}

void log_failure(const char* what, ErrorData* error) {
    error->elevel = LOG;
    error->context = psprintf("%s%s%s", what, error->context != nullptr ? "\n" : "",
                              error->context != nullptr ? error->context : "");
    ThrowErrorData(error); // at LOG it writes the server's log and returns
    AbortCurrentTransaction();
    FreeErrorData(error);
    pgstat_report_activity(STATE_IDLE, nullptr);
}

void stop_database(Oid database, int hold_seconds) {
    if (shared == nullptr) {
        return;
    }
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->held_database = database;
    shared->held_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), hold_seconds * 1000L);
    LWLockRelease(shared->lock);
    for (int tries = 0; tries < 500; tries++) {
        int alive = 0;
        LWLockAcquire(shared->lock, LW_SHARED);
        for (const Slot& slot : shared->slots) {
            if (slot.used && slot.database == database) {
                alive++;
                if (tries % 50 == 0) {
                    kill(slot.pid, SIGTERM);
                }
            }
        }
        LWLockRelease(shared->lock);
        if (alive == 0) {
            return;
        }
        CHECK_FOR_INTERRUPTS();
        pg_usleep(10'000L);
    }
}

void nap(long milliseconds, uint32 wait_event) {
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, wait_event);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = 0;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

// What a DBA set for the sessions of a database or a role must not bend a round: a transaction_timeout would kill it, a
// read-only default would refuse it, a serializable one would make it conflict with the application, SET role would
// make it somebody else.
void pin_settings() {
    struct Pin {
        const char* name;
        const char* value;
    };
    constexpr Pin pins[] = {
        {"role", "none"},
        {"search_path", "pg_catalog, pg_temp"},
        {"tandem.tenant", ""}, // the database may have one: the worker serves all
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_deferrable", "off"},
        {"statement_timeout", "0"},
        {"lock_timeout", "0"},
        {"idle_in_transaction_session_timeout", "0"},
        {"synchronous_commit", "local"}, // a standby that does not answer must not keep guards from rolling back
#if PG_VERSION_NUM >= 170000
        {"transaction_timeout", "0"},
#endif
    };
    StartTransactionCommand();
    for (const Pin& pin : pins) {
        (void)set_config_option(pin.name, pin.value, PGC_USERSET, PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false);
    }
    CommitTransactionCommand();
}

void set_up_signals() {
    observe::observe_nothing_here();
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die); // SIGINT keeps the query cancel that PostgreSQL set: timeouts come by it
    BackgroundWorkerUnblockSignals();
}

BackgroundWorkerHandle* start_worker(const char* function, const char* name, const StartRequest& request) {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART; // the tier above decides, with a backoff
    worker.bgw_notify_pid = MyProcPid;
    strlcpy(worker.bgw_library_name, "pg_tandem", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
    strlcpy(worker.bgw_name, name, BGW_MAXLEN);
    strlcpy(worker.bgw_type, name, BGW_MAXLEN);
    static_assert(sizeof(StartRequest) <= BGW_EXTRALEN);
    memcpy(worker.bgw_extra, &request, sizeof(request));
    BackgroundWorkerHandle* handle = nullptr;
    return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : nullptr;
}

StartRequest start_request() {
    StartRequest request{};
    memcpy(&request, MyBgworkerEntry->bgw_extra, sizeof(request));
    return request;
}

} // namespace pg::worker
