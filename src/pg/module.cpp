// _PG_init: settings, and, where the library is preloaded, the worker. Without preload everything works that needs no
// worker.
#include "pg/prelude.hpp"

#include "pg/audit.hpp"
#include "pg/capture.hpp"
#include "pg/compare_settings.hpp"
#include "pg/deadline.hpp"
#include "pg/mirror_scope.hpp"
#include "pg/observe_hooks.hpp"
#include "pg/task.hpp"
#include "pg/task_queue.hpp"
#include "pg/worker.hpp"

extern "C" {
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

namespace {

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

void on_shmem_request() {
    if (previous_request_hook != nullptr) {
        previous_request_hook();
    }
    pg::worker::request_shared_memory();
    pg::queue::request_levels_memory();
    pg::queue::request_wake_memory();
    pg::deadline::request_ring_memory();
    pg::observe::request_memory();
}

void on_shmem_startup() {
    if (previous_startup_hook != nullptr) {
        previous_startup_hook();
    }
    pg::worker::attach_shared_memory();
    pg::deadline::attach_ring_memory();
    pg::observe::attach_memory();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    pg::queue::attach_levels_memory();
    pg::queue::attach_wake_memory();
    LWLockRelease(AddinShmemInitLock);
}

// What this transaction has to tell the workers once it is committed and visible.
bool poke_at_commit = false;
bool wake_at_commit = false;

void on_transaction_end(XactEvent event, void*) {
    if (event == XACT_EVENT_COMMIT && pg::worker::shared != nullptr) {
        if (poke_at_commit) {
            pg::worker::poke(MyDatabaseId, true);
        }
        if (wake_at_commit) {
            pg::worker::wake(MyDatabaseId);
        }
    }
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        pg::queue::on_transaction_end(event == XACT_EVENT_COMMIT);
        pg::deadline::on_transaction_end(event == XACT_EVENT_COMMIT);
        poke_at_commit = false;
        wake_at_commit = false;
    }
}

void define_settings() {
    DefineCustomIntVariable("tandem.naptime", "How long the worker sleeps between looks when nothing wakes it.",
                            nullptr, &pg::worker::naptime_ms, 1000, 10, 60'000, PGC_SIGHUP, GUC_UNIT_MS, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable(
        "tandem.max_executors", "How many runs the worker serves at the same time, in all databases together.",
        "Each takes one of max_worker_processes while its run is active.", &pg::worker::max_executors, 4, 1,
        pg::worker::kMaxSlots / 2, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    pg::audit::define_settings();
    pg::compare::define_settings();
    pg::scope::define_settings();
    pg::task::define_settings();
    pg::observe::define_settings();
    pg::observe::define_hook_settings();
    MarkGUCPrefixReserved("tandem");
}

} // namespace

void _PG_init(void) {
    if (IsBinaryUpgrade) {
        return;
    }
    define_settings();
    RegisterXactCallback(on_transaction_end, nullptr);
    pg::capture::register_callbacks();
    pg::scope::install_hooks(); // before those of observe, which then time the mirror's work too
    pg::queue::register_callbacks();
    if (!process_shared_preload_libraries_in_progress) {
        return;
    }
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = on_shmem_request;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = on_shmem_startup;
    pg::worker::install_utility_hook();
    pg::observe::install_hooks();
    pg::worker::register_launcher();
}

// At commit: a coordinator is wanted in this database. Called by CREATE EXTENSION.
TANDEM_FUNCTION(tandem_worker_poke) {
    return pg::entry([&]() -> Datum {
        poke_at_commit = true;
        PG_RETURN_VOID();
    });
}

// At commit: the workers of this database look at once. Called when a run moves.
TANDEM_FUNCTION(tandem_worker_wake) {
    return pg::entry([&]() -> Datum {
        wake_at_commit = true;
        PG_RETURN_VOID();
    });
}

// Is the library preloaded, so that the worker runs?
TANDEM_FUNCTION(tandem_worker_preloaded) {
    return pg::entry([&]() -> Datum { PG_RETURN_BOOL(pg::worker::shared != nullptr); });
}

// May a role that cannot log in own a run that the worker executes? From PostgreSQL 17 on, yes.
TANDEM_FUNCTION(tandem_owner_needs_login) {
    return pg::entry([&]() -> Datum { PG_RETURN_BOOL(pg::kOwnerNeedsLogin); });
}
