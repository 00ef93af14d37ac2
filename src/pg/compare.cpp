// execute_comparison(): finds the rows that may differ, and lets SQL judge them.
//
//   1. One pass over both sides: every row into the sketch, legacy added, new subtracted.
//   2. What stays in the sketch are the keys that differ. Too many for it: a second pass into one of the right size, or
//      into partitions on disk; where most rows differ, the join does it.
//   3. A pass that reads the keys only fetches the rows of these keys from both sides.
//   4. The join of 27_join.sql judges them by their real values. A key that the sketch tells and the judge does not
//      find different is no difference: a tolerance, or a type that is equal in different bytes.
#include "pg/compare_careful.hpp"
#include "pg/compare_pass.hpp"
#include "pg/compare_progress.hpp"
#include "pg/compare_radix.hpp"

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

// As execute_comparison() has them; where they come in pairs, legacy first.
enum Argument : int {
    kRelation = 0,
    kLabel = 2,
    kFrom = 4,
    kWhere = 6,
    kValues = 8,
    kRows = 10,
    kOperands = 12,
    kTolerances = 14,
    kKeys,
    kKeyNames,
    kJudge,
    kNullKeys,
    kOtherwise,
    kCarefulNullKeys,
    kCareful,
};

struct Comparison {
    SourceRequest requests[kSides];
    Source* sources[kSides];
    Shape* shape; // nullptr: the sides have no encoding in common
    const char* key_names;
    const char* judge;     // over the candidates' rows
    const char* null_keys; // over all rows: is there a NULL in a key?
    const char* otherwise; // over all rows
    const char* careful_null_keys; // the same two where rows of legacy are set apart, as an expression fails on them
    const char* careful;
    bool refused; // the error is the comparison's own
};

struct Outcome {
    const char* method;
    Counts counts;
    Tuplestorestate* rows[kSides]; // nullptr: judged over all rows
    TupleDesc descs[kSides];
    std::int64_t candidates;
};

// --- arguments

