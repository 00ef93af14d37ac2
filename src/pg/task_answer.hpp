// What the functions of the task surface share: arguments that they refuse, and the records that they answer with.
#pragma once

#include "pg/task.hpp"

namespace pg::task {

// 22004 for a NULL, 22023 for a name that is no state's.
[[noreturn]] void null_argument(const char* what, const char* hint);
tandem::TaskState parse_state(const text* name);

// The payload after the patch; patch 0: as it is. The patch must be an object, checked by check_patch() (22023).
void check_patch(Datum patch);
Datum merge(Datum payload, Datum patch);
// 0, or by how many bytes it is over tandem.task_payload_limit.
std::size_t bytes_over_limit(Datum payload);
// 54000, where it is.
void check_limit(const char* what, Datum payload);

// A record of OUT columns. Looking the type up costs more than a change of a task, so each backend makes it once.
struct OutColumn {
    const char* name;
    Oid type;
};
Datum make_record(TupleDesc* known, std::span<const OutColumn> columns, const Datum* values, const bool* nulls);

} // namespace pg::task
