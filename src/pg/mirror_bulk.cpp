// mirror_bulk: what the executor does for the mirror's statements costs 4 µs a row, most of it to start and to end.
// Here up to a thousand rows share one opening of the table, its indexes and the expressions, one snapshot and one
// round of triggers.
//
// Optimistic: it is written against what was there before the first of these rows, and whatever is not as expected (a
// row that somebody else has just changed, one that these changes touch twice, a key that exists already) is an ERROR.
// The caller then undoes all of it and goes by write_row(), which knows what to do, and whose errors the user sees.
#include "pg/mirror_bulk.hpp"
#include "pg/bulk_insert.hpp"
#include "pg/mirror_lookup.hpp"
#include "pg/mirror_settled.hpp"
#include "pg/role.hpp"

extern "C" {
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "executor/nodeModifyTable.h"
#include "nodes/params.h"
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/plancache.h"
#include "utils/rls.h"
}

namespace pg::bulk {
namespace {

struct Writer {
    const MirrorPlan* plan;
    Relation source;
    Relation target;
    EState* estate;
    ResultRelInfo* result;
    ExprContext* context;
    Snapshot snapshot;
    CommandId command;
    ExprState** expressions; // by column of the target
    bool* is_written;        // by the mirror; else it is a default
    bool* is_updated;
    ParamListInfo before; // a row of the source, as the plan's parameters
    ParamListInfo after;
    Datum* values; // of a row of the target
    bool* nulls;
    Datum* deformed; // of a row of the source
    bool* deformed_nulls;
    TupleTableSlot* found;   // in the target
    TupleTableSlot* row;     // for the target
    TupleTableSlot* version; // of the source
    Lookup by_key;           // of the target
    Lookup in_source;        // opened when needed
    Inserter inserter;       // of the target, where many are written
};

[[noreturn]] void give_up(const char* why) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg_internal("not written together: %s", why)));
    pg_unreachable();
}

bool is_mirrors(const Trigger& trigger, Oid function) {
    return trigger.tgfoid == function;
}

bool is_echo(const MirrorPlan* plan, const Trigger& trigger, Oid function) {
    return is_mirrors(trigger, function) && trigger.tgnargs == 2 &&
           pg_strtoint32(trigger.tgargs[0]) == plan->key.mapping;
}

// Do triggers of the application see its rows? `after`: only those that fire after the row or the statement count.
bool is_watched(Relation relation, Oid function, bool after) {
    const TriggerDesc* triggers = relation->trigdesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++) {
        const Trigger& trigger = triggers->triggers[i];
        if (!trigger.tgisinternal && !is_mirrors(trigger, function) && (!after || TRIGGER_FOR_AFTER(trigger.tgtype))) {
            return true;
        }
    }
    return false;
}

// ... and those that its ancestors have for whole statements.
bool is_source_watched(Relation source, Oid function) {
    bool watched = is_watched(source, function, true);
    if (source->rd_rel->relispartition) {
        ListCell* cell = nullptr;
        foreach (cell, get_partition_ancestors(RelationGetRelid(source))) {
            Relation ancestor = table_open(lfirst_oid(cell), AccessShareLock);
            watched |= is_watched(ancestor, function, true);
            table_close(ancestor, NoLock);
        }
    }
    return watched;
}

// The row that the plan of the upsert makes, column by column; NIL where the planner made something else of it than the
// projection of its parameters.
List* projected_row(CachedPlan* cached, int columns) {
    if (list_length(cached->stmt_list) != 1) {
        return NIL;
    }
    const auto* planned = linitial_node(PlannedStmt, cached->stmt_list);
    if (planned->subplans != NIL || !IsA(planned->planTree, ModifyTable)) {
        return NIL;
    }
    Plan* rows = outerPlan(planned->planTree);
    if (rows == nullptr || !IsA(rows, Result) || outerPlan(rows) != nullptr || rows->qual != NIL ||
        reinterpret_cast<Result*>(rows)->resconstantqual != nullptr || list_length(rows->targetlist) != columns) {
        return NIL;
    }
    return rows->targetlist;
}

