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
    bool look; // it was woken to look for work, not only for a notice
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
// The calling worker was woken so since it was last asked.
bool take_look();
// Ends the workers of a database and waits for them, at most five seconds; none comes back before `hold` seconds.
void stop_database(Oid database, int hold_seconds);

// Waits for the latch, a timeout or the postmaster's death, and takes in interrupts and configuration changes.
void nap(long milliseconds, uint32 wait_event);
void set_up_signals();
// Once connected: the settings under which rounds are made, whatever the database and the role have by default.
void pin_settings();

struct StartRequest {
    Oid database;
    Oid owner;
    int32 run;
};
BackgroundWorkerHandle* start_worker(const char* function, const char* name, const StartRequest& request);
StartRequest start_request();

} // namespace pg::worker
