// task_cas_many(): many compare-and-sets in one call. Rows are changed in the order of their ids, whatever order they
// are given in, so that calls which overlap wait for one another and never in a circle.
//
// atomic: every row is judged before the first is changed, so a conflict costs no writes. Should a row change between
// the two, all that was changed is rolled back with a subtransaction, and judged once more.
#include "pg/task_cas.hpp"

#include "pg/task_answer.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/jsonb.h"
}

namespace pg::task {
namespace {

constexpr const char* kHint =
    "tandem.task_cas_many(ids uuid[], expected bigint[], states text[], patches jsonb[], atomic boolean)";

struct Elements {
    Datum* values;
    bool* nulls;
    int count;
};

Elements elements(FunctionCallInfo fcinfo, int argument, const char* name, Oid type, int16 length, bool by_value,
                  char align, bool may_have_nulls) {
    if (PG_ARGISNULL(argument)) {
        null_argument(name, kHint);
    }
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(argument);
    if (ARR_NDIM(array) > 1) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must have one dimension", name),
                        errdetail("It has %d.", ARR_NDIM(array)), errhint("%s", kHint)));
    }
    Elements result{};
    deconstruct_array(array, type, length, by_value, align, &result.values, &result.nulls, &result.count);
    for (int i = 0; i < result.count && !may_have_nulls; i++) {
        if (result.nulls[i]) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain NULL", name),
                            errdetail("Element %d is NULL.", i + 1), errhint("%s", kHint)));
        }
    }
    return result;
}

void check_length(const char* name, int count, int ids) {
    if (count != ids) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the arrays must have the same length"),
                        errdetail("ids has %d elements, %s has %d.", ids, name, count), errhint("%s", kHint)));
    }
}

// The requests, in the order of their ids; `place`: where each was given.
struct Requests {
    Request* requests;
    int* place;
    int count;
};

Requests get_requests(FunctionCallInfo fcinfo) {
    const Elements ids = elements(fcinfo, 0, "ids", UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, false);
    const Elements expected =
        elements(fcinfo, 1, "expected", INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, false);
    const Elements states = elements(fcinfo, 2, "states", TEXTOID, -1, false, TYPALIGN_INT, false);
    check_length("expected", expected.count, ids.count);
    check_length("states", states.count, ids.count);
    Elements patches{};
    if (!PG_ARGISNULL(3)) {
        patches = elements(fcinfo, 3, "patches", JSONBOID, -1, false, TYPALIGN_INT, true);
        check_length("patches", patches.count, ids.count);
    }
    const auto count = static_cast<std::size_t>(ids.count);
    Requests result{static_cast<Request*>(palloc_extended(count * sizeof(Request) + 1, MCXT_ALLOC_HUGE)),
                    static_cast<int*>(palloc_extended(count * sizeof(int) + 1, MCXT_ALLOC_HUGE)), ids.count};
    for (int i = 0; i < result.count; i++) {
        result.place[i] = i;
    }
    std::sort(result.place, result.place + result.count, [&](int a, int b) {
        return memcmp(DatumGetUUIDP(ids.values[a]), DatumGetUUIDP(ids.values[b]), UUID_LEN) < 0;
    });
    for (int i = 0; i < result.count; i++) {
        const int place = result.place[i];
        Request& request = result.requests[i];
        request = {*DatumGetUUIDP(ids.values[place]), DatumGetInt64(expected.values[place]),
                   parse_state(DatumGetTextPP(states.values[place])), Datum{0}};
        check_expected(request.expected);
        if (patches.values != nullptr && !patches.nulls[place]) {
            request.patch = JsonbPGetDatum(DatumGetJsonbP(patches.values[place]));
            check_patch(request.patch);
        }
        if (i > 0 && memcmp(&request.id, &result.requests[i - 1].id, UUID_LEN) == 0) {
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a task stands more than once in ids"),
                     errdetail("id: %s", DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&request.id)))),
                     errhint("Make one change of a task in one call.")));
        }
    }
    return result;
}

struct Conflict {}; // thrown to roll back what was changed

