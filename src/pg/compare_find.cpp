// One pass over both sides into a sketch; where it is too small, another one, or partitions on disk. Then a pass that
// reads the keys only, and counts or fetches the rows of those that differ.
#include "pg/compare.hpp"

#include "pg/compare_progress.hpp"
#include "pg/compare_radix.hpp"

extern "C" {
#include "executor/tstoreReceiver.h"
#include "utils/plancache.h"
}

namespace pg::compare {
namespace {

const char* path_name(const Source* source) {
    return source->path == Path::raw ? "raw" : source->path == Path::slots ? "slots" : "executor";
}

const char* method_name(const Comparison* comparison, const char* method) {
    return psprintf("%s (%s, %s)", method, path_name(comparison->sources[kLegacy]),
                    path_name(comparison->sources[kNew]));
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

} // namespace

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

namespace {

// How many keys differ, by a sample of legacy whose keys are looked up in new. A wrong guess costs a pass, no more.
constexpr std::uint64_t kFirstGuess = 2400;
constexpr double kSampleRows = 3000;
constexpr double kSampleFrom = 200'000;

std::uint64_t guess_differences(const Comparison* comparison) {
    const Source* legacy = comparison->sources[kLegacy];
    if (comparison->sample == nullptr || legacy->tuples < kSampleFrom || !comparison->sources[kNew]->unique ||
        comparison->sources[kNew]->path == Path::executor) {
        return 0;
    }
    const int level = NewGUCNestLevel();
    for (const char* setting : {"enable_hashjoin", "enable_mergejoin", "jit"}) {
        (void)set_config_option(setting, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    }
    const char* sql = psprintf(comparison->sample, kSampleRows * 100 / legacy->tuples);
    if (SPI_execute(psprintf(TANDEM_MADE_SQL "%s", sql), true, 1) != SPI_OK_SELECT || SPI_processed != 1) {
        elog(ERROR, "could not take a sample");
    }
    bool is_null = false;
    HeapTuple row = SPI_tuptable->vals[0];
    const std::int64_t rows = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &is_null));
    const std::int64_t different = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &is_null));
    AtEOXact_GUC(false, level);
    return rows == 0 ? 0
                     : static_cast<std::uint64_t>(legacy->tuples * static_cast<double>(different) /
                                                  static_cast<double>(rows) * 1.1);
}

bool fits(const Shape* shape, std::size_t cells, std::size_t processes) {
    return tandem::Sketch::bytes(shape->limbs, cells) * processes <= memory_limit();
}

// In slices, so that a cancel is answered.
tandem::Decoded decode(tandem::Sketch* sketch) {
    constexpr std::size_t kSlice = 100'000;
    tandem::Decoded all{};
    for (;;) {
        tandem::Decoded slice = sketch->decode(kSlice);
        all.complete = slice.complete;
        all.differences.insert(all.differences.end(), slice.differences.begin(), slice.differences.end());
        if (slice.complete || slice.differences.size() < kSlice) {
            return all;
        }
        call([] { CHECK_FOR_INTERRUPTS(); });
    }
}

enum class Sketched { complete, too_small, most_differ };

// Where so many of the rows differ, a join has less to read than candidates would have.
constexpr double kMost = 0.3;

// Peeling holds to a load of 77 % (k = 4); what is left is for a guess that is too low.
std::size_t cells_for(std::uint64_t differences) {
    return std::max(tandem::Sketch::kMinCells, (differences * 10 / 7 + 3) / 4 * 4);
}

PassResult* sketch_pass(Comparison* comparison, const PassRequest* request, bool again) {
    show_phase(again ? Phase::rescanning : Phase::scanning);
    PassResult* result = run_pass(request);
    refuse_null_keys(comparison, result->counts);
    return result;
}

// A key is negative, or above 2^61: two limbs from now on.
bool widen(Shape* shape, const Counts& counts) {
    if (counts.wide_keys == 0) {
        return false;
    }
    shape->narrow = false;
    shape->limbs = 2;
    return true;
}

