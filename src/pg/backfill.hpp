// The backfill's INSERT … SELECT, executed without what the mirror would do about each row.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// Executes one INSERT as `role`, in whose name the mapping's run works. The mapping's own trigger, which calls the
// function `mirror`, does not fire for the rows, where that can be had; it takes the others for echoes, if the caller
// has said so. Returns the rows inserted.
uint64 insert_quietly(Oid role, Oid mirror, const char* sql, int32 mapping);

} // namespace pg
