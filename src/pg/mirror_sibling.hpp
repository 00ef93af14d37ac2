// One legacy table in several new ones: rows of the others that wait for the end of the transaction.
#pragma once

#include "pg/mirror_plan.hpp"

namespace pg::sibling {

// Notes the key of a row of legacy that the new table of this plan has not yet. Within SPI.
void wait(const MirrorPlan* plan, Relation source, HeapTuple row, Oid function);

} // namespace pg::sibling
