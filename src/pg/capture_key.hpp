// A key as tandem.captured keeps it: the bytes of its values, each behind their number.
#pragma once

#include "pg/prelude.hpp"

namespace pg::capture {

// Makes a key, column by column, in memory that stays; it is valid until the next one begins.
void begin_key();
void add_to_key(HeapTuple tuple, TupleDesc desc, AttrNumber column);
std::span<const char> current_key();

} // namespace pg::capture
