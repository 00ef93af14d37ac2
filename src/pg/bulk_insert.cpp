#include "pg/bulk_insert.hpp"
#include "pg/compat.hpp"

extern "C" {
#include "access/tableam.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
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
    // A value that lies elsewhere is as long as it is, for who decodes the log of all these rows.
    const HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, nullptr);
    inserter.bytes += HeapTupleHasExternal(tuple) ? Inserter::kMostBytes : tuple->t_len;
    inserter.count++;
}

void store_rows(Inserter& inserter) {
    CHECK_FOR_INTERRUPTS();
    if (inserter.count == 0) {
        return;
    }
    ResultRelInfo* result = inserter.result;
    const MemoryContext context =
        MemoryContextSwitchTo(GetPerTupleMemoryContext(inserter.estate)); // it leaves things behind
    table_multi_insert(result->ri_RelationDesc, inserter.slots, inserter.count, inserter.command, 0, nullptr);
    MemoryContextSwitchTo(context);
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

namespace {

bool may_look_at_rows(Oid type) {
    if (get_typtype(type) == TYPTYPE_DOMAIN) {
        // Lives as long as the context, which lets go of the constraints by it.
        auto* domain = static_cast<DomainConstraintRef*>(palloc0(sizeof(DomainConstraintRef)));
        InitDomainConstraintRef(type, domain, CurrentMemoryContext, false);
        const ListCell* cell = nullptr;
        foreach (cell, domain->constraints) {
            const auto* constraint = static_cast<DomainConstraintState*>(lfirst(cell));
            if (contain_volatile_functions_not_nextval(reinterpret_cast<Node*>(constraint->check_expr))) {
                return true;
            }
        }
        type = getBaseType(type);
    }
    const Oid element = get_element_type(type);
    return OidIsValid(element) ? may_look_at_rows(element) : get_typtype(type) == TYPTYPE_COMPOSITE;
}

} // namespace

bool checks_may_look_at_rows(Relation table) {
    TupleDesc desc = RelationGetDescr(table);
    for (int i = 0; i < desc->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(desc, i);
        if (!attribute->attisdropped && may_look_at_rows(attribute->atttypid)) {
            return true;
        }
    }
    for (int i = 0; desc->constr != nullptr && i < desc->constr->num_check; i++) {
        if (contain_volatile_functions_not_nextval(static_cast<Node*>(stringToNode(desc->constr->check[i].ccbin)))) {
            return true;
        }
    }
    return false;
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
