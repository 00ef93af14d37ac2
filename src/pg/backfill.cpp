// A batch of the backfill (control/install/55_backfill_batch.sql) is one INSERT … SELECT. Its rows must not come back
// by the mirror of the new side; that a trigger is called for each of them to find out that it has nothing to do would
// cost as much as a tenth of the copy. So the trigger is switched off in this one execution of this one statement: an
// executor works with a copy of the table's triggers. Partitions get theirs when their first row comes: there the
// mirror is called, and takes the rows for echoes.
//
// Into a plain table on which nobody else listens the rows of the SELECT go many at a time.
#include "pg/backfill.hpp"
#include "pg/bulk_insert.hpp"
#include "pg/role.hpp"

extern "C" {
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
}

namespace pg {
namespace {

bool is_mirror_of(const Trigger* trigger, Oid mirror, int32 mapping) {
    return trigger->tgfoid == mirror && trigger->tgnargs >= 1 && pg_strtoint32(trigger->tgargs[0]) == mapping;
}

// What is left to do for others decides whether the executor keeps anything for after the statement.
void silence(ModifyTableState* state, TriggerDesc* triggers, Oid mirror, int32 mapping) {
    bool rows = false;
    bool statements = false;
    bool tables = false;
    for (int i = 0; i < triggers->numtriggers; i++) {
        Trigger* trigger = &triggers->triggers[i];
        if (!TRIGGER_FOR_INSERT(trigger->tgtype) || !TRIGGER_FOR_AFTER(trigger->tgtype)) {
            continue;
        }
        if (is_mirror_of(trigger, mirror, mapping)) {
            trigger->tgenabled = TRIGGER_DISABLED;
            continue;
        }
        (TRIGGER_FOR_ROW(trigger->tgtype) ? rows : statements) = true;
        tables = tables || trigger->tgnewtable != nullptr;
    }
    triggers->trig_insert_after_row = rows;
    triggers->trig_insert_after_statement = statements;
    if (!tables) {
        state->mt_transition_capture = nullptr;
    }
}

Query* parse_insert(const char* sql) {
    const List* parsed = pg_parse_query(sql);
    if (list_length(parsed) != 1) {
        elog(ERROR, "a batch is one statement");
    }
    List* queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, parsed), sql, nullptr, 0, nullptr);
    if (list_length(queries) != 1 || linitial_node(Query, queries)->commandType != CMD_INSERT) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a rewrite rule changes what INSERT does"),
                        errhint("Drop the rule: a run mirrors tables that keep what is written into them.")));
    }
    return linitial_node(Query, queries);
}

// Can nobody tell whether each row is stored at once, or with others? No trigger but those of foreign keys, no policy,
// and no expression that could look at the table meanwhile.
bool is_storable_together(ModifyTableState* state, bool is_volatile) {
    const auto* plan = castNode(ModifyTable, state->ps.plan);
    const ResultRelInfo* result = state->resultRelInfo;
    const FormData_pg_class* table = result->ri_RelationDesc->rd_rel;
    if (is_volatile || state->mt_nrels != 1 || plan->onConflictAction != ONCONFLICT_NONE ||
        plan->withCheckOptionLists != NIL || state->mt_transition_capture != nullptr ||
        table->relkind != RELKIND_RELATION || table->relam != HEAP_TABLE_AM_OID) {
        return false;
    }
    if (bulk::checks_may_look_at_rows(result->ri_RelationDesc)) {
        return false;
    }
    const TriggerDesc* triggers = result->ri_TrigDesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++) {
        const Trigger& trigger = triggers->triggers[i];
        if (trigger.tgenabled != TRIGGER_DISABLED && TRIGGER_FOR_INSERT(trigger.tgtype) &&
            !(trigger.tgisinternal && TRIGGER_FOR_ROW(trigger.tgtype) && TRIGGER_FOR_AFTER(trigger.tgtype))) {
            return false;
        }
    }
    return true;
}

