// execute_comparison(): finds the rows that may differ, and lets SQL judge them.
//
//   1. One pass over both sides: every row into the sketch, legacy added, new subtracted.
//   2. What stays in the sketch are the keys that differ. Too many for it: a second pass into one of the right size, or
//      into partitions on disk; where most rows differ, the join does it.
//   3. A pass that reads the keys only fetches the rows of these keys from both sides.
//   4. The join of 27_join.sql judges them by their real values. A key that the sketch tells and the judge does not
//      find different is no difference: a tolerance, or a type that is equal in different bytes.
#include "pg/compare.hpp"

#include "pg/compare_careful.hpp"
#include "pg/compare_error.hpp"
#include "pg/compare_progress.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/tstoreReceiver.h"
#include "nodes/params.h"
#include "utils/array.h"
#include "utils/queryenvironment.h"
}

namespace pg::compare {
namespace {

void open_sources(Comparison* comparison) {
    const Shape* shape = comparison->shape;
    auto* keys = static_cast<int*>(palloc(sizeof(int) * static_cast<std::size_t>(shape->keys + 1)));
    for (int i = 0; i < shape->keys; i++) {
        keys[i] = shape->key()[i].column;
    }
    for (int side = 0; side < kSides; side++) {
        comparison->sources[side] = open_source(&comparison->requests[side], keys, shape->keys);
    }
}

// Of a comparison that is not made by passes: nothing has looked at the keys yet.
void look_for_null_keys(Comparison* comparison, const char* sql) {
    if (SPI_execute(psprintf(TANDEM_MADE_SQL "%s", sql), true, 1) != SPI_OK_SELECT || SPI_processed != 1) {
        elog(ERROR, "could not look for NULL in the key");
    }
    Counts counts{};
    for (int side = 0; side < kSides; side++) {
        bool is_null = false;
        const Datum any = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, side + 1, &is_null);
        counts.null_keys[side] = !is_null && DatumGetBool(any) ? 1 : 0;
    }
    refuse_null_keys(comparison, counts);
}

} // namespace

void register_rows(const char* name, Tuplestorestate* rows, TupleDesc desc, std::int64_t count) {
    auto* relation = static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    relation->md.name = pstrdup(name);
    relation->md.tupdesc = desc;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = static_cast<double>(count);
    relation->reldata = rows;
    (void)SPI_unregister_relation(name); // of an attempt that failed
    if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER) {
        elog(ERROR, "could not register the candidates");
    }
}

