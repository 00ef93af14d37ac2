// Appends to tandem.event: straight into the month's partition, without executor, as every change of a task does it.
#pragma once

#include "pg/prelude.hpp"

extern "C" {
#include "utils/uuid.h"
}

namespace pg::audit {

// The columns of tandem.event, as 07_audit.sql has them.
enum Column {
    kSeq,
    kAt,
    kLsn,
    kKind,
    kActor,
    kRole,
    kClient,
    kReason,
    kRun,
    kStage,
    kPhase,
    kWeight,
    kEpoch,
    kTaskId,
    kState,
    kVersion,
    kEvidence,
    kColumns
};

// The state of a run after the event.
struct RunFacts {
    text* run = nullptr; // nullptr: the event is none of a run
    text* stage = nullptr;
    text* phase = nullptr;
    std::optional<int32> weight;
    std::optional<int64> epoch;
};

struct Event {
    const char* kind;       // "task_cas", "task_claim", ...
    text* reason = nullptr; // why, in words
    const pg_uuid_t* task_id = nullptr;
    text* state = nullptr; // of the task after it
    int64 version = 0;     // of the task after it; 0: none
    Datum evidence = 0;    // jsonb; 0: none
    TimestampTz at = 0;    // 0: now
    const RunFacts* run = nullptr;
};

// Who (session_user), role, client, seq and lsn are filled in here; returns seq. May raise an ERROR; plain frames only,
// or through pg::call.
int64 append(const Event& event);

// An index of a partition, ready to be written to.
struct Index {
    Oid oid;
    AttrNumber where_not_null; // 0: it has every row
    IndexInfo* info;
};

// The partition of a month, as this backend knows it.
struct Month {
    Oid relation;
    Oid sequence;
    TimestampTz from, to; // to is the first moment of the next month
    bool plain;           // else an index has expressions or another condition: the executor knows how
    int index_count;
    Index* indexes;
};

// The partition of this moment, opened and locked for an insert; made, if there is none. `month` stays good until the
// next call.
Relation open_month(TimestampTz at, const Month*& month);

void define_settings();

} // namespace pg::audit
