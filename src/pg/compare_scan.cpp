#include "pg/compare_scan.hpp"

#include "pg/compare_progress.hpp"
#include "pg/compare_radix.hpp"
#include "pg/tuple_walk.hpp"
#include "pg/value_inline.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/relscan.h"
#include "storage/bufmgr.h"
}

namespace pg::compare {

Participant* make_participant(const Shape* shape, Pass pass) {
    // palloc knows no alignment above 8.
    constexpr std::uintptr_t kAlign = alignof(Participant);
    const auto memory = reinterpret_cast<std::uintptr_t>(palloc(sizeof(Participant) + kAlign));
    return new (reinterpret_cast<void*>((memory + kAlign - 1) & ~(kAlign - 1))) Participant(shape, pass);
}

void flush(Participant* participant) {
    const std::span<const tandem::Element> batch(participant->batch, static_cast<std::size_t>(participant->batched));
    if (participant->pass == Pass::sketch) {
        if (participant->side == kLegacy) {
            participant->sketch->add(batch);
        } else {
            participant->sketch->subtract(batch);
        }
    } else if (participant->pass == Pass::radix) {
        participant->radix->write(participant->side, batch);
    }
    participant->batched = 0;
}

namespace {

// A row whose values stand in arrays of its own order: column i of the comparison is at place[i].
struct RowValues {
    const ValuePlan* const* plans;
    const int* place;
    const Datum* values;
    const bool* nulls;

