// What differs between PostgreSQL 15, 17 and 18, in one place: the rest of src/pg is written against these names.
#pragma once

#include <cstddef>

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

// A record in the log that means nothing; where the next one begins. PostgreSQL 17 can flush it, too.
inline XLogRecPtr log_marker(const char* prefix) {
#if PG_VERSION_NUM >= 170000
    return LogLogicalMessage(prefix, "", 0, false, false);
#else
    return LogLogicalMessage(prefix, "", 0, false);
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
