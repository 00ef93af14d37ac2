// Guards for SQL: what a condition over metrics is, whether it is true of their values, and when it fires. The law of
// the last is core/guard_state; control/install/66_guard_rule.sql keeps rules, states and firings.
#include "pg/expression.hpp"
#include "pg/compat.hpp"
#include "pg/explaining.hpp"
#include "pg/kept_plan.hpp"
#include "pg/sandbox.hpp"

#include "core/guard_state.hpp"

extern "C" {
#include "parser/analyze.h"
}

namespace pg {
namespace {

// --- when it is added

constexpr const char* kConditionHint =
    "Write one SQL condition over metrics by their names, such as: new_error_rate > 5 AND health_score < 90";

[[noreturn]] void refuse(const char* what, const char* detail) {
    ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s", what), errdetail("%s", detail),
                    errhint("%s", kConditionHint)));
    pg_unreachable();
}

// The metrics that a condition names, in the order in which it does. Its evidence is their values: so nothing else may
// stand in it that has one.
bool collect(Node* node, void* context) {
    if (node == nullptr) {
        return false;
    }
    auto* names = static_cast<List**>(context);
    if (IsA(node, ColumnRef)) {
        List* fields = reinterpret_cast<ColumnRef*>(node)->fields;
        if (list_length(fields) != 1 || !IsA(linitial(fields), String)) {
            refuse("a metric is named by its name alone", NameListToString(fields));
        }
        Node* name = static_cast<Node*>(linitial(fields));
        if (!list_member(*names, name)) {
            *names = lappend(*names, name);
        }
        return false;
    }
    if (IsA(node, SubLink)) {
        refuse("a guard looks at metrics only", "A subquery stands in its condition; a metric may be one.");
    }
    if (IsA(node, ParamRef)) {
        refuse("a guard looks at metrics only", "A parameter stands in its condition.");
    }
    return walk_raw_children(node, collect, context);
}

// The condition over values that are given for its metrics.
const char* question(const char* condition, int count, const char* const* names) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT (%s\n) FROM (SELECT ", condition);
    for (int i = 0; i < count; i++) {
        appendStringInfo(&sql, "%s$%d::numeric AS %s", i == 0 ? "" : ", ", i + 1, quote_identifier(names[i]));
    }
    appendStringInfoString(&sql, ") AS metrics");
    return sql.data;
}

struct Names {
    int count;
    const char** name;
    Oid* types; // numeric, all of them
};

Names make_names(int count) {
    Names names{count, static_cast<const char**>(palloc(sizeof(char*) * (count + 1))),
                static_cast<Oid*>(palloc(sizeof(Oid) * (count + 1)))};
    std::fill_n(names.types, count, NUMERICOID);
    return names;
}

Datum check_condition(const char* condition) {
    List* found = NIL;
    collect(parse_scalar(condition), &found);
    if (found == NIL) {
        refuse("the condition of a guard names no metric", condition);
    }
    const Names names = make_names(list_length(found));
    auto* texts = static_cast<Datum*>(palloc(sizeof(Datum) * names.count));
    for (int i = 0; i < names.count; i++) {
        names.name[i] = strVal(list_nth(found, i));
        texts[i] = CStringGetTextDatum(names.name[i]);
    }
    const char* sql = question(condition, names.count, names.name);
    List* parsed = raw_parser(sql, RAW_PARSE_DEFAULT);
    Query* query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed), sql, names.types, names.count, nullptr);
    if (query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs) {
        refuse("a guard looks at the last value of each metric",
               "An aggregate, a window function or a set-returning function stands in its condition.");
    }
    const auto* target = linitial_node(TargetEntry, query->targetList);
    const Oid type = getBaseType(exprType(reinterpret_cast<Node*>(target->expr)));
    if (type != BOOLOID) {
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("the condition of a guard must be true or false, not of type %s", format_type_be(type))));
    }
    if (contain_volatile_functions(reinterpret_cast<Node*>(target->expr))) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION), errmsg("a condition cannot be volatile"),
                        errhint("Use immutable and stable functions only: the answer must not change from "
                                "one look to the next.")));
    }
    return PointerGetDatum(construct_array(texts, names.count, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum guard_metrics(FunctionCallInfo fcinfo) {
    const char* condition = call([&] { return text_to_cstring(PG_GETARG_TEXT_PP(0)); });
    return explaining([&] { return check_condition(condition); },
                      [&](ErrorData* data) {
                          data->detail =
                              data->detail == nullptr ? psprintf("In the condition: %s", condition) : data->detail;
                          data->hint = data->hint == nullptr ? pstrdup(kConditionHint) : data->hint;
                      });
}

// --- when it is asked

struct Question {
    Oid role;
    const char* sql;
    Names names;
    Datum* values;
    char* nulls;
    int timeout_ms;
};

Question read_question(FunctionCallInfo fcinfo) {
    Datum* names = nullptr;
    Datum* numbers = nullptr;
    bool* unknown = nullptr;
    int count = 0;
    int given = 0;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &names, nullptr, &count);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &numbers, &unknown,
                      &given);
    if (count != given) {
        ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("each metric of a guard has one value")));
    }
    Question q{};
    q.role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), true);
    q.names = make_names(count);
    q.values = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    q.nulls = static_cast<char*>(palloc(count + 1));
    for (int i = 0; i < count; i++) {
        q.names.name[i] = TextDatumGetCString(names[i]);
        q.nulls[i] = unknown[i] ? 'n' : ' ';
        q.values[i] = unknown[i] ? Datum{0} : DirectFunctionCall1(float8_numeric, numbers[i]);
    }
    q.sql = question(text_to_cstring(PG_GETARG_TEXT_PP(1)), count, q.names.name);
    q.timeout_ms = std::max(PG_GETARG_INT32(4), 1);
    return q;
}

