// The shared memory of observing: made once, bounded by tandem.observe_memory, given back piece by piece.
//
// Whatever is in here is for one life of the server. What is to be kept stands in table tandem.latency_hour, where the
// coordinator puts the slots of an hour again and again until the hour is over.
#include "pg/observe.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace pg::observe {

Memory* memory = nullptr;
Series* all_series = nullptr;
Stripe* all_stripes = nullptr;
Cell* cells = nullptr;
uint32* generations = nullptr;
int memory_kb = 8 * 1024;

namespace {

constexpr const char* kTranche = "pg_tandem observe";
constexpr uint32 kSecondsKept = 26 * 3600; // a series without observations: longer than its ring of hours

uint16* heads = nullptr; // of the hash of series; index + 1, as in every list of series and stripes: 0 is the end

struct Sizes {
    uint32 stripes, series, heads, cells;
    Size stripes_at, series_at, generations_at, heads_at, cells_at, all;
};

// A quarter for stripes at most, an eighth for series, the rest for what they count.
Sizes plan() {
    const Size all = static_cast<Size>(memory_kb) * 1024;
    Sizes sizes{};
    sizes.stripes =
        static_cast<uint32>(std::min<Size>({static_cast<Size>(MaxBackends), all / 4 / sizeof(Stripe), 65'000}));
    sizes.series = static_cast<uint32>(std::min<Size>(all / 8 / sizeof(Series), 65'000));
    sizes.heads = std::bit_ceil(sizes.series);
    Size at = CACHELINEALIGN(sizeof(Memory));
    const auto place = [&at](Size& place_at, Size size) {
        place_at = at;
        at += CACHELINEALIGN(size);
    };
    place(sizes.stripes_at, sizes.stripes * sizeof(Stripe));
    place(sizes.series_at, sizes.series * sizeof(Series));
    place(sizes.generations_at, sizes.series * sizeof(uint32));
    place(sizes.heads_at, sizes.heads * sizeof(uint16));
    sizes.cells_at = at;
    sizes.cells = static_cast<uint32>(std::min<Size>((all - at) / sizeof(Cell), (1U << 24) - 1));
    sizes.all = at + sizes.cells * sizeof(Cell);
    return sizes;
}

uint32 hash_of(const Key& key) {
    return hash_bytes(reinterpret_cast<const unsigned char*>(&key), sizeof(Key)) & memory->heads_mask;
}

uint32 take_cell(uint32 now) {
    if (memory->free_cell == 0) {
        sweep(now, false);
        if (memory->free_cell == 0) {
            return 0;
        }
    }
    const uint32 cell = memory->free_cell;
    memory->free_cell = cells[cell].next_free;
    memory->cells_used++;
    memset(&cells[cell], 0, sizeof(Cell));
    return cell;
}

void give_cell(uint32 cell) {
    cells[cell].next_free = memory->free_cell;
    memory->free_cell = cell;
    memory->cells_used--;
}

uint32 octave_cell(const Slot& slot, unsigned octave) {
    const uint8* bytes = slot.octaves[octave];
    return bytes[0] | uint32{bytes[1]} << 8 | uint32{bytes[2]} << 16;
}

void give_octaves(Slot& slot) {
    for (unsigned i = 0; i < tandem::kHistogramOctaves; i++) {
        if (const uint32 cell = octave_cell(slot, i); cell != 0) {
            give_cell(cell);
        }
    }
}

void give_slot(uint32& place) {
    give_octaves(cells[place].slot);
    give_cell(place);
    place = 0;
}

bool has_left(uint32 number, int level, uint32 now) {
    return number + kRing[level] <= now / kUnitsOf[level];
}

// The slot of a time; nullptr: its ring has gone beyond it, or there is no memory.
Slot* slot_of(Series& series, int level, uint32 time, uint32 now, bool* short_of_memory) {
    const uint32 number = time / kUnitsOf[level];
    if (has_left(number, level, now)) {
        return nullptr;
    }
    uint32& place = series.slots[kFirst[level] + number % kRing[level]];
    if (place == 0) {
        const uint32 cell = take_cell(now); // may sweep, and so give back others
        if (cell == 0) {
            *short_of_memory = true;
            return nullptr;
        }
        place = cell;
        cells[place].slot.number = number;
    }
    Slot& slot = cells[place].slot;
    if (slot.number != number) {
        if (slot.number > number) {
            return nullptr;
        }
        give_octaves(slot);
        memset(&slot, 0, sizeof(Slot));
        slot.number = number;
    }
    return &slot;
}

// The first bound that some duration of a bucket does not exceed.
constexpr auto kBoundOfBucket = [] {
    std::array<uint8, tandem::kHistogramBuckets> result{};
    for (unsigned i = 0; i < tandem::kHistogramBuckets; i++) {
        const auto first = static_cast<int64>(tandem::histogram_range(i).first);
        while (result[i] < kBoundCount && kBounds[result[i]] < first) {
            result[i]++;
        }
    }
    return result;
}();

void count_in_bound(Totals& totals, unsigned bucket, uint64 us) {
    int bound = kBoundOfBucket[bucket];
    while (bound < kBoundCount && static_cast<uint64>(kBounds[bound]) < us) {
        bound++;
    }
    if (bound < kBoundCount) {
        totals.bounds[bound]++;
    }
}

void go_to(Folding& folding, Series& series) {
    folding.series = &series;
    folding.short_of_memory = false;
    series.last = std::max(series.last, folding.slot);
    for (int level = 0; level < kLevels; level++) {
        folding.slots[level] = slot_of(series, level, folding.slot, folding.now, &folding.short_of_memory);
    }
}

void retire(uint16 index) {
    Series& series = all_series[index];
    uint16* link = &heads[hash_of(series.key)];
    while (*link != index + 1) {
        link = &all_series[*link - 1].next;
    }
    *link = series.next;
    for (uint32& place : series.slots) {
        if (place != 0) {
            give_slot(place);
        }
    }
    series = Series{};
    series.next = memory->free_series;
    memory->free_series = static_cast<uint16>(index + 1);
    memory->series_used--;
}

} // namespace

Size memory_bytes() {
    return memory == nullptr ? 0 : static_cast<Size>(memory_kb) * 1024;
}

void request_memory() {
    RequestAddinShmemSpace(plan().all);
    RequestNamedLWLockTranche(kTranche, 1);
}

// Cells are not touched before they are used: what nobody needs takes no memory of the machine.
void attach_memory() {
    bool found = false;
    const Sizes sizes = plan();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    auto* base = static_cast<char*>(ShmemInitStruct("pg_tandem observe", sizes.all, &found));
    memory = reinterpret_cast<Memory*>(base);
    all_stripes = reinterpret_cast<Stripe*>(base + sizes.stripes_at);
    all_series = reinterpret_cast<Series*>(base + sizes.series_at);
    generations = reinterpret_cast<uint32*>(base + sizes.generations_at);
    heads = reinterpret_cast<uint16*>(base + sizes.heads_at);
    cells = reinterpret_cast<Cell*>(base + sizes.cells_at);
    if (!found) {
        memset(base, 0, sizes.cells_at);
        memory->lock = &GetNamedLWLockTranche(kTranche)->lock;
        memory->since = GetCurrentTimestamp();
        const int64 unix_us = memory->since + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
        memory->shift = unix_us * 1000 - monotonic_ns(CLOCK_MONOTONIC);
        memory->series_room = sizes.series;
        memory->stripe_room = sizes.stripes;
        memory->cell_room = sizes.cells;
        memory->heads_mask = sizes.heads - 1;
        for (uint32 i = sizes.stripes; i > 0; i--) {
            pg_atomic_init_u32(&all_stripes[i - 1].head, 0);
            pg_atomic_init_u32(&all_stripes[i - 1].tail, 0);
            all_stripes[i - 1].next = memory->free_stripe;
            memory->free_stripe = static_cast<uint16>(i);
        }
        for (uint32 i = sizes.series; i > 0; i--) {
            all_series[i - 1].next = memory->free_series;
            memory->free_series = static_cast<uint16>(i);
        }
        // The first one is never given out, as 0 means that there is none.
        for (uint32 i = sizes.cells; i > 1; i--) {
            cells[i - 1].next_free = memory->free_cell;
            memory->free_cell = i - 1;
        }
    }
    LWLockRelease(AddinShmemInitLock);
}

bool has_most_undeclared(const Key& key) {
    int count = 0;
    for (uint32 i = 0; i < memory->series_room; i++) {
        const Series& series = all_series[i];
        count += series.used && !series.declared && series.key.database == key.database &&
                         series.key.home == key.home && series.key.run == key.run && series.key.side == key.side
                     ? 1
                     : 0;
    }
    return count >= kMostUndeclared;
}

bool find_series(const Key& key, const Terms& terms, uint16* index) {
    for (uint16 i = heads[hash_of(key)]; i != 0; i = all_series[i - 1].next) {
        Series& series = all_series[i - 1];
        if (memcmp(&series.key, &key, sizeof(Key)) == 0) {
            *index = static_cast<uint16>(i - 1);
            series.threshold = terms.threshold;
            series.declared = terms.declared;
            series.retiring = false;
            series.last = std::max(series.last, slot_now());
            return true;
        }
    }
    return false;
}

bool make_series(const Key& key, const Terms& terms, uint16* index) {
    const uint32 now = slot_now();
    if (memory->free_series == 0 && memory->swept_series != now) {
        fold_all(now);
        sweep(now, true);
    }
    if (memory->free_series == 0) {
        memory->dropped++;
        return false;
    }
    *index = static_cast<uint16>(memory->free_series - 1);
    Series& series = all_series[*index];
    memory->free_series = series.next;
    memory->series_used++;
    series.key = key;
    series.used = true;
    series.last = now;
    series.threshold = terms.threshold;
    series.declared = terms.declared;
    uint16& head = heads[hash_of(key)];
    series.next = head;
    head = static_cast<uint16>(*index + 1);
    return true;
}

void apply(Folding& folding, Series& series, uint64 us, bool error) {
    if (!series.used) {
        memory->dropped++;
        return;
    }
    if (folding.series != &series) {
        go_to(folding, series);
    }
    const uint32 one_error = error ? 1 : 0;
    const uint32 one_over = series.threshold >= 0 && us > static_cast<uint64>(series.threshold) ? 1 : 0;
    const unsigned bucket = tandem::histogram_bucket(us);
    Totals& totals = series.totals;
    totals.n++;
    totals.errors += one_error;
    totals.over += one_over;
    totals.us += us;
    totals.longest = std::max(totals.longest, us);
    count_in_bound(totals, bucket, us);
    bool short_of_memory = folding.short_of_memory;
    for (Slot* slot : folding.slots) {
        if (slot == nullptr) {
            continue;
        }
        slot->n++;
        slot->errors += one_error;
        slot->over += one_over;
        slot->us += us;
        slot->longest = std::max(slot->longest, us);
        const unsigned octave = bucket / tandem::kHistogramOctave;
        uint32 cell = octave_cell(*slot, octave);
        if (cell == 0) {
            cell = take_cell(folding.now);
            if (cell == 0) {
                short_of_memory = true;
                continue;
            }
            slot->octaves[octave][0] = static_cast<uint8>(cell);
            slot->octaves[octave][1] = static_cast<uint8>(cell >> 8);
            slot->octaves[octave][2] = static_cast<uint8>(cell >> 16);
        }
        cells[cell].counts[bucket % tandem::kHistogramOctave]++;
    }
    memory->dropped += short_of_memory ? 1 : 0;
}

// A series goes in two steps, some time apart: sessions that knew it ask again after the first, and what one of them
// may have been writing meanwhile is folded before the second.
void sweep(uint32 now, bool all_is_folded) {
    uint32& swept = all_is_folded ? memory->swept_series : memory->swept;
    if (swept == now) {
        return;
    }
    swept = now;
    for (uint32 i = 0; i < memory->series_room; i++) {
        Series& series = all_series[i];
        if (!series.used) {
            continue;
        }
        for (int level = 0; level < kLevels; level++) {
            for (uint32 s = kFirst[level]; s < kFirst[level] + kRing[level]; s++) {
                if (series.slots[s] != 0 && has_left(cells[series.slots[s]].slot.number, level, now)) {
                    give_slot(series.slots[s]);
                }
            }
        }
        if (!all_is_folded) {
            continue;
        }
        if (series.last + kSecondsKept / kSlotSeconds >= now) {
            series.retiring = false;
        } else if (series.retiring) {
            retire(static_cast<uint16>(i));
        } else {
            series.retiring = true;
            generations[i]++;
        }
    }
}

} // namespace pg::observe
