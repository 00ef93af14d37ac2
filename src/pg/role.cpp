// Running SQL as another role: query_as() and execute_as(), for our own SECURITY DEFINER functions only. The SQL that a
// run's owner wrote (mapping expressions, comparisons, backfill) goes through here and nowhere else.
#include "pg/role.hpp"

extern "C" {
#include "executor/tstoreReceiver.h"
}

namespace pg {
namespace {

struct Pin {
    const char* name;
    const char* value;
};

// search_path: only pg_catalog, so that nobody's function of the same name gets in. The others decide how a value reads
// as text: the mirror and the comparison must agree, whatever the session that writes has set.
constexpr Pin kPins[] = {
    {"search_path", "pg_catalog, pg_temp"}, {"TimeZone", "UTC"},         {"DateStyle", "ISO, YMD"},
    {"IntervalStyle", "postgres"},          {"extra_float_digits", "1"}, {"bytea_output", "hex"},
};

} // namespace

ActAs::ActAs(Oid role, Mode mode) {
    GetUserIdAndSecContext(&saved_user_, &saved_security_);
    SetUserIdAndSecContext(role, saved_security_ | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS |
                                     (mode == Mode::restricted ? SECURITY_RESTRICTED_OPERATION : 0));
    if (mode == Mode::write_settled) {
        guc_level_ = 0;
        return;
    }
    guc_level_ = NewGUCNestLevel();
    for (const Pin& pin : kPins) {
        const char* current = GetConfigOption(pin.name, true, false);
        if (current == nullptr || strcmp(current, pin.value) != 0) {
            (void)set_config_option(pin.name, pin.value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
        }
    }
}

void ActAs::release() {
    if (guc_level_ > 0) {
        AtEOXact_GUC(false, guc_level_);
    }
    SetUserIdAndSecContext(saved_user_, saved_security_);
}

Oid function_owner(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) {
        elog(ERROR, "cache lookup failed for function %u", function);
    }
    const Oid owner = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner;
    ReleaseSysCache(tuple);
    return owner;
}

namespace {

// In a STABLE function the SQL sees the caller's snapshot and may only read: so several comparisons share one snapshot.
bool reads_only(FunctionCallInfo fcinfo) {
    return func_volatile(fcinfo->flinfo->fn_oid) != PROVOLATILE_VOLATILE;
}

} // namespace

Datum query_as(FunctionCallInfo fcinfo, ActAs::Mode mode) {
    const Oid role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);
    const char* sql = text_to_cstring(PG_GETARG_TEXT_PP(1));

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);

    ActAs as(role, mode);
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    DestReceiver* dest = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(dest, result->setResult, result->econtext->ecxt_per_query_memory, true,
                                    result->setDesc, "the query's columns are not those that were announced");
    SPIExecuteOptions options{};
    options.read_only = reads_only(fcinfo);
    options.dest = dest;
    const int code = SPI_execute_extended(sql, &options);
    if (code < 0) {
        elog(ERROR, "SPI_execute_extended returned %s", SPI_result_code_string(code));
    }
    SPI_finish();
    as.release();
    return Datum{0};
}

namespace {

Datum execute_as(FunctionCallInfo fcinfo) {
    const Oid role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);
    const char* sql = text_to_cstring(PG_GETARG_TEXT_PP(1));

    ActAs as(role);
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    const int code = SPI_execute(sql, reads_only(fcinfo), 0);
    if (code < 0) {
        elog(ERROR, "SPI_execute returned %s", SPI_result_code_string(code));
    }
    const auto processed = static_cast<int64>(SPI_processed);
    SPI_finish();
    as.release();
    PG_RETURN_INT64(processed);
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_query_as) {
    return pg::entry([&] { return pg::query_as(fcinfo, pg::ActAs::Mode::restricted); });
}

TANDEM_FUNCTION(tandem_execute_as) {
    return pg::entry([&] { return pg::execute_as(fcinfo); });
}

// The role in whose name the session acts (SET ROLE counts), also inside our SECURITY DEFINER functions.
//
// Refused where PostgreSQL, or the mirror, runs somebody's SQL inside a statement of somebody else: index expressions
// under ANALYZE, triggers under the cascade of a foreign key, mapping expressions. The session's role did not write
// that SQL and must not lend it its name.
TANDEM_FUNCTION(tandem_acting_role) {
    return pg::entry([&]() -> Datum {
        Oid user = InvalidOid;
        int context = 0;
        GetUserIdAndSecContext(&user, &context);
        if ((context & (SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS)) != 0) {
            ereport(ERROR,
                    (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                     errmsg("a run cannot be steered from SQL that runs inside another role's statement"),
                     errdetail("Such are index expressions, mapping expressions, and triggers that a mirror or a "
                               "foreign key's cascade fires."),
                     errhint("Call the verb from a statement of your own.")));
        }
        return ObjectIdGetDatum(GetOuterUserId());
    });
}
