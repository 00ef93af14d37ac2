// The mirror: an AFTER ROW trigger on both tables of a mapping that writes the other side in the user's transaction.
//
// control/install/50_mirror.sql generates the statements; a backend prepares them once per mapping and direction, as the run's
// owner, and keeps the plans until one of the tables or the mapping changes. Whoever writes, the mirrored write runs as the owner.
//
// Loops: the row that a mirror writes fires the mirror of the other side, which must not write it back. What tells this echo from
// a write by an application's own trigger (which must be mirrored) is the mapping, the direction and the trigger depth: the echo is exactly
// one level below the mirror that caused it. The frame is backend-local and put back on every way out, errors included.
#include "pg/prelude.hpp"
#include "pg/role.hpp"

extern "C" {
#include "utils/datum.h"
#include "utils/hsearch.h"
}

namespace pg {
namespace {

enum class Direction : int32 { forward, reverse };

struct PlanKey {
    int32 mapping;
    Direction direction;
    Oid source; // the relation that fired: a partition has a row layout of its own
};

// Kept until it is invalid and no trigger on the stack executes it: a trigger of the application may write the same mapping again
// below us, and the plan of this level must outlive what is loaded there.
struct MirrorPlan {
    PlanKey key;
    bool valid;
    bool replaced; // no entry of the cache any more: its last user frees it
    int users;
    bool lenient;    // a failing write on the new side is recorded and does not fail the user's statement
    Oid owner;
    Oid target;
    int columns;
    AttrNumber* attributes;
    SPIPlanPtr upsert;      // parameters: the new row
    SPIPlanPtr update;      // parameters: the new row, then the old one
    SPIPlanPtr remove;      // parameters: the old row
    MemoryContext context;  // holds this and attributes
};

struct CacheEntry {
    PlanKey key;
    MirrorPlan* plan; // nullptr: none yet
};

// The mirror that is writing now, if any.
struct Frame {
    int32 mapping;
    Direction direction;
    int depth;
};

HTAB* plan_cache = nullptr;
Frame current_frame = {0, Direction::forward, -1};
Oid run_relation = InvalidOid;
Oid mapping_relation = InvalidOid;
SPIPlanPtr load_query = nullptr;
SPIPlanPtr failure_query = nullptr;

// Puts the enclosing frame back, also when the mirrored write fails: pg::call turns the ERROR into an exception.
class FrameScope {
  public:
    explicit FrameScope(const Frame& frame) : saved_(current_frame) { current_frame = frame; }
    ~FrameScope() { current_frame = saved_; }
    FrameScope(const FrameScope&) = delete;
    FrameScope& operator=(const FrameScope&) = delete;

  private:
    Frame saved_;
};

int trigger_depth() {
    LOCAL_FCINFO(info, 0);
    InitFunctionCallInfoData(*info, nullptr, 0, InvalidOid, nullptr, nullptr);
    return DatumGetInt32(pg_trigger_depth(info));
}

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
    CacheRegisterRelcacheCallback(on_invalidation, Datum{0});
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

// Keeps a plan for as long as a trigger executes it.
class PlanUse {
  public:
    explicit PlanUse(MirrorPlan* plan) : plan_(plan) { plan_->users++; }
    ~PlanUse() {
        if (--plan_->users == 0 && plan_->replaced) {
            free_plan(plan_);
        }
    }
    PlanUse(const PlanUse&) = delete;
    PlanUse& operator=(const PlanUse&) = delete;

