// Statements that are asked again and again, planned once in a session.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// The plan of a statement, made now or kept from the last time; between SPI_connect and SPI_finish. It is of the
// current user: planning looks at what he may execute. PostgreSQL itself notices when something that the plan depends
// on changes.
SPIPlanPtr kept_plan(const char* sql, int count, Oid* types);

} // namespace pg
