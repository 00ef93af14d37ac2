// Levels: what is known of each (tenant, kind, priority) of task_ready, so that a claim reads neither what is dead at the head
// of the order nor what it knows to be empty.
//
// `from` is exact. A scan raises it only over entries that are dead for good: deleted by a transaction that committed, or
// added by one that did not. An entry of an open transaction stops it, unless the transaction has been open for so long that
// many dead ones lie behind: then the transaction is noted in `left`, and the scan that finds it ended begins there again. An
// entry that is added behind the back of a scan is found by this order of steps:
//
//   scan:   1 scanned = max(scanned, limit)    2 read the index        3 unless `lowered` is another by now: from = upto <= limit
//   writer: a add the index entry              b if it is not after `scanned`: lowered + 1, from = min(from, entry)
//
// b before 1: the scan reads the entry. b after 3: it lowers `from`. Between them: `lowered` is another, or the entry comes
// after all that the scan may raise `from` to. `next_at` goes by the same steps with `added` in place of `lowered`. Limit is a
// little before now only to make b rare: new entries are after it. No clock needs to be right for any of this.
//
// Where the library is not preloaded, levels are the session's own, and know nothing of what others add: so limit stays a
// second behind, next_at is not used, and everything is read from the beginning once a second (less often where that takes long).
// With preload it is read so too, every ten seconds, for rows that somebody put into the table by other ways (a restore).
//
// Truth is in tables; after a crash levels begin anew.
#include "pg/task_queue.hpp"

extern "C" {
#include "common/hashfn.h"
#include "storage/spin.h"
}