  private:
    MirrorPlan* plan_;
};

SPIPlanPtr prepare(const char* sql, int count, const Oid* types) {
    SPIPlanPtr plan = SPI_prepare_cursor(sql, count, const_cast<Oid*>(types), CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr || SPI_keepplan(plan) != 0) {
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    }
    return plan;
}

// The kept generic plan, made now and under the settings of now.
void make_plan(SPIPlanPtr plan) { ReleaseCachedPlan(SPI_plan_get_cached_plan(plan), CurrentResourceOwner); }

const char* loaded_text(int column) {
    char* value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
    return value == nullptr ? "" : value;
}

bool loaded_bool(int column) { return loaded_text(column)[0] == 't'; }

Oid loaded_oid(int column) {
    bool isnull = false;
    return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
}

// Reads the generated statements as the extension's owner, with a snapshot of now: the transaction's may be older than the mapping.
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
        load_query = prepare("SELECT owner, target::oid, lenient, columns, upsert_sql, update_sql, delete_sql"
                             "  FROM tandem.mirror_statements($1, $2)",
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

    bool isnull = false;
    Datum* names = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull)), NAMEOID,
                      NAMEDATALEN, false, TYPALIGN_CHAR, &names, nullptr, &count);
    plan->attributes = static_cast<AttrNumber*>(MemoryContextAlloc(plan->context, sizeof(AttrNumber) * (count + 1)));
    plan->columns = count;
    auto* types = static_cast<Oid*>(palloc(sizeof(Oid) * (2 * count + 1)));
    for (int i = 0; i < count; i++) {
        plan->attributes[i] = get_attnum(plan->key.source, NameStr(*DatumGetName(names[i])));
        types[i] = types[count + i] = get_atttype(plan->key.source, plan->attributes[i]);
    }
    const char* upsert = loaded_text(5);
    const char* update = loaded_text(6);
    const char* remove = loaded_text(7);

    ActAs owner(plan->owner);
    plan->upsert = prepare(upsert, count, types);
    plan->update = prepare(update, 2 * count, types);
    plan->remove = prepare(remove, count, types);
    // Each writes one row by a unique key. A table that is small when the plan is made would be scanned instead, for as long as the plan
    // is kept: while a backfill fills it, or while hot rows bloat it.
    (void)set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    make_plan(plan->upsert);
    make_plan(plan->update);
    make_plan(plan->remove);
    owner.release();
    PopActiveSnapshot();
    extension.release();
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

struct Row {
    Datum* values;
    char* nulls;
};

Row allocate(int columns) {
    return {static_cast<Datum*>(palloc(sizeof(Datum) * (columns + 1))), static_cast<char*>(palloc(columns + 1))};
}

void fill(const Row& row, int offset, const MirrorPlan* plan, HeapTuple tuple, TupleDesc desc) {
    for (int i = 0; i < plan->columns; i++) {
        bool isnull = false;
        row.values[offset + i] = heap_getattr(tuple, plan->attributes[i], desc, &isnull);
        row.nulls[offset + i] = isnull ? 'n' : ' ';
    }
}

// An UPDATE that touches nothing the other side knows needs no write there.
bool same(const Row& row, const MirrorPlan* plan, TupleDesc desc) {
    for (int i = 0; i < plan->columns; i++) {
        const int j = plan->columns + i;
        Form_pg_attribute attribute = TupleDescAttr(desc, plan->attributes[i] - 1);
        if (row.nulls[i] != row.nulls[j] ||
            (row.nulls[i] == ' ' &&
             !datumIsEqual(row.values[i], row.values[j], attribute->attbyval, attribute->attlen))) {
            return false;
        }
    }
    return true;
}

// What is there now counts, also for a transaction with a snapshot of its own: the backfill may have copied a row behind it. Whoever else
// changed the row of the other side changed the row of this side as well, and the user's own statement met that conflict.
uint64 execute(SPIPlanPtr plan, const Row& row) {
    Snapshot snapshot = IsolationUsesXactSnapshot() ? GetLatestSnapshot() : InvalidSnapshot;
    const int code = SPI_execute_snapshot(plan, row.values, row.nulls, snapshot, InvalidSnapshot, false, true, 0);
    if (code < 0) {
        elog(ERROR, "SPI_execute_snapshot returned %s", SPI_result_code_string(code));
    }
    return SPI_processed;
}

// Has this transaction changed the row again since? An application's trigger that fired before us may have, and its change was then
// mirrored before ours: the row as it was here is no news any more.
bool superseded(const TriggerData* data, HeapTuple tuple) {
    Relation relation = data->tg_relation;
    TupleTableSlot* slot = table_slot_create(relation, nullptr);
    const bool current = table_tuple_fetch_row_version(relation, &tuple->t_self, SnapshotSelf, slot);
    ExecDropSingleTupleTableSlot(slot);
    return !current;
}

