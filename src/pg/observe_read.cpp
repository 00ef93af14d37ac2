// What SQL sees of observing. Whoever reads folds first, so nothing that was observed before is missing.
//
// Under the lock nothing is allocated and nothing can fail: one slot, or one series merged, is copied out at a time.
#include "pg/observe.hpp"

namespace pg::observe {
namespace {

struct Found {
    Key key;
    uint32 number; // the newest slot's, where several were merged
    uint64 n, errors, over, us, longest;
    int64 threshold;
    tandem::Histogram histogram;
};

void add_slot(Found* found, const Slot& slot) {
    found->n += slot.n;
    found->errors += slot.errors;
    found->over += slot.over;
    found->us += slot.us;
    found->longest = std::max(found->longest, slot.longest);
    for (unsigned octave = 0; octave < tandem::kHistogramOctaves; octave++) {
        const uint8* place = slot.octaves[octave];
        const uint32 cell = place[0] | uint32{place[1]} << 8 | uint32{place[2]} << 16;
        for (unsigned i = 0; cell != 0 && i < tandem::kHistogramOctave; i++) {
            if (cells[cell].counts[i] != 0) {
                found->histogram.add_bucket(octave * tandem::kHistogramOctave + i, cells[cell].counts[i]);
            }
        }
    }
}

bool is_ours(const Series& series, Oid home) {
    return series.used && series.key.database == MyDatabaseId && series.key.home == home;
}

Datum text_of(const char* value) {
    return PointerGetDatum(cstring_to_text(value));
}

// The time of day at which a slot begins: as far from now as it is by the clock that is never set.
TimestampTz begin_of(uint32 number, int level) {
    const int64 length = int64{kSlotSeconds} * kUnitsOf[level] * USECS_PER_SEC;
    const int64 now_us = (monotonic_ns(CLOCK_MONOTONIC) + memory->shift) / 1000;
    const TimestampTz begin = GetCurrentTimestamp() - (now_us - number * length);
    return (begin + 500) / 1000 * 1000; // both clocks were read, one after the other
}

void put_row(ReturnSetInfo* result, const Found& found, int level, bytea* buffer) {
    const std::size_t size = serialise(found.histogram, reinterpret_cast<std::byte*>(VARDATA(buffer)));
    SET_VARSIZE(buffer, VARHDRSZ + size);
    Datum values[] = {
        Int32GetDatum(found.key.run),
        text_of(found.key.operation),
        text_of(found.key.side == kNew ? "new" : "legacy"),
        TimestampTzGetDatum(begin_of(found.number, level)),
        Int64GetDatum(found.number),
        Int64GetDatum(static_cast<int64>(found.n)),
        Int64GetDatum(static_cast<int64>(found.errors)),
        Int64GetDatum(static_cast<int64>(found.over)),
        Int64GetDatum(static_cast<int64>(found.us)),
        Int64GetDatum(static_cast<int64>(found.longest)),
        Int64GetDatum(found.threshold),
        PointerGetDatum(buffer),
    };
    bool nulls[std::size(values)] = {};
    nulls[10] = found.threshold < 0;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

// Under the lock: what is not older than the `newest` slots of the level; of slot number `only`, or of all.
bool collect(const Series& series, int level, uint32 oldest, uint32 newest, Found* found) {
    bool any = false;
    found->key = series.key;
    found->threshold = series.threshold;
    for (uint32 s = kFirst[level]; s < kFirst[level] + kRing[level]; s++) {
        if (series.slots[s] == 0) {
            continue;
        }
        const Slot& slot = cells[series.slots[s]].slot;
        if (slot.number >= oldest && slot.number <= newest && slot.n > 0) {
            add_slot(found, slot);
            found->number = std::max(found->number, slot.number);
            any = true;
        }
    }
    return any;
}

void read_series(ReturnSetInfo* result, uint32 index, Oid home, int level, uint32 oldest, uint32 newest,
                 bytea* buffer) {
    static constinit Found found{};
    found = Found{};
    LWLockAcquire(memory->lock, LW_SHARED);
    const bool any = is_ours(all_series[index], home) && collect(all_series[index], level, oldest, newest, &found);
    LWLockRelease(memory->lock);
    if (any) {
        put_row(result, found, level, buffer);
    }
}

uint32 fold_now() {
    const uint32 now = slot_now();
    LWLockAcquire(memory->lock, LW_EXCLUSIVE);
    fold_all(now);
    sweep(now, true);
    LWLockRelease(memory->lock);
    return now;
}

Oid find_home(FunctionCallInfo fcinfo) {
    return get_relname_relid("run", get_func_namespace(fcinfo->flinfo->fn_oid));
}

// observed(level, newest, merged)
Datum observed(FunctionCallInfo fcinfo) {
    const int level = PG_GETARG_INT32(0);
    const int wanted = PG_GETARG_INT32(1);
    const bool merged = PG_GETARG_BOOL(2);
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (memory == nullptr || level < 0 || level >= kLevels || wanted < 1) {
        return Datum{0};
    }
    const Oid home = find_home(fcinfo);
    const uint32 now = fold_now() / kUnitsOf[level];
    const uint32 oldest = now + 1 - std::min<uint32>(static_cast<uint32>(wanted), kRing[level]);
    auto* buffer = static_cast<bytea*>(palloc(VARHDRSZ + tandem::kHistogramBytes));
    for (uint32 i = 0; i < memory->series_room; i++) {
        CHECK_FOR_INTERRUPTS();
        if (!all_series[i].used) { // without lock: what comes meanwhile comes too late
            continue;
        }
        if (merged) {
            read_series(result, i, home, level, oldest, now, buffer);
            continue;
        }
        for (uint32 number = oldest; number <= now; number++) {
            read_series(result, i, home, level, number, number, buffer);
        }
    }
    return Datum{0};
}

// observed_totals()
Datum observed_totals(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (memory == nullptr) {
        return Datum{0};
    }
    const Oid home = find_home(fcinfo);
    fold_now();
    for (uint32 i = 0; i < memory->series_room; i++) {
        if (!all_series[i].used) {
            continue;
        }
        LWLockAcquire(memory->lock, LW_SHARED);
        const bool ours = is_ours(all_series[i], home);
        const Key key = all_series[i].key;
        const Totals totals = all_series[i].totals;
        const int64 threshold = all_series[i].threshold;
        LWLockRelease(memory->lock);
        if (!ours || totals.n == 0) {
            continue;
        }
        Datum bounds[kBoundCount];
        uint64 sum = 0;
        for (int b = 0; b < kBoundCount; b++) {
            sum += totals.bounds[b];
            bounds[b] = Int64GetDatum(static_cast<int64>(sum));
        }
        Datum values[] = {
            Int32GetDatum(key.run),
            text_of(key.operation),
            text_of(key.side == kNew ? "new" : "legacy"),
            Int64GetDatum(static_cast<int64>(totals.n)),
            Int64GetDatum(static_cast<int64>(totals.errors)),
            Int64GetDatum(static_cast<int64>(totals.over)),
            Int64GetDatum(static_cast<int64>(totals.us)),
            Int64GetDatum(static_cast<int64>(totals.longest)),
            Int64GetDatum(threshold),
            PointerGetDatum(construct_array(bounds, kBoundCount, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, 'd')),
        };
        bool nulls[std::size(values)] = {};
        nulls[8] = threshold < 0;
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return Datum{0};
}

// observe_state(): one row; none without preload
Datum observe_state(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (memory == nullptr) {
        return Datum{0};
    }
    fold_now();
    LWLockAcquire(memory->lock, LW_SHARED);
    const Memory state = *memory;
    LWLockRelease(memory->lock);
    const Size unused = state.cell_room == 0 ? 0 : (state.cell_room - 1 - state.cells_used) * sizeof(Cell);
    Datum values[] = {
        Int64GetDatum(static_cast<int64>(memory_bytes() - unused)),
        Int64GetDatum(static_cast<int64>(memory_bytes())),
        Int64GetDatum(state.series_used),
        Int64GetDatum(static_cast<int64>(state.dropped)),
        Int64GetDatum(state.series_room),
        TimestampTzGetDatum(state.since),
        Int64GetDatum(slot_now() / kUnitsOf[kHours]),
    };
    bool nulls[std::size(values)] = {};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    return Datum{0};
}

} // namespace
} // namespace pg::observe

TANDEM_FUNCTION(tandem_observed) {
    return pg::entry([&] { return pg::observe::observed(fcinfo); });
}

TANDEM_FUNCTION(tandem_observed_totals) {
    return pg::entry([&] { return pg::observe::observed_totals(fcinfo); });
}

TANDEM_FUNCTION(tandem_observe_state) {
    return pg::entry([&] { return pg::observe::observe_state(fcinfo); });
}

// The bounds of the buckets for Prometheus, in seconds.
TANDEM_FUNCTION(tandem_observe_bounds) {
    return pg::entry([&]() -> Datum {
        using namespace pg::observe;
        Datum bounds[kBoundCount];
        for (int i = 0; i < kBoundCount; i++) {
            bounds[i] = Float8GetDatum(static_cast<double>(kBounds[i]) / 1e6);
        }
        PG_RETURN_ARRAYTYPE_P(construct_array(bounds, kBoundCount, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, 'd'));
    });
}
