// The three tiers of the worker and the shared memory between them.
//
//   launcher     one per cluster, shared catalogs only: starts a coordinator in each database that has the extension
//   coordinator  one per database: sees which runs need work, keeps one executor for each
//   executor     one per active run, connected as the run's owner: takes the run through its rounds
//
// Shared memory holds only who runs where; the truth about runs lives in tables.
#pragma once

#include "pg/prelude.hpp"

namespace pg::worker {

inline constexpr int kMaxSlots = 64;
inline constexpr int kMaxPokes = 32;
inline constexpr int32 kCoordinator = 0; // a slot's run, where it is no executor

struct Slot {
    bool used;
    Oid database;
    int32 run;
    pid_t pid;
    Latch* latch;
    bool woken; // by wake(): the coordinator makes a round at once
};

// Word to the launcher about a database: the extension came (wanted), or a coordinator found none there.
struct Poke {
    Oid database;
    bool wanted;
};

struct Shared {
    LWLock* lock;
    Latch* launcher;
    bool look_everywhere; // more pokes came than fit
    int poke_count;
    Poke pokes[kMaxPokes];
    TimestampTz
        held_until; // no coordinator starts in held_database before this: DROP DATABASE and its like are under way
    Oid held_database;
    TimestampTz crowded_until; // runs wait for a place: executors leave after their round
    Slot slots[kMaxSlots];
};
static_assert(std::is_trivially_copyable_v<Shared> && std::is_standard_layout_v<Shared>);

// nullptr without shared_preload_libraries.
extern Shared* shared;

// Settings.
extern int naptime_ms;
extern int max_executors;

void request_shared_memory();
void attach_shared_memory();
void register_launcher();
void install_utility_hook();

// Slots. take_slot registers the calling process, and gives its slot back at exit; false when all are taken,
// max_executors are at work, one of the same kind is, or the database is being emptied.
bool take_slot(int32 run);
bool slot_taken(Oid database, int32 run);
int executors_running();
// More active runs than max_executors: executors take turns, so that no run is left unwatched.
void ask_for_place();
bool place_is_asked_for();

// Tells the launcher, at once, that a database wants a coordinator, or wants none for now.
void poke(Oid database, bool wanted);
// Wakes the coordinator and the executors of a database.
void wake(Oid database);
// Has anybody woken this process by wake() since the last time?
bool was_woken();
// Ends the workers of a database and waits for them, at most five seconds; none comes back before `hold` seconds.
void stop_database(Oid database, int hold_seconds);

// Waits for the latch, a timeout or the postmaster's death, and takes in interrupts and configuration changes.
void nap(long milliseconds, uint32 wait_event);
void set_up_signals();
// Once connected: the settings under which rounds are made, whatever the database and the role have by default.
void pin_settings();

// --- the coordinator's deadlines (worker_deadline.cpp)
struct DeadlineKeeper;
DeadlineKeeper* open_deadlines();
// Takes in what was committed since; when to look next.
TimestampTz next_deadline(DeadlineKeeper* keeper);
// Settles what is due now, as much as goes into one transaction. Errors are logged, and cost their own task only;
// false: there was one.
bool settle_deadlines(DeadlineKeeper* keeper);
// Reads on in the table, for about two milliseconds, when it is time to read it. How long until it is time again: 0, go
// on.
long read_deadlines(DeadlineKeeper* keeper);

// What else the coordinator does now and then. A slice takes a few milliseconds at most, as deadlines wait for it; it
// begins and ends transactions as it needs them, and answers after how many milliseconds it wants to be called again.
struct Chore {
    const char* name;
    long (*slice)();
    bool (*is_wanted)(); // asked whenever the coordinator wakes up; nullptr: only its time counts
    long pause_ms;       // not again before, however much it is wanted
};
// Runs f, which makes transactions of its own; logs an error of it, ends its transaction, and answers false.
template <class F>
bool survives(const char* what, F&& f);

struct StartRequest {
    Oid database;
    Oid owner;
    int32 run;
};
BackgroundWorkerHandle* start_worker(const char* function, const char* name, const StartRequest& request);
StartRequest start_request();

void log_failure(const char* what, ErrorData* error);

template <class F>
bool survives(const char* what, F&& f) {
    MemoryContext context = MemoryContextSwitchTo(TopMemoryContext); // where the error is copied to
    ErrorData* failure = nullptr;
    try {
        call(f);
    } catch (const Error& error) {
        if (error.data() == nullptr) {
            throw; // no memory even for the error: this process ends
        }
        failure = error.data();
    }
    if (failure != nullptr) {
        log_failure(what, failure);
    }
    MemoryContextSwitchTo(context);
    return failure == nullptr;
}

} // namespace pg::worker
