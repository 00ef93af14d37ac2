// One task row in C++, and the one way to change it. Every function of the task surface goes through create() and change():
//
//   change()  1 finds the row by id and locks it (a fresh snapshot: what is committed now, in any isolation level)
//             2 lets the caller look at it and decide (`decide`)
//             3 updates it (HOT), version + 1
//             4 audit::append()           src/pg/audit        the event of the change
//             5 queue::task_moved()       src/pg/task_queue   task_ready, wake-ups
//             6 deadline::task_moved()    src/pg/deadline     task_deadline, the coordinator's heap
//
// It goes past triggers, row security and foreign keys: there are none on these tables but the policies for readers, whose rule
// (tenant) is checked here.
#pragma once

#include "core/task_state.hpp"
#include "pg/prelude.hpp"

namespace pg::task {

// Plain data; texts point into the tuple or the caller's memory. A time or token that is not there is 0 (kNone).
inline constexpr TimestampTz kNone = 0;
struct Row {
    pg_uuid_t id;
    int64 version;
    TimestampTz created_at, updated_at, run_at;
    int16 priority, attempt, max_attempts;
    tandem::TaskState state;
    text* kind;
    text* severity;
    text* tenant;
    text* owner;
    Datum payload; // jsonb
    text* idem_key;
    TimestampTz started_at, finished_at, start_due, finish_due;
    text* worker;
    int64 lease_token;
    TimestampTz lease_until;
    Datum result; // jsonb, 0: none
};
static_assert(std::is_trivially_copyable_v<Row>);

// What `decide` answers: keep the row as it is (a conflict is an answer), or write `after`.
enum class Decision { leave, write };

// Finds and locks the task, asks decide(before, after): `after` is a copy of `before` to be changed (version and updated_at are done by
// change()). Returns false where there is no such task, or none that the caller may see. `event` tells what is recorded.
struct Note {
    const char* event;      // "task_cas", ...
    text* reason = nullptr;
    Datum evidence = 0;     // jsonb
};
enum class Wait { block, skip_locked };
template <class Decide>
bool change(const pg_uuid_t& id, Wait wait, const Note& note, Decide&& decide); // owner: src/pg/task.cpp; may become a function pointer

} // namespace pg::task

namespace pg::queue {
// Keeps task_ready in step with a task that was made (before == nullptr) or changed: a row stands there exactly while the task is claimable
// (tandem::is_claimable) under its (tenant, kind, priority, run_at). Notes the wake-up for the commit.
void task_moved(const task::Row* before, const task::Row& after);
} // namespace pg::queue

namespace pg::deadline {
// The deadlines of a new task by its policy (kNone: none); warn times stand in task_deadline only.
struct Due {
    TimestampTz start_warn, start_due, finish_warn, finish_due;
};
Due due_for(text* kind, text* severity, TimestampTz created_at, TimestampTz run_at);

// Keeps task_deadline in step: start_* until started_at is set, finish_* until finished_at is set, lease_due while lease_until is set; no row
// where nothing is due. `due` for a new task only. Tells the coordinator at commit.
void task_moved(const task::Row* before, const task::Row& after, const Due* due);
} // namespace pg::deadline