    Datum value(int column) const { return values[place[column]]; }
    bool is_null(int column) const { return nulls[place[column]]; }
};

// The key's columns one behind the other, cut into limbs.
void pack_key(const Shape* shape, const RowValues& row, tandem::Element& element) {
    unsigned __int128 low = 0;
    std::uint64_t high = 0;
    int filled = 0;
    const KeyColumn* key = shape->key();
    for (int i = 0; i < shape->keys; i++) {
        std::uint64_t bits[2];
        key_to_bits(row.plans[key[i].column], row.value(key[i].column), bits);
        unsigned __int128 value = (static_cast<unsigned __int128>(bits[1]) << 64) | bits[0];
        if (key[i].bits < 128) {
            value &= (static_cast<unsigned __int128>(1) << key[i].bits) - 1;
        }
        if (filled < 128) {
            low |= value << filled;
            if (filled > 0) {
                high |= static_cast<std::uint64_t>(value >> (128 - filled));
            }
        } else {
            high |= static_cast<std::uint64_t>(value) << (filled - 128);
        }
        filled += key[i].bits;
    }
    constexpr std::uint64_t kMask = (std::uint64_t{1} << tandem::kLimbBits) - 1;
    element.key[0] = static_cast<std::uint64_t>(low) & kMask;
    element.key[1] = static_cast<std::uint64_t>(low >> tandem::kLimbBits) & kMask;
    element.key[2] =
        (static_cast<std::uint64_t>(low >> (2 * tandem::kLimbBits)) | (high << (128 - 2 * tandem::kLimbBits))) & kMask;
}

} // namespace

void unpack_key(const Shape* shape, const std::uint64_t* limbs, Datum* values) {
    // A narrow key is one limb of up to 61 bits; others are limbs of 60.
    const int width = shape->narrow ? 64 : tandem::kLimbBits;
    int from = 0;
    for (int i = 0; i < shape->keys; i++) {
        std::uint64_t bits[2] = {};
        for (int bit = 0; bit < shape->key()[i].bits; bit++, from++) {
            const int limb = from / width;
            if (limb < shape->limbs && (limbs[limb] >> (from % width) & 1) != 0) {
                bits[bit / 64] |= std::uint64_t{1} << (bit % 64);
            }
        }
        values[i] = key_from_bits(shape->key()[i].type, bits);
    }
}

namespace {

bool has_null_key(const Shape* shape, const RowValues& row) {
    const KeyColumn* key = shape->key();
    for (int i = 0; i < shape->keys; i++) {
        if (row.is_null(key[i].column)) {
            return true;
        }
    }
    return false;
}

std::uint64_t single_key(const ValuePlan* plan, Datum value) {
    switch (plan->quick) {
    case Codec::int4:
        return static_cast<std::uint64_t>(static_cast<std::int64_t>(DatumGetInt32(value)));
    case Codec::int8:
        return static_cast<std::uint64_t>(DatumGetInt64(value));
    default: {
        std::uint64_t bits[2];
        key_to_bits(plan, value, bits);
        return bits[0];
    }
    }
}

// false: the key is wider than the shape was made for.
bool make_key(Participant* participant, const RowValues& row, tandem::Element& element) {
    const Shape* shape = participant->shape;
    if (shape->inline_key && shape->keys == 1 && shape->limbs == 1) {
        const KeyColumn& key = *shape->key();
        const std::uint64_t bits = single_key(row.plans[key.column], row.value(key.column));
        element.key[0] = key.bits < 64 ? bits & ((std::uint64_t{1} << key.bits) - 1) : bits;
        element.key[1] = 0;
        element.key[2] = 0;
        return element.key[0] < tandem::kPrime;
    }
    if (shape->inline_key) {
        pack_key(shape, row, element);
        return true;
    }
    participant->key.reset();
    const KeyColumn* key = shape->key();
    for (int i = 0; i < shape->keys; i++) {
        encode_quickly(row.plans[key[i].column], row.value(key[i].column), participant->key);
    }
    participant->key.key(element.key);
    element.key[2] = 0;
    return true;
}

void encode_row(Participant* participant, const RowValues& row) {
    tandem::RowEncoder& encoder = participant->row;
    encoder.reset();
    const int columns = participant->shape->columns;
    for (int i = 0; i < columns; i++) {
        if (row.is_null(i)) {
            encoder.null();
        } else {
            encode_quickly(row.plans[i], row.value(i), encoder);
        }
    }
}

// false: the row counts, but has no element, as its key is NULL.
bool make_element(Participant* participant, int side, const RowValues& row, tandem::Element& element) {
    const Shape* shape = participant->shape;
    participant->counts.rows[side]++;
    if (shape->keys == 0) {
        encode_row(participant, row);
        participant->row.key(element.key);
        element.key[2] = 0;
        element.hash = 1;
        return true;
    }
    if (has_null_key(shape, row)) {
        participant->counts.null_keys[side]++;
        return false;
    }
    if (!make_key(participant, row, element)) {
        participant->counts.wide_keys++;
        return false;
    }
    if (participant->pass == Pass::sketch || participant->pass == Pass::radix) {
        encode_row(participant, row);
        element.hash = participant->row.hash();
    }
    return true;
}

void tally(Participant* participant, int side, const RowValues& row, const tandem::Element& element) {
    encode_row(participant, row);
    Tally& tally = participant->tallies[participant->wanted->place_of(element.key)];
    pg_atomic_fetch_add_u32(&tally.copies[side], 1);
    const auto hash = static_cast<std::int64_t>(participant->row.hash());
    pg_atomic_fetch_add_u64(&tally.hash_sum, side == kLegacy ? hash : -hash);
}

bool is_wanted(const Participant* participant, const tandem::Element& element) {
    return participant->wanted->contains(element.key);
}

void store(const Participant* participant, int side, TupleTableSlot* row) {
    const RowStore& to = participant->stores[side];
    // Both open files when they first need them, which must outlive the row.
    MemoryContext before = MemoryContextSwitchTo(participant->memory);
    if (to.own != nullptr) {
        tuplestore_puttupleslot(to.own, row);
        MemoryContextSwitchTo(before);
        return;
    }
    bool ours = false;
    MinimalTuple tuple = ExecFetchSlotMinimalTuple(row, &ours);
    sts_puttuple(to.shared, nullptr, tuple);
    if (ours) {
        pfree(tuple);
    }
    MemoryContextSwitchTo(before);
}

void push(Participant* participant, const tandem::Element& element) {
    participant->batch[participant->batched++] = element;
    if (participant->batched == kBatch) {
        flush(participant);
    }
}

constexpr std::uint64_t kReportEvery = 1024;

// Blocks of the table that the scan has handed out, to all.
std::int64_t blocks_done(TableScanDesc scan) {
    if (scan == nullptr || scan->rs_rd->rd_tableam != GetHeapamTableAmRoutine()) {
        return 0;
    }
    auto* heap = reinterpret_cast<HeapScanDesc>(scan);
    if (scan->rs_parallel != nullptr) {
        auto* shared = reinterpret_cast<ParallelBlockTableScanDesc>(scan->rs_parallel);
        return static_cast<std::int64_t>(
            std::min<std::uint64_t>(pg_atomic_read_u64(&shared->phs_nallocated), heap->rs_nblocks));
    }
    if (heap->rs_nblocks == 0 || heap->rs_cblock == InvalidBlockNumber) {
        return 0;
    }
    return (static_cast<std::int64_t>(heap->rs_cblock) - heap->rs_startblock + heap->rs_nblocks) % heap->rs_nblocks;
}

void report(Participant* participant, TableScanDesc scan) {
    if (++participant->read % kReportEvery != 0) {
        return;
    }
    CHECK_FOR_INTERRUPTS();
    std::uint64_t rows = participant->read;
    if (participant->progress != nullptr) {
        rows = pg_atomic_add_fetch_u64(participant->progress, kReportEvery);
    }
    if (participant->leader) {
        show(kRowsDone, static_cast<std::int64_t>(rows));
        if (scan != nullptr) {
            show(kBlocksDone, participant->blocks_before + blocks_done(scan));
        }
    }
}

bool is_probing(const Participant* participant) {
    return participant->pass == Pass::fetch || participant->pass == Pass::count;
}

// Only the key is needed to find the wanted rows.
int columns_to_read(const Participant* participant, const TableReader* reader) {
    if (!is_probing(participant) || participant->shape->keys == 0) {
        return reader->last_attribute;
    }
    int last = 0;
    const KeyColumn* key = participant->shape->key();
    for (int i = 0; i < participant->shape->keys; i++) {
        last = std::max<int>(last, reader->columns[key[i].column].attribute);
    }
    return last;
}

// Where the values of a table's rows are put: stored columns at their attribute's place, computed ones behind them.
struct RowBuffer {
    Datum* values;
    bool* nulls;
    int* place;
    const ValuePlan** plans;

