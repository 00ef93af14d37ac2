// A user's metric: its query is checked when it is added, and asked, as the run's owner, when it is time.
//
// Asking happens in the sandbox: read only, rolled back, and for so long at most. Query and conditions are planned once
// in a session. What goes wrong with them is a verdict, never an error of the round.
#include "pg/explaining.hpp"
#include "pg/kept_plan.hpp"
#include "pg/sandbox.hpp"

#include "core/metric_value.hpp"

extern "C" {
#include "parser/analyze.h"
#include "utils/ruleutils.h"
}

namespace pg {
namespace {

// --- when it is added

constexpr const char* kQueryHint =
    "Write one SELECT of one row: the value, and perhaps how many samples are behind it.";

[[noreturn]] void refuse(int sqlstate, const char* what, const char* detail) {
    ereport(ERROR, (errcode(sqlstate), errmsg("%s", what), errdetail("%s", detail), errhint("%s", kQueryHint)));
    pg_unreachable();
}

// What names mean is settled now, by the search_path of who adds the metric, as CREATE VIEW does it; later the query
// runs as the owner under a search_path of pg_catalog only.
char* qualified(const char* sql, const char* search_path) {
    const int guc_level = NewGUCNestLevel();
    (void)set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    List* parsed = raw_parser(sql, RAW_PARSE_DEFAULT);
    if (list_length(parsed) != 1) {
        refuse(ERRCODE_SYNTAX_ERROR, "the query of a metric must be one SELECT",
               psprintf("Found: %d statements.", list_length(parsed)));
    }
    RawStmt* raw = linitial_node(RawStmt, parsed);
    if (!IsA(raw->stmt, SelectStmt)) {
        refuse(ERRCODE_SYNTAX_ERROR, "the query of a metric must be one SELECT",
               psprintf("Found: %s.", GetCommandTagName(CreateCommandTag(raw->stmt))));
    }
    Query* query = parse_analyze_fixedparams(raw, sql, nullptr, 0, nullptr);
    AtEOXact_GUC(false, guc_level);
    if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL) {
        refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "the query of a metric only reads",
               "SELECT INTO, a WITH that writes, or FOR UPDATE stands in it.");
    }
    int columns = 0;
    ListCell* cell = nullptr;
    foreach (cell, query->targetList) {
        columns += lfirst_node(TargetEntry, cell)->resjunk ? 0 : 1;
    }
    if (columns < 1 || columns > 2) {
        refuse(ERRCODE_INVALID_PARAMETER_VALUE, "the query of a metric has one column, or two",
               psprintf("Found: %d.", columns));
    }
    return pg_get_querydef(query, false);
}

Datum check_metric_query(FunctionCallInfo fcinfo) {
    struct {
        const char* sql;
        const char* search_path;
    } arguments{};
    call([&] {
        arguments.sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
        arguments.search_path = text_to_cstring(PG_GETARG_TEXT_PP(1));
    });
    return explaining([&] { return CStringGetTextDatum(qualified(arguments.sql, arguments.search_path)); },
                      [&](ErrorData* data) {
                          data->detail = psprintf("%s%sIn the query: %s", data->detail == nullptr ? "" : data->detail,
                                                  data->detail == nullptr ? "" : "\n", arguments.sql);
                          data->hint = data->hint == nullptr ? pstrdup(kQueryHint) : data->hint;
                      });
}

// --- when it is asked

struct Question {
    Oid role;
    const char* query;
    const char* success; // nullptr: none
    const char* failure;
    int64 min_samples;
    int timeout_ms;
};

struct Answer {
    bool has_value;
    double value;
    bool has_samples;
    int64 samples;
    const char* verdict;
    const char* reason; // in the caller's memory context
    const char* step;   // what was being done, for the reason of an error
    bool failed;        // an error of the query or of a condition, which is another thing than a bad number
};

// --- the verdict

void inconclusive(Answer* answer, const char* reason) {
    answer->verdict = "inconclusive";
    answer->reason = reason;
}

// A text for a reason, cut to what one reads.
const char* shown(const char* text) {
    constexpr int kMost = 60;
    const int length = static_cast<int>(strlen(text));
    return length <= kMost ? text : psprintf("%.*s...", pg_mbcliplen(text, length, kMost), text);
}

const char* what_is_wrong(const tandem::MetricValue& value, const char* text) {
    using Kind = tandem::MetricValue::Kind;
    switch (value.kind) {
    case Kind::nan:
        return "NaN";
    case Kind::infinite:
        return "Infinity";
    case Kind::too_large:
        return psprintf("%s, which is too large", shown(text));
    default:
        return psprintf("\"%s\", which is no number", shown(text));
    }
}

enum class Truth { yes, no, unknown };

Truth truth_at(int column) {
    bool isnull = false;
    const Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
    return isnull ? Truth::unknown : DatumGetBool(value) ? Truth::yes : Truth::no;
}

void select(const char* sql, int count, Oid* types, Datum* values, long limit) {
    const int code = SPI_execute_plan(kept_plan(sql, count, types), values, nullptr, false, limit);
    if (code != SPI_OK_SELECT) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("it is no SELECT")));
    }
}

