// mirror_settled: to pin the settings and to put them back costs a sixth of a mirrored row. Most mappings need it not:
// they hand values over as they are, or by casts of PostgreSQL's own that no setting changes.
//
// By what is allowed, not by what is forbidden: a kind of expression that is not named here is none of these.
#include "pg/mirror_settled.hpp"
#include "pg/compat.hpp"

extern "C" {
#include "access/genam.h"
#include "access/transam.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language_d.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace pg::settled {
namespace {

// Not to be trusted: what calls the comparison of an element, a field or a bound, which may be anybody's; enums have
// none.
bool is_open(Oid type) {
    return type == RECORDOID || (IsPolymorphicType(type) && type != ANYENUMOID);
}

// Immutable says too much. What float8, bytea and interval read like is called so, and hangs on settings; and so do
// age() of a timestamptz and zones that are named by an abbreviation.
bool may_differ(Oid type) {
    return type == CSTRINGOID || type == TIMESTAMPTZOID || type == TIMETZOID || is_open(type);
}

bool is_other_function(Oid function, void*) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) {
        return true;
    }
    const auto* form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    const std::span<const Oid> arguments(form->proargtypes.values, static_cast<size_t>(form->pronargs));
    const bool other = form->provolatile != PROVOLATILE_IMMUTABLE || form->prolang != INTERNALlanguageId ||
                       function >= FirstGenbkiObjectId || may_differ(form->prorettype) ||
                       std::ranges::any_of(arguments, may_differ);
    ReleaseSysCache(tuple);
    return other;
}

bool reads_the_same(Oid type) {
    switch (type) {
    case BOOLOID:
    case INT2OID:
    case INT4OID:
    case INT8OID:
    case NUMERICOID:
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
    case NAMEOID:
    case UUIDOID:
        return true;
    default:
        return false;
    }
}

bool is_unsettled(Node* node, void* context) {
    if (node == nullptr) {
        return false;
    }
    switch (nodeTag(node)) {
    case T_CoerceViaIO: {
        const auto* coercion = reinterpret_cast<CoerceViaIO*>(node);
        if (!reads_the_same(exprType(reinterpret_cast<Node*>(coercion->arg))) ||
            !reads_the_same(coercion->resulttype)) {
            return true;
        }
        break;
    }
    case T_FuncExpr:
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
    case T_ScalarArrayOpExpr:
        if (check_functions_in_node(node, is_other_function, context)) {
            return true;
        }
        break;
    case T_List:
    case T_TargetEntry:
    case T_Param:
    case T_Var:
    case T_Const:
    case T_RelabelType:
    case T_CollateExpr:
    case T_BoolExpr:
    case T_CaseExpr:
    case T_CaseWhen:
    case T_CaseTestExpr:
    case T_CoalesceExpr:
    case T_NullTest:
    case T_BooleanTest:
        break;
    default:
        return true;
    }
    return walk_children(node, is_unsettled, context);
}

// As it was written: what the relation's cache has is simplified, by who happened to ask first.
bool is_settled_part(Relation index, AttrNumber part) {
    bool isnull = false;
    const Datum stored = SysCacheGetAttr(INDEXRELID, index->rd_indextuple, part, &isnull);
    return isnull || !is_unsettled(static_cast<Node*>(stringToNode(TextDatumGetCString(stored))), nullptr);
}

bool is_settled_index(Relation index) {
    for (int i = 0; i < index->rd_index->indnkeyatts; i++) {
        if (index->rd_opfamily[i] >= FirstNormalObjectId || index->rd_opcintype[i] >= FirstNormalObjectId ||
            is_open(index->rd_opcintype[i])) {
            return false;
        }
    }
    return is_settled_part(index, Anum_pg_index_indexprs) && is_settled_part(index, Anum_pg_index_indpred);
}

bool has_generated_columns(const TupleConstr* constraints) {
    if (constraints == nullptr) {
        return false;
    }
#if PG_VERSION_NUM >= 180000
    return constraints->has_generated_stored || constraints->has_generated_virtual;
#else
    return constraints->has_generated_stored;
#endif
}

} // namespace

bool is_settled(List* expressions) {
    return !is_unsettled(reinterpret_cast<Node*>(expressions), nullptr);
}

bool is_settled(Relation table) {
    const TupleConstr* constraints = RelationGetDescr(table)->constr;
    if (table->rd_rel->relispartition || has_generated_columns(constraints)) {
        return false;
    }
    for (int i = 0; constraints != nullptr && i < constraints->num_check; i++) {
        if (is_unsettled(static_cast<Node*>(stringToNode(constraints->check[i].ccbin)), nullptr)) {
            return false;
        }
    }
    bool settled = true;
    ListCell* cell = nullptr;
    foreach (cell, RelationGetIndexList(table)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        settled &= is_settled_index(index);
        index_close(index, NoLock);
    }
    return settled;
}

} // namespace pg::settled
