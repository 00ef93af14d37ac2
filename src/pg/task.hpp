// One task row in C++, and the two ways to write it: insert() and change(). Every function of the task surface goes
// through them.
//
//   change()  1 finds the row by id (what is committed now, in any isolation level but SERIALIZABLE)
//             2 lets the caller look at it and decide
//             3 updates it (HOT), version + 1; where another transaction was faster: waits for it, and goes on with 1
//             4 audit::append()           src/pg/audit        the event of the change
//             5 queue::task_moved()       src/pg/task_queue   task_ready, wake-ups
//             6 deadline::task_moved()    src/pg/deadline     task_deadline, the coordinator's heap
//   insert()  the same for a new row
//
// It goes past triggers, row security and foreign keys: there are none on these tables but the policies for readers,
// whose rule (task_tenant.cpp) is checked here.
//
// Isolation: READ COMMITTED and REPEATABLE READ judge what is committed now, so a stale version is an answer and never
// a 40001. REPEATABLE READ has one exception: the task has changed since the snapshot, and the change is legal all the
// same (its new version was expected). The transaction would see both versions of the row then, its snapshot's and its
// own, so this raises 40001, as it would for an UPDATE; skip_locked skips the task. In SERIALIZABLE everything is read
// in the transaction's snapshot, with its predicate locks, and a task that somebody else changed since then raises
// 40001. In both cases a retry has a newer snapshot and gets its answer.
//
// Frames here and in the callbacks hold plain data only: PostgreSQL may raise an ERROR from any of them.
#pragma once

#include "core/task_state.hpp"
#include "pg/prelude.hpp"

extern "C" {
#include "utils/uuid.h"
}

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
    Datum payload; // jsonb; as it is stored: detoast it before looking at it, hand it on as it is
    text* idem_key;
    TimestampTz started_at, finished_at, start_due, finish_due;
    text* worker;
    int64 lease_token;
    TimestampTz lease_until;
    Datum result; // jsonb, 0: none; as payload
};
static_assert(std::is_trivially_copyable_v<Row>);

// What the event of a change tells. Read after `decide` was called, which may fill it in.
struct Note {
    const char* event; // "task_cas", ...
    text* reason = nullptr;
    Datum evidence = 0; // jsonb
};

enum class Decision {
    leave, // keep the row as it is: a conflict is an answer
    write, // write `after`
    touch  // the same, but it is no change of the task (a heartbeat): version and updated_at stay, there is no event
};

// `after` is a copy of `before` with version + 1 and updated_at = now, to be changed further (move_to() below, payload,
// ...). id, kind, tenant, idem_key and created_at stay. Called again, with the row as it is then, where another
// transaction was faster: so it decides by its arguments alone and does nothing else. It may raise an ERROR. After
// Decision::write the texts and datums of `after` must live until change() returns.
using Decide = Decision (*)(void* context, const Row& before, Row& after);

enum class Wait {
    block,      // a row that an open transaction has changed is waited for, also where the decision is to leave it
    skip_locked // ... is skipped
};
enum class Outcome { missing, skipped, left, written }; // missing: no such task, or none that the caller may see

Outcome change(const pg_uuid_t& id, Wait wait, const Note& note, Decide decide, void* context);

// The same for a lambda: change(id, wait, note, [&](const Row& before, Row& after) { ...; return Decision::write; }).
template <class F>
Decision decision_of(void* context, const Row& before, Row& after) {
    static_assert(std::is_trivially_destructible_v<std::remove_reference_t<F>>);
    return (*static_cast<std::remove_reference_t<F>*>(context))(before, after);
}
template <class F>
void* context_of(F& decide) {
    return const_cast<void*>(static_cast<const void*>(&decide));
}
template <class F>
Outcome change(const pg_uuid_t& id, Wait wait, const Note& note, F&& decide) {
    return change(id, wait, note, decision_of<F>, context_of(decide));
}