// The columns of the SELECT are those of the table, in their order; what it needs besides stands behind them.
bool has_rows_of(const Plan* rows, TupleDesc desc) {
    for (int i = 0; i < desc->natts; i++) {
        const auto* entry = static_cast<TargetEntry*>(list_nth(rows->targetlist, i));
        const Form_pg_attribute attribute = TupleDescAttr(desc, i);
        const bool is_given = !attribute->attisdropped && attribute->attgenerated == '\0';
        if (entry->resjunk || (is_given && exprType(reinterpret_cast<Node*>(entry->expr)) != attribute->atttypid)) {
            return false;
        }
    }
    return true;
}

void insert_together(QueryDesc* query, ModifyTableState* state) {
    EState* estate = query->estate;
    const MemoryContext context = MemoryContextSwitchTo(estate->es_query_cxt);
    ResultRelInfo* result = state->resultRelInfo;
    const int columns = RelationGetDescr(result->ri_RelationDesc)->natts;
    if (query->totaltime != nullptr) { // of those who watch statements
        InstrStartNode(query->totaltime);
    }
    ExecOpenIndices(result, false);
    bulk::Inserter inserter;
    bulk::open_inserter(inserter, result, estate, estate->es_output_cid);
    for (;;) {
        ResetPerTupleExprContext(estate);
        TupleTableSlot* row = ExecProcNode(outerPlanState(state));
        if (TupIsNull(row)) {
            break;
        }
        slot_getsomeattrs(row, columns);
        TupleTableSlot* slot = bulk::next_row(inserter);
        memcpy(slot->tts_values, row->tts_values, sizeof(Datum) * columns);
        memcpy(slot->tts_isnull, row->tts_isnull, sizeof(bool) * columns);
        bulk::add_row(inserter);
        estate->es_processed++;
    }
    bulk::store_rows(inserter);
    bulk::close_inserter(inserter);
#if PG_VERSION_NUM >= 160000
    estate->es_total_processed = estate->es_processed;
#endif
    if (query->totaltime != nullptr) {
        InstrStopNode(query->totaltime, static_cast<double>(estate->es_processed));
    }
    MemoryContextSwitchTo(context);
}

void insert_each(QueryDesc* query) {
#if PG_VERSION_NUM >= 180000
    ExecutorRun(query, ForwardScanDirection, 0);
#else
    ExecutorRun(query, ForwardScanDirection, 0, true);
#endif
}

// A batch is a small part of both tables, whatever the statistics say: it goes by index, row by row. Only this plan
// does, and not those of triggers that the rows fire. What is switched off has a cost that would have every statement
// compiled.
PlannedStmt* plan_by_index(Query* insert, const char* sql) {
    const int level = NewGUCNestLevel();
    for (const char* name : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan", "jit"}) {
        (void)set_config_option(name, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    }
    PlannedStmt* plan = pg_plan_query(insert, sql, 0, nullptr);
    AtEOXact_GUC(true, level);
    return plan;
}

} // namespace

uint64 insert_quietly(Oid role, Oid mirror, const char* sql, int32 mapping) {
    ActAs as(role, ActAs::Mode::write);
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    Query* insert = parse_insert(sql);
    const bool is_volatile = contain_volatile_functions_not_nextval(reinterpret_cast<Node*>(insert));
    PlannedStmt* plan = plan_by_index(insert, sql);
    QueryDesc* query =
        CreateQueryDesc(plan, sql, GetActiveSnapshot(), InvalidSnapshot, None_Receiver, nullptr, nullptr, 0);
    ExecutorStart(query, 0);
    // A planner of another extension may have put something of its own on top.
    auto* state = IsA(query->planstate, ModifyTableState) ? castNode(ModifyTableState, query->planstate) : nullptr;
    for (int i = 0; state != nullptr && i < state->mt_nrels; i++) {
        if (state->resultRelInfo[i].ri_TrigDesc != nullptr) {
            silence(state, state->resultRelInfo[i].ri_TrigDesc, mirror, mapping);
        }
    }
    if (state != nullptr && is_storable_together(state, is_volatile) &&
        has_rows_of(outerPlan(plan->planTree), RelationGetDescr(state->resultRelInfo->ri_RelationDesc))) {
        insert_together(query, state);
    } else {
        insert_each(query);
    }
    const uint64 inserted = query->estate->es_processed;
    ExecutorFinish(query);
    ExecutorEnd(query);
    FreeQueryDesc(query);
    PopActiveSnapshot();
    CommandCounterIncrement();
    as.release();
    return inserted;
}

} // namespace pg
