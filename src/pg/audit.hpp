// Appends to tandem.event: straight into the month's partition, without executor, as every change of a task does it.
#pragma once

#include "pg/prelude.hpp"

extern "C" {
#include "utils/uuid.h"
}

namespace pg::audit {

struct Event {
    const char* kind;          // "task_cas", "task_claim", ...
    text* reason = nullptr;    // why, in words
    const pg_uuid_t* task_id = nullptr;
    text* state = nullptr;     // of the task after it
    int64 version = 0;         // of the task after it; 0: none
    Datum evidence = 0;        // jsonb; 0: none
    TimestampTz at = 0;        // 0: now
};

// Who (session_user), role, client, seq and lsn are filled in here. May raise an ERROR; plain frames only, or through pg::call.
void append(const Event& event);

} // namespace pg::audit