void leave_out_echo(const Writer& w, Oid function) {
    TriggerDesc* triggers = w.result->ri_TrigDesc; // a copy of ours
    if (triggers == nullptr) {
        return;
    }
    int kept = 0;
    triggers->trig_insert_after_row = triggers->trig_update_after_row = triggers->trig_delete_after_row = false;
    for (int i = 0; i < triggers->numtriggers; i++) {
        const Trigger& trigger = triggers->triggers[i];
        // Our own write, coming back. Its key is noted already, unless it may have become another one on the way.
        if (is_echo(w.plan, trigger, function) && !w.plan->capture_echo) {
            continue;
        }
        const int16 type = trigger.tgtype;
        const bool after_row = TRIGGER_FOR_ROW(type) && TRIGGER_FOR_AFTER(type);
        triggers->trig_insert_after_row |= after_row && TRIGGER_FOR_INSERT(type);
        triggers->trig_update_after_row |= after_row && TRIGGER_FOR_UPDATE(type);
        triggers->trig_delete_after_row |= after_row && TRIGGER_FOR_DELETE(type);
        triggers->triggers[kept++] = trigger;
    }
    triggers->numtriggers = kept;
}

ParamListInfo make_row(const MirrorPlan* plan) {
    ParamListInfo row = makeParamList(plan->columns);
    for (int i = 0; i < plan->columns; i++) {
        row->params[i].pflags = PARAM_FLAG_CONST;
        row->params[i].ptype = get_atttype(plan->key.source, plan->attributes[i]);
    }
    return row;
}

void load(const Writer& w, HeapTuple tuple, ParamListInfo row) {
    heap_deform_tuple(tuple, RelationGetDescr(w.source), w.deformed, w.deformed_nulls);
    for (int i = 0; i < w.plan->columns; i++) {
        row->params[i].value = w.deformed[w.plan->attributes[i] - 1];
        row->params[i].isnull = w.deformed_nulls[w.plan->attributes[i] - 1];
    }
}

bool same(const Writer& w) {
    for (int i = 0; i < w.plan->columns; i++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(w.source), w.plan->attributes[i] - 1);
        const ParamExternData& a = w.after->params[i];
        const ParamExternData& b = w.before->params[i];
        if (a.isnull != b.isnull ||
            (!a.isnull && !datumIsEqual(a.value, b.value, attribute->attbyval, attribute->attlen))) {
            return false;
        }
    }
    return true;
}

void evaluate(const Writer& w, int column) {
    w.values[column] = ExecEvalExprSwitchContext(w.expressions[column], w.context, &w.nulls[column]);
}

// The key that this row of the source has in the target. false: a part of it is NULL.
bool make_key(Writer& w, ParamListInfo row) {
    w.context->ecxt_param_list_info = row;
    bool whole = true;
    for (int i = 0; i < w.plan->target_key.count; i++) {
        evaluate(w, w.plan->target_key.numbers[i] - 1);
        whole &= !w.nulls[w.plan->target_key.numbers[i] - 1];
    }
    return whole;
}

bool find_counterpart(Writer& w, ParamListInfo row) {
    if (!make_key(w, row)) {
        give_up("a key is NULL");
    }
    return find(w.by_key, w.values, w.found);
}

// Stored later, with others: what these changes look for was there before them.
void insert(Writer& w) {
    TupleTableSlot* slot = next_row(w.inserter);
    w.context->ecxt_param_list_info = w.after;
    for (int i = 0; i < RelationGetDescr(w.target)->natts; i++) {
        slot->tts_values[i] = ExecEvalExprSwitchContext(w.expressions[i], w.context, &slot->tts_isnull[i]);
    }
    add_row(w.inserter);
}

// The row that was found. false: it cannot be written so, and nothing was.
bool update(Writer& w) {
    TupleDesc desc = RelationGetDescr(w.target);
    slot_getallattrs(w.found);
    ExecClearTuple(w.row);
    memcpy(w.row->tts_values, w.found->tts_values, sizeof(Datum) * desc->natts);
    memcpy(w.row->tts_isnull, w.found->tts_isnull, sizeof(bool) * desc->natts);
    w.context->ecxt_param_list_info = w.after;
    bool same_key = true;
    for (int i = 0; i < desc->natts; i++) {
        if (!w.is_written[i]) {
            continue;
        }
        bool isnull = false;
        const Datum value = ExecEvalExprSwitchContext(w.expressions[i], w.context, &isnull);
        if (w.plan->target_key.has(i + 1)) {
            Form_pg_attribute attribute = TupleDescAttr(desc, i);
            const bool kept = !isnull && datumIsEqual(value, w.values[i], attribute->attbyval, attribute->attlen);
            same_key &= kept;
            if (!kept && !w.is_updated[i]) {
                return false; // it is GENERATED ALWAYS
            }
        }
        if (w.is_updated[i]) {
            w.row->tts_values[i] = value;
            w.row->tts_isnull[i] = isnull;
        }
    }
    ExecStoreVirtualTuple(w.row);
    check_row(w.result, w.estate, w.row);
    TM_FailureData failure;
    UpdateIndexes indexes = kNoIndexes;
    if (update_slot(w.target, &w.found->tts_tid, w.row, w.command, w.snapshot, &failure, &indexes) != TM_Ok) {
        return false; // it was changed meanwhile
    }
    List* recheck = NIL;
    if (w.result->ri_NumIndices > 0 && indexes != kNoIndexes) {
        recheck = update_index_tuples(w.result, w.row, w.estate, indexes, same_key);
    }
    ExecARUpdateTriggers(w.estate, w.result, nullptr, nullptr, &w.found->tts_tid, nullptr, w.row, recheck, nullptr,
                         false);
    list_free(recheck);
    return true;
}

