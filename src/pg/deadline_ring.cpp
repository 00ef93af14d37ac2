// The ring: deadlines on their way from the session that commits them to the coordinator of its database.
//
// A session notes what it writes in its own memory, and at commit, when it is visible to everyone, copies it into the
// database's ring; it can't fail there. Where too much comes at once the ring says so, and the coordinator reads the
// table. What a subtransaction noted stays when it is rolled back: the coordinator looks, and finds nothing.
//
// A coordinator takes a ring first and reads the table then: what commits before is in the table, what commits after in
// the ring. A prepared transaction's deadlines are found by the next reading of the table.
#include "pg/deadline.hpp"

namespace pg::deadline {
namespace {

constexpr const char* kTranche = "pg_tandem_deadline";
constexpr int kRings = 16; // more databases than that read their table every second
constexpr int kMostNoted = kRingSize;

struct Ring {
    Oid database; // InvalidOid: free
    Latch* latch;
    bool overflowed;
    bool every;               // see want_every_notice()
    TimestampTz asleep_until; // 0: awake
    uint64 head, tail;        // written, read
    Notice notices[kRingSize];
};
static_assert(std::is_trivially_copyable_v<Ring> && std::is_standard_layout_v<Ring>);

struct Noted {
    Notice notice;
    bool earlier;
};

Ring* rings = nullptr;
LWLockPadded* locks = nullptr;
int mine = -1; // the coordinator's

// Of this transaction, in its memory.
Noted* noted = nullptr;
int noted_count = 0;
int noted_room = 0;
bool too_many = false;

void give_back(int, Datum) {
    LWLockAcquire(&locks[mine].lock, LW_EXCLUSIVE);
    rings[mine].database = InvalidOid;
    rings[mine].latch = nullptr;
    LWLockRelease(&locks[mine].lock);
}

void push(Ring& ring) {
    TimestampTz soonest = kNever;
    for (int i = 0; i < noted_count; i++) {
        if (!noted[i].earlier && !ring.every) {
            continue;
        }
        if (ring.head - ring.tail == kRingSize) {
            ring.overflowed = true;
            break;
        }
        ring.notices[ring.head++ % kRingSize] = noted[i].notice;
        soonest = std::min(soonest, noted[i].notice.at);
    }
    ring.overflowed = ring.overflowed || too_many;
    if (ring.asleep_until != 0 &&
        (soonest < ring.asleep_until || ring.overflowed || ring.head - ring.tail >= kRingSize / 2)) {
        ring.asleep_until = 0; // one call is enough
        SetLatch(ring.latch);
    }
}

} // namespace

void note(const pg_uuid_t& id, TimestampTz at, bool earlier) {
    if (rings == nullptr || too_many) {
        return;
    }
    if (noted_count == noted_room) {
        if (noted_room == kMostNoted) {
            too_many = true;
            return;
        }
        const int room = noted_room == 0 ? 16 : noted_room * 2;
        const Size size = sizeof(Noted) * static_cast<Size>(room);
        noted = static_cast<Noted*>(noted == nullptr ? MemoryContextAlloc(TopTransactionContext, size)
                                                     : repalloc(noted, size));
        noted_room = room;
    }
    noted[noted_count++] = {{at, id}, earlier};
}

void on_transaction_end(bool committed) {
    if (committed && noted_count > 0) {
        pg_memory_barrier(); // our commit is visible before we look: see take_ring()
        for (int i = 0; i < kRings; i++) {
            if (rings[i].database !=
                MyDatabaseId) { // read without lock: whoever takes it now has not read the table yet
                continue;
            }
            LWLockAcquire(&locks[i].lock, LW_EXCLUSIVE);
            if (rings[i].database == MyDatabaseId) {
                push(rings[i]);
            }
            LWLockRelease(&locks[i].lock);
            break;
        }
    }
    noted = nullptr; // its memory was the transaction's
    noted_count = noted_room = 0;
    too_many = false;
}

void request_ring_memory() {
    RequestAddinShmemSpace(MAXALIGN(sizeof(Ring) * kRings));
    RequestNamedLWLockTranche(kTranche, kRings);
}

void attach_ring_memory() {
    bool found = false;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    rings = static_cast<Ring*>(ShmemInitStruct("pg_tandem deadlines", sizeof(Ring) * kRings, &found));
    locks = GetNamedLWLockTranche(kTranche);
    for (int i = 0; !found && i < kRings; i++) {
        // The notices are not touched: what nobody uses takes no memory.
        memset(&rings[i], 0, offsetof(Ring, notices));
    }
    LWLockRelease(AddinShmemInitLock);
}

bool take_ring() {
    for (int i = 0; i < kRings && mine < 0; i++) {
        LWLockAcquire(&locks[i].lock, LW_EXCLUSIVE);
        if (rings[i].database == InvalidOid) {
            memset(&rings[i], 0, offsetof(Ring, notices));
            rings[i].database = MyDatabaseId;
            rings[i].latch = MyLatch;
            rings[i].every = true;
            mine = i;
        }
        LWLockRelease(&locks[i].lock);
    }
    if (mine >= 0) {
        before_shmem_exit(give_back, Datum{0});
    }
    pg_memory_barrier(); // who does not see that it is taken has committed before the table is read
    return mine >= 0;
}

bool drain(Notice* notices, int most, int* count) {
    *count = 0;
    if (mine < 0) {
        return true;
    }
    Ring& ring = rings[mine];
    LWLockAcquire(&locks[mine].lock, LW_EXCLUSIVE);
    ring.asleep_until = 0;
    const bool complete = !ring.overflowed;
    ring.overflowed = false;
    while (*count < most && ring.tail != ring.head) {
        notices[(*count)++] = ring.notices[ring.tail++ % kRingSize];
    }
    LWLockRelease(&locks[mine].lock);
    return complete;
}

void want_every_notice(bool every) {
    if (mine >= 0) {
        LWLockAcquire(&locks[mine].lock, LW_EXCLUSIVE);
        rings[mine].every = every;
        LWLockRelease(&locks[mine].lock);
    }
}

bool may_sleep(TimestampTz until) {
    if (mine < 0) {
        return true;
    }
    Ring& ring = rings[mine];
    LWLockAcquire(&locks[mine].lock, LW_EXCLUSIVE);
    // Notices of later deadlines may lie there until it is time.
    TimestampTz soonest = kNever;
    for (uint64 i = ring.tail; i != ring.head; i++) {
        soonest = std::min(soonest, ring.notices[i % kRingSize].at);
    }
    const bool yes = soonest >= until && !ring.overflowed && ring.head - ring.tail < kRingSize / 2;
    ring.asleep_until = yes ? until : 0;
    LWLockRelease(&locks[mine].lock);
    return yes;
}

} // namespace pg::deadline