// A pass with a sketch of the size that the sample tells, and, if it must be, another one of the size that the first
// tells.
Sketched find_by_sketch(Comparison* comparison, Counts& counts, Candidates& candidates) {
    PassRequest request = call([&] { return request_pass(comparison, Pass::sketch); });
    const auto processes = static_cast<std::size_t>(call([&] { return processes_for(&request); }));
    const std::uint64_t guess = call([&] { return guess_differences(comparison); });
    request.cells = cells_for(std::max<std::uint64_t>(guess, kFirstGuess));
    if (!fits(request.shape, request.cells, processes)) {
        if (static_cast<double>(guess) > kMost * comparison->sources[kLegacy]->tuples) {
            return Sketched::most_differ;
        }
        request.cells = tandem::Sketch::kMinCells;
    }
    for (int pass = 0; pass < 3; pass++) {
        PassResult* result = call([&] { return sketch_pass(comparison, &request, pass > 0); });
        counts = result->counts;
        const bool wide = widen(comparison->shape, counts);
        const std::uint64_t estimate = result->sketch->estimate();
        tandem::Decoded decoded = wide ? tandem::Decoded{} : decode(result->sketch);
        call([&] { pfree(result->sketch_memory); });
        if (decoded.complete) {
            candidates.too_many = decoded.differences.size() > candidates.limit;
            candidates.keys = std::move(decoded.differences);
            return Sketched::complete;
        }
        if (wide) {
            continue;
        }
        // A changed row counts twice in the estimate.
        const auto rows = static_cast<double>(counts.rows[kLegacy] + counts.rows[kNew]);
        request.cells = cells_for(std::max<std::uint64_t>(estimate + estimate / 8, 2 * request.cells));
        if (!fits(request.shape, request.cells, processes)) {
            return static_cast<double>(estimate) > kMost * rows ? Sketched::most_differ : Sketched::too_small;
        }
    }
    return Sketched::too_small;
}

void find_by_radix(Comparison* comparison, Counts& counts, Candidates& candidates) {
    RadixFiles* files = call([&] {
        const PassRequest request = request_pass(comparison, Pass::radix);
        show_phase(Phase::partitioning);
        const PassResult* result = run_pass(&request);
        if (widen(comparison->shape, result->counts)) {
            result->radix->close();
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
    const std::size_t one = tandem::KeySet::bytes(1024, comparison->shape->limbs) / 1024 + sizeof(Tally);
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
        appendStringInfo(&sql, "%s(%s\n)", i == 0 ? TANDEM_MADE_SQL "SELECT " : ", ", request.rows[i]);
    }
    appendStringInfo(&sql, " FROM %s", request.from);
    SPIPlanPtr plan = SPI_prepare(sql.data, 0, nullptr);
    if (plan == nullptr) {
        elog(ERROR, "SPI_prepare returned %s", SPI_result_code_string(SPI_result));
    }
    TupleDesc desc =
        CreateTupleDescCopy(static_cast<CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)))->resultDesc);
    SPI_freeplan(plan);
    return desc;
}

// Takes the candidates' own memory back.
void* make_wanted(Candidates& candidates, const Shape* shape) {
    const std::size_t size = tandem::KeySet::bytes(candidates.keys.size(), shape->limbs);
    void* memory = call([&] { return palloc_extended(size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO); });
    tandem::KeySet set(memory, shape->limbs, candidates.keys.size(), shape->seed);
    for (const tandem::Difference& candidate : candidates.keys) {
        set.insert(candidate.key);
    }
    candidates.keys = {};
    return memory;
}

// Are two values with different encodings always different ones? Then counts need no judge.
bool is_exact(const Shape* shape) {
    for (int i = 0; i < shape->columns; i++) {
        const ColumnRequest& column = shape->column()[i];
        const ValuePlan* plan = plan_value(column.operand, column.operand, InvalidOid);
        if (column.tolerance != Tolerance::none || plan == nullptr || !plan->canonical) {
            return false;
        }
    }
    return shape->keys > 0;
}

