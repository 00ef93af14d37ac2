// Observing: how long operations take on each side, counted in shared memory.
//
//   observe_memory.cpp     shared memory: series, slots of time, cells; who gets a stripe
//   observe_stripe.cpp     the hot path: a session writes into its own stripe; folding stripes into series
//   observe.cpp            observe(), settings, and which series a run, operation and side are
//   observe_read.cpp       what SQL sees of it
//   observe_histogram.cpp  histograms in SQL: their sum, their percentiles
//   observe_hooks.hpp      statements on mapped tables, which are observed by themselves
//
// A *series* is one operation on one side of one run. It has totals, and three rings of *slots*: 5 seconds, a minute,
// an hour. A slot has its counts, and the octaves of a histogram that occur in it. Slots and octaves are cells of 128
// bytes from one pool, which is all the memory there is (tandem.observe_memory).
//
// A *stripe* belongs to one session, its only writer: observations as they are, 8 bytes each. Writing one takes no lock
// and no atomic operation. Who finds the stripe full (its writer), or wants to read (anybody), folds it into the series
// under the one lock. So memory does not grow by sessions times series, thresholds are compared with the exact
// durations, and nobody has to wait for the worker to see what was observed.
//
// Time here is CLOCK_MONOTONIC, moved so that it showed the time of day when the server started: setting the clock
// moves no slot. What SQL sees is told by the distance to now.
#pragma once

#include "pg/prelude.hpp"

extern "C" {
#include "common/int.h"
}

