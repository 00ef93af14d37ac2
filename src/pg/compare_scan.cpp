#include "pg/compare_scan.hpp"

#include "pg/compare_radix.hpp"
#include "pg/tuple_walk.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/relscan.h"
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

// How the columns of a row are had: an array of values and nulls by column of the comparison.
struct RowValues {
    const ValuePlan* const* plans;
    const Datum* values;
    const bool* nulls;
};

// The key's columns one behind the other, cut into limbs.
void pack_key(const Shape* shape, const RowValues& row, tandem::Element& element) {
    unsigned __int128 low = 0;
    std::uint64_t high = 0;
    int filled = 0;
    const KeyColumn* key = shape->key();
    for (int i = 0; i < shape->keys; i++) {
        std::uint64_t bits[2];
        key_to_bits(row.plans[key[i].column], row.values[key[i].column], bits);
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
    element.key[2] = (static_cast<std::uint64_t>(low >> (2 * tandem::kLimbBits)) | (high << (128 - 2 * tandem::kLimbBits))) &
                     kMask;
}

bool has_null_key(const Shape* shape, const RowValues& row) {
    const KeyColumn* key = shape->key();
    for (int i = 0; i < shape->keys; i++) {
        if (row.nulls[key[i].column]) {
            return true;
        }
    }
    return false;
}

void make_key(Participant* participant, const RowValues& row, tandem::Element& element) {
    const Shape* shape = participant->shape;
    if (shape->inline_key) {
        pack_key(shape, row, element);
        return;
    }
    participant->key.reset();
    const KeyColumn* key = shape->key();
    for (int i = 0; i < shape->keys; i++) {
        encode(row.plans[key[i].column], row.values[key[i].column], participant->key);
    }
    participant->key.key(element.key);
    element.key[2] = 0;
}

void encode_row(Participant* participant, const RowValues& row) {
    participant->row.reset();
    for (int i = 0; i < participant->shape->columns; i++) {
        if (row.nulls[i]) {
            participant->row.null();
        } else {
            encode(row.plans[i], row.values[i], participant->row);
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
    make_key(participant, row, element);
    if (participant->pass != Pass::fetch) {
        encode_row(participant, row);
        element.hash = participant->row.hash();
    }
    return true;
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

void report(Participant* participant, int side) {
    if (participant->counts.rows[side] % kReportEvery == 0) {
        CHECK_FOR_INTERRUPTS();
        if (participant->progress != nullptr) {
            pg_atomic_fetch_add_u64(participant->progress, kReportEvery);
        }
    }
}

// Only the key is needed to find the wanted rows.
int columns_to_read(const Participant* participant, const TableReader* reader) {
    if (participant->pass != Pass::fetch || participant->shape->keys == 0) {
        return reader->last_attribute;
    }
    int last = 0;
    const KeyColumn* key = participant->shape->key();
    for (int i = 0; i < participant->shape->keys; i++) {
        last = std::max<int>(last, reader->columns[key[i].column].attribute);
    }
    return last;
}

// The values of a row, column by column of the comparison, and the memory around them.
struct RowBuffer {
    Datum* stored; // by attribute of the table
    bool* stored_nulls;
    Datum* values; // by column of the comparison
    bool* nulls;
    const ValuePlan** plans;
};

RowBuffer make_buffer(const Participant* participant, const TableReader* reader) {
    const auto columns = static_cast<std::size_t>(participant->shape->columns);
    const auto stored = static_cast<std::size_t>(RelationGetDescr(reader->relation)->natts + 1);
    RowBuffer buffer{};
    buffer.stored = static_cast<Datum*>(palloc(sizeof(Datum) * stored));
    buffer.stored_nulls = static_cast<bool*>(palloc(sizeof(bool) * stored));
    buffer.values = static_cast<Datum*>(palloc(sizeof(Datum) * columns));
    buffer.nulls = static_cast<bool*>(palloc(sizeof(bool) * columns));
    buffer.plans = static_cast<const ValuePlan**>(palloc(sizeof(ValuePlan*) * columns));
    for (std::size_t i = 0; i < columns; i++) {
        buffer.plans[i] = reader->columns[i].plan;
    }
    return buffer;
}

void handle(Participant* participant, int side, TableReader* reader, const RowValues& row) {
    tandem::Element element;
    if (!make_element(participant, side, row, element)) {
        return;
    }
    if (participant->pass != Pass::fetch) {
        push(participant, element);
    } else if (is_wanted(participant, element)) {
        store(participant, side, ExecProject(reader->rows));
    }
}

void scan_raw(Participant* participant, int side, TableReader* reader, TableScanDesc scan) {
    const TupleWalk* walk = plan_walk(RelationGetDescr(reader->relation), columns_to_read(participant, reader));
    const RowBuffer buffer = make_buffer(participant, reader);
    const RowValues row{buffer.plans, buffer.values, buffer.nulls};
    const int columns = participant->shape->columns;
    const bool fetching = participant->pass == Pass::fetch;
    MemoryContext per_row = reader->context->ecxt_per_tuple_memory;
    MemoryContext before = MemoryContextSwitchTo(per_row);

    HeapTuple tuple = nullptr;
    while ((tuple = heap_getnext(scan, ForwardScanDirection)) != nullptr) {
        walk_tuple(walk, tuple, buffer.stored, buffer.stored_nulls);
        for (int i = 0; i < columns; i++) {
            const int attribute = reader->columns[i].attribute - 1;
            if (attribute < walk->columns) {
                buffer.values[i] = buffer.stored[attribute];
                buffer.nulls[i] = buffer.stored_nulls[attribute];
            }
        }
        if (fetching) {
            ExecStoreHeapTuple(tuple, reader->slot, false);
        }
        handle(participant, side, reader, row);
        report(participant, side);
        MemoryContextReset(per_row);
    }
    if (fetching) {
        ExecClearTuple(reader->slot);
    }
    MemoryContextSwitchTo(before);
}

void scan_slots(Participant* participant, int side, TableReader* reader, TableScanDesc scan) {
    const RowBuffer buffer = make_buffer(participant, reader);
    const RowValues row{buffer.plans, buffer.values, buffer.nulls};
    const int columns = participant->shape->columns;
    ExprContext* context = reader->context;
    MemoryContext before = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);

    while (table_scan_getnextslot(scan, ForwardScanDirection, reader->slot)) {
        report(participant, side);
        ResetExprContext(context);
        slot_getsomeattrs(reader->slot, reader->last_attribute);
        if (reader->condition != nullptr && !ExecQual(reader->condition, context)) {
            continue;
        }
        for (int i = 0; i < columns; i++) {
            const ColumnReader& column = reader->columns[i];
            if (column.attribute > 0) {
                buffer.values[i] = reader->slot->tts_values[column.attribute - 1];
                buffer.nulls[i] = reader->slot->tts_isnull[column.attribute - 1];
            } else {
                buffer.values[i] = ExecEvalExpr(column.state, context, &buffer.nulls[i]);
            }
        }
        handle(participant, side, reader, row);
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
}

void take_row(Participant* participant, int side, ValuePlan** plans, TupleTableSlot* slot, TupleTableSlot* row) {
    if (participant->side != side) {
        flush(participant);
        participant->side = side;
    }
    slot_getallattrs(slot);
    tandem::Element element;
    report(participant, side);
    if (!make_element(participant, side, {plans, slot->tts_values, slot->tts_isnull}, element)) {
        return;
    }
    if (participant->pass != Pass::fetch) {
        push(participant, element);
    } else if (is_wanted(participant, element)) {
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