bool stands_again(Writer& w, HeapTuple tuple) {
    if (w.in_source.index == nullptr) {
        open_lookup(w.in_source, w.source, w.plan->source_index, w.snapshot);
    }
    heap_deform_tuple(tuple, RelationGetDescr(w.source), w.deformed, w.deformed_nulls);
    for (int i = 0; i < w.plan->source_key.count; i++) {
        if (w.deformed_nulls[w.plan->source_key.numbers[i] - 1]) {
            give_up("a key is NULL");
        }
    }
    const bool found = find(w.in_source, w.deformed, w.version);
    ExecClearTuple(w.version);
    return found;
}

// Unless the key stands in the source again: a trigger may have put it back before the mirror came to see it go.
void remove(Writer& w, const Change& change) {
    if (w.source->rd_rel->relispartition) {
        give_up("the row may stand in another partition");
    }
    if (stands_again(w, change.before) || !find_counterpart(w, w.before)) {
        return;
    }
    TM_FailureData failure;
    if (table_tuple_delete(w.target, &w.found->tts_tid, w.command, w.snapshot, InvalidSnapshot, true, &failure,
                           false) != TM_Ok) {
        give_up("a row was changed meanwhile");
    }
    ExecARDeleteTriggers(w.estate, w.result, &w.found->tts_tid, nullptr, nullptr, false);
}

void write_change(Writer& w, const Change& change) {
    switch (change.kind) {
    case Change::Kind::insert:
        if (!superseded(w.source, change.after, w.version)) {
            load(w, change.after, w.after);
            insert(w);
        }
        return;
    case Change::Kind::remove:
        load(w, change.before, w.before);
        remove(w, change);
        return;
    case Change::Kind::update:
        load(w, change.after, w.after);
        load(w, change.before, w.before);
        if (same(w)) {
            return;
        }
        if (superseded(w.source, change.after, w.version)) {
            remove(w, change);
        } else if (!find_counterpart(w, w.before)) {
            insert(w);
        } else if (!update(w)) {
            give_up("a row was changed meanwhile, or has a key that cannot be updated");
        }
    }
}

template <class T>
T* make_array(int count) {
    return static_cast<T*>(palloc0(sizeof(T) * (count + 1)));
}

// false: the plan is of yesterday, and so may be what it knows of indexes.
bool open_target(Writer& w, Oid function) {
    w.target = table_open(w.plan->target, RowExclusiveLock);
    if (!w.plan->valid) {
        table_close(w.target, NoLock);
        return false;
    }
    CheckCmdReplicaIdentity(w.target, CMD_UPDATE);
    w.estate = CreateExecutorState();
    const MemoryContext context = MemoryContextSwitchTo(w.estate->es_query_cxt);
    w.context = GetPerTupleExprContext(w.estate);
    w.result = makeNode(ResultRelInfo);
    InitResultRelInfo(w.result, w.target, 0, nullptr, 0);
    w.estate->es_opened_result_relations = lappend(w.estate->es_opened_result_relations, w.result);
    ExecOpenIndices(w.result, false);
    leave_out_echo(w, function);
    open_lookup(w.by_key, w.target, w.plan->target_index, w.snapshot);
    MemoryContextSwitchTo(context);
    return true;
}

