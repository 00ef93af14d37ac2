// task_cancel(), task_requeue(): what a person decides about a task, with the reason.
#include "pg/task_answer.hpp"

namespace pg::queue {
namespace {

using enum tandem::TaskState;

struct Verb {
    const char* event;
    const char* hint;
    tandem::TaskState to;
    bool (*allows)(const task::Row& row);
};

constexpr Verb kCancel{"task_cancel", "tandem.task_cancel(id, 'why')", cancelled,
                       [](const task::Row& row) { return !tandem::is_finished(row.state); }};
constexpr Verb kRequeue{"task_requeue", "tandem.task_requeue(id, 'why')", pending,
                        [](const task::Row& row) { return row.state == dead; }};

constexpr task::OutColumn kColumns[] = {{"ok", BOOLOID}, {"version", INT8OID}, {"state", TEXTOID}};
TupleDesc answer_type = nullptr;

// Not asked of the kind's transitions: a person must be able to end whatever hangs.
Datum apply(const Verb& verb, FunctionCallInfo fcinfo) {
    if (PG_ARGISNULL(0)) {
        task::null_argument("id", verb.hint);
    }
    if (PG_ARGISNULL(1) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0) {
        ereport(ERROR, (errcode(PG_ARGISNULL(1) ? ERRCODE_NULL_VALUE_NOT_ALLOWED : ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a reason is needed"), errdetail("It stands in the event."), errhint("%s", verb.hint)));
    }
    const task::Note note{verb.event, PG_GETARG_TEXT_PP(1)};
    int64 version = 0;
    tandem::TaskState state = pending;
    const auto decide = [&](const task::Row& before, task::Row& after) {
        version = before.version;
        state = before.state;
        if (!verb.allows(before)) {
            return task::Decision::leave;
        }
        version = after.version;
        state = verb.to;
        task::move_to(after, verb.to, after.updated_at);
        after.lease_token = task::kNone;
        return task::Decision::write;
    };
    const pg_uuid_t id = *PG_GETARG_UUID_P(0);
    const task::Outcome outcome = task::change(id, task::Wait::block, note, decide);
    if (outcome == task::Outcome::missing) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("task %s does not exist", DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(0)))),
                        errdetail("There is no such task, or it belongs to a tenant that this session does not see."),
                        errhint("SELECT task_id, kind, state FROM tandem.tasks")));
    }
    const Datum values[] = {BoolGetDatum(outcome == task::Outcome::written), Int64GetDatum(version),
                            PointerGetDatum(task::state_text(state))};
    const bool nulls[] = {false, false, false};
    return task::make_record(&answer_type, kColumns, values, nulls);
}

} // namespace
} // namespace pg::queue

TANDEM_FUNCTION(tandem_task_cancel) {
    return pg::entry([&]() -> Datum { return pg::queue::apply(pg::queue::kCancel, fcinfo); });
}

TANDEM_FUNCTION(tandem_task_requeue) {
    return pg::entry([&]() -> Datum { return pg::queue::apply(pg::queue::kRequeue, fcinfo); });
}