namespace pg::observe {

enum Side : uint8 { kLegacy, kNew };
enum Level { kSeconds, kMinutes, kHours, kLevels };
inline constexpr uint32 kSlotSeconds = 5;
inline constexpr uint32 kUnitsOf[kLevels] = {1, 12, 720}; // of a slot, in those of the lowest level
inline constexpr uint32 kRing[kLevels] = {13, 61, 25};    // the one that is being filled, and 12, 60, 24 before it
inline constexpr uint32 kFirst[kLevels] = {0, 13, 74};    // in Series::slots
inline constexpr uint32 kSlots = 99;
static_assert(kSlots == kRing[0] + kRing[1] + kRing[2] && kFirst[2] == kRing[0] + kRing[1]);

// Upper bounds of the buckets for Prometheus, in µs; the last one, infinity, is the number of all.
inline constexpr int64 kBounds[] = {100,       250,        500,        1'000,      2'500,       5'000,        10'000,
                                    25'000,    50'000,     100'000,    200'000,    500'000,     1'000'000,    2'000'000,
                                    5'000'000, 10'000'000, 30'000'000, 60'000'000, 300'000'000, 3'600'000'000};
inline constexpr int kBoundCount = std::size(kBounds);

inline constexpr int64 kNoThreshold = -1;
inline constexpr int kMostUndeclared = 64; // operations of one side of a run; what comes then is:
inline constexpr std::string_view kOther = "other";

// Whose: an extension that was dropped and made again is another one, though its runs have the same numbers.
struct Key {
    Oid database;
    Oid home; // of table tandem.run
    int32 run;
    uint8 side;
    char operation[NAMEDATALEN];
};

struct Totals {
    uint64 n;
    uint64 errors;
    uint64 over; // longer than the threshold
    uint64 us;
    uint64 longest;
    uint64 bounds[kBoundCount]; // not longer than that one, but longer than the one before
};

struct Series {
    Key key;
    bool used;
    bool retiring;
    bool declared;
    uint16 next; // of the same hash, or of those that are free
    uint32 last; // when something was observed last: a slot of 5 seconds
    int64 threshold;
    Totals totals;
    uint32 slots[kSlots]; // cells; 0: none
};

struct Slot {
    uint32 number; // since 1970, in slots of its level
    uint32 n;
    uint32 errors;
    uint32 over;
    uint64 us;
    uint64 longest;
    uint8 octaves[tandem::kHistogramOctaves][3]; // cells; 0: none
};
union Cell {
    Slot slot;
    uint32 counts[tandem::kHistogramOctave];
    uint32 next_free;
};
static_assert(sizeof(Cell) == 128);

inline constexpr uint32 kRecords = 496;
struct Stripe {
    // the writer's
    pg_atomic_uint32 head;
    char padding1[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint32)];
    // under the lock
    pg_atomic_uint32 tail;
    uint32 slot;  // of 5 seconds: that of all records here
    uint32 place; // of the record at tail
    uint16 next;  // of those that are free
    bool used;
    char padding2[PG_CACHE_LINE_SIZE - 16];
    uint64 records[kRecords];
};

struct Memory {
    LWLock* lock;
    TimestampTz since; // counting began
    int64 shift;       // ns: from CLOCK_MONOTONIC to the time of slots
    uint32 series_room, stripe_room, cell_room;
    uint32 series_used, cells_used;
    uint16 free_series;
    uint16 free_stripe;
    uint32 free_cell;
    uint32 swept, swept_series; // when, as a slot of 5 seconds
    uint64 dropped;
    uint32 heads_mask;
};
static_assert(std::is_trivially_copyable_v<Memory> && std::is_trivially_copyable_v<Series> &&
              std::is_trivially_copyable_v<Stripe> && std::is_trivially_copyable_v<Cell>);

// nullptr without shared_preload_libraries.
extern Memory* memory;
extern Series* all_series;
extern Stripe* all_stripes;
extern Cell* cells;
extern uint32* generations; // of each series: another one, another series

// Settings.
extern int memory_kb;
extern int save_every_ms;

void define_settings();
void request_memory();
void attach_memory();
Size memory_bytes();

inline int64 monotonic_ns(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return int64{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}
inline uint32 slot_at(int64 ns) {
    return static_cast<uint32>((ns + memory->shift) / (int64{kSlotSeconds} * 1'000'000'000));
}
inline uint32 slot_now() {
    return slot_at(monotonic_ns(CLOCK_MONOTONIC));
}

// --- under the lock, exclusive
struct Terms {
    int64 threshold;
    bool declared;
};
// The series of a key, which from now on has these terms; false: there is none yet.
bool find_series(const Key& key, const Terms& terms, uint16* index);
// False: there is no room, which is counted.
bool make_series(const Key& key, const Terms& terms, uint16* index);
// Are there as many operations of the run as may be without having been declared?
bool has_most_undeclared(const Key& key);
// Where observations go that were made in the same slot of 5 seconds: those of the same series, one after the other,
// look up nothing.
struct Folding {
    uint32 slot;
    uint32 now;
    Series* series;
    Slot* slots[kLevels]; // nullptr: its ring has gone beyond it, or there is no memory
    bool short_of_memory;
};
void apply(Folding& folding, Series& series, uint64 us, bool error);
// Gives back slots that have left their rings. With all stripes folded, also series without observations for a day.
void sweep(uint32 now, bool all_is_folded);
void fold(Stripe& stripe, uint32 now);
void fold_all(uint32 now);

// --- operations
// What a statement is where the setting tandem.operation says nothing: known without add_operation().
inline constexpr std::string_view kDefaultOperations[] = {"select", "insert", "update", "delete", "merge", "copy"};
bool is_default_operation(std::string_view operation);
// Is it one of the run's? The threshold is kNoThreshold where it has none. Reads tandem.operation.
bool find_operation(Relation operations, int32 run, std::string_view operation, int64* threshold);
// In µs; an ERROR where it is none.
int64 checked_duration(const Interval* interval);

// --- the hot path
struct Target {
    uint16 series;
    uint32 generation; // as generations[series] was when it was found
};
inline bool is_current(const Target& target) {
    return generations[target.series] == target.generation;
}
// Counts one observation that ended at `ns` of CLOCK_MONOTONIC.
void record(uint16 series, int64 us, bool error, int64 ns);
struct Wanted {
    Oid home;
    int32 run;
    Side side;
    std::string_view operation;
    int64 threshold;
    bool declared; // by add_operation(), or a default
};
// Finds or makes the series of this database; false: there is no room, which is counted, as are those that were
// `missed` before.
bool resolve(const Wanted& wanted, uint64 missed, Target* target);

} // namespace pg::observe
