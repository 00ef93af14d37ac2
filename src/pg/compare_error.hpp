// What the error says that ends a comparison.
#pragma once

#include "pg/compare.hpp"

namespace pg::compare {

// The error of a condition that fails on a row, with what it was in DETAIL; nullptr: the conditions of both sides can
// be asked of all rows. Reads these rows. Needs SPI.
ErrorData* find_failing_condition(const Comparison* comparison);

// CONTEXT tells what was compared and who called, not the SQL that was made for it.
void set_context(ErrorData* error, const Comparison* comparison);

} // namespace pg::compare
