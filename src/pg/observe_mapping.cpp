// Which relation is which side of which run: kept by each session, read again when runs, mappings or mapped tables
// change. A statement on anything else is told so by one look into a hash table.
//
// This is read inside other people's statements. So it never waits for a lock, and where it finds something else than
// it expects (another version, an extension that is just being dropped) nothing is mapped, and nothing fails.
#include "pg/observe_hooks.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "catalog/pg_inherits.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
}

namespace pg::observe {
namespace {

constexpr int kMostPlaces = 4; // of one relation: one for each run that maps it

struct Mapped {
    Oid relation; // InvalidOid: free
    int count;
    Place places[kMostPlaces];
};

MemoryContext context = nullptr;
Mapped* table = nullptr; // open addressing
uint32 mask = 0;
uint32 mapped_count = 0;
bool valid = false;
bool watches_all = true; // something was not found: any change of any relation may bring it
uint64 invalidations = 0;
Oid run_relation = InvalidOid;
Oid mapping_relation = InvalidOid;
Oid operation_relation = InvalidOid;

Mapped* find(Oid relation) {
    for (uint32 i = murmurhash32(relation) & mask;; i = (i + 1) & mask) {
        if (table[i].relation == relation || table[i].relation == InvalidOid) {
            return &table[i];
        }
    }
}

void on_relation(Datum, Oid relid) {
    if (valid && (watches_all || relid == InvalidOid || relid == run_relation || relid == mapping_relation ||
                  relid == operation_relation || (mapped_count > 0 && find(relid)->relation == relid))) {
        valid = false;
    }
    invalidations++;
}

void on_namespace(Datum, int, uint32) {
    valid = false;
    invalidations++;
}

Relation open_now(Oid relation) {
    if (!OidIsValid(relation) || !ConditionalLockRelationOid(relation, AccessShareLock)) {
        return nullptr;
    }
    Relation opened = try_table_open(relation, NoLock);
    if (opened == nullptr) {
        UnlockRelationOid(relation, AccessShareLock);
    }
    return opened;
}

// Columns by their names; false: it has others.
bool find_columns(Relation relation, const char* const* names, AttrNumber* numbers, int count) {
    for (int i = 0; i < count; i++) {
        numbers[i] = get_attnum(RelationGetRelid(relation), names[i]);
        if (numbers[i] == InvalidAttrNumber) {
            return false;
        }
    }
    return true;
}

// The runs that are observed: those that are neither over nor cancelled.
bool read_runs(Relation relation) {
    static const char* const names[] = {"id", "stage", "phase"};
    AttrNumber numbers[3];
    if (!find_columns(relation, names, numbers, 3)) {
        return false;
    }
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        Datum values[3];
        bool nulls[3];
        for (int i = 0; i < 3; i++) {
            values[i] = heap_getattr(tuple, numbers[i], RelationGetDescr(relation), &nulls[i]);
        }
        if (nulls[0] || nulls[1] || nulls[2] || observed_run_count == kMostObservedRuns ||
            strcmp(TextDatumGetCString(values[1]), "complete") == 0 ||
            strcmp(TextDatumGetCString(values[2]), "cancelled") == 0) {
            continue;
        }
        ObservedRun& run = observed_runs[observed_run_count++];
        memset(&run, 0, sizeof(run));
        run.id = DatumGetInt32(values[0]);
    }
    systable_endscan(scan);
    return true;
}

void grow() {
    Mapped* old = table;
    const uint32 size = old == nullptr ? 0 : mask + 1;
    const uint32 wanted = size == 0 ? 64 : size * 2;
    auto* made = static_cast<Mapped*>(MemoryContextAllocZero(context, sizeof(Mapped) * wanted));
    table = made;
    mask = wanted - 1;
    for (uint32 i = 0; i < size; i++) {
        if (old[i].relation != InvalidOid) {
            *find(old[i].relation) = old[i];
        }
    }
}

void add(Oid relation, Place place) {
    if (table == nullptr || mapped_count * 2 > mask) {
        grow();
    }
    Mapped* entry = find(relation);
    if (entry->relation == InvalidOid) {
        entry->relation = relation;
        mapped_count++;
    }
    for (int i = 0; i < entry->count; i++) {
        if (entry->places[i].run == place.run && entry->places[i].side == place.side) {
            return;
        }
    }
    if (entry->count < kMostPlaces) {
        entry->places[entry->count++] = place;
    }
}

void add_by_name(const NameData* schema, const NameData* name, Place place) {
    const Oid in = get_namespace_oid(NameStr(*schema), true);
    const Oid relation = OidIsValid(in) ? get_relname_relid(NameStr(*name), in) : InvalidOid;
    if (!OidIsValid(relation)) {
        watches_all = true;
        return;
    }
    add(relation, place);
    if (has_subclass(relation)) {
        ListCell* cell = nullptr;
        foreach (cell, find_all_inheritors(relation, NoLock, nullptr)) {
            add(lfirst_oid(cell), place);
        }
    }
}

bool read_mappings(Relation relation) {
    static const char* const names[] = {"run_id", "legacy_schema", "legacy_table", "new_schema", "new_table"};
    constexpr int kCount = std::size(names);
    AttrNumber numbers[kCount];
    if (!find_columns(relation, names, numbers, kCount)) {
        return false;
    }
    SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        Datum values[kCount];
        bool isnull = false;
        bool any_null = false;
        for (int i = 0; i < kCount; i++) {
            values[i] = heap_getattr(tuple, numbers[i], RelationGetDescr(relation), &isnull);
            any_null = any_null || isnull;
        }
        for (int run = 0; run < observed_run_count && !any_null; run++) {
            if (observed_runs[run].id == DatumGetInt32(values[0])) {
                add_by_name(DatumGetName(values[1]), DatumGetName(values[2]), {static_cast<int16>(run), kLegacy});
                add_by_name(DatumGetName(values[3]), DatumGetName(values[4]), {static_cast<int16>(run), kNew});
            }
        }
    }
    systable_endscan(scan);
    return true;
}