// Fills in value and samples; false: there is a verdict already.
bool read_row(const Question& question, Answer* answer, const char** number) {
    select(question.query, 0, nullptr, nullptr, 2);
    if (SPI_processed != 1) {
        inconclusive(answer, SPI_processed == 0 ? "the query returned no row" : "the query returned more than one row");
        return false;
    }
    HeapTuple row = SPI_tuptable->vals[0];
    TupleDesc desc = SPI_tuptable->tupdesc;
    const char* text = SPI_getvalue(row, desc, 1);
    if (text == nullptr) {
        inconclusive(answer, "the query returned NULL");
        return false;
    }
    const tandem::MetricValue value = tandem::read_metric_value(text);
    if (value.kind != tandem::MetricValue::Kind::number) {
        inconclusive(answer, psprintf("the query returned %s", what_is_wrong(value, text)));
        return false;
    }
    answer->has_value = true;
    answer->value = value.value;
    *number = text;
    if (desc->natts < 2) {
        return true;
    }
    const char* samples = SPI_getvalue(row, desc, 2);
    const tandem::MetricValue count = samples == nullptr ? tandem::MetricValue{} : tandem::read_metric_value(samples);
    constexpr double kMost = 1e15;
    if (samples == nullptr || count.kind != tandem::MetricValue::Kind::number || count.value < 0 ||
        count.value > kMost) {
        inconclusive(answer, psprintf("the query's second column says no number of samples: %s",
                                      samples == nullptr ? "NULL" : shown(samples)));
        return false;
    }
    answer->has_samples = true;
    answer->samples = static_cast<int64>(count.value);
    if (answer->samples < question.min_samples) {
        inconclusive(answer, psprintf("%lld sample(s), %lld are needed", static_cast<long long>(answer->samples),
                                      static_cast<long long>(question.min_samples)));
        return false;
    }
    return true;
}

void judge(const Question& question, const char* text, Answer* answer) {
    Oid types[1] = {NUMERICOID};
    Datum values[1] = {
        DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))};
    select(psprintf("SELECT (%s\n)::boolean, (%s\n)::boolean FROM (SELECT $1::numeric AS result) AS metric_result",
                    question.failure == nullptr ? "NULL" : question.failure,
                    question.success == nullptr ? "NULL" : question.success),
           1, types, values, 1);
    const Truth failed = truth_at(1);
    const Truth succeeded = truth_at(2);
    const Datum trimmed = DirectFunctionCall1(numeric_trim_scale, values[0]);
    const char* number = DatumGetCString(DirectFunctionCall1(numeric_out, trimmed));
    if (strlen(number) > strlen(text)) { // 1e-80
        number = text;
    }
    number = shown(number);
    if (failed == Truth::yes) {
        answer->verdict = "fail";
        answer->reason = psprintf("result %s meets the failure condition: %s", number, question.failure);
    } else if (question.failure != nullptr && failed == Truth::unknown) {
        inconclusive(answer, psprintf("the failure condition is NULL for result %s", number));
    } else if (succeeded == Truth::yes) {
        answer->verdict = "pass";
        answer->reason = psprintf("result %s meets the success condition: %s", number, question.success);
    } else if (question.success != nullptr && succeeded == Truth::unknown) {
        inconclusive(answer, psprintf("the success condition is NULL for result %s", number));
    } else if (question.success == nullptr) {
        answer->verdict = "pass";
        answer->reason = psprintf("result %s does not meet the failure condition: %s", number, question.failure);
    } else if (question.failure == nullptr) {
        answer->verdict = "fail";
        answer->reason = psprintf("result %s does not meet the success condition: %s", number, question.success);
    } else {
        inconclusive(answer, psprintf("result %s meets neither condition", number));
    }
}

void ask(const Question& question, MemoryContext outer, Answer* answer) {
    const char* number = nullptr;
    answer->step = "the query";
    if (read_row(question, answer, &number)) {
        answer->step = "the condition";
        judge(question, number, answer);
    }
    answer->reason = MemoryContextStrdup(outer, answer->reason);
}

Datum measure(FunctionCallInfo fcinfo) {
    Question question{};
    call([&] {
        for (const int i : {0, 1, 4, 5}) {
            if (PG_ARGISNULL(i)) {
                ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("only the conditions may be null here"),
                                errhint("tandem.measure(role, query, success_condition, failure_condition, "
                                        "min_samples, timeout_ms)")));
            }
        }
        question.role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), true);
        question.query = text_to_cstring(PG_GETARG_TEXT_PP(1));
        question.success = PG_ARGISNULL(2) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(2));
        question.failure = PG_ARGISNULL(3) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(3));
        question.min_samples = PG_GETARG_INT64(4);
        question.timeout_ms = std::max(PG_GETARG_INT32(5), 1);
    });
    Answer answer{};
    if (!OidIsValid(question.role)) {
        inconclusive(&answer, "the role that owns the run is gone");
    } else {
        const MemoryContext outer = CurrentMemoryContext;
        ErrorData* error = in_sandbox(question.role, question.timeout_ms, [&] { ask(question, outer, &answer); });
        if (error != nullptr) {
            answer.failed = true;
            call([&] { inconclusive(&answer, tell_error(answer.step, error, question.timeout_ms)); });
        }
    }

    return call([&] {
        TupleDesc desc = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        Datum values[5] = {Float8GetDatum(answer.value), Int64GetDatum(answer.samples),
                           CStringGetTextDatum(answer.verdict), CStringGetTextDatum(answer.reason),
                           BoolGetDatum(answer.failed)};
        bool nulls[5] = {!answer.has_value, !answer.has_samples, false, false, false};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
    });
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_check_metric_query) {
    return pg::entry([&] { return pg::check_metric_query(fcinfo); });
}

TANDEM_FUNCTION(tandem_measure) {
    return pg::entry([&] { return pg::measure(fcinfo); });
}
