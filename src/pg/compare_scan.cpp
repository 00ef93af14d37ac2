#include "pg/compare_scan.hpp"

#include "pg/compare_radix.hpp"
#include "pg/compare_row.hpp"

extern "C" {
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

// Where rows are no heap tuples.
void scan_slots(Participant* participant, int side, TableReader* reader, TableScanDesc scan) {
    const int stored = reader->last_attribute;
    const RowBuffer buffer = make_buffer(participant, reader, stored);
    const RowValues row = buffer.row();
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
        compute_columns(participant, reader, buffer, false);
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
        scan_tuples(participant, side, reader, scan);
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