struct Truth {
    bool known;
    bool value;
};

void ask(const Question& q, Truth* truth) {
    SPIPlanPtr plan = kept_plan(q.sql, q.names.count, q.names.types);
    if (SPI_execute_plan(plan, q.values, q.nulls, false, 1) != SPI_OK_SELECT || SPI_processed != 1 ||
        getBaseType(SPI_gettypeid(SPI_tuptable->tupdesc, 1)) != BOOLOID) {
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("it is neither true nor false")));
    }
    bool isnull = false;
    const Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    *truth = {!isnull, !isnull && DatumGetBool(value)};
}

// Arguments: role, condition, metrics, values, timeout_ms. Results: truth, and why it is unknown where that is an
// error.
Datum guard_truth(FunctionCallInfo fcinfo) {
    Question q{};
    call([&] { q = read_question(fcinfo); });
    Truth truth{};
    const char* reason = nullptr;
    if (!OidIsValid(q.role)) {
        reason = "the role that owns the run is gone";
    } else {
        ErrorData* error = in_sandbox(q.role, q.timeout_ms, [&] { ask(q, &truth); });
        if (error != nullptr) {
            truth = {};
            reason = call([&] { return tell_error("the condition", error, q.timeout_ms); });
        }
    }
    return call([&] {
        TupleDesc desc = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        Datum values[2] = {BoolGetDatum(truth.value), reason == nullptr ? Datum{0} : CStringGetTextDatum(reason)};
        bool nulls[2] = {!truth.known, reason == nullptr};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
    });
}

// --- when it fires

int64 microseconds(Datum interval) {
    const Interval* i = DatumGetIntervalP(interval);
    return i->time + i->day * USECS_PER_DAY + i->month * (DAYS_PER_MONTH * USECS_PER_DAY);
}

// Arguments: hold, min_samples, longest_gap; pending, held, seen, looked_at, counted_at; at, truth, samples,
// measured_at.
Datum guard_look(FunctionCallInfo fcinfo) {
    for (const int i : {0, 1, 2, 3, 4, 5, 8}) {
        if (PG_ARGISNULL(i)) {
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a look of a guard has a rule and a time")));
        }
    }
    constexpr int64 kNever = PG_INT64_MIN;
    const tandem::GuardRule rule{microseconds(PG_GETARG_DATUM(0)), PG_GETARG_INT64(1),
                                 microseconds(PG_GETARG_DATUM(2))};
    tandem::GuardState state{PG_GETARG_BOOL(3), PG_GETARG_INT64(4), PG_GETARG_INT64(5),
                             PG_ARGISNULL(6) ? PG_INT64_MAX : PG_GETARG_TIMESTAMPTZ(6),
                             PG_ARGISNULL(7) ? kNever : PG_GETARG_TIMESTAMPTZ(7)};
    tandem::GuardLook now{PG_GETARG_TIMESTAMPTZ(8), std::nullopt, std::nullopt,
                          PG_ARGISNULL(11) ? kNever : PG_GETARG_TIMESTAMPTZ(11)};
    if (!PG_ARGISNULL(9)) {
        now.truth = PG_GETARG_BOOL(9);
    }
    if (!PG_ARGISNULL(10)) {
        now.samples = PG_GETARG_INT64(10);
    }
    const std::string_view answer = name(tandem::look(rule, state, now));

    TupleDesc desc = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    Datum values[5] = {PointerGetDatum(cstring_to_text_with_len(answer.data(), static_cast<int>(answer.size()))),
                       BoolGetDatum(state.pending), Int64GetDatum(state.held), Int64GetDatum(state.seen),
                       TimestampTzGetDatum(state.counted_at)};
    bool nulls[5] = {false, false, false, false, !state.pending || state.counted_at == kNever};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_guard_metrics) {
    return pg::entry([&] { return pg::guard_metrics(fcinfo); });
}

TANDEM_FUNCTION(tandem_guard_truth) {
    return pg::entry([&] { return pg::guard_truth(fcinfo); });
}

TANDEM_FUNCTION(tandem_guard_look) {
    return pg::entry([&] { return pg::guard_look(fcinfo); });
}
