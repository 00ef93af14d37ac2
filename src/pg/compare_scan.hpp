// A pass over the rows of a side: every row becomes an element (key, hash), and goes where the pass wants it.
#pragma once

#include "pg/prelude.hpp"

#include "pg/compare_source.hpp"

extern "C" {
#include "utils/sharedtuplestore.h"
}

namespace pg::compare {

class RadixFiles;

struct KeyColumn {
    int column; // 0-based
    int bits;   // of an inline key
    Oid type;   // of the wider side
};

// What all who take part in a comparison have to agree on. In shared memory, its arrays behind it.
struct Shape {
    tandem::HashSecret secret;
    std::uint64_t seed;
    int columns;
    int keys;        // 0: a multiset; its key is the hash of the whole row
    bool inline_key; // the key's bits are the limbs; else 122 bits of its hash
    bool narrow;     // one column of 64 bits, taken to be below p: one limb does. A key that is not is counted
    int limbs;

    ColumnRequest* column() { return reinterpret_cast<ColumnRequest*>(this + 1); }
    const ColumnRequest* column() const { return reinterpret_cast<const ColumnRequest*>(this + 1); }
    KeyColumn* key() { return reinterpret_cast<KeyColumn*>(column() + columns); }
    const KeyColumn* key() const { return reinterpret_cast<const KeyColumn*>(column() + columns); }

    static std::size_t bytes(int columns, int keys) {
        return sizeof(Shape) + sizeof(ColumnRequest) * static_cast<std::size_t>(columns) +
               sizeof(KeyColumn) * static_cast<std::size_t>(keys);
    }
};

enum class Pass : int {
    sketch, // elements into the sketch
    radix,  // elements into partitions
    fetch,  // rows whose key is wanted into the stores
    count,  // rows whose key is wanted into the tallies
};

// What the count pass finds of a wanted key, by all processes together.
struct Tally {
    pg_atomic_uint32 copies[kSides];
    pg_atomic_uint64 hash_sum; // legacy - new
};

// Where fetched rows go: into the leader's own store, or into one that all participants share.
struct RowStore {
    Tuplestorestate* own;
    SharedTuplestoreAccessor* shared;
};

// How many keys differ, by kind, where different encodings are always different values.
struct Kinds {
    std::int64_t missing;
    std::int64_t extra;
    std::int64_t changed;
    std::int64_t duplicate;

    void count(std::uint32_t legacy_copies, std::uint32_t new_copies) {
        (legacy_copies > 1 || new_copies > 1 ? duplicate
         : new_copies == 0                   ? missing
         : legacy_copies == 0                ? extra
                                             : changed)++;
    }
};

struct Counts {
    std::uint64_t rows[kSides];
    std::uint64_t null_keys[kSides];
    std::uint64_t wide_keys; // that a narrow shape has no room for
};

inline constexpr int kBatch = 64;

// One process at work on a pass.
struct Participant {
    const Shape* shape;
    Pass pass;
    tandem::Sketch* sketch;
    RadixFiles* radix;
    const tandem::KeySet* wanted;
    Tally* tallies; // by the place of the key in wanted
    RowStore stores[kSides];
    Counts counts;
    pg_atomic_uint64* progress; // rows read by all; nullptr: by this process alone
    std::uint64_t read;         // rows, of both sides
    bool leader;                // it shows how far all are
    std::int64_t blocks_before; // of the tables that are done
    MemoryContext memory;       // lives as long as the pass
    int side;
    int batched;
    tandem::Element batch[kBatch];
    tandem::RowEncoder row;
    tandem::RowEncoder key;

    Participant(const Shape* of, Pass what)
        : shape(of), pass(what), sketch(nullptr), radix(nullptr), wanted(nullptr), tallies(nullptr), stores{}, counts{},
          progress(nullptr), read(0), leader(false), blocks_before(0), memory(CurrentMemoryContext), side(kLegacy),
          batched(0), row(of->secret), key(of->secret) {}
};
static_assert(std::is_trivially_destructible_v<Participant>);

// The values of an inline key, from its limbs; the inverse of what a participant packs.
void unpack_key(const Shape* shape, const std::uint64_t* limbs, Datum* values);

Participant* make_participant(const Shape* shape, Pass pass);

// Reads all rows of the table that the scan hands out. The scan may be shared with others.
void scan_table(Participant* participant, int side, TableReader* reader, TableScanDesc scan);

// A row of the executor: its values, then, in the fetch pass, the row's own columns.
void take_row(Participant* participant, int side, ValuePlan** plans, const int* place, TupleTableSlot* slot,
              TupleTableSlot* row);

// Hands on what is batched. Before another side is read, and at the end.
void flush(Participant* participant);

} // namespace pg::compare
