// task_cas(), task_cas_strict(): a change of a task that holds only for the version it was thought of.
#include "pg/task_cas.hpp"

#include "pg/task_answer.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace pg::task {
namespace {

void refuse(Answer& answer, Verdict verdict, const char* reason) {
    answer.verdict = verdict;
    answer.reason = reason;
}

// Fills in what the row is to become, or why it stays.
Decision judge(const Request& request, const Row& before, Row& after, Answer& answer) {
    answer = {Verdict::ok, before.state, before.version, nullptr};
    if (before.version != request.expected) {
        refuse(answer, Verdict::stale,
               psprintf("stale: the version is " INT64_FORMAT ", not " INT64_FORMAT, before.version, request.expected));
        return Decision::leave;
    }
    if (is_reserved(view(before.kind)) && !superuser()) {
        refuse(answer, Verdict::illegal, "illegal: the task is a step of a run, which only the run changes");
        return Decision::leave;
    }
    if (!tandem::may_change(kind_of(before.kind).transitions, before.state, request.to)) {
        refuse(answer, Verdict::illegal,
               psprintf("illegal: a task of kind \"%s\" does not go from %s to %s", text_to_cstring(before.kind),
                        tandem::task_state_name(before.state).data(), tandem::task_state_name(request.to).data()));
        return Decision::leave;
    }
    if (request.patch != Datum{0}) {
        if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(before.payload))) {
            refuse(answer, Verdict::no_object,
                   "no object: the task's payload is none, so nothing can be merged into it");
            return Decision::leave;
        }
        after.payload = merge(before.payload, request.patch);
        if (const std::size_t over = bytes_over_limit(after.payload); over > 0) {
            refuse(answer, Verdict::too_large,
                   psprintf("too large: with the patch the payload is %zu bytes over tandem.task_payload_limit", over));
            return Decision::leave;
        }
    }
    move_to(after, request.to, after.updated_at);
    return Decision::write;
}

} // namespace

Answer compare_and_set(const Table& table, const Scope& scope, const Request& request, Act act) {
    Answer answer{Verdict::missing, tandem::TaskState::pending, 0, "missing: there is no such task"};
    Note note{"task_cas", nullptr, request.patch};
    const auto decide = [&](const Row& before, Row& after) {
        const Decision decision = judge(request, before, after, answer);
        return act == Act::judge ? Decision::leave : decision;
    };
    const Outcome outcome = change_in(table, scope, request.id, Wait::block, note, decide);
    if (outcome == Outcome::missing) {
        answer = {Verdict::missing, tandem::TaskState::pending, 0, "missing: there is no such task"};
    } else if (answer.verdict == Verdict::ok && outcome == Outcome::written) {
        answer.state = request.to;
        answer.version++;
    }
    return answer;
}

namespace {

constexpr const char* kHint = "tandem.task_cas(id, expected_version, new_state, patch)";

Request get_request(FunctionCallInfo fcinfo) {
    if (PG_ARGISNULL(0)) {
        null_argument("id", kHint);
    }
    if (PG_ARGISNULL(1)) {
        null_argument("expected_version", kHint);
    }
    if (PG_ARGISNULL(2)) {
        null_argument("new_state", kHint);
    }
    Request request{*PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), parse_state(PG_GETARG_TEXT_PP(2)), Datum{0}};
    check_expected(request.expected);
    if (!PG_ARGISNULL(3)) {
        request.patch = JsonbPGetDatum(PG_GETARG_JSONB_P(3));
        check_patch(request.patch);
    }
    return request;
}

Answer answer_to(const Request& request) {
    begin_writing();
    const Table table = open_table(RowExclusiveLock);
    const Answer answer = compare_and_set(table, current_scope(), request, Act::change);
    close_table(table);
    return answer;
}

