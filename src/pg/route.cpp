// route(): which side serves a key, cheap enough to ask per row, and never stale.
//
// The truth is tables run and run_domain, and brake: rollbacks that are not entered into their run yet. A backend keeps
// what it read in a cache; a trigger on the tables sends a relcache invalidation with the commit of every transition,
// and route() takes in pending invalidations at each call. So a REPEATABLE READ transaction and a loop inside one
// statement both see a rollback, a standby too, and none of it needs shared memory. The tables are read through a
// catalog snapshot, which is newer than the transaction's.
#include "pg/prelude.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace pg {
namespace {

struct Domain {
    NameData name;
    int weight;
};

struct RouteEntry {
    char run[NAMEDATALEN]; // hash key
    bool valid;
    uint64 salt;
    int weight; // the least of the domains': new only where every domain has the key live
    int domain_count;
    int domain_room;
    Domain* domains;
};

HTAB* route_cache = nullptr;
Oid run_relation = InvalidOid;
Oid domain_relation = InvalidOid;
Oid brake_relation = InvalidOid;
RouteEntry* last_entry = nullptr;
uint64 invalidations = 0;

void on_invalidation(Datum, Oid relid) {
    if (route_cache == nullptr ||
        (relid != InvalidOid && relid != run_relation && relid != domain_relation && relid != brake_relation)) {
        return;
    }
    invalidations++;
    last_entry = nullptr;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, route_cache);
    while (auto* entry = static_cast<RouteEntry*>(hash_seq_search(&scan))) {
        entry->valid = false;
    }
}

void create_cache() {
    HASHCTL control{};
    control.keysize = NAMEDATALEN;
    control.entrysize = sizeof(RouteEntry);
    control.hcxt = TopMemoryContext;
    HTAB* cache = hash_create("pg_tandem routes", 8, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
    watch_relations(on_invalidation);
    route_cache = cache;
}

Datum column(Relation relation, HeapTuple tuple, const char* name) {
    bool isnull = false;
    const AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    const Datum value =
        number == InvalidAttrNumber ? Datum{0} : heap_getattr(tuple, number, RelationGetDescr(relation), &isnull);
    if (number == InvalidAttrNumber || isnull) {
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("table %s has no usable column \"%s\"", RelationGetRelationName(relation), name)));
    }
    return value;
}

[[noreturn]] void no_such_run(const char* run) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("run \"%s\" does not exist", run),
                    errhint("SELECT run FROM tandem.runs lists the runs; tandem.create_run() makes one.")));
    pg_unreachable();
}

void add_domain(RouteEntry* entry, const char* name, int weight) {
    if (entry->domain_count == entry->domain_room) {
        const int room = entry->domain_room == 0 ? 4 : entry->domain_room * 2;
        entry->domains =
            static_cast<Domain*>(entry->domains == nullptr ? MemoryContextAlloc(TopMemoryContext, sizeof(Domain) * room)
                                                           : repalloc(entry->domains, sizeof(Domain) * room));
        entry->domain_room = room;
    }
    Domain* domain = &entry->domains[entry->domain_count++];
    namestrcpy(&domain->name, name);
    domain->weight = weight;
}

// What is braked of a run: names of domains, in the current memory context; nullptr stands for all of them.
List* read_brakes(Datum run_id) {
    Relation brakes = table_open(brake_relation, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, get_attnum(brake_relation, "run_id"), BTEqualStrategyNumber, F_INT4EQ, run_id);
    const AttrNumber domain = get_attnum(brake_relation, "domain");
    List* braked = NIL;
    SysScanDesc scan = systable_beginscan(brakes, InvalidOid, false, nullptr, 1, &key);
    for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
        bool isnull = false;
        const Datum name = heap_getattr(tuple, domain, RelationGetDescr(brakes), &isnull);
        braked = lappend(braked, isnull ? nullptr : TextDatumGetCString(name));
    }
    systable_endscan(scan);
    table_close(brakes, AccessShareLock);
    return braked;
}

bool is_braked(const List* braked, const char* domain) {
    ListCell* cell = nullptr;
    foreach (cell, braked) {
        const auto* name = static_cast<const char*>(lfirst(cell));
        if (name == nullptr || strcmp(name, domain) == 0) {
            return true;
        }
    }
    return false;
}

