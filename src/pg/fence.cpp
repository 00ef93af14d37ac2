// fence: refuses a write to the side that has been retired for the key of its row.
//
// The truth is in tables run, run_domain and run_option, and brake: rollbacks that are not entered into their run yet,
// as route() knows them. A backend keeps what it read, for each trigger, until one of them is invalidated, and takes in
// what is pending before it looks, as route() does: so whoever was told "new" before a rollback and writes there after
// it is refused, in any isolation level, and nobody waits for anybody.
#include "pg/fence.hpp"
#include "pg/invalidation.hpp"
#include "pg/role.hpp"

extern "C" {
#include "utils/hsearch.h"
}

namespace pg::fence {
namespace {

constexpr int kWriteFenced = MAKE_SQLSTATE('T', 'D', '0', '0', '1');

struct Fence {
    PlanKey key; // hash key
    bool valid;
    bool on;
    bool forward;
    NameData run;
    NameData domain;
    uint64 salt;
    int weight;
    int64 epoch;
    AttrNumber attribute; // the routing key is this column as it is, or
    SPIPlanPtr plan;      // what this query makes of the row, as the run's owner
    Oid owner;
    int columns;
    AttrNumber* attributes;
};

HTAB* fences = nullptr;
SPIPlanPtr load_query = nullptr;
constexpr const char* kTruth[] = {"run", "run_domain", "brake", "run_option", "mapping"};
Oid truth[std::size(kTruth)];
uint64 invalidations = 0;

void on_invalidation(Datum, Oid relid) {
    if (fences == nullptr) {
        return;
    }
    invalidations++;
    const bool all = relid == InvalidOid || std::find(std::begin(truth), std::end(truth), relid) != std::end(truth);
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, fences);
    while (auto* fence = static_cast<Fence*>(hash_seq_search(&scan))) {
        if (all || fence->key.source == relid) {
            fence->valid = false;
        }
    }
}

void create_cache() {
    HASHCTL control{};
    control.keysize = sizeof(PlanKey);
    control.entrysize = sizeof(Fence);
    control.hcxt = TopMemoryContext;
    HTAB* cache = hash_create("pg_tandem fences", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    watch_relations(on_invalidation);
    fences = cache;
}

char* loaded_text(int column) {
    return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

Datum loaded(int column) {
    bool isnull = false;
    return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
}

void prepare_expression(Fence* fence, const char* sql, Datum names_array) {
    Datum* names = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(names_array), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, nullptr,
                      &count);
    auto* types = static_cast<Oid*>(palloc(sizeof(Oid) * (count + 1)));
    auto* attributes = static_cast<AttrNumber*>(MemoryContextAlloc(TopMemoryContext, sizeof(AttrNumber) * (count + 1)));
    for (int i = 0; i < count; i++) {
        attributes[i] = get_attnum(fence->key.source, NameStr(*DatumGetName(names[i])));
        types[i] = get_atttype(fence->key.source, attributes[i]);
    }
    fence->attributes = attributes;
    fence->columns = count;
    ActAs owner(fence->owner);
    fence->plan = prepare_kept(sql, count, types);
    owner.release();
}

// Reads the tables as the extension's owner, with a snapshot of now: the transaction's may be older than a rollback.
void load(Fence* fence, Oid function) {
    const Oid schema = get_func_namespace(function);
    for (std::size_t i = 0; i < std::size(kTruth); i++) {
        truth[i] = get_relname_relid(kTruth[i], schema);
    }
    if (fence->plan != nullptr) {
        SPI_freeplan(fence->plan);
        fence->plan = nullptr;
    }
    if (fence->attributes != nullptr) {
        pfree(fence->attributes);
        fence->attributes = nullptr;
    }
    fence->on = false;
    const uint64 invalidations_before = invalidations;

    ActAs extension(function_owner(function));
    PushActiveSnapshot(GetLatestSnapshot());
    if (load_query == nullptr) {
        Oid types[2] = {INT4OID, TEXTOID};
        load_query = prepare_kept("SELECT f.run, f.domain, f.salt, f.weight, f.epoch, f.owner, f.key_column,"
                                  "       f.key_sql, f.columns"
                                  "  FROM tandem.fence_of($1, $2) AS f WHERE f.is_on",
                                  2, types);
    }
    Datum values[2] = {Int32GetDatum(fence->key.mapping), CStringGetTextDatum(fence->forward ? "forward" : "reverse")};
    if (SPI_execute_plan(load_query, values, nullptr, true, 1) != SPI_OK_SELECT) {
        elog(ERROR, "could not read the write fence of mapping %d", fence->key.mapping);
    }
    if (SPI_processed == 1) {
        namestrcpy(&fence->run, loaded_text(1));
        namestrcpy(&fence->domain, loaded_text(2));
        fence->salt = static_cast<uint64>(DatumGetInt64(loaded(3)));
        fence->weight = DatumGetInt32(loaded(4));
        fence->epoch = DatumGetInt64(loaded(5));
        fence->owner = get_role_oid(loaded_text(6), false);
        const char* column = loaded_text(7);
        fence->attribute = column == nullptr ? InvalidAttrNumber : get_attnum(fence->key.source, column);
        if (column == nullptr) {
            prepare_expression(fence, loaded_text(8), loaded(9));
        }
        fence->on = true;
    }
    PopActiveSnapshot();
    extension.release();
    fence->valid =
        invalidations == invalidations_before; // else what was read may be of before: the next row reads again
}

// The text that the application gives to route(), or nullptr for a NULL. The row lies in the layout of the table.
char* routing_key(const Fence* fence, HeapTuple row, TupleDesc desc) {
    bool isnull = false;
    if (fence->attribute != InvalidAttrNumber) {
        const Datum value = heap_getattr(row, fence->attribute, desc, &isnull);
        Oid out = InvalidOid;
        bool varlena = false;
        getTypeOutputInfo(TupleDescAttr(desc, fence->attribute - 1)->atttypid, &out, &varlena);
        return isnull ? nullptr : OidOutputFunctionCall(out, value);
    }
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (fence->columns + 1)));
    auto* nulls = static_cast<char*>(palloc(fence->columns + 1));
    for (int i = 0; i < fence->columns; i++) {
        values[i] = heap_getattr(row, fence->attributes[i], desc, &isnull);
        nulls[i] = isnull ? 'n' : ' ';
    }
    ActAs owner(fence->owner);
    if (SPI_execute_plan(fence->plan, values, nulls, true, 1) != SPI_OK_SELECT || SPI_processed != 1) {
        elog(ERROR, "the routing key of a row could not be computed");
    }
    char* key = loaded_text(1);
    owner.release();
    return key;
}

