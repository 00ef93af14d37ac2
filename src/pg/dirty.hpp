// Writes that the new side refused while nobody read it yet: kept with the keys of their rows, which are copied anew
// until that succeeds (control/install/51_dirty.sql).
#pragma once

#include "pg/prelude.hpp"

namespace pg::dirty {

// Keeps a refused write of a row of legacy, as the extension's owner. `old_row` or `new_row` is nullptr where there is
// none. Within SPI, and in a frame that an ERROR may leave.
void record(int32 mapping, Relation source, HeapTuple old_row, HeapTuple new_row, Oid function, const ErrorData* error);

} // namespace pg::dirty