    RowValues row() const { return {plans, place, values, nulls}; }
};

RowBuffer make_buffer(const Participant* participant, const TableReader* reader, int stored) {
    const int columns = participant->shape->columns;
    const auto room = static_cast<std::size_t>(stored + columns);
    RowBuffer buffer{};
    buffer.values = static_cast<Datum*>(palloc0(sizeof(Datum) * room));
    buffer.nulls = static_cast<bool*>(palloc0(sizeof(bool) * room));
    buffer.place = static_cast<int*>(palloc(sizeof(int) * static_cast<std::size_t>(columns)));
    buffer.plans = static_cast<const ValuePlan**>(palloc(sizeof(ValuePlan*) * static_cast<std::size_t>(columns)));
    for (int i = 0; i < columns; i++) {
        const ColumnReader& column = reader->columns[i];
        buffer.plans[i] = column.plan;
        buffer.place[i] = column.attribute > 0 ? column.attribute - 1 : stored + i;
    }
    return buffer;
}

template <class ReadRest>
void handle(Participant* participant, int side, TableReader* reader, const RowValues& row, ReadRest&& read_rest) {
    tandem::Element element;
    if (!make_element(participant, side, row, element)) {
        return;
    }
    if (!is_probing(participant)) {
        push(participant, element);
    } else if (is_wanted(participant, element)) {
        if (participant->pass == Pass::count) {
            read_rest();
            tally(participant, side, row, element);
        } else {
            store(participant, side, ExecProject(reader->rows));
        }
    }
}

// Nearly every tuple of a large table comes from memory, not from a cache: what the scan will hand out next on its page
// is asked for ahead.
void prefetch_ahead(TableScanDesc scan) {
    constexpr int kAhead = 4;
    auto* heap = reinterpret_cast<HeapScanDesc>(scan);
    const int next = static_cast<int>(heap->rs_cindex) + kAhead;
    if (next < static_cast<int>(heap->rs_ntuples)) {
        Page page = BufferGetPage(heap->rs_cbuf);
        const char* tuple = page + ItemIdGetOffset(PageGetItemId(page, heap->rs_vistuples[next]));
        __builtin_prefetch(tuple);
        __builtin_prefetch(tuple + 64);
    }
}

// A table whose columns are the compared ones, in their order, with one inline key: the usual copy of a table. Its
// tuples are encoded as they are walked, without the values between.
bool is_straight(const Participant* participant, const TableReader* reader) {
    const Shape* shape = participant->shape;
    if (is_probing(participant) || !shape->inline_key || shape->keys != 1 || shape->limbs != 1 ||
        RelationGetDescr(reader->relation)->natts != shape->columns) {
        return false;
    }
    for (int i = 0; i < shape->columns; i++) {
        if (reader->columns[i].attribute != i + 1) {
            return false;
        }
    }
    return true;
}

// false: the tuple has to be taken column by column, as it lacks one, or its key.
bool take_straight(Participant* participant, int side, const TupleWalk* walk, const ValuePlan* const* plans,
                   HeapTuple tuple) {
    tandem::RowEncoder& encoder = participant->row;
    const KeyColumn key = *participant->shape->key();
    Datum key_value = 0;
    bool has_key = false;
    encoder.reset();
    const int stored = for_each_column(walk, tuple, [&](int i, bool is_null, Datum value) {
        if (is_null) {
            encoder.null();
            return;
        }
        if (i == key.column) {
            key_value = value;
            has_key = true;
        }
        encode_quickly(plans[i], value, encoder);
    });
    if (stored < walk->columns || !has_key) {
        return false;
    }
    tandem::Element& element = participant->batch[participant->batched];
    const std::uint64_t bits = single_key(plans[key.column], key_value);
    element.key[0] = key.bits < 64 ? bits & ((std::uint64_t{1} << key.bits) - 1) : bits;
    if (element.key[0] >= tandem::kPrime) {
        return false;
    }
    element.key[1] = 0;
    element.key[2] = 0;
    element.hash = encoder.hash();
    participant->counts.rows[side]++;
    if (++participant->batched == kBatch) {
        flush(participant);
    }
    return true;
}

void scan_raw(Participant* participant, int side, TableReader* reader, TableScanDesc scan) {
    const TupleWalk* walk = plan_walk(RelationGetDescr(reader->relation), columns_to_read(participant, reader));
    const TupleWalk* whole = plan_walk(RelationGetDescr(reader->relation), reader->last_attribute);
    const RowBuffer buffer = make_buffer(participant, reader, RelationGetDescr(reader->relation)->natts);
    const RowValues row = buffer.row();
    const bool fetching = participant->pass == Pass::fetch;
    const bool straight = is_straight(participant, reader);
    MemoryContext per_row = reader->context->ecxt_per_tuple_memory;
    MemoryContext before = MemoryContextSwitchTo(per_row);

    HeapTuple tuple = nullptr;
    while ((tuple = heap_getnext(scan, ForwardScanDirection)) != nullptr) {
        prefetch_ahead(scan);
        if (!straight || !take_straight(participant, side, walk, buffer.plans, tuple)) {
            walk_tuple(walk, tuple, buffer.values, buffer.nulls);
            if (fetching) {
                ExecStoreHeapTuple(tuple, reader->slot, false);
            }
            handle(participant, side, reader, row, [&] { walk_tuple(whole, tuple, buffer.values, buffer.nulls); });
        }
        report(participant, scan);
        if (!per_row->isReset) {
            MemoryContextReset(per_row);
        }
    }
    if (fetching) {
        ExecClearTuple(reader->slot);
    }
    MemoryContextSwitchTo(before);
}

void scan_slots(Participant* participant, int side, TableReader* reader, TableScanDesc scan) {
    const int stored = reader->last_attribute;
    const RowBuffer buffer = make_buffer(participant, reader, stored);
    const RowValues row = buffer.row();
    const int columns = participant->shape->columns;
    ExprContext* context = reader->context;
    MemoryContext before = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);

