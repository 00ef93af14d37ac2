#pragma once

#include "pg/prelude.hpp"

namespace pg::task {

extern int payload_limit_kb;

// 42501, where a role of the tenant's name exists and the user is no member of it.
void check_tenant(std::string_view tenant);

} // namespace pg::task
