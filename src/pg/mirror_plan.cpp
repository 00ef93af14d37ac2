// mirror_plan: asks tandem.mirror_statements() for the SQL of a direction once, prepares it, and keeps it until the
// tables, the mapping or the run change.
#include "pg/mirror_plan.hpp"
#include "pg/mirror_bulk.hpp"
#include "pg/role.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace pg {
namespace {

struct CacheEntry {
    PlanKey key;
    MirrorPlan* plan; // nullptr: none yet
};

HTAB* plan_cache = nullptr;
Oid run_relation = InvalidOid;
Oid mapping_relation = InvalidOid;
SPIPlanPtr load_query = nullptr;

void on_invalidation(Datum, Oid relid) {
    if (plan_cache == nullptr) {
        return;
    }
    const bool all = relid == InvalidOid || relid == run_relation || relid == mapping_relation;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, plan_cache);
    while (auto* entry = static_cast<CacheEntry*>(hash_seq_search(&scan))) {
        if (entry->plan != nullptr && (all || entry->plan->target == relid || entry->key.source == relid)) {
            entry->plan->valid = false;
        }
    }
}

void create_cache() {
    HASHCTL control{};
    control.keysize = sizeof(PlanKey);
    control.entrysize = sizeof(CacheEntry);
    control.hcxt = TopMemoryContext;
    HTAB* cache = hash_create("pg_tandem mirrors", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    watch_relations(on_invalidation);
    plan_cache = cache;
}

void free_plan(MirrorPlan* plan) {
    for (SPIPlanPtr kept : {plan->upsert, plan->update, plan->remove}) {
        if (kept != nullptr) {
            SPI_freeplan(kept);
        }
    }
    MemoryContextDelete(plan->context);
}

// The kept generic plan, made now and under the settings of now.
void make_plan(SPIPlanPtr plan) {
    ReleaseCachedPlan(SPI_plan_get_cached_plan(plan), CurrentResourceOwner);
}

const char* loaded_text(int column) {
    char* value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
    return value == nullptr ? "" : value;
}

bool loaded_bool(int column) {
    return loaded_text(column)[0] == 't';
}

// The attribute numbers of an array of names, in the relation's layout.
AttrNumber* loaded_attributes(const MirrorPlan* plan, Oid relation, int column, int& count) {
    bool isnull = false;
    Datum* names = nullptr;
    deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull)),
                      NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, nullptr, &count);
    auto* attributes = static_cast<AttrNumber*>(MemoryContextAlloc(plan->context, sizeof(AttrNumber) * (count + 1)));
    for (int i = 0; i < count; i++) {
        attributes[i] = get_attnum(relation, NameStr(*DatumGetName(names[i])));
    }
    return attributes;
}

Columns loaded_columns(const MirrorPlan* plan, Oid relation, int column) {
    Columns columns{};
    columns.numbers = loaded_attributes(plan, relation, column, columns.count);
    return columns;
}

std::span<const int32> loaded_numbers(const MirrorPlan* plan, int column) {
    bool isnull = false;
    Datum* values = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull)),
                      INT4OID, sizeof(int32), true, TYPALIGN_INT, &values, nullptr, &count);
    auto* numbers = static_cast<int32*>(MemoryContextAlloc(plan->context, sizeof(int32) * (count + 1)));
    std::transform(values, values + count, numbers, [](Datum value) { return DatumGetInt32(value); });
    return {numbers, static_cast<size_t>(count)};
}

Oid loaded_oid(int column) {
    bool isnull = false;
    return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
}

int32 loaded_int(int column) {
    bool isnull = false;
    return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
}

