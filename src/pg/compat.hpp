// What differs between PostgreSQL 15, 17 and 18, in one place: the rest of src/pg is written against these names.
#pragma once

#include <cstddef>

extern "C" {
#include "access/heapam.h"
}

namespace pg {

// A wait event of our own, so that pg_stat_activity says what a worker waits for. PostgreSQL 17 made custom names
// possible.
inline uint32 wait_event(const char* name) {
#if PG_VERSION_NUM >= 170000
    return WaitEventExtensionNew(name);
#else
    (void)name;
    return PG_WAIT_EXTENSION;
#endif
}

// From 17 on a worker may act as a role that cannot log in; before, the role needs LOGIN.
#if PG_VERSION_NUM >= 170000
inline constexpr uint32 kBypassRoleLogin = BGWORKER_BYPASS_ROLELOGINCHECK;
inline constexpr bool kOwnerNeedsLogin = false;
#else
inline constexpr uint32 kBypassRoleLogin = 0;
inline constexpr bool kOwnerNeedsLogin = true;
#endif

// Is the operator the equality of some ordering index? PostgreSQL 18 made that question independent of btree.
inline bool is_index_equality(Oid op) {
    ListCell* cell = nullptr;
#if PG_VERSION_NUM >= 180000
    foreach (cell, get_op_index_interpretation(op)) {
        if (static_cast<OpIndexInterpretation*>(lfirst(cell))->cmptype == COMPARE_EQ) {
            return true;
        }
    }
#else
    foreach (cell, get_op_btree_interpretation(op)) {
        if (static_cast<OpBtreeInterpretation*>(lfirst(cell))->strategy == BTEqualStrategyNumber) {
            return true;
        }
    }
#endif
    return false;
}

// May the current user look names up in the schema?
inline bool may_use_schema(Oid schema) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, schema, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
#else
    return pg_namespace_aclcheck(schema, GetUserId(), ACL_USAGE) == ACLCHECK_OK;
#endif
}

// Calls walker for the children of a node. Before PostgreSQL 16 the callback has no prototype.
inline bool walk_children(Node* node, bool (*walker)(Node*, void*), void* context) {
#if PG_VERSION_NUM >= 160000
    return expression_tree_walker(node, walker, context);
#else
    return expression_tree_walker(node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker)), context);
#endif
}

// The same for what the parser made of a text.
inline bool walk_raw_children(Node* node, bool (*walker)(Node*, void*), void* context) {
#if PG_VERSION_NUM >= 160000
    return raw_expression_tree_walker(node, walker, context);
#else
    return raw_expression_tree_walker(node, reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker)),
                                      context);
#endif
}

// A record in the log that means nothing; where the next one begins. PostgreSQL 17 can flush it, too.
inline XLogRecPtr log_marker(const char* prefix) {
#if PG_VERSION_NUM >= 170000
    return LogLogicalMessage(prefix, "", 0, false, false);
#else
    return LogLogicalMessage(prefix, "", 0, false);
#endif
}

// Opens an index scan by equality.
inline IndexScanDesc begin_index_scan(Relation heap, Relation index, Snapshot snapshot, int keys) {
#if PG_VERSION_NUM >= 180000
    return index_beginscan(heap, index, snapshot, nullptr, keys, 0);
#else
    return index_beginscan(heap, index, snapshot, keys, 0);
#endif
}

