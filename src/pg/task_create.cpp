// task_create(): a new task, or the one that was made with the same idempotency key.
#include "pg/task_answer.hpp"
#include "pg/task_settings.hpp"

#include "pg/role.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace pg::task {
namespace {

constexpr const char* kHint =
    "tandem.task_create(kind, payload, idem_key, severity, run_at, tenant, priority, max_attempts)";

struct Severity {
    std::string_view name;
    int16 priority;
};
constexpr Severity kSeverities[] = {{"normal", 10}, {"low", 0}, {"high", 20}, {"critical", 30}};

const Severity& parse_severity(const text* name) {
    for (const Severity& severity : kSeverities) {
        if (view(name) == severity.name) {
            return severity;
        }
    }
    const int shown = pg_mbcliplen(VARDATA_ANY(name), static_cast<int>(VARSIZE_ANY_EXHDR(name)), 100);
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown severity \"%.*s\"", shown, VARDATA_ANY(name)),
             errhint("Severities are: low, normal, high, critical.")));
    pg_unreachable();
}

void check_name(const char* what, const text* name, int longest) {
    const auto size = static_cast<int>(VARSIZE_ANY_EXHDR(name));
    if (size == 0) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be empty", what), errhint("%s", kHint)));
    }
    if (size > longest) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is too long", what),
                        errdetail("It has %d bytes; at most %d are allowed.", size, longest),
                        errhint("Keep long texts in the payload.")));
    }
}

void check_kind(FunctionCallInfo fcinfo, const text* kind) {
    check_name("kind", kind, kLongestKind);
    if (view(kind) == "*") {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no task is of kind \"*\""),
                        errhint("In tables \"*\" stands for every kind that is not named there.")));
    }
    if (is_reserved(view(kind)) && GetUserId() != function_owner(fcinfo->flinfo->fn_oid) && !superuser()) {
        ereport(ERROR,
                (errcode(ERRCODE_RESERVED_NAME), errmsg("kinds that begin with \"tandem.\" are the steps of runs"),
                 errhint("Choose another name for the kind.")));
    }
}

// A number that fits into a smallint, or the default where it is NULL.
int16 small_number(FunctionCallInfo fcinfo, int argument, const char* name, int least, int16 other) {
    if (PG_ARGISNULL(argument)) {
        return other;
    }
    const int32 value = PG_GETARG_INT32(argument);
    if (value < least || value > PG_INT16_MAX) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s %d is out of range", name, value),
                        errhint("It is from %d to %d.", least, PG_INT16_MAX)));
    }
    return static_cast<int16>(value);
}

text* get_tenant(FunctionCallInfo fcinfo, int argument) {
    const Scope scope = current_scope();
    if (PG_ARGISNULL(argument)) {
        return cstring_to_text_with_len(scope.only.data(), static_cast<int>(scope.only.size()));
    }
    text* tenant = PG_GETARG_TEXT_PP(argument);
    if (VARSIZE_ANY_EXHDR(tenant) > 0) {
        check_name("tenant", tenant, kLongestTenant);
    }
    if (!is_visible(scope, tenant)) {
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("permission denied for tenant \"%s\"", text_to_cstring(tenant)),
                 errdetail("This session makes tasks of tenant \"%.*s\" only.", static_cast<int>(scope.only.size()),
                           scope.only.data() == nullptr ? "" : scope.only.data()),
                 errhint("SET tandem.tenant = %s", quote_literal_cstr(text_to_cstring(tenant)))));
    }
    check_tenant(view(tenant));
    return tenant;
}

Row get_row(FunctionCallInfo fcinfo) {
    Row row{};
    if (PG_ARGISNULL(0)) {
        null_argument("kind", kHint);
    }
    row.kind = PG_GETARG_TEXT_PP(0);
    check_kind(fcinfo, row.kind);
    row.payload = PG_ARGISNULL(1) ? DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")) : PG_GETARG_DATUM(1);
    if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(row.payload))) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a payload must be a JSON object"),
                 errdetail("Patches are merged into it, key by key."), errhint("For example: '{\"order\": 42}'")));
    }
    check_limit("payload", row.payload);
    if (!PG_ARGISNULL(2)) {
        row.idem_key = PG_GETARG_TEXT_PP(2);
        check_name("idem_key", row.idem_key, kLongestIdemKey);
    }
    const Severity& severity = PG_ARGISNULL(3) ? kSeverities[0] : parse_severity(PG_GETARG_TEXT_PP(3));
    row.severity = PG_ARGISNULL(3) ? cstring_to_text("normal") : PG_GETARG_TEXT_PP(3);
    row.run_at = PG_ARGISNULL(4) ? kNone : PG_GETARG_TIMESTAMPTZ(4); // insert(): at once
    if (TIMESTAMP_NOT_FINITE(row.run_at)) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("run_at must be finite"),
                        errhint("NULL means at once.")));
    }
    row.tenant = get_tenant(fcinfo, 5);
    row.priority = small_number(fcinfo, 6, "priority", PG_INT16_MIN, severity.priority);
    row.max_attempts = small_number(fcinfo, 7, "max_attempts", 1, 0);
    if (row.max_attempts == 0) {
        row.max_attempts = kind_of(row.kind).max_attempts;
    }
    row.owner = cstring_to_text(GetUserNameFromId(GetUserId(), false));
    row.state = tandem::TaskState::pending;
    return row;
}

constexpr OutColumn kColumnsOut[] = {{"id", UUIDOID}, {"version", INT8OID}, {"created", BOOLOID}};
TupleDesc answer_type = nullptr;

} // namespace
} // namespace pg::task

// task_create(kind, payload, idem_key, severity, run_at, tenant, priority, max_attempts) → (id, version, created)
TANDEM_FUNCTION(tandem_task_create) {
    return pg::entry([&]() -> Datum {
        using namespace pg::task;
        Row row = get_row(fcinfo);
        const bool created = insert(row, Note{"task_create"});
        const Datum values[] = {UUIDPGetDatum(&row.id), Int64GetDatum(row.version), BoolGetDatum(created)};
        const bool nulls[] = {false, false, false};
        return make_record(&answer_type, kColumnsOut, values, nulls);
    });
}
