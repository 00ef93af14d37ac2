// A batch of the backfill (control/install/55_backfill_batch.sql) is one INSERT … SELECT. Its rows must not come back
// by the mirror of the new side; that a trigger is called for each of them to find out that it has nothing to do would
// cost as much as a tenth of the copy. So the trigger is switched off in this one execution of this one statement: an
// executor works with a copy of the table's triggers. Partitions get theirs when their first row comes: there the
// mirror is called, and takes the rows for echoes.
#include "pg/backfill.hpp"
#include "pg/role.hpp"

extern "C" {
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
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

PlannedStmt* plan_insert(const char* sql) {
    const List* parsed = pg_parse_query(sql);
    if (list_length(parsed) != 1) {
        elog(ERROR, "a batch is one statement");
    }
    List* queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, parsed), sql, nullptr, 0, nullptr);
    if (list_length(queries) != 1 || linitial_node(Query, queries)->commandType != CMD_INSERT) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a rewrite rule changes what INSERT does"),
                        errhint("Drop the rule: a run mirrors tables that keep what is written into them.")));
    }
    return pg_plan_query(linitial_node(Query, queries), sql, 0, nullptr);
}

// A batch is a small part of both tables, whatever the statistics say: it goes by index, row by row.
void plan_by_index() {
    for (const char* name : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan"}) {
        (void)set_config_option(name, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    }
}

} // namespace

uint64 insert_quietly(Oid role, Oid mirror, const char* sql, int32 mapping) {
    ActAs as(role, ActAs::Mode::write);
    plan_by_index();
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    PlannedStmt* plan = plan_insert(sql);
    QueryDesc* query =
        CreateQueryDesc(plan, sql, GetActiveSnapshot(), InvalidSnapshot, None_Receiver, nullptr, nullptr, 0);
    ExecutorStart(query, 0);
    auto* state = castNode(ModifyTableState, query->planstate);
    for (int i = 0; i < state->mt_nrels; i++) {
        if (state->resultRelInfo[i].ri_TrigDesc != nullptr) {
            silence(state, state->resultRelInfo[i].ri_TrigDesc, mirror, mapping);
        }
    }
#if PG_VERSION_NUM >= 180000
    ExecutorRun(query, ForwardScanDirection, 0);
#else
    ExecutorRun(query, ForwardScanDirection, 0, true);
#endif
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