void open_rows(Writer& w, List* row) {
    const MemoryContext context = MemoryContextSwitchTo(w.estate->es_query_cxt);
    const int columns = RelationGetDescr(w.target)->natts;
    w.before = make_row(w.plan);
    w.after = make_row(w.plan);
    w.expressions = make_array<ExprState*>(columns);
    w.is_written = make_array<bool>(columns);
    w.is_updated = make_array<bool>(columns);
    w.values = make_array<Datum>(columns);
    w.nulls = make_array<bool>(columns);
    w.deformed = make_array<Datum>(RelationGetDescr(w.source)->natts);
    w.deformed_nulls = make_array<bool>(RelationGetDescr(w.source)->natts);
    for (int i = 0; i < columns; i++) {
        w.expressions[i] = ExecInitExprWithParams(list_nth_node(TargetEntry, row, i)->expr, w.after);
    }
    for (int i = 0; i < w.plan->written.count; i++) {
        w.is_written[w.plan->written.numbers[i] - 1] = true;
    }
    for (int i = 0; i < w.plan->updated.count; i++) {
        w.is_updated[w.plan->updated.numbers[i] - 1] = true;
    }
    w.found = table_slot_create(w.target, nullptr);
    w.row = table_slot_create(w.target, nullptr);
    w.version = table_slot_create(w.source, nullptr);
    MemoryContextSwitchTo(context);
}

void close(EState* estate) {
    ExecCloseResultRelations(estate); // the indexes; and tables that triggers needed, like these slots
    ExecResetTupleTable(estate->es_tupleTable, false);
    FreeExecutorState(estate);
}

void close(Writer& w) {
    for (TupleTableSlot* slot : {w.found, w.row, w.version}) {
        if (slot != nullptr) {
            ExecDropSingleTupleTableSlot(slot);
        }
    }
    close_lookup(w.by_key);
    close_lookup(w.in_source);
    close(w.estate);
    table_close(w.target, NoLock);
}

bool may_write(Relation target) {
    constexpr AclMode wanted[] = {ACL_SELECT, ACL_INSERT, ACL_UPDATE, ACL_DELETE};
    const Oid relid = RelationGetRelid(target);
    for (const AclMode mode : wanted) {
        if (pg_class_aclcheck(relid, GetUserId(), mode) != ACLCHECK_OK) {
            return false;
        }
    }
    return check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED;
}

// For the rows of one table, in the transaction as it stands. false: the plan is of yesterday.
bool open(Writer& w, const MirrorPlan* plan, Relation source, Oid function) {
    CommandCounterIncrement();
    PushActiveSnapshot(GetLatestSnapshot());
    w.plan = plan;
    w.source = source;
    w.snapshot = GetActiveSnapshot();
    w.command = GetCurrentCommandId(true);
    return open_target(w, function);
}

void tell_update(void* source) {
    errcontext("mirrored UPDATE of a row of \"%s\"", RelationGetRelationName(static_cast<Relation>(source)));
}

} // namespace

bool possible(MirrorPlan* plan, Relation source, Oid function) {
    Relation target = table_open(plan->target, AccessShareLock);
    plan->target_index = key_index(target, plan->target_key);
    plan->source_index = key_index(source, plan->source_key);
    CachedPlan* cached = SPI_plan_get_cached_plan(plan->upsert);
    List* row = projected_row(cached, RelationGetDescr(target)->natts);
    const bool result =
        target->rd_rel->relkind == RELKIND_RELATION && !target->rd_rel->relhassubclass &&
        target->rd_rel->relam == HEAP_TABLE_AM_OID && target->rd_rules == nullptr && may_write(target) &&
        !is_watched(target, function, false) && !is_source_watched(source, function) && row != NIL &&
        !contain_volatile_functions_not_nextval(reinterpret_cast<Node*>(row)) && !checks_may_look_at_rows(target) &&
        OidIsValid(plan->target_index) && (source->rd_rel->relispartition || OidIsValid(plan->source_index));
    ReleaseCachedPlan(cached, CurrentResourceOwner);
    table_close(target, NoLock);
    return result;
}

void begin() {
    AfterTriggerBeginQuery();
}

void write(const MirrorPlan* plan, Relation source, const Change* changes, int count, Oid function) {
    auto* w = static_cast<Writer*>(palloc0(sizeof(Writer)));
    if (!open(*w, plan, source, function)) {
        give_up("the tables, the mapping or the run have changed");
    }
    CheckCmdReplicaIdentity(w->target, CMD_DELETE);
    CachedPlan* cached = SPI_plan_get_cached_plan(plan->upsert);
    List* row = projected_row(cached, RelationGetDescr(w->target)->natts);
    if (row == NIL) {
        give_up("the plan is no projection");
    }
    open_rows(*w, row);
    const MemoryContext context = MemoryContextSwitchTo(w->estate->es_query_cxt);
    open_inserter(w->inserter, w->result, w->estate, w->command);
    MemoryContextSwitchTo(context);
    for (int i = 0; i < count; i++) {
        CHECK_FOR_INTERRUPTS();
        write_change(*w, changes[i]);
        ResetPerTupleExprContext(w->estate);
    }
    store_rows(w->inserter);
    close_inserter(w->inserter);
    close(*w);
    ReleaseCachedPlan(cached, CurrentResourceOwner);
    PopActiveSnapshot();
    CommandCounterIncrement();
}