// A view may say something else every time it is read. What the first pass found must be there in the next one.
void check_stable(const Comparison* comparison, std::int64_t rows, std::int64_t candidates) {
    if (rows < candidates) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("%s or %s gives other rows each time it is read", comparison->requests[kLegacy].label,
                               comparison->requests[kNew].label),
                        errdetail("Of the %lld rows that differ, not all were there again in the same snapshot.",
                                  static_cast<long long>(candidates)),
                        errhint("Compare a table of its rows, or a materialized view, or make its functions stable.")));
    }
}

// So few that an index finds their rows sooner than a pass over all keys would.
constexpr std::size_t kFew = 10'000;
constexpr double kFewOfRows = 0.001;

bool are_few(const Comparison* comparison, const Candidates& candidates) {
    const auto count = candidates.keys.size();
    return comparison->shape->inline_key && count <= kFew && comparison->sources[kLegacy]->unique &&
           comparison->sources[kNew]->unique &&
           static_cast<double>(count) <
               kFewOfRows * std::min(comparison->sources[kLegacy]->tuples, comparison->sources[kNew]->tuples);
}

// Reads the rows of the candidates again and counts their kinds; false: they have to be judged.
bool count(const Comparison* comparison, Candidates& candidates, Outcome* outcome) {
    if (candidates.keys.empty()) {
        return true;
    }
    if (call([&] { return are_few(comparison, candidates); })) {
        return false; // judged as soon as counted
    }
    const std::size_t capacity = candidates.keys.size();
    void* wanted = make_wanted(candidates, comparison->shape);
    return call([&] {
        show_phase(Phase::counting);
        show(kCandidates, static_cast<std::int64_t>(capacity));
        PassRequest request = request_pass(comparison, Pass::count);
        request.wanted_memory = wanted;
        request.wanted_capacity = capacity;
        const PassResult* result = run_pass(&request);
        outcome->kinds = result->kinds;
        const Kinds& kinds = result->kinds;
        check_stable(comparison, kinds.missing + kinds.extra + kinds.changed + kinds.duplicate,
                     static_cast<std::int64_t>(capacity));
        pfree(wanted);
        return result->exact;
    });
}

// The candidates' keys as rows of the values that are compared.
Tuplestorestate* store_keys(const Comparison* comparison, const tandem::Difference* keys, std::size_t count,
                            TupleDesc& desc) {
    const Shape* shape = comparison->shape;
    desc = CreateTemplateTupleDesc(shape->keys);
    for (int i = 0; i < shape->keys; i++) {
        TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 1), psprintf("k%d", i + 1), shape->key()[i].type, -1, 0);
    }
    Tuplestorestate* store = tuplestore_begin_heap(true, false, work_mem);
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<std::size_t>(shape->keys)));
    auto* nulls = static_cast<bool*>(palloc0(sizeof(bool) * static_cast<std::size_t>(shape->keys)));
    for (std::size_t i = 0; i < count; i++) {
        unpack_key(shape, keys[i].key, values);
        tuplestore_putvalues(store, desc, values, nulls);
    }
    return store;
}

void fetch_by_index(const SourceRequest* request, const Shape* shape, Tuplestorestate* into) {
    StringInfoData sql;
    StringInfoData names;
    initStringInfo(&sql);
    initStringInfo(&names);
    appendStringInfoString(&sql, TANDEM_MADE_SQL "SELECT ");
    for (int i = 0; i < request->columns; i++) {
        appendStringInfo(&sql, "%s(%s\n)", i == 0 ? "" : ", ", request->rows[i]);
    }
    appendStringInfo(&sql, " FROM %s WHERE (", request->from);
    for (int i = 0; i < shape->keys; i++) {
        appendStringInfo(&sql, "%s(%s\n)", i == 0 ? "" : ", ", request->values[shape->key()[i].column]);
        appendStringInfo(&names, "%sk%d", i == 0 ? "" : ", ", i + 1);
    }
    appendStringInfo(&sql, ") IN (SELECT %s FROM tandem_keys)", names.data);
    if (request->condition != nullptr) {
        appendStringInfo(&sql, " AND (%s\n)", request->condition);
    }
    DestReceiver* dest = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(dest, into, CurrentMemoryContext, false, nullptr, nullptr);
    SPIExecuteOptions options{};
    options.read_only = true;
    options.dest = dest;
    const int code = SPI_execute_extended(sql.data, &options);
    if (code < 0) {
        elog(ERROR, "SPI_execute_extended returned %s", SPI_result_code_string(code));
    }
}

