// SQL expressions over the rows of a relation, by PostgreSQL's own parser.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// One SQL scalar, or one condition, over the rows of a relation, as range table entry 1. Anything else is an ERROR. The
// lock on the relation stays until the transaction ends.
// parse_scalar() only parses: what its names mean is not asked.
Node* parse_scalar(const char* text);
Node* parse_expression(Oid relid, const char* text);
Node* parse_condition(Oid relid, const char* text);

} // namespace pg
