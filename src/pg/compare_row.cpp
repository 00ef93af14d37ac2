#include "pg/compare_row.hpp"

#include "pg/compare_progress.hpp"
#include "pg/value_inline.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/relscan.h"
}

namespace pg::compare {
namespace {

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
// false: the key is wider than the shape was made for.
bool make_key(Participant* participant, const RowValues& row, tandem::Element& element) {
    const Shape* shape = participant->shape;
    if (shape->inline_key && shape->keys == 1 && shape->limbs == 1) {
        const KeyColumn& key = *shape->key();
        element.key[0] = narrow_key(key, row.plans[key.column], row.value(key.column));
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

} // namespace

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

namespace {

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

} // namespace

void report_now(Participant* participant, TableScanDesc scan) {
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

RowBuffer make_buffer(const Participant* participant, const TableReader* reader, int stored) {
    const int columns = participant->shape->columns;
    const auto room = static_cast<std::size_t>(stored + columns);
    RowBuffer buffer{};
    buffer.values = static_cast<Datum*>(palloc0(sizeof(Datum) * room));
    buffer.nulls = static_cast<bool*>(palloc0(sizeof(bool) * room));
    buffer.place = static_cast<int*>(palloc(sizeof(int) * static_cast<std::size_t>(columns)));
    buffer.stored = stored;
    buffer.plans = static_cast<const ValuePlan**>(palloc(sizeof(ValuePlan*) * static_cast<std::size_t>(columns)));
    for (int i = 0; i < columns; i++) {
        const ColumnReader& column = reader->columns[i];
        buffer.plans[i] = column.plan;
        buffer.place[i] = column.attribute > 0 ? column.attribute - 1 : stored + i;
    }
    return buffer;
}

void compute_columns(const Participant* participant, const TableReader* reader, const RowBuffer& buffer,
                     bool keys_only) {
    const Shape* shape = participant->shape;
    const int count = keys_only ? shape->keys : shape->columns;
    for (int n = 0; n < count; n++) {
        const int i = keys_only ? shape->key()[n].column : n;
        Computed* computed = reader->columns[i].computed;
        if (computed != nullptr) {
            const int place = buffer.place[i];
            buffer.values[place] =
                compute(computed, reader->context, buffer.values, buffer.nulls, &buffer.nulls[place]);
        }
    }
}

} // namespace pg::compare