struct Call {
    Table table;
    Scope scope;
    Requests requests;
    Answer* answers;
    MemoryContext row_context; // reset after each row
    MemoryContext call_context;

    void one(int i, Act act) const {
        MemoryContextSwitchTo(row_context);
        Answer answer = compare_and_set(table, scope, requests.requests[i], act);
        MemoryContextSwitchTo(call_context);
        if (answer.reason != nullptr) {
            answer.reason = pstrdup(answer.reason);
        }
        answers[i] = answer;
        MemoryContextReset(row_context);
    }

    bool judge_all() const {
        bool all_ok = true;
        for (int i = 0; i < requests.count; i++) {
            one(i, Act::judge);
            all_ok = all_ok && answers[i].verdict == Verdict::ok;
        }
        return all_ok;
    }

    // The first row that has come to conflict meanwhile, or -1.
    int change_all() const {
        int failed = -1;
        try {
            ErrorData* error = attempt([&] {
                for (int i = 0; i < requests.count; i++) {
                    one(i, Act::change);
                    if (answers[i].verdict != Verdict::ok) {
                        failed = i;
                        throw Conflict{};
                    }
                }
            });
            if (error != nullptr) {
                throw Error(error);
            }
        } catch (const Conflict&) {
        }
        return failed;
    }

    void all_or_nothing() const {
        if (judge_all()) {
            const int failed = requests.count == 0 ? -1 : change_all();
            if (failed < 0) {
                return;
            }
            const Answer first = answers[failed];
            judge_all();
            answers[failed] = first;
        }
        for (int i = 0; i < requests.count; i++) {
            if (answers[i].verdict == Verdict::ok) {
                answers[i].verdict = Verdict::not_done;
                answers[i].reason = "not done: another task of this call conflicts";
            }
        }
    }
};
static_assert(std::is_trivially_destructible_v<Call>);

void put_answers(FunctionCallInfo fcinfo, const Call& call) {
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    auto* at = static_cast<int*>(
        palloc_extended(static_cast<std::size_t>(call.requests.count) * sizeof(int) + 1, MCXT_ALLOC_HUGE));
    for (int i = 0; i < call.requests.count; i++) {
        at[call.requests.place[i]] = i;
    }
    for (int place = 0; place < call.requests.count; place++) {
        const Answer& answer = call.answers[at[place]];
        const bool exists = answer.verdict != Verdict::missing;
        Datum values[] = {UUIDPGetDatum(&call.requests.requests[at[place]].id),
                          BoolGetDatum(answer.verdict == Verdict::ok), Int64GetDatum(answer.version),
                          PointerGetDatum(state_text(answer.state)),
                          answer.reason == nullptr ? Datum{0} : CStringGetTextDatum(answer.reason)};
        bool nulls[] = {false, false, !exists, !exists, answer.reason == nullptr};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
}

} // namespace
} // namespace pg::task

TANDEM_FUNCTION(tandem_task_cas_many) {
    return pg::entry([&]() -> Datum {
        using namespace pg::task;
        InitMaterializedSRF(fcinfo, 0);
        Call call{};
        call.requests = get_requests(fcinfo);
        if (PG_ARGISNULL(4)) {
            null_argument("atomic", kHint);
        }
        const bool atomic = PG_GETARG_BOOL(4);
        call.answers = static_cast<Answer*>(
            palloc_extended(static_cast<std::size_t>(call.requests.count) * sizeof(Answer) + 1, MCXT_ALLOC_HUGE));
        call.call_context = CurrentMemoryContext;
        call.row_context = AllocSetContextCreate(CurrentMemoryContext, "task_cas_many row", ALLOCSET_DEFAULT_SIZES);
        begin_writing();
        call.table = open_table(RowExclusiveLock);
        call.scope = current_scope();
        if (atomic) {
            call.all_or_nothing();
        } else {
            for (int i = 0; i < call.requests.count; i++) {
                call.one(i, Act::change);
            }
        }
        close_table(call.table);
        put_answers(fcinfo, call);
        return Datum{0};
    });
}