// What is no conflict between two writers, but a request that can't be granted to anybody.
void raise_impossible(const Request& request, const Answer& answer) {
    if (answer.verdict == Verdict::too_large) {
        Row row;
        if (find(request.id, row)) {
            check_limit("payload", merge(row.payload, request.patch));
        }
    }
    if (answer.verdict == Verdict::too_large || answer.verdict == Verdict::no_object) {
        ereport(ERROR, (errcode(answer.verdict == Verdict::too_large ? ERRCODE_PROGRAM_LIMIT_EXCEEDED
                                                                     : ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the patch cannot be merged into the task's payload"), errdetail("%s", answer.reason)));
    }
}

char* uuid_text(const pg_uuid_t& id) {
    return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id)));
}

[[noreturn]] void raise(const Request& request, const Answer& answer) {
    const char* id = uuid_text(request.id);
    switch (answer.verdict) {
    case Verdict::stale:
        ereport(ERROR, (errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '9')), errmsg("task %s has changed", id),
                        errdetail("Expected version " INT64_FORMAT "; actual version " INT64_FORMAT ", state %s.",
                                  request.expected, answer.version, tandem::task_state_name(answer.state).data()),
                        errhint("Read the task again, and decide anew: the same call can never succeed.")));
        break;
    case Verdict::illegal:
        ereport(
            ERROR,
            (errcode(MAKE_SQLSTATE('P', 'T', '4', '2', '2')),
             errmsg("task %s cannot go from %s to %s", id, tandem::task_state_name(answer.state).data(),
                    tandem::task_state_name(request.to).data()),
             errdetail("Expected version " INT64_FORMAT "; actual version " INT64_FORMAT
                       ", state %s; requested state %s.",
                       request.expected, answer.version, tandem::task_state_name(answer.state).data(),
                       tandem::task_state_name(request.to).data()),
             errhint(
                 "Table tandem.transition has the legal changes; tandem.task_transitions() gives a kind its own.")));
        break;
    default:
        ereport(ERROR,
                (errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '4')), errmsg("task %s does not exist", id),
                 errdetail("Expected version " INT64_FORMAT "; there is no such task, or it belongs to a tenant that "
                           "this session does not see.",
                           request.expected),
                 errhint("Check the id, and the setting tandem.tenant.")));
    }
    pg_unreachable();
}

constexpr OutColumn kColumnsOut[] = {{"ok", BOOLOID}, {"version", INT8OID}, {"state", TEXTOID}, {"reason", TEXTOID}};
TupleDesc answer_type = nullptr;

} // namespace

void check_expected(int64 version) {
    if (version < 0) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a version is never negative: " INT64_FORMAT, version),
                        errhint("task_create() answers with version 1, each change with the next one.")));
    }
}

} // namespace pg::task

// task_cas(id, expected_version, new_state, patch) → (ok, version, state, reason)
TANDEM_FUNCTION(tandem_task_cas) {
    return pg::entry([&]() -> Datum {
        using namespace pg::task;
        const Request request = get_request(fcinfo);
        const Answer answer = answer_to(request);
        raise_impossible(request, answer);
        const bool exists = answer.verdict != Verdict::missing;
        const Datum values[] = {BoolGetDatum(answer.verdict == Verdict::ok), Int64GetDatum(answer.version),
                                PointerGetDatum(state_text(answer.state)),
                                answer.reason == nullptr ? Datum{0} : CStringGetTextDatum(answer.reason)};
        const bool nulls[] = {false, !exists, !exists, answer.reason == nullptr};
        return make_record(&answer_type, kColumnsOut, values, nulls);
    });
}

// The same for callers who want an error: PT409 stale, PT422 illegal, PT404 missing. Answers the new version.
TANDEM_FUNCTION(tandem_task_cas_strict) {
    return pg::entry([&]() -> Datum {
        using namespace pg::task;
        const Request request = get_request(fcinfo);
        const Answer answer = answer_to(request);
        raise_impossible(request, answer);
        if (answer.verdict != Verdict::ok) {
            raise(request, answer);
        }
        PG_RETURN_INT64(answer.version);
    });
}
