// How a kind of tasks behaves: its legal transitions (tandem.transition) and how it is retried (tandem.task_kind). A
// backend keeps what it has read; a trigger on both tables sends a relcache invalidation with the commit of a change.
#include "pg/task.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace pg::task {
namespace {

struct KindEntry {
    char name[kLongestKind + 1]; // hash key
    Kind kind;
};

// A kind costs 200 bytes; whoever uses more of them than this reads them again.
constexpr long kMostKinds = 4096;

HTAB* kinds = nullptr;
Oid transition_relation = InvalidOid;
Oid kind_relation = InvalidOid;
const KindEntry* last = nullptr;
uint64 invalidations = 0;
bool registered = false;

void on_invalidation(Datum, Oid relid) {
    if (relid != InvalidOid && relid != transition_relation && relid != kind_relation) {
        return;
    }
    invalidations++;
    last = nullptr;
    if (kinds != nullptr) {
        hash_destroy(kinds);
        kinds = nullptr;
    }
}

Datum column(Relation relation, HeapTuple tuple, int number) {
    bool isnull = false;
    const Datum value = heap_getattr(tuple, number, RelationGetDescr(relation), &isnull);
    if (isnull) {
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("column %d of table %s is NULL", number, RelationGetRelationName(relation))));
    }
    return value;
}

Relation open(const char* name, Oid schema, Oid* relid, int columns) {
    *relid = get_relname_relid(name, schema);
    Relation relation = table_open(*relid, AccessShareLock);
    if (RelationGetDescr(relation)->natts < columns) {
        elog(ERROR, "table tandem.%s has too few columns", name);
    }
    return relation;
}

// kind is the first column of both tables, and of their primary keys.
SysScanDesc scan_kind(Relation relation, Oid index, const char* kind) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(kind));
    key.sk_collation = DEFAULT_COLLATION_OID;
    return systable_beginscan(relation, index, index != InvalidOid, nullptr, 1, &key);
}

tandem::TaskState state_column(Relation relation, HeapTuple tuple, int number) {
    text* name = DatumGetTextPP(column(relation, tuple, number));
    const std::optional<tandem::TaskState> state = tandem::task_state(view(name));
    if (!state) {
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("table tandem.transition names no known state: \"%s\"", text_to_cstring(name))));
    }
    return *state;
}

bool read_transitions(Relation relation, Oid index, const char* name, Kind* kind) {
    bool found = false;
    kind->transitions = 0;
    SysScanDesc scan = scan_kind(relation, index, name);
    while (HeapTuple tuple = systable_getnext(scan)) {
        found = true;
        kind->transitions |= tandem::transition_bit(state_column(relation, tuple, 2), state_column(relation, tuple, 3));
    }
    systable_endscan(scan);
    return found;
}

// With months of 30 days: nobody backs off for a month.
int64 microseconds(Datum interval) {
    const Interval* value = DatumGetIntervalP(interval);
    return value->time + (value->day + int64{30} * value->month) * USECS_PER_DAY;
}

bool read_retries(Relation relation, Oid index, const char* name, Kind* kind) {
    SysScanDesc scan = scan_kind(relation, index, name);
    HeapTuple tuple = systable_getnext(scan);
    const bool found = HeapTupleIsValid(tuple);
    if (found) {
        kind->max_attempts = DatumGetInt16(column(relation, tuple, 2));
        kind->backoff = microseconds(column(relation, tuple, 3));
        kind->backoff_max = microseconds(column(relation, tuple, 4));
    }
    systable_endscan(scan);
    return found;
}

void read_kind(const char* name, Kind* kind) {
    const Oid schema = get_namespace_oid("tandem", false);
    Relation transitions = open("transition", schema, &transition_relation, 3);
    Relation retries = open("task_kind", schema, &kind_relation, 4);
    const Oid transition_key = get_relname_relid("transition_pkey", schema);
    const Oid retry_key = get_relname_relid("task_kind_pkey", schema);

    *kind = {0, 5, USECS_PER_SEC, USECS_PER_HOUR}; // where task_kind has no '*'
    if (!read_transitions(transitions, transition_key, name, kind)) {
        read_transitions(transitions, transition_key, "*", kind);
    }
    if (!read_retries(retries, retry_key, name, kind)) {
        read_retries(retries, retry_key, "*", kind);
    }
    table_close(retries, AccessShareLock);
    table_close(transitions, AccessShareLock);
}

void create_cache() {
    if (!registered) {
        watch_relations(on_invalidation);
        registered = true;
    }
    HASHCTL control{};
    control.keysize = kLongestKind + 1;
    control.entrysize = sizeof(KindEntry);
    control.hcxt = TopMemoryContext;
    kinds = hash_create("pg_tandem kinds of tasks", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

} // namespace

Kind kind_of(text* kind) {
    const std::string_view name = view(kind);
    if (last != nullptr && name == last->name) {
        return last->kind;
    }
    char key[kLongestKind + 1] = {};
    if (name.size() > kLongestKind) { // no such kind is made here; it behaves as others
        key[0] = '*';
    } else {
        memcpy(key, name.data(), name.size());
    }
    const auto* known =
        kinds == nullptr ? nullptr : static_cast<KindEntry*>(hash_search(kinds, key, HASH_FIND, nullptr));
    if (known != nullptr) {
        last = known;
        return known->kind;
    }
    // Reading takes in invalidations, which may throw the cache away: the entry is made afterwards.
    static Kind read;
    uint64 before = 0;
    do {
        before = invalidations;
        read_kind(key, &read);
    } while (before != invalidations);
    if (kinds != nullptr && hash_get_num_entries(kinds) >= kMostKinds) {
        on_invalidation(Datum{0}, InvalidOid);
    }
    if (kinds == nullptr) {
        create_cache();
    }
    auto* entry = static_cast<KindEntry*>(hash_search(kinds, key, HASH_ENTER, nullptr));
    entry->kind = read;
    last = entry;
    return entry->kind;
}

} // namespace pg::task