namespace pg::queue {
namespace {

constexpr const char* kTranche = "pg_tandem_queue";
constexpr int kMaxLevels = 1024;
constexpr int kBuckets = 4096;
constexpr int kMaxListings = 64;
constexpr int64 kSharedLimit = 5 * 1000; // microseconds
constexpr int64 kOwnLimit = 1000 * 1000;
constexpr int64 kSharedWhole = 10 * USECS_PER_SEC;
constexpr int64 kOwnWhole = USECS_PER_SEC;
constexpr int kWholeShare = 100; // reading everything takes at most a hundredth of the time

} // namespace

// Which tables' levels all stand here.
struct Listing {
    Oid database;
    Oid file;
    bool overflowed; // one could not be put here
    TimestampTz listed_at;
};

// A level is written before its number is put into a bucket, and never moves: readers need no lock.
struct Levels {
    LWLock* lock; // to add one; nullptr: the session's own
    int listing_count;
    Listing listings[kMaxListings];
    pg_atomic_uint32 count;
    pg_atomic_uint32 buckets[kBuckets]; // number of the level + 1, 0: free
    Level levels[kMaxLevels];
};
static_assert(std::is_trivially_copyable_v<Levels> && std::is_standard_layout_v<Levels>);

namespace {

Levels* shared_levels = nullptr;
Levels* own_levels = nullptr;

void initialise(Levels* all, LWLock* lock) {
    memset(all, 0, sizeof(Levels));
    all->lock = lock;
    pg_atomic_init_u32(&all->count, 0);
    for (pg_atomic_uint32& bucket : all->buckets) {
        pg_atomic_init_u32(&bucket, 0);
    }
}

void lock(const Levels* all, LWLockMode mode) {
    if (all->lock != nullptr) {
        LWLockAcquire(all->lock, mode);
    }
}

void unlock(const Levels* all) {
    if (all->lock != nullptr) {
        LWLockRelease(all->lock);
    }
}

Oid file_of(const ReadyTable& table) { return table.heap->rd_rel->relfilenode; }

// With the lock held. nullptr: no room.
Listing* find_listing(Levels* all, Oid file, bool make) {
    for (int i = 0; i < all->listing_count; i++) {
        if (all->listings[i].database == MyDatabaseId && all->listings[i].file == file) {
            return &all->listings[i];
        }
    }
    if (!make || all->listing_count == kMaxListings) {
        return nullptr;
    }
    Listing* listing = &all->listings[all->listing_count++];
    *listing = {MyDatabaseId, file, false, DT_NOBEGIN};
    return listing;
}

bool is_level(const Level& level, Oid file, uint32 hash, std::string_view tenant, std::string_view kind,
              int16 priority) {
    return level.text_hash == hash && level.priority == priority && level.database == MyDatabaseId &&
           level.file == file && std::string_view{level.tenant, level.tenant_size} == tenant &&
           std::string_view{level.kind, level.kind_size} == kind;
}

void fill(Level* level, Oid file, uint32 hash, std::string_view tenant, std::string_view kind, int16 priority) {
    *level = Level{};
    level->database = MyDatabaseId;
    level->file = file;
    level->text_hash = hash;
    level->priority = priority;
    level->tenant_size = static_cast<uint8>(tenant.size());
    level->kind_size = static_cast<uint8>(kind.size());
    memcpy(level->tenant, tenant.data(), tenant.size());
    memcpy(level->kind, kind.data(), kind.size());
    SpinLockInit(&level->mutex);
    level->from = kBeginning;
    level->scanned = DT_NOBEGIN;
    level->next_at = DT_NOBEGIN;
    level->whole_at = DT_NOBEGIN;
}

// The level, or nullptr and the bucket where it would stand.
Level* look_up(Levels* all, Oid file, uint32 hash, std::string_view tenant, std::string_view kind, int16 priority,
               uint32* bucket) {
    uint32 at = (hash ^ (static_cast<uint32>(priority) * 0x9E3779B9U)) % kBuckets;
    for (int tries = 0; tries < kBuckets; tries++) {
        const uint32 number = pg_atomic_read_u32(&all->buckets[at]);
        if (number == 0) {
            break;
        }
        pg_read_barrier();
        Level* level = &all->levels[number - 1];
        if (is_level(*level, file, hash, tenant, kind, priority)) {
            return level;
        }
        at = (at + 1) % kBuckets;
    }
    *bucket = at;
    return nullptr;
}

// A transaction that was left behind and has ended: its entries are looked at again.
void take_back(Level* level, LevelScan* scan) {
    bool ended[kLeftBehind];
    bool any = false;
    for (int i = 0; i < scan->left_count; i++) {
        ended[i] = !TransactionIdIsInProgress(scan->left[i].xid);
        any = any || ended[i];
    }
    if (!any) {
        return;
    }
    SpinLockAcquire(&level->mutex);
    for (int i = 0; i < scan->left_count; i++) {
        for (int k = 0; ended[i] && k < level->left_count; k++) {
            if (level->left[k].xid == scan->left[i].xid) {
                level->from = std::min(level->from, level->left[k].position);
                level->left[k] = level->left[--level->left_count];
                level->lowered++;
                break;
            }
        }
    }
    scan->from = level->from;
    scan->lowered = level->lowered;
    scan->left_count = level->left_count;
    std::copy_n(level->left, level->left_count, scan->left);
    SpinLockRelease(&level->mutex);
}

bool add_left(LeftBehind* left, int* count, const LeftBehind& entry) {
    for (int i = 0; i < *count; i++) {
        if (left[i].xid == entry.xid) {
            left[i].position = std::min(left[i].position, entry.position);
            return true;
        }
    }
    if (*count == kLeftBehind) {
        return false;
    }
    left[(*count)++] = entry;
    return true;
}

} // namespace

void request_levels_memory() {
    RequestAddinShmemSpace(MAXALIGN(sizeof(Levels)));
    RequestNamedLWLockTranche(kTranche, 1);
}

// Called under AddinShmemInitLock.
void attach_levels_memory() {
    bool found = false;
    shared_levels = static_cast<Levels*>(ShmemInitStruct(kTranche, sizeof(Levels), &found));
    if (!found) {
        initialise(shared_levels, &GetNamedLWLockTranche(kTranche)->lock);
    }
}

Levels* levels() {
    if (shared_levels != nullptr) {
        return shared_levels;
    }
    if (own_levels == nullptr) {
        own_levels = static_cast<Levels*>(MemoryContextAlloc(TopMemoryContext, sizeof(Levels)));
        initialise(own_levels, nullptr);
    }
    return own_levels;
}

bool are_shared(const Levels* all) { return all->lock != nullptr; }

int level_count(const Levels* all) {
    const auto count = static_cast<int>(pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&all->count)));
    pg_read_barrier();
    return count;
}

Level* level_at(Levels* all, int i) { return &all->levels[i]; }

uint32 hash_names(std::string_view tenant, std::string_view kind) {
    const auto hash = [](std::string_view name) {
        return hash_bytes(reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()));
    };
    return hash_combine(hash(tenant), hash(kind));
}

