// Tables of PostgreSQL's own heap: tuples are encoded as they are walked, and the slot that expressions and conditions
// look at is filled from the walk.
#include "pg/compare_row.hpp"
#include "pg/tuple_walk.hpp"
#include "pg/value_inline.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/relscan.h"
#include "storage/bufmgr.h"
}

namespace pg::compare {
namespace {

// Only the key is needed to find the wanted rows.
int columns_to_read(const Participant* participant, const TableReader* reader) {
    if (!is_probing(participant) || participant->shape->keys == 0) {
        return reader->last_attribute;
    }
    int last = 0;
    const KeyColumn* key = participant->shape->key();
    for (int i = 0; i < participant->shape->keys; i++) {
        const ColumnReader& column = reader->columns[key[i].column];
        last = std::max<int>(last, column.computed != nullptr ? column.computed->last : column.attribute);
    }
    return last;
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

// One table on its way.
struct TupleScan {
    Participant* participant;
    int side;
    TableReader* reader;
    const TupleWalk* walk;      // as far as the pass needs a row
    const TupleWalk* whole;     // as far as the comparison does
    const TupleWalk* condition; // as far as the condition does; nullptr: there is none
    RowBuffer buffer;           // its arrays are the slot's, too: what is walked is what expressions see
};

// Shows the first columns of the tuple, which stand in the buffer, to expressions. What ExecStoreHeapTuple() would do,
// where the slot shows another tuple of the same kind already.
void show(const TupleScan& scan, HeapTuple tuple, int columns) {
    TupleTableSlot* slot = scan.reader->slot;
    auto* heap = reinterpret_cast<HeapTupleTableSlot*>(slot);
    heap->tuple = tuple;
    heap->off = 0;
    slot->tts_nvalid = static_cast<AttrNumber>(columns);
    slot->tts_flags = static_cast<std::uint16_t>(slot->tts_flags & ~TTS_FLAG_EMPTY);
    slot->tts_tid = tuple->t_self;
    slot->tts_tableOid = tuple->t_tableOid;
}

void walk_and_show(const TupleScan& scan, const TupleWalk* walk, HeapTuple tuple) {
    walk_tuple(walk, tuple, scan.buffer.values, scan.buffer.nulls);
    show(scan, tuple, walk->columns);
}

// The usual copy of a table: the compared columns are the table's, in their order, each as it is stored or computed
// from itself and those before; with one inline key. Its tuples are encoded as they are walked, to their end.
bool is_straight(const Participant* participant, const TableReader* reader) {
    const Shape* shape = participant->shape;
    if (is_probing(participant) || !shape->inline_key || shape->keys != 1 || shape->limbs != 1 ||
        RelationGetDescr(reader->relation)->natts != shape->columns) {
        return false;
    }
    for (int i = 0; i < shape->columns; i++) {
        const ColumnReader& column = reader->columns[i];
        if (column.computed != nullptr ? column.computed->last > i + 1 : column.attribute != i + 1) {
            return false;
        }
    }
    return true;
}

bool computes(const Participant* participant, const TableReader* reader) {
    for (int i = 0; i < participant->shape->columns; i++) {
        if (reader->columns[i].computed != nullptr) {
            return true;
        }
    }
    return false;
}

// false: the tuple has to be taken column by column, as it lacks one, or its key.
template <bool kComputes>
bool take_straight(const TupleScan& scan, HeapTuple tuple) {
    Participant* participant = scan.participant;
    tandem::RowEncoder& encoder = participant->row;
    const KeyColumn key = *participant->shape->key();
    const ValuePlan* const* plans = scan.buffer.plans;
    Datum key_value = 0;
    bool has_key = false;
    encoder.reset();
    if constexpr (kComputes) {
        show(scan, tuple, 0);
    }
    const int stored = for_each_column(scan.walk, tuple, [&](int i, bool is_null, Datum value) {
        if constexpr (kComputes) {
            scan.buffer.values[i] = value;
            scan.buffer.nulls[i] = is_null;
            if (Computed* computed = scan.reader->columns[i].computed; computed != nullptr) {
                scan.reader->slot->tts_nvalid = static_cast<AttrNumber>(i + 1);
                value = compute(computed, scan.reader->context, scan.buffer.values, scan.buffer.nulls, &is_null);
            }
        }
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
    if (stored < scan.walk->columns || !has_key) {
        return false;
    }
    tandem::Element& element = participant->batch[participant->batched];
    element.key[0] = narrow_key(key, plans[key.column], key_value);
    if (element.key[0] >= tandem::kPrime) {
        return false;
    }
    element.key[1] = 0;
    element.key[2] = 0;
    element.hash = encoder.hash();
    participant->counts.rows[scan.side]++;
    if (++participant->batched == kBatch) {
        flush(participant);
    }
    return true;
}

void take_by_columns(const TupleScan& scan, HeapTuple tuple) {
    Participant* participant = scan.participant;
    const bool keys_only = is_probing(participant) && participant->shape->keys > 0;
    walk_and_show(scan, scan.walk, tuple);
    compute_columns(participant, scan.reader, scan.buffer, keys_only);
    handle(participant, scan.side, scan.reader, scan.buffer.row(), [&] {
        if (participant->pass == Pass::fetch) {
            show(scan, tuple, 0); // the slot reads on by itself
            return;
        }
        walk_and_show(scan, scan.whole, tuple);
        compute_columns(participant, scan.reader, scan.buffer, false);
    });
}

template <bool kStraight, bool kComputes>
void take_all(const TupleScan& scan, TableScanDesc table) {
    const TableReader* reader = scan.reader;
    MemoryContext per_row = reader->context->ecxt_per_tuple_memory;
    HeapTuple tuple = nullptr;
    while ((tuple = heap_getnext(table, ForwardScanDirection)) != nullptr) {
        prefetch_ahead(table);
        report(scan.participant, table);
        if (!per_row->isReset) {
            MemoryContextReset(per_row);
        }
        if (scan.condition != nullptr) {
            walk_and_show(scan, scan.condition, tuple);
            if (!ExecQual(reader->condition, reader->context)) {
                continue;
            }
        }
        if (!kStraight || !take_straight<kComputes>(scan, tuple)) {
            take_by_columns(scan, tuple);
        }
    }
}

} // namespace

void scan_tuples(Participant* participant, int side, TableReader* reader, TableScanDesc table) {
    TupleDesc desc = RelationGetDescr(reader->relation);
    TupleTableSlot* slot = reader->slot;
    const RowBuffer buffer = make_buffer(participant, reader, desc->natts);
    const bool straight = is_straight(participant, reader);
    const TupleScan scan{participant,
                         side,
                         reader,
                         plan_walk(desc, straight ? desc->natts : columns_to_read(participant, reader)),
                         plan_walk(desc, reader->last_attribute),
                         reader->condition != nullptr ? plan_walk(desc, reader->condition_last) : nullptr,
                         buffer};
    Datum* const own_values = slot->tts_values;
    bool* const own_nulls = slot->tts_isnull;
    slot->tts_values = buffer.values;
    slot->tts_isnull = buffer.nulls;
    MemoryContext before = MemoryContextSwitchTo(reader->context->ecxt_per_tuple_memory);
    if (!straight) {
        take_all<false, true>(scan, table);
    } else if (computes(participant, reader)) {
        take_all<true, true>(scan, table);
    } else {
        take_all<true, false>(scan, table);
    }
    ExecClearTuple(slot);
    slot->tts_values = own_values;
    slot->tts_isnull = own_nulls;
    MemoryContextSwitchTo(before);
}

} // namespace pg::compare