void read() {
    if (context == nullptr) {
        watch_relations(on_relation);
        CacheRegisterSyscacheCallback(NAMESPACEOID, on_namespace, Datum{0});
        context = AllocSetContextCreate(TopMemoryContext, "pg_tandem mapped relations", ALLOCSET_SMALL_SIZES);
    }
    table = nullptr;
    mask = 0;
    mapped_count = 0;
    observed_run_count = 0;
    watches_all = true;
    MemoryContextReset(context);

    const uint64 before = invalidations;
    const Oid schema = get_namespace_oid("tandem", true);
    if (!OidIsValid(schema)) {
        valid = invalidations == before;
        watches_all = false; // what comes, comes with the schema
        run_relation = mapping_relation = operation_relation = InvalidOid;
        return;
    }
    run_relation = get_relname_relid("run", schema);
    mapping_relation = get_relname_relid("mapping", schema);
    operation_relation = get_relname_relid("operation", schema);
    Relation runs = open_now(run_relation);
    Relation mappings = open_now(mapping_relation);
    bool complete = runs != nullptr && mappings != nullptr && OidIsValid(operation_relation);
    watches_all = !complete;
    complete = complete && read_runs(runs) && read_mappings(mappings);
    if (mappings != nullptr) {
        table_close(mappings, AccessShareLock);
    }
    if (runs != nullptr) {
        table_close(runs, AccessShareLock);
    }
    if (!complete) {
        mapped_count = 0;
    }
    // A lock that somebody else holds will be gone, without anybody telling us.
    const bool was_locked =
        OidIsValid(run_relation) && OidIsValid(mapping_relation) && (runs == nullptr || mappings == nullptr);
    valid = invalidations == before && !was_locked;
}

} // namespace

ObservedRun observed_runs[kMostObservedRuns];
int observed_run_count = 0;

bool anything_mapped() {
    if (!valid) {
        const MemoryContext caller = CurrentMemoryContext;
        MemoryContext temporary = AllocSetContextCreate(caller, "pg_tandem reading mappings", ALLOCSET_SMALL_SIZES);
        MemoryContextSwitchTo(temporary);
        read();
        MemoryContextSwitchTo(caller);
        MemoryContextDelete(temporary);
    }
    return mapped_count > 0;
}

int places_of(Oid relation, const Place** places) {
    const Mapped* entry = find(relation);
    if (entry->relation != relation) {
        return 0;
    }
    *places = entry->places;
    return entry->count;
}

Oid observed_home() {
    return run_relation;
}

bool threshold_of(int32 run, const char* operation, int64* threshold, bool* declared) {
    *declared = false;
    *threshold = kNoThreshold;
    Relation operations = open_now(operation_relation);
    if (operations == nullptr) {
        return false;
    }
    *declared = find_operation(operations, run, operation, threshold);
    table_close(operations, AccessShareLock);
    return true;
}

} // namespace pg::observe
