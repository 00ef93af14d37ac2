// observe(): an application tells how long an operation took. A session keeps which series its last calls meant, so
// that the next one costs a few comparisons; a change of runs or operations makes it ask the tables again.
#include "pg/observe.hpp"
#include "pg/invalidation.hpp"

namespace pg::observe {

int save_every_ms = 10'000;

namespace {

char* retention = nullptr;

// What a call said, and which series it meant.
struct Known {
    bool valid;
    Side side;
    uint8 run_size, operation_size;
    char run[NAMEDATALEN];
    char operation[NAMEDATALEN];
    Target target;
};
constexpr int kKnown = 8;
Known known[kKnown];
int newest = 0;
int oldest = 0; // is replaced next

Oid run_relation = InvalidOid;
Oid operation_relation = InvalidOid;
uint64 invalidations = 0;

void on_invalidation(Datum, Oid relid) {
    if (relid == InvalidOid || relid == run_relation || relid == operation_relation) {
        invalidations++;
        for (Known& entry : known) {
            entry.valid = false;
        }
    }
}

Datum column(Relation relation, HeapTuple tuple, const char* name, bool* isnull) {
    return heap_getattr(tuple, get_attnum(RelationGetRelid(relation), name), RelationGetDescr(relation), isnull);
}

// As much of a text as a message may show: whole characters.
int shown(std::string_view text) {
    return pg_mbcliplen(text.data(), static_cast<int>(text.size()), NAMEDATALEN - 1);
}

int32 find_run(std::string_view name) {
    Relation runs = table_open(run_relation, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, get_attnum(run_relation, "name"), BTEqualStrategyNumber, F_TEXTEQ,
                PointerGetDatum(cstring_to_text_with_len(name.data(), static_cast<int>(name.size()))));
    key.sk_collation = C_COLLATION_OID;
    SysScanDesc scan = systable_beginscan(runs, InvalidOid, false, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    bool isnull = false;
    const int32 run = HeapTupleIsValid(tuple) ? DatumGetInt32(column(runs, tuple, "id", &isnull)) : 0;
    systable_endscan(scan);
    table_close(runs, AccessShareLock);
    if (run == 0) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("run \"%.*s\" does not exist", shown(name), name.data()),
                 errhint("SELECT run FROM tandem.runs lists the runs; tandem.create_run() makes one.")));
    }
    return run;
}

} // namespace

bool find_operation(Relation operations, int32 run, std::string_view operation, int64* threshold) {
    *threshold = kNoThreshold;
    const Oid relation = RelationGetRelid(operations);
    const Oid index = get_relname_relid("operation_pkey", RelationGetNamespace(operations));
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], get_attnum(relation, "run_id"), BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(run));
    ScanKeyInit(&keys[1], get_attnum(relation, "name"), BTEqualStrategyNumber, F_TEXTEQ,
                PointerGetDatum(cstring_to_text_with_len(operation.data(), static_cast<int>(operation.size()))));
    keys[1].sk_collation = C_COLLATION_OID;
    SysScanDesc scan = systable_beginscan(operations, index, OidIsValid(index), nullptr, 2, keys);
    HeapTuple tuple = systable_getnext(scan);
    const bool found = HeapTupleIsValid(tuple);
    if (found) {
        bool isnull = false;
        const Datum value = column(operations, tuple, "threshold_us", &isnull);
        *threshold = isnull ? kNoThreshold : DatumGetInt64(value);
    }
    systable_endscan(scan);
    return found || is_default_operation(operation);
}

bool is_default_operation(std::string_view operation) {
    return std::find(std::begin(kDefaultOperations), std::end(kDefaultOperations), operation) !=
           std::end(kDefaultOperations);
}

int64 checked_duration(const Interval* interval) {
    constexpr int64 kMostDays = 100'000;
    if (interval->month != 0 || interval->day > kMostDays || interval->day < -kMostDays) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a duration has a definite, finite length"),
                        errdetail("Months, years and infinity have none."),
                        errhint("clock_timestamp() - the time at which the operation began is such a duration.")));
    }
    int64 us = 0;
    if (pg_add_s64_overflow(interval->day * USECS_PER_DAY, interval->time, &us) || us < 0) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a duration cannot be negative"),
                        errdetail("It may be that the clock was set back while the operation ran."),
                        errhint("Measure by a clock that is never set, or leave such a value out.")));
    }
    return us;
}

namespace {

Side side_of(std::string_view side) {
    if (side == "legacy") {
        return kLegacy;
    }
    if (side == "new") {
        return kNew;
    }
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown side \"%.*s\"", shown(side), side.data()),
                    errdetail("A run has the sides legacy and new."),
                    errhint("Give the side that served the operation: that which tandem.route() answered.")));
    pg_unreachable();
}