namespace {

ParamListInfo judge_parameters(const Outcome* outcome) {
    constexpr int kParameters = 7;
    ParamListInfo parameters = makeParamList(kParameters);
    const Datum values[kParameters] = {Int64GetDatum(static_cast<std::int64_t>(outcome->counts.rows[kLegacy])),
                                       Int64GetDatum(static_cast<std::int64_t>(outcome->counts.rows[kNew])),
                                       CStringGetTextDatum(outcome->method),
                                       Int64GetDatum(outcome->kinds.missing),
                                       Int64GetDatum(outcome->kinds.extra),
                                       Int64GetDatum(outcome->kinds.changed),
                                       Int64GetDatum(outcome->kinds.duplicate)};
    for (int i = 0; i < kParameters; i++) {
        parameters->params[i] = {values[i], false, PARAM_FLAG_CONST, static_cast<Oid>(i == 2 ? TEXTOID : INT8OID)};
    }
    return parameters;
}

void ask(FunctionCallInfo fcinfo, const char* sql, const Outcome* outcome) {
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    DestReceiver* dest = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(dest, result->setResult, result->econtext->ecxt_per_query_memory, true,
                                    result->setDesc, "the judge's columns are not those that were announced");
    SPIExecuteOptions options{};
    options.read_only = true;
    options.dest = dest;
    options.params = judge_parameters(outcome);
    const int code = SPI_execute_extended(psprintf(TANDEM_MADE_SQL "%s", sql), &options);
    if (code < 0) {
        elog(ERROR, "SPI_execute_extended returned %s", SPI_result_code_string(code));
    }
}

void judge(FunctionCallInfo fcinfo, Comparison* comparison, const Outcome* outcome) {
    if (outcome->counted) {
        ask(fcinfo, comparison->counted, outcome);
        return;
    }
    if (outcome->rows[kLegacy] == nullptr) {
        show_phase(Phase::joining);
        look_for_null_keys(comparison, comparison->null_keys);
        ask(fcinfo, comparison->otherwise, outcome);
        return;
    }
    show_phase(Phase::judging);
    register_rows("tandem_legacy", outcome->rows[kLegacy], outcome->descs[kLegacy], outcome->candidates);
    register_rows("tandem_new", outcome->rows[kNew], outcome->descs[kNew], outcome->candidates);
    ask(fcinfo, comparison->judge, outcome);
    SPI_unregister_relation("tandem_legacy");
    SPI_unregister_relation("tandem_new");
    tuplestore_end(outcome->rows[kLegacy]);
    tuplestore_end(outcome->rows[kNew]);
}

// A side of the executor gives values and rows in one SELECT, which has a limit.
bool by_passes(const Comparison* comparison) {
    constexpr int kMostColumns = MaxTupleAttributeNumber / 2;
    if (comparison->sources[kLegacy] == nullptr) {
        return false;
    }
    for (int side = 0; side < kSides; side++) {
        if (comparison->sources[side]->path == Path::executor && comparison->requests[side].columns > kMostColumns) {
            return false;
        }
    }
    return true;
}

void compare(FunctionCallInfo fcinfo, Comparison* comparison) {
    call([&] {
        comparison->shape = make_shape(fcinfo, comparison->requests[kLegacy].columns);
        if (comparison->shape != nullptr && static_cast<Method>(method) != Method::join) {
            open_sources(comparison);
        }
    });
    const Outcome* outcome = by_passes(comparison) ? find(comparison) : call([] { return join_all(); });
    call([&] { judge(fcinfo, comparison, outcome); });
}

// false: no row of legacy fails by itself, so the error was another one's.
bool compare_carefully(FunctionCallInfo fcinfo, Comparison* comparison) {
    call([&] {
        tuplestore_clear(reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo)->setResult);
        start_progress(comparison->requests[kLegacy].relation, comparison->requests[kNew].relation);
        show_phase(Phase::row_by_row);
    });
    const CarefulRows* rows = read_carefully(&comparison->requests[kLegacy]);
    if (rows->failed_count == 0) {
        return false;
    }
    call([&] {
        register_rows("tandem_legacy", rows->rows, rows->rows_desc, rows->row_count);
        register_rows("tandem_failed", rows->failed, rows->failed_desc, rows->failed_count);
        look_for_null_keys(comparison, comparison->careful_null_keys);
        ask(fcinfo, comparison->careful, join_all());
        tuplestore_end(rows->rows);
        tuplestore_end(rows->failed);
    });
    return true;
}

void compare_or_explain(FunctionCallInfo fcinfo, Comparison* comparison) {
    const auto is_a_rows = [&](const ErrorData* error) {
        return !comparison->refused && OidIsValid(comparison->requests[kLegacy].relation) &&
               is_rows_fault(error->sqlerrcode);
    };
    ErrorData* error = attempt([&] { compare(fcinfo, comparison); });
    if (error != nullptr && is_a_rows(error)) {
        bool compared = false;
        ErrorData* another = attempt([&] { compared = compare_carefully(fcinfo, comparison); });
        error = compared ? nullptr : another != nullptr ? another : error;
    }
    if (error != nullptr && is_a_rows(error)) {
        ErrorData* of_condition = find_failing_condition(comparison);
        error = of_condition != nullptr ? of_condition : error;
    }
    if (error != nullptr) {
        throw Error(error);
    }
}

Datum execute(FunctionCallInfo fcinfo) {
    Comparison* comparison = call([&] {
        InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
        if (SPI_connect() != SPI_OK_CONNECT) {
            elog(ERROR, "SPI_connect failed");
        }
        Comparison* read = read_arguments(fcinfo);
        start_progress(read->requests[kLegacy].relation, read->requests[kNew].relation);
        return read;
    });
    try {
        compare_or_explain(fcinfo, comparison);
    } catch (const Error& error) {
        if (error.data() != nullptr) {
            call([&] { set_context(error.data(), comparison); });
        }
        throw;
    }
    call([&] {
        end_progress();
        SPI_finish();
    });
    return Datum{0};
}

} // namespace
} // namespace pg::compare

TANDEM_FUNCTION(tandem_execute_comparison) {
    return pg::entry([&] { return pg::compare::execute(fcinfo); });
}
