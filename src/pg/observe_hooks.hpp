// Statements on mapped tables are observed by themselves.
//
//   observe_hooks.cpp    the executor's hooks: what is timed, and what an abort makes of it
//   observe_mapping.cpp  which relation is which side of which run
//   observe_target.cpp   which series a statement counts in
#pragma once

#include "pg/observe.hpp"

namespace pg::observe {

// --- mappings
struct Place {
    int16 run; // in observed_runs
    Side side;
};

// What a session knows of a series; zero: nothing as yet.
struct KnownTarget {
    bool known;
    bool full; // there is no room for it until retry_at
    int64 retry_at;
    Target target;
};
inline constexpr int kDefaults = std::size(kDefaultOperations);
struct ObservedRun {
    int32 id;
    KnownTarget defaults[2][kDefaults]; // by side
    KnownTarget named[2];               // the operation of the setting tandem.operation
    uint64 named_version[2];            // and of which value of it
};
inline constexpr int kMostObservedRuns = 64;
extern ObservedRun observed_runs[kMostObservedRuns];
extern int observed_run_count;

// Reads mappings where they are out of date.
bool anything_mapped();
// How many; only where anything_mapped().
int places_of(Oid relation, const Place** places);
Oid observed_home();
// Never waits: false where it would have to.
bool threshold_of(int32 run, const char* operation, int64* threshold, bool* declared);

// --- targets
// The setting tandem.operation; empty: by the kind of statement.
extern char* operation_name;
extern uint64 operation_version; // grows with each value of it
// The series of a statement on a side; nullptr: there is no room.
const Target* target_of(Place place, int default_operation, int64 now_ns);

// --- hooks
enum Track { kTrackOff, kTrackMapped };
extern int track;
void install_hooks();
void define_hook_settings();

// This process does the extension's own work: nothing that it runs is observed.
void observe_nothing_here();

} // namespace pg::observe