// False: there is no such run. The entry becomes valid when all of it was read, and nothing was invalidated meanwhile:
// a read that is cancelled half-way must not leave the weights of before a rollback behind.
bool read_route(RouteEntry* entry, Oid schema) {
    run_relation = get_relname_relid("run", schema);
    domain_relation = get_relname_relid("run_domain", schema);
    brake_relation = get_relname_relid("brake", schema);
    Relation runs = table_open(run_relation, AccessShareLock);
    Relation domains = table_open(domain_relation, AccessShareLock);

    ScanKeyData key;
    ScanKeyInit(&key, get_attnum(run_relation, "name"), BTEqualStrategyNumber, F_TEXTEQ,
                CStringGetTextDatum(entry->run));
    key.sk_collation = C_COLLATION_OID;
    const uint64 invalidations_before = invalidations;
    SysScanDesc scan = systable_beginscan(runs, InvalidOid, false, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    if (!HeapTupleIsValid(tuple)) {
        systable_endscan(scan);
        table_close(domains, AccessShareLock);
        table_close(runs, AccessShareLock);
        return false;
    }
    const Datum run_id = column(runs, tuple, "id");
    entry->salt = static_cast<uint64>(DatumGetInt64(column(runs, tuple, "salt")));
    entry->weight = DatumGetInt32(column(runs, tuple, "weight"));
    systable_endscan(scan);

    // Brakes before domains: one that is entered in between is gone here, and its weight is seen there.
    List* braked = read_brakes(run_id);
    entry->domain_count = 0;
    ScanKeyInit(&key, get_attnum(domain_relation, "run_id"), BTEqualStrategyNumber, F_INT4EQ, run_id);
    scan = systable_beginscan(domains, InvalidOid, false, nullptr, 1, &key);
    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        const char* name = TextDatumGetCString(column(domains, tuple, "name"));
        const int weight = is_braked(braked, name) ? 0 : DatumGetInt32(column(domains, tuple, "weight"));
        add_domain(entry, name, weight);
        entry->weight = std::min(entry->weight, weight);
    }
    systable_endscan(scan);
    list_free(braked);
    table_close(domains, AccessShareLock);
    table_close(runs, AccessShareLock);
    entry->valid = invalidations == invalidations_before;
    return true;
}

void forget(RouteEntry* entry) {
    if (entry->domains != nullptr) {
        pfree(entry->domains);
    }
    hash_search(route_cache, entry->run, HASH_REMOVE, nullptr);
}

const RouteEntry* find_route(FunctionCallInfo fcinfo, std::string_view run) {
    AcceptInvalidationMessages();
    if (last_entry != nullptr && last_entry->valid && run == last_entry->run) {
        return last_entry;
    }
    char name[NAMEDATALEN] = {};
    if (run.size() >= NAMEDATALEN) {
        const int shown = pg_mbcliplen(run.data(), static_cast<int>(run.size()), NAMEDATALEN - 1); // whole characters
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("run \"%.*s...\" does not exist", shown, run.data()),
                        errdetail("A run's name has at most %d bytes.", NAMEDATALEN - 1),
                        errhint("SELECT run FROM tandem.runs lists the runs.")));
    }
    memcpy(name, run.data(), run.size());
    if (route_cache == nullptr) {
        create_cache();
    }
    auto* entry = static_cast<RouteEntry*>(hash_search(route_cache, name, HASH_FIND, nullptr));
    if (entry == nullptr || !entry->valid) {
        bool found = false;
        entry = static_cast<RouteEntry*>(hash_search(route_cache, name, HASH_ENTER, &found));
        entry->valid = false;
        if (!found) {
            entry->domains = nullptr;
            entry->domain_room = 0;
        }
        if (!read_route(entry, get_func_namespace(fcinfo->flinfo->fn_oid))) {
            forget(entry);
            no_such_run(name);
        }
    }
    last_entry = entry;
    return entry;
}

int weight_of(const RouteEntry* route, text* domain) {
    if (domain == nullptr) {
        return route->weight;
    }
    const std::string_view name{VARDATA_ANY(domain), VARSIZE_ANY_EXHDR(domain)};
    for (int i = 0; i < route->domain_count; i++) {
        if (name == NameStr(route->domains[i].name)) {
            return route->domains[i].weight;
        }
    }
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("run \"%s\" has no domain \"%s\"", route->run, text_to_cstring(domain)),
                    errhint("A domain is named in tandem.map_table(..., domain => ...).")));
    pg_unreachable();
}

} // namespace
} // namespace pg

// route(run text, key text, domain text) → 'legacy' | 'new'; not strict, as domain may be NULL.
TANDEM_FUNCTION(tandem_route) {
    return pg::entry([&]() -> Datum {
        if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("route needs a run and a key"),
                            errhint("tandem.route('my_run', id::text)")));
        }
        text* run = PG_GETARG_TEXT_PP(0);
        text* key = PG_GETARG_TEXT_PP(1);
        text* domain = PG_ARGISNULL(2) ? nullptr : PG_GETARG_TEXT_PP(2);
        const pg::RouteEntry* route = pg::find_route(fcinfo, {VARDATA_ANY(run), VARSIZE_ANY_EXHDR(run)});
        const int weight = pg::weight_of(route, domain);
        const std::uint32_t bucket = tandem::bucket_of(route->salt, {VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)});
        const bool is_new = tandem::bucket_is_new(bucket, weight);
        PG_RETURN_TEXT_P(is_new ? cstring_to_text_with_len("new", 3) : cstring_to_text_with_len("legacy", 6));
    });
}

// The bucket of a key under a salt, for SQL that needs to know which side is authoritative.
TANDEM_FUNCTION(tandem_bucket) {
    return pg::entry([&]() -> Datum {
        text* key = PG_GETARG_TEXT_PP(1);
        PG_RETURN_INT32(static_cast<int32>(tandem::bucket_of(static_cast<std::uint64_t>(PG_GETARG_INT64(0)),
                                                             {VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)})));
    });
}

// Statement trigger on run, run_domain and mapping: whoever cached them reads again at once after our commit.
TANDEM_FUNCTION(tandem_invalidate) {
    return pg::entry([&]() -> Datum {
        if (!CALLED_AS_TRIGGER(fcinfo)) {
            ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("this is a trigger function")));
        }
        CacheInvalidateRelcache(reinterpret_cast<TriggerData*>(fcinfo->context)->tg_relation);
        return PointerGetDatum(nullptr);
    });
}