// Reads the generated statements as the extension's owner, with a snapshot of now: the transaction's may be older than
// the mapping.
void load(MirrorPlan* plan, Relation source, Oid function) {
    const Oid schema = get_func_namespace(function);
    run_relation = get_relname_relid("run", schema);
    mapping_relation = get_relname_relid("mapping", schema);
    // Set before reading: an invalidation that arrives meanwhile makes the plan stale again.
    plan->valid = true;

    ActAs extension(function_owner(function));
    PushActiveSnapshot(GetLatestSnapshot());
    if (load_query == nullptr) {
        Oid types[2] = {INT4OID, TEXTOID};
        load_query =
            prepare_kept("SELECT m.owner, m.target::oid, m.lenient, m.columns, m.upsert_sql, m.update_sql,"
                         "       m.delete_sql, c.columns, c.layout, c.echo, m.written, m.updated, m.target_key,"
                         "       m.source_key, m.shared, m.relatives"
                         "  FROM tandem.mirror_statements($1, $2) AS m, tandem.trigger_columns($1, $2) AS c",
                         2, types);
    }
    Datum values[2] = {Int32GetDatum(plan->key.mapping),
                       CStringGetTextDatum(plan->key.direction == Direction::forward ? "forward" : "reverse")};
    if (SPI_execute_plan(load_query, values, nullptr, true, 1) != SPI_OK_SELECT || SPI_processed != 1) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("the mirror trigger on \"%s\" belongs to no mapping", RelationGetRelationName(source)),
                        errdetail("Mapping %d is not in tandem.mapping.", plan->key.mapping),
                        errhint("Drop the trigger, or restore the run that it belongs to.")));
    }
    plan->owner = get_role_oid(loaded_text(1), false);
    plan->target = loaded_oid(2);
    plan->lenient = loaded_bool(3);

    plan->attributes = loaded_attributes(plan, plan->key.source, 4, plan->columns);
    const int count = plan->columns;
    auto* types = static_cast<Oid*>(palloc(sizeof(Oid) * (2 * count + 1)));
    for (int i = 0; i < count; i++) {
        types[i] = types[count + i] = get_atttype(plan->key.source, plan->attributes[i]);
    }
    plan->captured = get_relname_relid("captured", schema);
    plan->captured_attributes = loaded_attributes(plan, plan->key.source, 8, plan->captured_columns);
    plan->captured_layout = loaded_int(9);
    plan->capture_echo = loaded_bool(10);
    plan->written = loaded_columns(plan, plan->target, 11);
    plan->updated = loaded_columns(plan, plan->target, 12);
    plan->target_key = loaded_columns(plan, plan->target, 13);
    plan->source_key = loaded_columns(plan, plan->key.source, 14);
    plan->shared = loaded_bool(15);
    plan->relatives = loaded_numbers(plan, 16);
    const char* upsert = loaded_text(5);
    const char* update = loaded_text(6);
    const char* remove = loaded_text(7);

    ActAs owner(plan->owner);
    plan->upsert = prepare_kept(upsert, count, types);
    plan->update = prepare_kept(update, 2 * count, types);
    plan->remove = prepare_kept(remove, count, types);
    // Each writes one row by a unique key. A table that is small when the plan is made would be scanned instead, for as
    // long as the plan is kept: while a backfill fills it, or while hot rows bloat it.
    (void)set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    make_plan(plan->upsert);
    make_plan(plan->update);
    make_plan(plan->remove);
    plan->together = bulk::possible(plan, source, function);
    plan->settled_row = plan->together ? bulk::settled_row(plan) : NIL;
    owner.release();
    PopActiveSnapshot();
    extension.release();
}

} // namespace

PlanUse::~PlanUse() {
    if (--plan_->users == 0 && plan_->replaced) {
        free_plan(plan_);
    }
}

SPIPlanPtr prepare_kept(const char* sql, int count, const Oid* types) {
    SPIPlanPtr plan = SPI_prepare_cursor(sql, count, const_cast<Oid*>(types), CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr || SPI_keepplan(plan) != 0) {
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    }
    return plan;
}

MirrorPlan* loaded_plan(const PlanKey& key) {
    if (plan_cache == nullptr) {
        return nullptr;
    }
    const auto* entry = static_cast<CacheEntry*>(hash_search(plan_cache, &key, HASH_FIND, nullptr));
    return entry != nullptr && entry->plan != nullptr && entry->plan->valid && entry->plan->remove != nullptr
               ? entry->plan
               : nullptr;
}

void forget_plan(const PlanKey& key) {
    if (plan_cache == nullptr) {
        return;
    }
    const auto* entry = static_cast<CacheEntry*>(hash_search(plan_cache, &key, HASH_FIND, nullptr));
    if (entry != nullptr && entry->plan != nullptr) {
        entry->plan->valid = false;
    }
}

MirrorPlan* find_plan(const PlanKey& key, Relation source, Oid function) {
    if (plan_cache == nullptr) {
        create_cache();
    }
    bool found = false;
    auto* entry = static_cast<CacheEntry*>(hash_search(plan_cache, &key, HASH_ENTER, &found));
    MirrorPlan* old = found ? entry->plan : nullptr;
    if (old != nullptr && old->valid && old->remove != nullptr) {
        return old;
    }
    entry->plan = nullptr;
    if (old != nullptr && old->users > 0) {
        old->replaced = true;
    } else if (old != nullptr) {
        free_plan(old);
    }
    MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pg_tandem mirror", ALLOCSET_SMALL_SIZES);
    auto* plan = static_cast<MirrorPlan*>(MemoryContextAllocZero(context, sizeof(MirrorPlan)));
    plan->key = key;
    plan->context = context;
    entry->plan = plan; // before loading it: where that fails, the next call finds it half-made and frees it
    load(plan, source, function);
    return plan;
}

} // namespace pg
