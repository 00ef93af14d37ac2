// Being told that a relation changed. PostgreSQL has ten places for such callbacks in a process, its own among them,
// and ends the session of whoever asks for one more: so all of ours share one.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// Calls f(Datum{0}, relation) at every invalidation of a relation, InvalidOid for all, from now on. Once for each f.
void watch_relations(RelcacheCallbackFunction f);

} // namespace pg
