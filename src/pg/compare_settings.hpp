// The settings of the comparison engine.
#pragma once

#include "pg/prelude.hpp"

namespace pg::compare {

// How a comparison finds the rows that may differ. `automatic` takes the cheapest that is exact for the case.
enum class Method : int { automatic, sketch, radix, join };
// How a side is read. `automatic` takes the cheapest that the side allows.
enum class Path : int { automatic, raw, slots, executor };

extern int memory_kb;
extern int method;
extern int path;

void define_settings();

} // namespace pg::compare