void finish(Oid owner) {
    ActAs as(owner, ActAs::Mode::write);
    PushActiveSnapshot(GetLatestSnapshot());
    EState* estate = CreateExecutorState();
    AfterTriggerEndQuery(estate);
    close(estate);
    PopActiveSnapshot();
    as.release();
}

namespace {

// Does it hold whatever becomes of functions and domains? Nobody tells us of those: a plan that depends on some is made
// anew by PostgreSQL when it is used, and its row with it.
bool depends_on_nothing(SPIPlanPtr plan, const CachedPlan* cached) {
    bool nothing = linitial_node(PlannedStmt, cached->stmt_list)->invalItems == NIL;
    ListCell* cell = nullptr;
    foreach (cell, SPI_plan_get_plan_sources(plan)) {
        nothing &= static_cast<CachedPlanSource*>(lfirst(cell))->invalItems == NIL;
    }
    return nothing;
}

// A key of limited length is made of a row as the column wants it, while a statement looks for what the expression
// says.
bool has_limited_key(const MirrorPlan* plan, Relation target) {
    return std::any_of(
        plan->target_key.numbers, plan->target_key.numbers + plan->target_key.count,
        [&](AttrNumber column) { return TupleDescAttr(RelationGetDescr(target), column - 1)->atttypmod >= 0; });
}

// An UPDATE that touches nothing the other side knows needs no write there, nor a lock.
bool touches_nothing(const MirrorPlan* plan, Relation source, const Change& change) {
    TupleDesc desc = RelationGetDescr(source);
    for (int i = 0; i < plan->columns; i++) {
        const AttrNumber column = plan->attributes[i];
        bool was_null = false;
        bool is_null = false;
        const Datum was = heap_getattr(change.before, column, desc, &was_null);
        const Datum is = heap_getattr(change.after, column, desc, &is_null);
        Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
        if (was_null != is_null || (!is_null && !datumIsEqual(was, is, attribute->attbyval, attribute->attlen))) {
            return false;
        }
    }
    return true;
}

} // namespace

List* settled_row(const MirrorPlan* plan) {
    Relation target = table_open(plan->target, AccessShareLock);
    CachedPlan* cached = SPI_plan_get_cached_plan(plan->upsert);
    List* row = projected_row(cached, RelationGetDescr(target)->natts);
    const bool settled = depends_on_nothing(plan->upsert, cached) && !has_limited_key(plan, target) &&
                         settled::is_settled(row) && settled::is_settled(target);
    const MemoryContext context = MemoryContextSwitchTo(plan->context);
    List* kept = settled ? static_cast<List*>(copyObjectImpl(row)) : NIL;
    MemoryContextSwitchTo(context);
    ReleaseCachedPlan(cached, CurrentResourceOwner);
    table_close(target, NoLock);
    return kept;
}

bool update_one(const MirrorPlan* plan, Relation source, const Change& change, Oid function) {
    if (touches_nothing(plan, source, change)) {
        return true;
    }
    Writer w{};
    ErrorContextCallback context = {error_context_stack, tell_update, source};
    error_context_stack = &context;
    bool written = false;
    bool triggers = false;
    if (open(w, plan, source, function)) {
        // What the plan of a statement would ask each time, as the owner may have lost a role that nobody hears of.
        if (may_write(w.target)) {
            open_rows(w, plan->settled_row);
            load(w, change.after, w.after);
            load(w, change.before, w.before);
            if (!superseded(source, change.after, w.version) && make_key(w, w.before) &&
                find(w.by_key, w.values, w.found)) {
                triggers = w.result->ri_TrigDesc != nullptr && w.result->ri_TrigDesc->trig_update_after_row;
                if (triggers) {
                    begin();
                }
                written = update(w);
            }
        }
        close(w);
    }
    PopActiveSnapshot();
    CommandCounterIncrement();
    if (triggers) {
        finish(plan->owner);
    }
    error_context_stack = context.previous;
    return written;
}

} // namespace pg::bulk
