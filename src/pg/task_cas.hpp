// Compare-and-set: one change that is asked for, and its judgement. task_cas.cpp and task_cas_many.cpp.
#pragma once

#include "pg/task_table.hpp"

namespace pg::task {

struct Request {
    pg_uuid_t id;
    int64 expected;
    tandem::TaskState to;
    Datum patch; // jsonb object; 0: none
};

enum class Verdict : std::uint8_t { ok, missing, stale, illegal, too_large, no_object, not_done };
struct Answer {
    Verdict verdict;
    tandem::TaskState state; // as it is now; of a change that was made: after it
    int64 version;
    const char* reason; // in words; nullptr where it is ok
};

// Judges and, unless it is to be judged only, changes. A conflict is an answer.
enum class Act { judge, change };
Answer compare_and_set(const Table& table, const Scope& scope, const Request& request, Act act);

// 22023 for a negative version.
void check_expected(int64 version);

} // namespace pg::task