    while (table_scan_getnextslot(scan, ForwardScanDirection, reader->slot)) {
        report(participant, scan);
        ResetExprContext(context);
        slot_getsomeattrs(reader->slot, stored);
        if (reader->condition != nullptr && !ExecQual(reader->condition, context)) {
            continue;
        }
        memcpy(buffer.values, reader->slot->tts_values, sizeof(Datum) * static_cast<std::size_t>(stored));
        memcpy(buffer.nulls, reader->slot->tts_isnull, sizeof(bool) * static_cast<std::size_t>(stored));
        for (int i = 0; i < columns; i++) {
            if (reader->columns[i].attribute == 0) {
                buffer.values[stored + i] = ExecEvalExpr(reader->columns[i].state, context, &buffer.nulls[stored + i]);
            }
        }
        handle(participant, side, reader, row, [] {});
    }
    ExecClearTuple(reader->slot);
    MemoryContextSwitchTo(before);
}

} // namespace

void scan_table(Participant* participant, int side, TableReader* reader, TableScanDesc scan) {
    if (participant->side != side) {
        flush(participant);
        participant->side = side;
    }
    if (reader->raw) {
        scan_raw(participant, side, reader, scan);
    } else {
        scan_slots(participant, side, reader, scan);
    }
    flush(participant);
    participant->blocks_before += RelationGetNumberOfBlocks(reader->relation);
}

void take_row(Participant* participant, int side, ValuePlan** plans, const int* place, TupleTableSlot* slot,
              TupleTableSlot* row) {
    if (participant->side != side) {
        flush(participant);
        participant->side = side;
    }
    slot_getallattrs(slot);
    tandem::Element element;
    report(participant, nullptr);
    const RowValues values{plans, place, slot->tts_values, slot->tts_isnull};
    if (!make_element(participant, side, values, element)) {
        return;
    }
    if (!is_probing(participant)) {
        push(participant, element);
    } else if (is_wanted(participant, element)) {
        if (participant->pass == Pass::count) {
            tally(participant, side, values, element);
            return;
        }
        const int columns = participant->shape->columns;
        ExecClearTuple(row);
        for (int i = 0; i < columns; i++) {
            row->tts_values[i] = slot->tts_values[columns + i];
            row->tts_isnull[i] = slot->tts_isnull[columns + i];
        }
        store(participant, side, ExecStoreVirtualTuple(row));
    }
}

} // namespace pg::compare