Level* find_level(Levels* all, const ReadyTable& table, std::string_view tenant, std::string_view kind,
                  int16 priority) {
    const Oid file = file_of(table);
    const uint32 hash = hash_names(tenant, kind);
    uint32 bucket = 0;
    const bool fits = tenant.size() <= kLevelText && kind.size() <= kLevelText;
    Level* level = fits ? look_up(all, file, hash, tenant, kind, priority, &bucket) : nullptr;
    if (level != nullptr) {
        return level;
    }
    lock(all, LW_EXCLUSIVE);
    level = fits ? look_up(all, file, hash, tenant, kind, priority, &bucket) : nullptr;
    if (level == nullptr) {
        const uint32 count = pg_atomic_read_u32(&all->count);
        if (fits && count < kMaxLevels) {
            level = &all->levels[count];
            fill(level, file, hash, tenant, kind, priority);
            pg_write_barrier();
            pg_atomic_write_u32(&all->count, count + 1);
            pg_atomic_write_u32(&all->buckets[bucket], count + 1);
        } else if (Listing* listing = find_listing(all, file, true)) {
            listing->overflowed = true;
        }
    }
    unlock(all);
    return level;
}

bool are_complete(const Levels* all, const ReadyTable& table) {
    if (!are_shared(all)) {
        return false;
    }
    const TimestampTz after = GetCurrentTimestamp() - kSharedWhole;
    lock(all, LW_SHARED);
    const Listing* listing = find_listing(const_cast<Levels*>(all), file_of(table), false);
    const bool complete = listing != nullptr && !listing->overflowed && listing->listed_at > after;
    unlock(all);
    return complete;
}

void end_listing(Levels* all, const ReadyTable& table) {
    lock(all, LW_EXCLUSIVE);
    if (Listing* listing = find_listing(all, file_of(table), true)) {
        listing->listed_at = GetCurrentTimestamp();
    }
    unlock(all);
}

void entry_added(Level* level, const Position& position) {
    SpinLockAcquire(&level->mutex);
    level->added++;
    level->next_at = std::min(level->next_at, position.run_at);
    if (position.run_at <= level->scanned) {
        level->lowered++;
        level->from = std::min(level->from, position);
    }
    SpinLockRelease(&level->mutex);
}

bool may_skip(const Levels* all, Level* level, TimestampTz now) {
    if (!are_shared(all)) {
        return false;
    }
    SpinLockAcquire(&level->mutex);
    const bool skip = level->next_at > now && level->whole_at > now - kSharedWhole;
    SpinLockRelease(&level->mutex);
    return skip;
}

TimestampTz next_time(Level* level) {
    SpinLockAcquire(&level->mutex);
    const TimestampTz result = level->next_at;
    SpinLockRelease(&level->mutex);
    return result;
}

LevelScan begin_scan(Level* level, TimestampTz now, bool again) {
    LevelScan scan{};
    scan.level = level;
    scan.from = kBeginning;
    scan.whole = true;
    scan.begun = now;
    if (level == nullptr) {
        return scan;
    }
    const bool shared = shared_levels != nullptr;
    scan.limit = now - (shared ? kSharedLimit : kOwnLimit);
    const int64 every = again || !shared ? kOwnWhole : kSharedWhole;
    SpinLockAcquire(&level->mutex);
    level->scanned = std::max(level->scanned, scan.limit);
    scan.added = level->added;
    scan.lowered = level->lowered;
    scan.from = level->from;
    scan.left_count = level->left_count;
    std::copy_n(level->left, level->left_count, scan.left);
    // A clock that was set back must not put it off for long.
    scan.whole = level->whole_at < now - std::max(every, kWholeShare * level->whole_us) || level->whole_at > now;
    if (scan.whole) {
        level->whole_at = now; // one session does it
    }
    SpinLockRelease(&level->mutex);
    take_back(level, &scan);
    if (scan.whole) {
        scan.from = kBeginning;
    }
    return scan;
}

void end_scan(const LevelScan& scan, const Position& upto, TimestampTz next_at) {
    Level* level = scan.level;
    if (level == nullptr) {
        return;
    }
    const int64 took = scan.whole ? GetCurrentTimestamp() - scan.begun : 0;
    const Position position = std::min(upto, Position{scan.limit, {}});
    SpinLockAcquire(&level->mutex);
    if (scan.whole) {
        level->whole_us = std::clamp<int64>(took, 0, USECS_PER_SEC);
    }
    if (scan.whole && scan.stopped && upto < level->from) { // put there by other ways
        level->from = upto;
        level->lowered++;
    } else if (level->lowered == scan.lowered && level->from < position) {
        LeftBehind left[kLeftBehind];
        int count = level->left_count;
        std::copy_n(level->left, count, left);
        bool fits = true;
        for (int i = 0; i < scan.left_count; i++) {
            fits = fits && add_left(left, &count, scan.left[i]);
        }
        if (fits) {
            level->from = position;
            level->left_count = count;
            std::copy_n(left, count, level->left);
        }
    }
    if (level->added == scan.added && level->left_count == 0) {
        level->next_at = next_at;
    }
    SpinLockRelease(&level->mutex);
}

} // namespace pg::queue