const char* text_argument(FunctionCallInfo fcinfo, int number) {
    return PG_ARGISNULL(number) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

const char** texts(FunctionCallInfo fcinfo, int number, int& count) {
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    auto* result = static_cast<const char**>(palloc0(sizeof(char*) * static_cast<std::size_t>(count + 1)));
    for (int i = 0; i < count; i++) {
        result[i] = nulls[i] ? nullptr : TextDatumGetCString(elements[i]);
    }
    return result;
}

const int* numbers(FunctionCallInfo fcinfo, int number, int& count) {
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(number);
    count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    return reinterpret_cast<const int*>(ARR_DATA_PTR(array));
}

// "absolute 0.01", "relative 1e-6", "time 1 second": as 30_compare.sql writes them.
void read_tolerance(const char* text, ColumnRequest& column) {
    const char* value = strchr(text, ' ');
    if (value == nullptr) {
        elog(ERROR, "not a tolerance: %s", text);
    }
    value++;
    if (text[0] == 't') {
        column.tolerance = Tolerance::time;
        const Interval* interval = DatumGetIntervalP(DirectFunctionCall3(
            interval_in, CStringGetDatum(value), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
        column.time_width = interval->time + (static_cast<std::int64_t>(interval->month) * 30 + interval->day) * USECS_PER_DAY;
    } else {
        column.tolerance = text[0] == 'a' ? Tolerance::absolute : Tolerance::relative;
        column.width = DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(value))) / 2;
    }
}

constexpr int kInlineBits = tandem::kMaxLimbs * tandem::kLimbBits;

// nullptr: a column whose values have no common encoding.
Shape* make_shape(FunctionCallInfo fcinfo, int columns) {
    int count = 0;
    const int* legacy = numbers(fcinfo, kOperands, count);
    const int* other = numbers(fcinfo, kOperands + 1, count);
    const char** tolerances = texts(fcinfo, kTolerances, count);
    int keys = 0;
    const int* key = numbers(fcinfo, kKeys, keys);

    auto* shape = static_cast<Shape*>(palloc0(Shape::bytes(columns, keys)));
    if (!pg_strong_random(&shape->seed, sizeof(shape->seed))) {
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not draw a random seed for the comparison")));
    }
    shape->secret = tandem::make_secret(shape->seed);
    shape->columns = columns;
    shape->keys = keys;
    for (int i = 0; i < columns; i++) {
        const auto left = static_cast<Oid>(legacy[i]);
        const auto right = static_cast<Oid>(other[i]);
        if (!encodes_alike(left, right)) {
            return nullptr;
        }
        shape->column()[i].operand = common_operand(left, right);
        if (tolerances[i] != nullptr) {
            read_tolerance(tolerances[i], shape->column()[i]);
        }
    }
    int bits = 0;
    bool fits = keys > 0;
    for (int i = 0; i < keys; i++) {
        const int left = key_bits(static_cast<Oid>(legacy[key[i]]));
        const int right = key_bits(static_cast<Oid>(other[key[i]]));
        shape->key()[i] = {key[i], std::max(left, right)};
        shape->column()[key[i]].key = true;
        const Oid operand = shape->column()[key[i]].operand;
        if (plan_key(operand, operand, InvalidOid) == nullptr) {
            return nullptr;
        }
        fits = fits && left > 0 && right > 0;
        bits += std::max(left, right);
    }
    shape->inline_key = fits && bits <= kInlineBits;
    shape->narrow = shape->inline_key && keys == 1 && bits == 64;
    shape->limbs = shape->narrow ? 1 : shape->inline_key ? (bits + tandem::kLimbBits - 1) / tandem::kLimbBits : 2;
    return shape;
}

Comparison* read_arguments(FunctionCallInfo fcinfo) {
    auto* comparison = static_cast<Comparison*>(palloc0(sizeof(Comparison)));
    for (int side = 0; side < kSides; side++) {
        SourceRequest& request = comparison->requests[side];
        int count = 0;
        request.relation = PG_ARGISNULL(kRelation + side) ? InvalidOid : PG_GETARG_OID(kRelation + side);
        request.label = text_argument(fcinfo, kLabel + side);
        request.from = text_argument(fcinfo, kFrom + side);
        request.condition = text_argument(fcinfo, kWhere + side);
        request.values = texts(fcinfo, kValues + side, count);
        request.rows = texts(fcinfo, kRows + side, count);
        request.columns = count;
    }
    comparison->key_names = text_argument(fcinfo, kKeyNames);
    comparison->judge = text_argument(fcinfo, kJudge);
    comparison->null_keys = text_argument(fcinfo, kNullKeys);
    comparison->careful_null_keys = text_argument(fcinfo, kCarefulNullKeys);
    comparison->careful = text_argument(fcinfo, kCareful);
    comparison->otherwise = text_argument(fcinfo, kOtherwise);
    return comparison;
}

// --- finding candidates

const char* path_name(const Source* source) {
    return source->path == Path::raw ? "raw" : source->path == Path::slots ? "slots" : "executor";
}

const char* method_name(const Comparison* comparison, const char* method) {
    return psprintf("%s (%s, %s)", method, path_name(comparison->sources[kLegacy]),
                    path_name(comparison->sources[kNew]));
}

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

PassRequest request_pass(const Comparison* comparison, Pass pass) {
    PassRequest request{};
    request.pass = pass;
    request.shape = comparison->shape;
    for (int side = 0; side < kSides; side++) {
        request.sources[side] = comparison->sources[side];
        request.requests[side] = &comparison->requests[side];
    }
    return request;
}

std::size_t memory_limit() {
    return static_cast<std::size_t>(memory_kb) * 1024;
}

void refuse_null_keys(Comparison* comparison, const Counts& counts) {
    for (int side = 0; side < kSides; side++) {
        if (counts.null_keys[side] > 0) {
            comparison->refused = true;
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                     errmsg("the key %s is NULL in some rows of %s", comparison->key_names,
                            comparison->requests[side].label),
                     errdetail("Rows are matched by their key, and NULL equals nothing."),
                     OidIsValid(comparison->requests[side].relation)
                         ? errhint("Choose another key, map it to an expression without NULL, or leave those rows out "
                                   "by legacy_where and new_where.")
                         : errhint("Choose another key, or leave those rows out in the query: WHERE ... IS NOT "
                                   "NULL.")));
        }
    }
}