// Puts a task into a state, with all that follows from it. The one place where that is defined:
//
//   attempt      + 1 where work begins: entering claimed or running from a state in which nobody works on it; from
//   escalated,
//                whose holder may go on with running, by claimed only
//   started_at   the first time that it is claimed, running, done or failed
//   finished_at  set by done, dead, cancelled; NULL again when it leaves them
//   lease_until  NULL (nobody holds it) where work begins or has ended; kept by escalated and while work goes on
//   lease_token, worker   forgotten by pending (whoever held it can't finish it any more) and by an attempt that begins
//                without a claim; else kept, so that a late result still lands
//   run_at       now, where pending follows failed or dead: it is wanted at once; else kept
//   attempt      0, where pending follows done, dead or cancelled: it has all its attempts again
//
// From a state to itself: nothing but version and updated_at. task_claim sets worker, token and lease after it;
// task_finish sets run_at of what failed (backoff) after it.
void move_to(Row& row, tandem::TaskState to, TimestampTz now);

// A new task. `row` is complete but for id (all zero: one is made), version, created_at, updated_at and run_at (0: 1
// and now); kind_of() and the defaults are the caller's. false: a task of its (tenant, kind, idem_key), or of its id
// where one was given, is there already; `row` then holds it, copied. A session that makes the same task at the same
// time is waited for.
bool insert(Row& row, const Note& note);

// Finds a task that the caller may see, as change() does, and copies it (into the current memory context).
bool find(const pg_uuid_t& id, Row& row);

// How a kind behaves, from tandem.transition and tandem.task_kind; kept until those change.
struct Kind {
    tandem::Transitions transitions;
    int16 max_attempts;
    int64 backoff;     // microseconds
    int64 backoff_max; // microseconds
};
Kind kind_of(text* kind);

// The constant text of a state.
text* state_text(tandem::TaskState state);
inline std::string_view view(const text* value) {
    return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

// Longest names, in bytes. All three of the idempotency key's columns must fit into one index entry.
inline constexpr int kLongestKind = 128;
inline constexpr int kLongestTenant = 128;
inline constexpr int kLongestIdemKey = 1024;

// The steps of runs; nobody else makes or claims tasks of such kinds.
inline bool is_reserved(std::string_view kind) {
    return kind.starts_with("tandem.");
}

// --- tenants (src/pg/task_tenant.cpp): the one rule, for C++ and for the policies.
// tandem.tenant set: that tenant only, and only for members of the role of its name where there is one (else 42501).
// Not set: superusers and members of the levels viewer, operator, oncall and admin see all; anyone else tenant '' only.
struct Scope {
    bool all;
    std::string_view only; // unless all; lives until the next change of roles or settings
};
Scope current_scope();
inline bool is_visible(const Scope& scope, const text* tenant) {
    return scope.all || view(tenant) == scope.only;
}

void define_settings();

} // namespace pg::task

namespace pg::queue {
// Keeps task_ready in step with a task that was made (before == nullptr) or changed: a row stands there exactly while
// the task is claimable (tandem::is_claimable) under its (tenant, kind, priority, run_at). Notes the wake-up for the
// commit.
void task_moved(const task::Row* before, const task::Row& after);
} // namespace pg::queue

namespace pg::deadline {
// The deadlines of a new task by its policy (kNone: none); warn times stand in task_deadline only.
struct Due {
    TimestampTz start_warn, start_due, finish_warn, finish_due;
};
Due due_for(text* kind, text* severity, TimestampTz created_at, TimestampTz run_at);

// Keeps task_deadline in step: start_* until started_at is set, finish_* until finished_at is set (which ends start_*,
// too), lease_due while lease_until is set; no row where nothing is due. `due` for a new task only. Tells the
// coordinator at commit.
void task_moved(const task::Row* before, const task::Row& after, const Due* due);
} // namespace pg::deadline