// heap_update(). `indexes`: which indexes need a new entry. Before PostgreSQL 16 it is all of them or none.
#if PG_VERSION_NUM >= 160000
using UpdateIndexes = TU_UpdateIndexes;
inline constexpr UpdateIndexes kNoIndexes = TU_None;
inline constexpr UpdateIndexes kAllIndexes = TU_All;
#else
enum UpdateIndexes { kNoIndexes, kAllIndexes };
#endif
inline TM_Result update_tuple(Relation heap, ItemPointer tid, HeapTuple tuple, CommandId command, bool wait,
                              TM_FailureData* failure, UpdateIndexes* indexes) {
    LockTupleMode mode;
#if PG_VERSION_NUM >= 160000
    return heap_update(heap, tid, tuple, command, InvalidSnapshot, wait, failure, &mode, indexes);
#else
    const TM_Result result = heap_update(heap, tid, tuple, command, InvalidSnapshot, wait, failure, &mode);
    *indexes = result == TM_Ok && HeapTupleIsHeapOnly(tuple) ? kNoIndexes : kAllIndexes;
    return result;
#endif
}

// ExecInsertIndexTuples() for a tuple that update_tuple() or an insertion has stored.
inline List* insert_index_tuples(ResultRelInfo* relation, TupleTableSlot* slot, EState* estate, UpdateIndexes indexes,
                                 bool* conflict, List* arbiters) {
    const bool speculative = arbiters != nullptr;
#if PG_VERSION_NUM >= 160000
    return ExecInsertIndexTuples(relation, slot, estate, false, speculative, conflict, arbiters,
                                 indexes == TU_Summarizing);
#else
    (void)indexes;
    return ExecInsertIndexTuples(relation, slot, estate, false, speculative, conflict, arbiters);
#endif
}

// Stores a slot's row in the place of another one, where any access method keeps the table.
inline TM_Result update_slot(Relation relation, ItemPointer tid, TupleTableSlot* slot, CommandId command,
                             Snapshot snapshot, TM_FailureData* failure, UpdateIndexes* indexes) {
    LockTupleMode mode;
#if PG_VERSION_NUM >= 160000
    return table_tuple_update(relation, tid, slot, command, snapshot, InvalidSnapshot, true, failure, &mode, indexes);
#else
    bool wanted = false;
    const TM_Result result =
        table_tuple_update(relation, tid, slot, command, snapshot, InvalidSnapshot, true, failure, &mode, &wanted);
    *indexes = wanted ? kAllIndexes : kNoIndexes;
    return result;
#endif
}

// The entries for it. `same_key`: a hint that most of the indexes get one for the same value as before.
inline List* update_index_tuples(ResultRelInfo* relation, TupleTableSlot* slot, EState* estate, UpdateIndexes indexes,
                                 bool same_key) {
#if PG_VERSION_NUM >= 160000
    return ExecInsertIndexTuples(relation, slot, estate, same_key, false, nullptr, NIL, indexes == TU_Summarizing);
#else
    (void)indexes;
    return ExecInsertIndexTuples(relation, slot, estate, same_key, false, nullptr, NIL);
#endif
}

// Is there a row yet that the slot's would conflict with? Waits for transactions that are about to decide that.
inline bool has_no_conflict(ResultRelInfo* relation, TupleTableSlot* slot, EState* estate, ItemPointer conflict,
                            List* arbiters) {
#if PG_VERSION_NUM >= 180000
    ItemPointerData none;
    ItemPointerSetInvalid(&none);
    return ExecCheckIndexConstraints(relation, slot, estate, conflict, &none, arbiters);
#else
    return ExecCheckIndexConstraints(relation, slot, estate, conflict, arbiters);
#endif
}

// What an access method keeps over several inserts of a statement, from 17 on, is given back.
inline void finish_index_insert(Relation index, IndexInfo* info) {
#if PG_VERSION_NUM >= 170000
    index_insert_cleanup(index, info);
#else
    (void)index;
    (void)info;
#endif
}

// Index entries for a new row, by the executor.
inline void insert_index_tuples(ResultRelInfo* result, TupleTableSlot* slot, EState* state) {
#if PG_VERSION_NUM >= 160000
    (void)ExecInsertIndexTuples(result, slot, state, false, false, nullptr, NIL, false);
#else
    (void)ExecInsertIndexTuples(result, slot, state, false, false, nullptr, NIL);
#endif
}

} // namespace pg