// Two passes at most: the first with the smallest sketch, the second, if it must be, of the size that the first tells.
// false: more differ than the memory can hold.
bool find_by_sketch(Comparison* comparison, Counts& counts, Candidates& candidates) {
    PassRequest request = call([&] { return request_pass(comparison, Pass::sketch); });
    const auto processes = static_cast<std::size_t>(call([&] { return processes_for(&request); }));
    request.cells = tandem::Sketch::kMinCells;
    for (int attempt = 0; attempt < 3; attempt++) {
        PassResult* result = call([&] {
            show_phase(attempt == 0 ? Phase::scanning : Phase::rescanning);
            PassResult* done = run_pass(&request);
            refuse_null_keys(comparison, done->counts);
            return done;
        });
        counts = result->counts;
        if (counts.wide_keys > 0) { // negative, or above 2^61: once more with two limbs
            comparison->shape->narrow = false;
            comparison->shape->limbs = 2;
            attempt--;
            continue;
        }
        const std::uint64_t estimate = result->sketch->estimate();
        tandem::Decoded decoded = result->sketch->decode();
        if (decoded.complete) {
            candidates.too_many = decoded.differences.size() > candidates.limit;
            candidates.keys = std::move(decoded.differences);
            return true;
        }
        const std::size_t cells = tandem::Sketch::cells_for(
            std::max<std::uint64_t>(estimate + estimate / 8, request.cells) * (attempt > 0 ? 2 : 1));
        const std::uint64_t rows = std::max(counts.rows[kLegacy], counts.rows[kNew]);
        if (tandem::Sketch::bytes(request.shape->limbs, cells) * processes > memory_limit() || cells > 4 * rows + 4 * tandem::Sketch::kMinCells) {
            return false;
        }
        request.cells = cells;
    }
    return false;
}

void find_by_radix(Comparison* comparison, Counts& counts, Candidates& candidates) {
    RadixFiles* files = call([&] {
        const PassRequest request = request_pass(comparison, Pass::radix);
        show_phase(Phase::partitioning);
        const PassResult* result = run_pass(&request);
        if (result->counts.wide_keys > 0) {
            result->radix->close();
            comparison->shape->narrow = false;
            comparison->shape->limbs = 2;
            show_phase(Phase::partitioning);
            result = run_pass(&request);
        }
        counts = result->counts;
        refuse_null_keys(comparison, counts);
        show_phase(Phase::matching);
        return result->radix;
    });
    files->match(comparison->shape->keys > 0, memory_limit() / 2, candidates);
    call([&] { files->close(); });
}

// Candidates are kept in a set of half the memory; where they are most of the rows, a join reads less.
std::size_t candidate_limit(const Comparison* comparison) {
    const std::size_t one = tandem::KeySet::bytes(1024, comparison->shape->limbs) / 1024;
    return std::max<std::size_t>(memory_limit() / 2 / one, 1024);
}

TupleDesc rows_desc(const Comparison* comparison, int side) {
    if (comparison->sources[side]->path != Path::executor) {
        return fetched_desc(comparison->sources[side]);
    }
    const SourceRequest& request = comparison->requests[side];
    StringInfoData sql;
    initStringInfo(&sql);
    for (int i = 0; i < request.columns; i++) {
        appendStringInfo(&sql, "%s(%s\n)", i == 0 ? "SELECT " : ", ", request.rows[i]);
    }
    appendStringInfo(&sql, " FROM %s", request.from);
    SPIPlanPtr plan = SPI_prepare(sql.data, 0, nullptr);
    if (plan == nullptr) {
        elog(ERROR, "SPI_prepare returned %s", SPI_result_code_string(SPI_result));
    }
    TupleDesc desc = CreateTupleDescCopy(
        static_cast<CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)))->resultDesc);
    SPI_freeplan(plan);
    return desc;
}

void* make_wanted(const Candidates& candidates, const Shape* shape) {
    const std::size_t size = tandem::KeySet::bytes(candidates.keys.size(), shape->limbs);
    void* memory = call([&] { return palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO); });
    tandem::KeySet set(memory, shape->limbs, candidates.keys.size(), shape->seed);
    for (const tandem::Difference& candidate : candidates.keys) {
        set.insert(candidate.key);
    }
    return memory;
}

void fetch(const Comparison* comparison, const Candidates& candidates, Outcome* outcome) {
    void* wanted = candidates.keys.empty() ? nullptr : make_wanted(candidates, comparison->shape);
    const std::size_t capacity = candidates.keys.size();
    call([&] {
        PassRequest request = request_pass(comparison, Pass::fetch);
        for (int side = 0; side < kSides; side++) {
            outcome->descs[side] = rows_desc(comparison, side);
            for (int i = 0; i < outcome->descs[side]->natts; i++) {
                namestrcpy(&TupleDescAttr(outcome->descs[side], i)->attname, psprintf("c%d", i + 1));
            }
            outcome->rows[side] = tuplestore_begin_heap(true, false, work_mem);
            request.stores[side] = outcome->rows[side];
        }
        if (wanted != nullptr) {
            show_phase(Phase::fetching);
            show(kCandidates, static_cast<std::int64_t>(capacity));
            request.wanted_memory = wanted;
            request.wanted_capacity = capacity;
            run_pass(&request);
            pfree(wanted);
        }
    });
}

