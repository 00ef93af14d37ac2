// Which rows depend on no setting: their mirrored write needs none of the settings that ActAs pins.
#pragma once

#include "pg/prelude.hpp"

namespace pg::settled {

// Do these expressions give the same value under any settings, and call no code but PostgreSQL's own?
bool is_settled(List* expressions);

// ... and does a row of the table meet no others, in its constraints and indexes, when it is updated?
bool is_settled(Relation table);

} // namespace pg::settled
