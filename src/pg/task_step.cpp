// task_step(): the tasks that stand for the steps of runs (68_step.sql). They are made in the state in which they are,
// and never queued.
#include "pg/task_answer.hpp"

extern "C" {
#include "miscadmin.h"
}

namespace pg::task {
namespace {

text* optional_text(FunctionCallInfo fcinfo, int argument) {
    return PG_ARGISNULL(argument) ? nullptr : PG_GETARG_TEXT_PP(argument);
}

text* executor_name() {
    return cstring_to_text(psprintf("executor %d", MyProcPid));
}

pg_uuid_t make_step(text* kind, tandem::TaskState state, Datum payload, Datum result, text* reason, bool urgent) {
    Row row{};
    row.kind = kind;
    row.severity = cstring_to_text(urgent ? "critical" : "normal");
    row.priority = urgent ? 30 : 10;
    row.max_attempts = PG_INT16_MAX; // a run does not give a step up: people end runs
    row.tenant = cstring_to_text("");
    row.owner = cstring_to_text(GetUserNameFromId(GetOuterUserId(), false));
    row.worker = executor_name();
    row.payload = payload;
    row.result = result;
    row.state = tandem::TaskState::pending;
    const TimestampTz now = GetCurrentTimestamp();
    row.created_at = now;
    move_to(row, state, now);
    row.worker = executor_name();
    insert(row, Note{"task_create", reason, Datum{0}});
    return row.id;
}

void move_step(const pg_uuid_t& id, tandem::TaskState state, Datum result, text* reason) {
    const Note note{"task_step", reason, Datum{0}};
    text* worker = executor_name();
    const Outcome outcome = change(id, Wait::block, note, [&](const Row& before, Row& after) {
        if (before.state == state) {
            after.attempt = static_cast<int16>(std::min<int>(before.attempt + 1, PG_INT16_MAX)); // begun again
        } else if (!tandem::may_change(kind_of(before.kind).transitions, before.state, state)) {
            return Decision::leave;
        }
        move_to(after, state, after.updated_at);
        after.worker = worker;
        if (result != Datum{0}) {
            after.result = result;
        }
        return Decision::write;
    });
    if (outcome != Outcome::written) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the task of this step is not there, or was ended by somebody else"),
                        errhint("The next round makes another one.")));
    }
}

} // namespace
} // namespace pg::task

// task_step(id, kind, state, payload, result, reason) → id
TANDEM_FUNCTION(tandem_task_step) {
    return pg::entry([&]() -> Datum {
        using namespace pg::task;
        constexpr const char* kHint = "tandem.task_step(id, kind, state, payload, result, reason)";
        if (PG_ARGISNULL(2)) {
            null_argument("state", kHint);
        }
        if (PG_ARGISNULL(0) && (PG_ARGISNULL(1) || PG_ARGISNULL(3))) {
            null_argument(PG_ARGISNULL(1) ? "kind" : "payload", kHint);
        }
        const tandem::TaskState state = parse_state(PG_GETARG_TEXT_PP(2));
        const Datum result = PG_ARGISNULL(4) ? Datum{0} : PG_GETARG_DATUM(4);
        text* reason = optional_text(fcinfo, 5);
        if (!PG_ARGISNULL(0)) {
            move_step(*PG_GETARG_UUID_P(0), state, result, reason);
            PG_RETURN_DATUM(PG_GETARG_DATUM(0));
        }
        text* kind = PG_GETARG_TEXT_PP(1);
        const bool urgent = view(kind) == "tandem.rollback";
        auto* id = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
        *id = make_step(kind, state, PG_GETARG_DATUM(3), result, reason, urgent);
        PG_RETURN_UUID_P(id);
    });
}
