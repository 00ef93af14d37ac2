// The hot path: a session writes what it observes into its stripe; whoever wants to read folds it.
//
// The writer alone moves `head`, and only who holds the lock moves `tail`. All records of a stripe are of one slot of 5
// seconds: a writer that comes into the next one folds what is there first, so a record needs no time of its own.
#include "pg/observe.hpp"

namespace pg::observe {
namespace {

// A record: the series in the lowest 16 bits, then whether it was an error, then the duration in µs.
constexpr unsigned kErrorShift = 16;
constexpr unsigned kDurationShift = 17;
constexpr int64 kLongestRecord = (int64{1} << (64 - kDurationShift)) - 1; // four years

Stripe* mine = nullptr;
uint32 head = 0;
uint32 position = 0; // of the record at head
uint32 seen_tail = 0;
int64 slot_begin = 0; // CLOCK_MONOTONIC
int64 slot_end = 0;
bool leaving = false; // the stripe was given back, and none is taken any more

void give_stripe_back(int, Datum) {
    leaving = true;
    if (mine == nullptr) {
        return;
    }
    LWLockAcquire(memory->lock, LW_EXCLUSIVE);
    fold(*mine, slot_now());
    mine->used = false;
    mine->next = memory->free_stripe;
    memory->free_stripe = static_cast<uint16>(mine - all_stripes + 1);
    LWLockRelease(memory->lock);
    mine = nullptr;
}

// Under the lock. Where there are more sessions than stripes, the others fold each observation at once.
void take_stripe() {
    if (memory->free_stripe == 0) {
        return;
    }
    mine = &all_stripes[memory->free_stripe - 1];
    memory->free_stripe = mine->next;
    mine->used = true;
    mine->place = 0;
    pg_atomic_write_u32(&mine->head, 0);
    pg_atomic_write_u32(&mine->tail, 0);
    head = position = seen_tail = 0;
}

void take_record(Folding& folding, uint64 record) {
    apply(folding, all_series[record & 0xffff], record >> kDurationShift, (record >> kErrorShift & 1) != 0);
}

void record_slowly(uint64 record, int64 ns) {
    static bool registered = false;
    if (!registered) {
        before_shmem_exit(give_stripe_back, Datum{0});
        registered = true;
    }
    const int64 length = int64{kSlotSeconds} * 1'000'000'000;
    LWLockAcquire(memory->lock, LW_EXCLUSIVE);
    if (mine == nullptr && !leaving) {
        take_stripe();
    }
    const uint32 slot = slot_at(ns);
    if (mine == nullptr) {
        Folding folding{slot, slot, nullptr, {}, false};
        take_record(folding, record);
    } else {
        fold(*mine, slot);
        seen_tail = head;
        mine->slot = slot;
        slot_begin = int64{slot} * length - memory->shift;
        slot_end = slot_begin + length;
        mine->records[position] = record;
        position = position + 1 == kRecords ? 0 : position + 1;
        pg_atomic_write_u32(&mine->head, ++head);
    }
    LWLockRelease(memory->lock);
}

} // namespace

void fold(Stripe& stripe, uint32 now) {
    const uint32 end = pg_atomic_read_u32(&stripe.head);
    uint32 place = stripe.place;
    Folding folding{stripe.slot, now, nullptr, {}, false};
    pg_read_barrier();
    for (uint32 at = pg_atomic_read_u32(&stripe.tail); at != end; at++) {
        take_record(folding, stripe.records[place]);
        place = place + 1 == kRecords ? 0 : place + 1;
    }
    stripe.place = place;
    pg_memory_barrier(); // from here on the writer may use the records' places again
    pg_atomic_write_u32(&stripe.tail, end);
}

void fold_all(uint32 now) {
    for (uint32 i = 0; i < memory->stripe_room; i++) {
        if (all_stripes[i].used) {
            fold(all_stripes[i], now);
        }
    }
}

void record(uint16 series, int64 us, bool error, int64 ns) {
    const auto duration = static_cast<uint64>(std::clamp<int64>(us, 0, kLongestRecord));
    const uint64 record = duration << kDurationShift | uint64{error} << kErrorShift | series;
    if (mine == nullptr || ns >= slot_end || ns < slot_begin) {
        record_slowly(record, ns);
        return;
    }
    if (head - seen_tail >= kRecords) {
        seen_tail = pg_atomic_read_u32(&mine->tail);
        pg_memory_barrier();
        if (head - seen_tail >= kRecords) {
            record_slowly(record, ns);
            return;
        }
    }
    mine->records[position] = record;
    position = position + 1 == kRecords ? 0 : position + 1;
    pg_write_barrier();
    pg_atomic_write_u32(&mine->head, ++head);
}

bool resolve(const Wanted& wanted, uint64 missed, Target* target) {
    Key key;
    memset(&key, 0, sizeof(key)); // its padding, too: it is hashed
    key.database = MyDatabaseId;
    key.home = wanted.home;
    key.run = wanted.run;
    key.side = wanted.side;
    memcpy(key.operation, wanted.operation.data(), std::min<Size>(wanted.operation.size(), NAMEDATALEN - 1));
    const Terms terms{wanted.threshold, wanted.declared};
    LWLockAcquire(memory->lock, LW_EXCLUSIVE);
    memory->dropped += missed;
    bool found = find_series(key, terms, &target->series);
    if (!found && !wanted.declared && has_most_undeclared(key)) {
        memset(key.operation, 0, sizeof(key.operation));
        memcpy(key.operation, kOther.data(), kOther.size());
        found = find_series(key, terms, &target->series);
    }
    found = found || make_series(key, terms, &target->series);
    target->generation = found ? generations[target->series] : 0;
    LWLockRelease(memory->lock);
    return found;
}

} // namespace pg::observe
