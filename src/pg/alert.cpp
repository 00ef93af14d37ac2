// Alert rules for SQL: core/alert_state keeps the law, control/install/73_alert.sql keeps rules, states and alerts.
#include "pg/prelude.hpp"

#include "core/alert_state.hpp"

namespace pg {
namespace {

std::string_view view_of(Datum value) {
    text* t = DatumGetTextPP(value);
    return {VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)};
}

Datum text_datum(std::string_view value) {
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

// Refused by the table's functions: intervals have no months, and are at most some years.
int64 microseconds(Datum interval) {
    const Interval* i = DatumGetIntervalP(interval);
    return i->time + i->day * USECS_PER_DAY + i->month * (DAYS_PER_MONTH * USECS_PER_DAY);
}

// Arguments 0 to 6: comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data.
constexpr int kRuleArguments = 7;

tandem::AlertRule rule_of(FunctionCallInfo fcinfo) {
    for (int i = 0; i < kRuleArguments; i++) {
        if (PG_ARGISNULL(i)) {
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("an alert rule has no part that is unknown"),
                     errhint("comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data")));
        }
    }
    return {tandem::parse_comparator(view_of(PG_GETARG_DATUM(0))),
            PG_GETARG_FLOAT8(1),
            PG_GETARG_FLOAT8(2),
            microseconds(PG_GETARG_DATUM(3)),
            microseconds(PG_GETARG_DATUM(4)),
            microseconds(PG_GETARG_DATUM(5)),
            tandem::parse_no_data(view_of(PG_GETARG_DATUM(6)))};
}

// ... then the state: phase, held (microseconds), clearing, looked_at, counted_at; then the look: at, value,
// measured_at. All of them may be NULL but at: a series that was never looked at, or never measured.
Datum alert_look(FunctionCallInfo fcinfo) {
    const tandem::AlertRule rule = rule_of(fcinfo);
    constexpr int64 kNever = PG_INT64_MIN;
    tandem::AlertState state{};
    if (!PG_ARGISNULL(7)) {
        state.phase = tandem::parse_alert_phase(view_of(PG_GETARG_DATUM(7)));
        state.held = PG_ARGISNULL(8) ? 0 : PG_GETARG_INT64(8);
        state.clearing = !PG_ARGISNULL(9) && PG_GETARG_BOOL(9);
        state.looked_at = PG_ARGISNULL(10) ? PG_INT64_MAX : PG_GETARG_TIMESTAMPTZ(10);
        state.counted_at = PG_ARGISNULL(11) ? kNever : PG_GETARG_TIMESTAMPTZ(11);
    } else {
        state.looked_at = PG_INT64_MAX; // nothing has passed since
        state.counted_at = kNever;
    }
    if (PG_ARGISNULL(12)) {
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a look at a series has a time")));
    }
    tandem::AlertLook now{PG_GETARG_TIMESTAMPTZ(12), std::nullopt,
                          PG_ARGISNULL(14) ? kNever : PG_GETARG_TIMESTAMPTZ(14)};
    if (!PG_ARGISNULL(13)) {
        now.value = PG_GETARG_FLOAT8(13);
    }
    const tandem::AlertAction action = tandem::look(rule, state, now);

    TupleDesc desc = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    Datum values[6] = {
        text_datum(name(action)),     text_datum(name(state.phase)),        Int64GetDatum(state.held),
        BoolGetDatum(state.clearing), TimestampTzGetDatum(state.looked_at), TimestampTzGetDatum(state.counted_at)};
    bool nulls[6] = {false, false, false, false, false, state.counted_at == kNever};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_alert_look) {
    return pg::entry([&] { return pg::alert_look(fcinfo); });
}

TANDEM_FUNCTION(tandem_check_alert_rule) {
    return pg::entry([&]() -> Datum {
        tandem::check_alert_rule(pg::rule_of(fcinfo));
        PG_RETURN_VOID();
    });
}