// Of a comparison that is not made by passes: nothing has looked at the keys yet.
void look_for_null_keys(Comparison* comparison, const char* sql) {
    if (SPI_execute(sql, true, 1) != SPI_OK_SELECT || SPI_processed != 1) {
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

Outcome* join_all() {
    auto* outcome = static_cast<Outcome*>(palloc0(sizeof(Outcome)));
    outcome->method = "join";
    return outcome;
}

Outcome* find(Comparison* comparison) {
    auto* outcome = call([] { return static_cast<Outcome*>(palloc0(sizeof(Outcome))); });
    const auto wanted = static_cast<Method>(method);
    Candidates candidates{{}, call([&] { return candidate_limit(comparison); }), false};
    const bool sketchable = comparison->shape->keys == 0 ||
                            (comparison->sources[kLegacy]->unique && comparison->sources[kNew]->unique);
    bool found = false;
    if (sketchable && wanted != Method::radix) {
        found = find_by_sketch(comparison, outcome->counts, candidates);
    }
    if (!found) {
        find_by_radix(comparison, outcome->counts, candidates);
    }
    if (candidates.too_many) {
        return call([] { return join_all(); });
    }
    call([&] { outcome->method = method_name(comparison, found ? "sketch" : "radix"); });
    outcome->candidates = static_cast<std::int64_t>(candidates.keys.size());
    fetch(comparison, candidates, outcome);
    return outcome;
}

// --- judging

void register_rows(const char* name, Tuplestorestate* rows, TupleDesc desc, std::int64_t count) {
    auto* relation = static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    relation->md.name = pstrdup(name);
    relation->md.tupdesc = desc;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = static_cast<double>(count);
    relation->reldata = rows;
    if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER) {
        elog(ERROR, "could not register the candidates");
    }
}

ParamListInfo judge_parameters(const Outcome* outcome) {
    ParamListInfo parameters = makeParamList(3);
    const Datum values[3] = {Int64GetDatum(static_cast<std::int64_t>(outcome->counts.rows[kLegacy])),
                             Int64GetDatum(static_cast<std::int64_t>(outcome->counts.rows[kNew])),
                             CStringGetTextDatum(outcome->method)};
    const Oid types[3] = {INT8OID, INT8OID, TEXTOID};
    for (int i = 0; i < 3; i++) {
        parameters->params[i] = {values[i], false, PARAM_FLAG_CONST, types[i]};
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
    const int code = SPI_execute_extended(sql, &options);
    if (code < 0) {
        elog(ERROR, "SPI_execute_extended returned %s", SPI_result_code_string(code));
    }
}

void judge(FunctionCallInfo fcinfo, Comparison* comparison, const Outcome* outcome) {
    if (outcome->rows[kLegacy] == nullptr) {
        show_phase(Phase::joining);
        if (comparison->sources[kLegacy] == nullptr) {
            look_for_null_keys(comparison, comparison->null_keys);
        }
        ask(fcinfo, comparison->otherwise, outcome);
        return;
    }
    show_phase(Phase::judging);
    register_rows("tandem_legacy", outcome->rows[kLegacy], outcome->descs[kLegacy], outcome->candidates);
    register_rows("tandem_new", outcome->rows[kNew], outcome->descs[kNew], outcome->candidates);
    ask(fcinfo, comparison->judge, outcome);
    SPI_unregister_relation("tandem_legacy");
    SPI_unregister_relation("tandem_new");
}

void compare(FunctionCallInfo fcinfo, Comparison* comparison) {
    call([&] {
        comparison->shape = make_shape(fcinfo, comparison->requests[kLegacy].columns);
        if (comparison->shape != nullptr && static_cast<Method>(method) != Method::join) {
            open_sources(comparison);
        }
    });
    const Outcome* outcome =
        comparison->sources[kLegacy] != nullptr ? find(comparison) : call([] { return join_all(); });
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
    });
    return true;
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
    ErrorData* error = attempt([&] { compare(fcinfo, comparison); });
    if (error != nullptr) {
        const bool of_a_row = !comparison->refused && OidIsValid(comparison->requests[kLegacy].relation) &&
                              is_rows_fault(error->sqlerrcode);
        if (!of_a_row || !compare_carefully(fcinfo, comparison)) {
            throw Error(error);
        }
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
