// What every scan does with a row: an element (key, hash) is made of it, which goes where the pass wants it.
#pragma once

#include "pg/compare_scan.hpp"

namespace pg::compare {

// A row whose values stand in arrays of its own order: column i of the comparison is at place[i].
struct RowValues {
    const ValuePlan* const* plans;
    const int* place;
    const Datum* values;
    const bool* nulls;

    Datum value(int column) const { return values[place[column]]; }
    bool is_null(int column) const { return nulls[place[column]]; }
};

// The bits of a key of one column.
inline std::uint64_t single_key(const ValuePlan* plan, Datum value) {
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

// The same, cut to the width of the column.
inline std::uint64_t narrow_key(const KeyColumn& key, const ValuePlan* plan, Datum value) {
    const std::uint64_t bits = single_key(plan, value);
    return key.bits < 64 ? bits & ((std::uint64_t{1} << key.bits) - 1) : bits;
}

// false: the row counts, but has no element, as its key is NULL or wider than the shape was made for.
bool make_element(Participant* participant, int side, const RowValues& row, tandem::Element& element);

void push(Participant* participant, const tandem::Element& element);

// Of the fetch and the count pass.
inline bool is_probing(const Participant* participant) {
    return participant->pass == Pass::fetch || participant->pass == Pass::count;
}

bool is_wanted(const Participant* participant, const tandem::Element& element);
void tally(Participant* participant, int side, const RowValues& row, const tandem::Element& element);
void store(const Participant* participant, int side, TupleTableSlot* row);

inline constexpr std::uint64_t kReportEvery = 1024;

// How far it is, and whether to go on. `scan`: nullptr for rows of the executor.
void report_now(Participant* participant, TableScanDesc scan);
inline void report(Participant* participant, TableScanDesc scan) {
    if (++participant->read % kReportEvery == 0) {
        report_now(participant, scan);
    }
}

// Where the values of a table's rows are put: stored columns at their attribute's place, computed ones behind them.
struct RowBuffer {
    Datum* values;
    bool* nulls;
    int* place;
    const ValuePlan** plans;
    int stored;

    RowValues row() const { return {plans, place, values, nulls}; }
};

RowBuffer make_buffer(const Participant* participant, const TableReader* reader, int stored);

// The computed columns of the row that the reader's slot shows; `keys_only`: those of the key.
void compute_columns(const Participant* participant, const TableReader* reader, const RowBuffer& buffer,
                     bool keys_only);

// read_rest() is called for a wanted row, before more of it is looked at than its key.
template <class ReadRest>
void handle(Participant* participant, int side, TableReader* reader, const RowValues& row, ReadRest&& read_rest) {
    tandem::Element element;
    if (!make_element(participant, side, row, element)) {
        return;
    }
    if (!is_probing(participant)) {
        push(participant, element);
    } else if (is_wanted(participant, element)) {
        read_rest();
        if (participant->pass == Pass::count) {
            tally(participant, side, row, element);
        } else {
            store(participant, side, ExecProject(reader->rows));
        }
    }
}

// Heap tuples as they are stored: compare_tuples.cpp.
void scan_tuples(Participant* participant, int side, TableReader* reader, TableScanDesc scan);

} // namespace pg::compare
