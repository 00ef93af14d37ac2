#include "pg/tuple_walk.hpp"

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
            column.offset = static_cast<std::int32_t>(walk::align_up(static_cast<std::uint32_t>(offset), column.align));
            offset = column.offset + column.length;
        } else {
            offset = -1;
        }
    }
    return walk;
}

void walk_tuple(const TupleWalk* walk, HeapTuple tuple, Datum* values, bool* nulls) {
    const int stored = for_each_column(walk, tuple, [&](int i, bool is_null, Datum value) {
        values[i] = value;
        nulls[i] = is_null;
    });
    // Columns that were added after the tuple was stored.
    for (int i = stored; i < walk->columns; i++) {
        values[i] = heap_getattr(tuple, i + 1, walk->desc, &nulls[i]);
    }
}

} // namespace pg::compare
