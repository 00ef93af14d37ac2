// The run's state machine for SQL: core/run_state keeps the law, control/install keeps the state.
#include "pg/prelude.hpp"

extern "C" {
#include "utils/array.h"
}

namespace pg {
namespace {

// Steps as plain ints; NULLs and more than one dimension are refused.
std::span<const int> steps_of(ArrayType* array) {
    if (ARR_NDIM(array) > 1 || array_contains_nulls(array) || ARR_ELEMTYPE(array) != INT4OID) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("steps must be a plain array of integers"),
                        errhint("For example: '{5,25,50,75,100}'.")));
    }
    const int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    return {reinterpret_cast<const int*>(ARR_DATA_PTR(array)), static_cast<std::size_t>(count)};
}

std::string_view view_of(text* value) {
    return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

Datum text_datum(std::string_view value) {
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

Datum run_next(FunctionCallInfo fcinfo) {
    for (int i = 0; i < 5; i++) {
        if (PG_ARGISNULL(i)) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("only to_weight may be null here"),
                            errhint("tandem.run_next(stage, phase, weight, verb, steps, to_weight)")));
        }
    }
    const tandem::RunState state{tandem::parse_stage(view_of(PG_GETARG_TEXT_PP(0))),
                                 tandem::parse_phase(view_of(PG_GETARG_TEXT_PP(1))), PG_GETARG_INT32(2)};
    const tandem::Verb verb = tandem::parse_verb(view_of(PG_GETARG_TEXT_PP(3)));
    const std::span<const int> steps = steps_of(PG_GETARG_ARRAYTYPE_P(4));
    const std::optional<int> to_weight = PG_ARGISNULL(5) ? std::nullopt : std::optional<int>(PG_GETARG_INT32(5));

    const tandem::RunState to = tandem::next(state, verb, steps, to_weight);

    TupleDesc desc = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    Datum values[3] = {text_datum(name(to.stage)), text_datum(name(to.phase)), Int32GetDatum(to.weight)};
    bool nulls[3] = {};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

// The names of a set, as an array of text.
template <class E>
Datum names_of(tandem::Set members, int count) {
    Datum* names = static_cast<Datum*>(palloc(sizeof(Datum) * count));
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (tandem::has(members, static_cast<E>(i))) {
            names[n++] = text_datum(name(static_cast<E>(i)));
        }
    }
    return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum run_law(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    for (const tandem::Rule& rule : tandem::law()) {
        Datum values[7] = {text_datum(name(rule.verb)),
                           names_of<tandem::Stage>(rule.stages, tandem::kStageCount),
                           names_of<tandem::Phase>(rule.phases, tandem::kPhaseCount),
                           rule.to_stage ? text_datum(name(*rule.to_stage)) : Datum{0},
                           rule.to_phase ? text_datum(name(*rule.to_phase)) : Datum{0},
                           names_of<tandem::Who>(rule.who, tandem::kWhoCount),
                           text_datum(rule.guard)};
        bool nulls[7] = {false, false, false, !rule.to_stage, !rule.to_phase, false, false};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return Datum{0};
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_run_law) {
    return pg::entry([&] { return pg::run_law(fcinfo); });
}

TANDEM_FUNCTION(tandem_run_next) {
    return pg::entry([&] { return pg::run_next(fcinfo); });
}

TANDEM_FUNCTION(tandem_check_steps) {
    return pg::entry([&]() -> Datum {
        tandem::check_steps(pg::steps_of(PG_GETARG_ARRAYTYPE_P(0)));
        PG_RETURN_BOOL(true);
    });
}
