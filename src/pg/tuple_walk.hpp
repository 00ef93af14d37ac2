// Reads the columns of a stored tuple in one walk over its bytes, without a slot around it.
//
// The same as PostgreSQL's own deforming, over a table of 8 bytes a column instead of its catalog rows. Held against
// slots by the tests.
#pragma once

#include "pg/prelude.hpp"

namespace pg::compare {

struct WalkColumn {
    std::int16_t length; // -1: varlena, -2: cstring
    std::uint8_t align;  // 1, 2, 4, 8
    bool by_value;
    std::int32_t offset; // where it always stands; -1: it depends on the values before
};

struct TupleWalk {
    TupleDesc desc;
    int columns; // how far to walk
    WalkColumn* column;
};
static_assert(std::is_trivially_destructible_v<TupleWalk>);

namespace walk {

inline std::uint32_t align_up(std::uint32_t offset, std::uint32_t align) {
    return (offset + align - 1) & ~(align - 1);
}

inline Datum fetch(const char* at, const WalkColumn& column) {
    if (!column.by_value) {
        return PointerGetDatum(at);
    }
    switch (column.length) {
    case 1:
        return CharGetDatum(*at);
    case 2: {
        std::int16_t value = 0;
        memcpy(&value, at, sizeof(value));
        return Int16GetDatum(value);
    }
    case 4: {
        std::int32_t value = 0;
        memcpy(&value, at, sizeof(value));
        return Int32GetDatum(value);
    }
    default: {
        std::int64_t value = 0;
        memcpy(&value, at, sizeof(value));
        return Int64GetDatum(value);
    }
    }
}

// What follows a column of a length of its own: -1 and -2 say it in the bytes.
inline std::uint32_t size_of(const char* at, const WalkColumn& column) {
    if (column.length > 0) {
        return static_cast<std::uint32_t>(column.length);
    }
    return column.length == -1 ? static_cast<std::uint32_t>(VARSIZE_ANY(at))
                               : static_cast<std::uint32_t>(strlen(at) + 1);
}

} // namespace walk

// Calls f(index, is_null, value) for the columns of the walk that the tuple has; their number is returned.
template <class F>
[[gnu::always_inline]] inline int for_each_column(const TupleWalk* walk, HeapTuple tuple, F&& f) {
    const HeapTupleHeader header = tuple->t_data;
    const int stored = std::min<int>(HeapTupleHeaderGetNatts(header), walk->columns);
    const bool has_nulls = (header->t_infomask & HEAP_HASNULL) != 0;
    const bits8* bitmap = header->t_bits;
    const char* data = reinterpret_cast<const char*>(header) + header->t_hoff;
    std::uint32_t offset = 0;
    bool known = true; // do the columns still stand where they always do?

    for (int i = 0; i < stored; i++) {
        const WalkColumn& column = walk->column[i];
        if (has_nulls && (bitmap[i >> 3] & (1 << (i & 7))) == 0) {
            f(i, true, Datum{0});
            known = false;
            continue;
        }
        if (known && column.offset >= 0) {
            offset = static_cast<std::uint32_t>(column.offset);
        } else {
            known = false;
            // A varlena with a header of one byte is not aligned, and a byte of padding is zero.
            if (column.length != -1 || data[offset] == 0) {
                offset = walk::align_up(offset, column.align);
            }
        }
        const char* at = data + offset;
        offset += walk::size_of(at, column);
        f(i, false, walk::fetch(at, column));
    }
    return stored;
}

TupleWalk* plan_walk(TupleDesc desc, int columns);

// Columns 1 .. walk->columns of the tuple into values and nulls. By-reference values point into the tuple.
void walk_tuple(const TupleWalk* walk, HeapTuple tuple, Datum* values, bool* nulls);

} // namespace pg::compare