void look_up(std::string_view run, std::string_view operation, Side side) {
    static bool registered = false;
    if (!registered) {
        watch_relations(on_invalidation);
        registered = true;
    }
    if (memory == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("observing needs pg_tandem in shared_preload_libraries"),
                        errdetail("Durations are counted in shared memory, which is given out when the server starts."),
                        errhint("Add pg_tandem to shared_preload_libraries and restart.")));
    }
    const Oid schema = get_namespace_oid("tandem", false);
    run_relation = get_relname_relid("run", schema);
    operation_relation = get_relname_relid("operation", schema);
    const uint64 before = invalidations;
    const int32 run_id = find_run(run);
    int64 threshold = kNoThreshold;
    Relation operations = table_open(operation_relation, AccessShareLock);
    const bool found = operation.size() < NAMEDATALEN && find_operation(operations, run_id, operation, &threshold);
    table_close(operations, AccessShareLock);
    if (!found) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("run \"%.*s\" has no operation \"%.*s\"", shown(run), run.data(), shown(operation),
                               operation.data()),
                        errhint("SELECT tandem.add_operation(run, operation, threshold) makes it known.")));
    }
    Known& entry = known[oldest];
    entry.valid = false;
    if (!resolve({run_relation, run_id, side, operation, threshold, true}, 0, &entry.target)) {
        newest = -1; // memory is full: the observation was counted as dropped
        return;
    }
    entry.side = side;
    entry.run_size = static_cast<uint8>(run.size());
    entry.operation_size = static_cast<uint8>(operation.size());
    memcpy(entry.run, run.data(), run.size());
    memcpy(entry.operation, operation.data(), operation.size());
    entry.valid = invalidations == before;
    newest = oldest;
    oldest = (oldest + 1) % kKnown;
}

bool is_same(const Known& entry, std::string_view run, std::string_view operation, Side side) {
    return entry.valid && entry.side == side && entry.run_size == run.size() &&
           entry.operation_size == operation.size() && memcmp(entry.run, run.data(), run.size()) == 0 &&
           memcmp(entry.operation, operation.data(), operation.size()) == 0 && is_current(entry.target);
}

// nullptr: there is no room for it.
const Target* find_target(std::string_view run, std::string_view operation, Side side) {
    if (newest >= 0 && is_same(known[newest], run, operation, side)) {
        return &known[newest].target;
    }
    for (int i = 0; i < kKnown; i++) {
        if (is_same(known[i], run, operation, side)) {
            newest = i;
            return &known[i].target;
        }
    }
    look_up(run, operation, side);
    return newest < 0 ? nullptr : &known[newest].target;
}

std::string_view text_argument(FunctionCallInfo fcinfo, int i) {
    text* value = PG_GETARG_TEXT_PP(i);
    return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

bool check_retention(char** value, void**, GucSource) {
    if ((*value)[0] == '\0') {
        return true;
    }
    int days = 0;
    return parse_int(*value, &days, 0, nullptr) && days > 0;
}

} // namespace

void define_settings() {
    if (process_shared_preload_libraries_in_progress) { // else it could not be changed any more
        DefineCustomIntVariable("tandem.observe_memory", "The shared memory in which durations are counted.",
                                "What does not fit is counted in view tandem.observe_memory, column dropped.",
                                &memory_kb, 8 * 1024, 256, 1024 * 1024, PGC_POSTMASTER, GUC_UNIT_KB, nullptr, nullptr,
                                nullptr);
    }
    DefineCustomIntVariable("tandem.observe_save_every",
                            "How often what was observed is saved into tandem.latency_hour.",
                            "A crash loses what was observed since.", &save_every_ms, 10'000, 100, 3'600'000,
                            PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("tandem.latency_retention",
                               "For how many days the hours of tandem.latency_hour are kept; empty: forever.", nullptr,
                               &retention, "400", PGC_SUSET, 0, check_retention, nullptr, nullptr);
}

} // namespace pg::observe

TANDEM_FUNCTION(tandem_duration_us) {
    return pg::entry([&]() -> Datum { PG_RETURN_INT64(pg::observe::checked_duration(PG_GETARG_INTERVAL_P(0))); });
}

// observe(run text, operation text, side text, duration interval, ok boolean)
TANDEM_FUNCTION(tandem_observe) {
    return pg::entry([&]() -> Datum {
        using namespace pg::observe;
        for (int i = 0; i < 5; i++) {
            if (PG_ARGISNULL(i)) {
                ereport(ERROR,
                        (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                         errmsg("observe needs a run, an operation, a side, a duration, and whether it ended well"),
                         errhint("tandem.observe('my_run', 'checkout', 'new', '120 ms')")));
            }
        }
        const int64 us = checked_duration(PG_GETARG_INTERVAL_P(3));
        const Target* target =
            find_target(text_argument(fcinfo, 0), text_argument(fcinfo, 1), side_of(text_argument(fcinfo, 2)));
        if (target != nullptr) {
            record(target->series, us, !PG_GETARG_BOOL(4), monotonic_ns(CLOCK_MONOTONIC_COARSE));
        }
        PG_RETURN_VOID();
    });
}
