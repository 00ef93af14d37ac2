#include "pg/tuple_walk.hpp"

extern "C" {
#include "access/tupmacs.h"
}

namespace pg::compare {
namespace {

std::uint8_t bytes_of(char align) {
    switch (align) {
    case TYPALIGN_CHAR:
        return 1;
    case TYPALIGN_SHORT:
        return ALIGNOF_SHORT;
    case TYPALIGN_INT:
        return ALIGNOF_INT;
    default:
        return ALIGNOF_DOUBLE;
    }
}

std::uint32_t align_up(std::uint32_t offset, std::uint32_t align) {
    return (offset + align - 1) & ~(align - 1);
}

Datum fetch(const char* at, const WalkColumn& column) {
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
std::uint32_t size_of(const char* at, const WalkColumn& column) {
    if (column.length > 0) {
        return static_cast<std::uint32_t>(column.length);
    }
    return column.length == -1 ? static_cast<std::uint32_t>(VARSIZE_ANY(at))
                               : static_cast<std::uint32_t>(strlen(at) + 1);
}

} // namespace

TupleWalk* plan_walk(TupleDesc desc, int columns) {
    auto* walk = static_cast<TupleWalk*>(palloc(sizeof(TupleWalk)));
    walk->desc = desc;
    walk->columns = columns;
    walk->column = static_cast<WalkColumn*>(palloc0(sizeof(WalkColumn) * static_cast<std::size_t>(columns + 1)));
    std::int32_t offset = 0;
    for (int i = 0; i < columns; i++) {
        Form_pg_attribute attribute = TupleDescAttr(desc, i);
        WalkColumn& column = walk->column[i];
        column.length = attribute->attlen;
        column.align = bytes_of(attribute->attalign);
        column.by_value = attribute->attbyval;
        column.offset = -1;
        if (offset >= 0 && column.length > 0) {
            column.offset = static_cast<std::int32_t>(align_up(static_cast<std::uint32_t>(offset), column.align));
            offset = column.offset + column.length;
        } else {
            offset = -1;
        }
    }
    return walk;
}

void walk_tuple(const TupleWalk* walk, HeapTuple tuple, Datum* values, bool* nulls) {
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
            values[i] = Datum{0};
            nulls[i] = true;
            known = false;
            continue;
        }
        nulls[i] = false;
        if (known && column.offset >= 0) {
            offset = static_cast<std::uint32_t>(column.offset);
        } else {
            known = false;
            // A varlena with a header of one byte is not aligned, and a byte of padding is zero.
            if (column.length != -1 || data[offset] == 0) {
                offset = align_up(offset, column.align);
            }
        }
        values[i] = fetch(data + offset, column);
        offset += size_of(data + offset, column);
    }
    // Columns that were added after the tuple was stored.
    for (int i = stored; i < walk->columns; i++) {
        values[i] = heap_getattr(tuple, i + 1, walk->desc, &nulls[i]);
    }
}

} // namespace pg::compare