void refuse_if_retired(const Fence* fence, HeapTuple row, Relation relation) {
    const char* key = routing_key(fence, row, RelationGetDescr(relation));
    if (key == nullptr) {
        return;
    }
    const bool on_new = tandem::bucket_is_new(tandem::bucket_of(fence->salt, key), fence->weight);
    if (on_new != fence->forward) {
        return;
    }
    const char* serves = on_new ? "new" : "legacy";
    ereport(
        ERROR,
        (errcode(kWriteFenced),
         errmsg("write to \"%s\" refused: key \"%s\" is served by %s", RelationGetRelationName(relation), key, serves),
         errdetail(
             "Run \"%s\", domain \"%s\": the %s side is retired for key \"%s\" at weight %d, epoch " INT64_FORMAT ".",
             NameStr(fence->run), NameStr(fence->domain), on_new ? "legacy" : "new", key, fence->weight, fence->epoch),
         errhint("Ask tandem.route(%s, %s, %s) again and write to that side.", quote_literal_cstr(NameStr(fence->run)),
                 quote_literal_cstr(key), quote_literal_cstr(NameStr(fence->domain)))));
}

Fence* find(const PlanKey& key) {
    if (fences == nullptr) {
        create_cache();
    }
    bool found = false;
    auto* fence = static_cast<Fence*>(hash_search(fences, &key, HASH_ENTER, &found));
    if (!found) {
        memset(reinterpret_cast<char*>(fence) + sizeof(PlanKey), 0, sizeof(Fence) - sizeof(PlanKey));
        fence->forward = key.direction == Direction::forward;
    }
    return fence;
}

} // namespace

void check(const PlanKey& key, const TriggerData* data, Oid function) {
    Fence* fence = find(key);
    if (fence->valid && !fence->on) {
        return;
    }
    AcceptInvalidationMessages();
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    if (!fence->valid) {
        load(fence, function);
    }
    if (fence->on) {
        if (!TRIGGER_FIRED_BY_INSERT(data->tg_event)) {
            refuse_if_retired(fence, data->tg_trigtuple, data->tg_relation);
        }
        if (!TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
            refuse_if_retired(fence, TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple,
                              data->tg_relation);
        }
    }
    SPI_finish();
}

} // namespace pg::fence