// The mirrored write itself, as the run's owner.
void write(const MirrorPlan* plan, const TriggerData* data) {
    TupleDesc desc = RelationGetDescr(data->tg_relation);
    Row row = allocate(2 * plan->columns);
    if (TRIGGER_FIRED_BY_INSERT(data->tg_event)) {
        fill(row, 0, plan, data->tg_trigtuple, desc);
        if (!superseded(data, data->tg_trigtuple)) {
            execute(plan->upsert, row);
        }
    } else if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        fill(row, 0, plan, data->tg_trigtuple, desc);
        execute(plan->remove, row);
    } else {
        fill(row, 0, plan, data->tg_newtuple, desc);
        fill(row, plan->columns, plan, data->tg_trigtuple, desc);
        if (same(row, plan, desc)) {
            return;
        }
        if (superseded(data, data->tg_newtuple)) {
            // What it became is there already; what it was must not stay under another key.
            execute(plan->remove, {row.values + plan->columns, row.nulls + plan->columns});
            return;
        }
        // Addressed by the OLD key. No row there (not yet copied): the whole row is written.
        if (execute(plan->update, row) == 0) {
            execute(plan->upsert, row);
        }
    }
}

void write_as_owner(const MirrorPlan* plan, const TriggerData* data) {
    ActAs owner(plan->owner, ActAs::Mode::write);
    write(plan, data);
    owner.release();
}

// Interrupts, broken servers and conflicts with other transactions are the user's business; anything else is a fault of the new side.
// A conflict (deadlock, serialization, lock_timeout) must not be passed over: whoever holds the row of the new side is about to write
// ours from it, and would overwrite what the user wrote here.
bool is_new_sides_fault(int sqlerrcode) {
    const int category = ERRCODE_TO_CATEGORY(sqlerrcode);
    return category != ERRCODE_OPERATOR_INTERVENTION && category != ERRCODE_INSUFFICIENT_RESOURCES &&
           category != ERRCODE_INTERNAL_ERROR && category != ERRCODE_TRANSACTION_ROLLBACK &&
           sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE;
}

void record_failure(const MirrorPlan* plan, const TriggerData* data, Oid function, const ErrorData* error) {
    ActAs extension(function_owner(function), ActAs::Mode::write);
    if (failure_query == nullptr) {
        Oid types[5] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
        failure_query = prepare("SELECT tandem.mirror_failed($1, $2, $3, $4, $5)", 5, types);
    }
    HeapTuple tuple = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
    const Datum row = heap_copy_tuple_as_datum(tuple, RelationGetDescr(data->tg_relation));
    Oid out = InvalidOid;
    bool varlena = false;
    getTypeOutputInfo(RelationGetForm(data->tg_relation)->reltype, &out, &varlena);
    const char* event = TRIGGER_FIRED_BY_INSERT(data->tg_event)   ? "INSERT"
                        : TRIGGER_FIRED_BY_DELETE(data->tg_event) ? "DELETE"
                                                                  : "UPDATE";
    Datum values[5] = {Int32GetDatum(plan->key.mapping), CStringGetTextDatum(event),
                       CStringGetTextDatum(OidOutputFunctionCall(out, row)),
                       CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
                       CStringGetTextDatum(error->message != nullptr ? error->message : "")};
    if (SPI_execute_plan(failure_query, values, nullptr, false, 0) < 0) {
        elog(ERROR, "could not record a failed mirror write");
    }
    extension.release();
}

// Recording may have waited for a promotion: nobody reads the new side yet, is it so still?
bool still_lenient(const PlanKey& key, const TriggerData* data, Oid function) {
    AcceptInvalidationMessages();
    return find_plan(key, data->tg_relation, function)->lenient;
}

// In stages dualwrite and shadow nobody reads the new side yet: its failure is recorded and must not fail the user.
void write_leniently(const MirrorPlan* plan, const TriggerData* data, Oid function) {
    ErrorData* failure = attempt([&] { write_as_owner(plan, data); });
    if (failure == nullptr) {
        return;
    }
    if (!is_new_sides_fault(failure->sqlerrcode)) {
        throw Error(failure);
    }
    const bool lenient = call([&] {
        record_failure(plan, data, function, failure);
        return still_lenient(plan->key, data, function);
    });
    if (!lenient) {
        throw Error(failure);
    }
}