void fetch_few(const Comparison* comparison, const Candidates& candidates, Outcome* outcome) {
    const tandem::Difference* keys = candidates.keys.data();
    const std::size_t count = candidates.keys.size();
    call([&] {
        show_phase(Phase::fetching);
        TupleDesc desc = nullptr;
        Tuplestorestate* store = store_keys(comparison, keys, count, desc);
        register_rows("tandem_keys", store, desc, static_cast<std::int64_t>(count));
        for (int side = 0; side < kSides; side++) {
            fetch_by_index(&comparison->requests[side], comparison->shape, outcome->rows[side]);
        }
        SPI_unregister_relation("tandem_keys");
        tuplestore_end(store);
    });
}

void fetch(const Comparison* comparison, Candidates& candidates, Outcome* outcome) {
    const bool few = call([&] { return are_few(comparison, candidates); });
    const std::size_t capacity = candidates.keys.size();
    void* wanted = capacity == 0 || few ? nullptr : make_wanted(candidates, comparison->shape);
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
    if (few && !candidates.keys.empty()) {
        fetch_few(comparison, candidates, outcome);
    }
    call([&] {
        check_stable(comparison,
                     tuplestore_tuple_count(outcome->rows[kLegacy]) + tuplestore_tuple_count(outcome->rows[kNew]),
                     static_cast<std::int64_t>(capacity));
    });
}

} // namespace

Outcome* join_all() {
    auto* outcome = static_cast<Outcome*>(palloc0(sizeof(Outcome)));
    outcome->method = "join";
    return outcome;
}

Outcome* find(Comparison* comparison) {
    auto* outcome = call([] { return static_cast<Outcome*>(palloc0(sizeof(Outcome))); });
    const auto forced = static_cast<Method>(method);
    Candidates candidates{{}, call([&] { return candidate_limit(comparison); }), false, false, {}};
    const bool unique = comparison->sources[kLegacy]->unique && comparison->sources[kNew]->unique;
    const bool only_counts = comparison->counted != nullptr && call([&] { return is_exact(comparison->shape); });

    Sketched sketched = Sketched::too_small;
    if ((unique || comparison->shape->keys == 0) && forced != Method::radix) {
        sketched = find_by_sketch(comparison, outcome->counts, candidates);
    }
    if (sketched == Sketched::most_differ && !only_counts && forced == Method::automatic) {
        return call([] { return join_all(); });
    }
    if (sketched != Sketched::complete || candidates.too_many) {
        candidates.keys.clear();
        candidates.too_many = false;
        candidates.only_counts = only_counts;
        sketched = Sketched::too_small;
        find_by_radix(comparison, outcome->counts, candidates);
    }
    if (candidates.too_many) {
        return call([] { return join_all(); });
    }
    call([&] { outcome->method = method_name(comparison, sketched == Sketched::complete ? "sketch" : "radix"); });
    outcome->candidates = static_cast<std::int64_t>(candidates.keys.size());
    outcome->kinds = candidates.kinds;
    outcome->counted = candidates.only_counts || (only_counts && count(comparison, candidates, outcome));
    if (!outcome->counted && outcome->candidates > 0 && candidates.keys.empty()) {
        return call([] { return join_all(); }); // counting saw what it cannot explain
    }
    if (!outcome->counted) {
        fetch(comparison, candidates, outcome);
    }
    return outcome;
}

} // namespace pg::compare
