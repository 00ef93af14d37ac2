#include "pg/bulk_insert.hpp"
#include "pg/compat.hpp"

extern "C" {
#include "access/tableam.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
}

namespace pg::bulk {

void open_inserter(Inserter& inserter, ResultRelInfo* result, EState* estate, CommandId command) {
    inserter = {};
    inserter.result = result;
    inserter.estate = estate;
    inserter.command = command;
    inserter.row = CreateTupleDescCopy(RelationGetDescr(result->ri_RelationDesc));
}

TupleTableSlot* next_row(Inserter& inserter) {
    if (inserter.count == Inserter::kMostRows || inserter.bytes >= Inserter::kMostBytes) {
        store_rows(inserter);
    }
    TupleTableSlot*& slot = inserter.slots[inserter.count];
    if (slot == nullptr) {
        slot = MakeSingleTupleTableSlot(inserter.row, table_slot_callbacks(inserter.result->ri_RelationDesc));
    }
    return ExecClearTuple(slot);
}

void add_row(Inserter& inserter) {
    TupleTableSlot* slot = inserter.slots[inserter.count];
    ExecStoreVirtualTuple(slot);
    check_row(inserter.result, inserter.estate, slot);
    ExecMaterializeSlot(slot); // out of the memory of this row
    inserter.bytes += ExecFetchSlotHeapTuple(slot, false, nullptr)->t_len;
    inserter.count++;
}

void store_rows(Inserter& inserter) {
    CHECK_FOR_INTERRUPTS();
    if (inserter.count == 0) {
        return;
    }
    ResultRelInfo* result = inserter.result;
    table_multi_insert(result->ri_RelationDesc, inserter.slots, inserter.count, inserter.command, 0, nullptr);
    for (int i = 0; i < inserter.count; i++) {
        TupleTableSlot* slot = inserter.slots[i];
        List* recheck = NIL;
        if (result->ri_NumIndices > 0) {
            recheck = insert_index_tuples(result, slot, inserter.estate, kAllIndexes, nullptr, nullptr);
        }
        ExecARInsertTriggers(inserter.estate, result, slot, recheck, nullptr);
        ExecClearTuple(slot);
        list_free(recheck);
        ResetPerTupleExprContext(inserter.estate);
    }
    inserter.count = 0;
    inserter.bytes = 0;
}

void close_inserter(Inserter& inserter) {
    for (TupleTableSlot* slot : inserter.slots) {
        if (slot != nullptr) {
            ExecDropSingleTupleTableSlot(slot);
        }
    }
}

void check_row(ResultRelInfo* result, EState* estate, TupleTableSlot* slot) {
    Relation table = result->ri_RelationDesc;
    const TupleConstr* constraints = RelationGetDescr(table)->constr;
    slot->tts_tableOid = RelationGetRelid(table);
    if (constraints != nullptr && constraints->has_generated_stored) {
        ExecComputeStoredGenerated(result, estate, slot, CMD_INSERT); // CMD_UPDATE would ask which columns are new
    }
    if (constraints != nullptr) {
        ExecConstraints(result, slot, estate);
    }
    if (table->rd_rel->relispartition) {
        ExecPartitionCheck(result, slot, estate, true);
    }
}

} // namespace pg::bulk
