// The keys of changed rows, kept in table tandem.captured by the transaction that changed them.
#pragma once

#include "pg/mirror_plan.hpp"

namespace pg::capture {

// Keeps the key of the row that fired, and for an UPDATE the old and the new one.
void row(const MirrorPlan* plan, const TriggerData* data);

// In _PG_init: what is still in memory is written when the transaction commits or is prepared.
void register_callbacks();

} // namespace pg::capture
