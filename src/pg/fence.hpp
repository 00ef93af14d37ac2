// The write fence: a write to the side that no longer serves the key is refused (docs/fence.md).
#pragma once

#include "pg/mirror_plan.hpp"

namespace pg::fence {

// Raises an ERROR, SQLSTATE TD001, where the run's option write_fence is on and the other side serves the key of the
// row, for an UPDATE also that of the old one. Not for what a mirror, the backfill or a repair writes.
void check(const PlanKey& key, const TriggerData* data, Oid function);

} // namespace pg::fence