PlanKey key_of(const TriggerData* data) {
    const Trigger* trigger = data->tg_trigger;
    if (trigger->tgnargs != 2) {
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the mirror trigger takes a mapping and a direction"),
                        errhint("tandem.start() makes these triggers.")));
    }
    return {pg_strtoint32(trigger->tgargs[0]),
            strcmp(trigger->tgargs[1], "forward") == 0 ? Direction::forward : Direction::reverse,
            RelationGetRelid(data->tg_relation)};
}

void mirror_row(const TriggerData* data, Oid function) {
    const PlanKey key = call([&] { return key_of(data); });
    const int depth = trigger_depth();
    if (current_frame.mapping == key.mapping && current_frame.direction != key.direction &&
        current_frame.depth + 1 == depth) {
        return; // our own write, coming back
    }
    const FrameScope scope({key.mapping, key.direction, depth});
    MirrorPlan* plan = call([&] {
        if (SPI_connect() != SPI_OK_CONNECT) {
            elog(ERROR, "SPI_connect failed");
        }
        return find_plan(key, data->tg_relation, function);
    });
    const PlanUse use(plan);
    if (plan->lenient && key.direction == Direction::forward) {
        write_leniently(plan, data, function);
    } else {
        call([&] { write_as_owner(plan, data); });
    }
    call([] { SPI_finish(); });
}

// Prepares the statements of a direction outside of any trigger.
void check(int32 mapping, const char* direction, Oid function) {
    const bool forward = strcmp(direction, "forward") == 0;
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    Oid types[2] = {INT4OID, BOOLOID};
    Datum values[2] = {Int32GetDatum(mapping), BoolGetDatum(forward)};
    if (SPI_execute_with_args("SELECT CASE WHEN $2 THEN v.legacy ELSE v.new END::oid FROM tandem.mappings AS v WHERE v.id = $1", 2,
                              types, values, nullptr, true, 1) != SPI_OK_SELECT ||
        SPI_processed != 1) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("mapping %d does not exist", mapping)));
    }
    Relation source = relation_open(loaded_oid(1), AccessShareLock);
    const PlanKey key = {mapping, forward ? Direction::forward : Direction::reverse, RelationGetRelid(source)};
    find_plan(key, source, function);
    relation_close(source, NoLock);
    SPI_finish();
}

} // namespace
} // namespace pg

// mirror_check(mapping, direction): errors are those that the mirror would meet.
TANDEM_FUNCTION(tandem_mirror_check) {
    return pg::entry([&]() -> Datum {
        pg::check(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), fcinfo->flinfo->fn_oid);
        PG_RETURN_VOID();
    });
}

// copy_as(role, query, mapping): query_as() whose inserts into the new side are taken for the mirror's own.
TANDEM_FUNCTION(tandem_copy_as) {
    return pg::entry([&]() -> Datum {
        const pg::FrameScope scope({PG_GETARG_INT32(2), pg::Direction::forward, pg::trigger_depth()});
        return pg::call([&] { return pg::query_as(fcinfo, pg::ActAs::Mode::write); });
    });
}

// Row trigger: mirrors INSERT, UPDATE and DELETE. Statement trigger: refuses TRUNCATE, which fires no row trigger.
TANDEM_FUNCTION(tandem_mirror) {
    return pg::entry([&]() -> Datum {
        if (!CALLED_AS_TRIGGER(fcinfo)) {
            ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                            errmsg("tandem.mirror() is a trigger function"),
                            errhint("tandem.start() makes its triggers.")));
        }
        const auto* data = reinterpret_cast<TriggerData*>(fcinfo->context);
        if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)) {
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("cannot truncate \"%s\" while a run mirrors it", RelationGetRelationName(data->tg_relation)),
                     errdetail("TRUNCATE fires no row trigger: the other side would keep its rows."),
                     errhint("Use DELETE, or end the run first with tandem.cancel() or tandem.complete().")));
        }
        if (!TRIGGER_FIRED_AFTER(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event)) {
            ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                            errmsg("the mirror is an AFTER ROW trigger"), errhint("tandem.start() makes its triggers.")));
        }
        pg::mirror_row(data, fcinfo->flinfo->fn_oid);
        return PointerGetDatum(nullptr);
    });
}
