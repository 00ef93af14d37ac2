// Decides how a side is read, and compiles its expressions.
#include "pg/compare_source.hpp"

#include "pg/expression.hpp"

extern "C" {
#include "access/attmap.h"
#include "access/heapam.h"
#include "access/sysattr.h"
#include "catalog/pg_inherits.h"
#include "nodes/makefuncs.h"
#include "rewrite/rewriteManip.h"
#include "storage/bufmgr.h"
#include "utils/rls.h"
}

namespace pg::compare {
namespace {

// Casts that lose nothing, and that a codec stands for. Any other one is executed: it may round, cut or fail.
bool is_lossless(Oid from, Oid to) {
    switch (to) {
    case INT4OID:
        return from == INT2OID;
    case INT8OID:
        return from == INT2OID || from == INT4OID;
    case NUMERICOID:
        return from == INT2OID || from == INT4OID || from == INT8OID;
    case FLOAT8OID:
        return from == FLOAT4OID;
    case TEXTOID:
        return from == BPCHAROID || from == NAMEOID;
    case TIMESTAMPOID:
        return from == DATEOID;
    default:
        return false;
    }
}

// A cast by a function that a codec stands for: its argument, else nullptr.
Node* below_cast(Node* node, Oid operand, Oid collation) {
    auto* function = reinterpret_cast<FuncExpr*>(node);
    if (!IsA(node, FuncExpr) || list_length(function->args) != 1 || function->funcresulttype != operand) {
        return nullptr;
    }
    Node* argument = static_cast<Node*>(linitial(function->args));
    const Oid from = getBaseType(exprType(argument));
    Oid cast = InvalidOid;
    return is_lossless(from, operand) &&
                   find_coercion_pathway(operand, from, COERCION_EXPLICIT, &cast) == COERCION_PATH_FUNC &&
                   cast == function->funcid && plan_value(from, operand, collation) != nullptr
               ? argument
               : nullptr;
}

Node* below_relabels(Node* node) {
    while (IsA(node, RelabelType)) {
        node = reinterpret_cast<Node*>(reinterpret_cast<RelabelType*>(node)->arg);
    }
    return node;
}

// The column as it is stored, and the type as which its bytes are to be read; 0: it takes more than the bytes.
AttrNumber stored_column(Node* node, Oid& type) {
    // The same bytes by another name, as varchar is text.
    type = getBaseType(exprType(node));
    const Oid collation = exprCollation(node);
    node = below_relabels(node);
    if (Node* argument = below_cast(node, type, collation); argument != nullptr) {
        type = getBaseType(exprType(argument));
        node = below_relabels(argument);
    }
    auto* var = reinterpret_cast<Var*>(node);
    return IsA(node, Var) && var->varattno > 0 ? var->varattno : 0;
}

bool is_unsafe_function(Oid function, void*) {
    return func_parallel(function) != PROPARALLEL_SAFE;
}

bool is_parallel_unsafe(Node* node, void* context) {
    // As for PostgreSQL's planner: the check of a domain may be anything.
    return node != nullptr && (IsA(node, CoerceToDomain) || IsA(node, NextValueExpr) || IsA(node, SubPlan) ||
                               check_functions_in_node(node, is_unsafe_function, context) ||
                               walk_children(node, is_parallel_unsafe, context));
}

bool reads_virtual_column(Relation relation, Bitmapset* columns) {
#if PG_VERSION_NUM >= 180000
    for (int i = 0; i < RelationGetDescr(relation)->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), i);
        if (attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL) {
            return true;
        }
    }
#endif
    (void)relation;
    (void)columns;
    return false;
}

// May the caller read these columns? Where he may not, the executor says so in PostgreSQL's own words.
bool may_read(Oid relation, Bitmapset* columns) {
    if (!may_use_schema(get_rel_namespace(relation))) {
        return false;
    }
    if (pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) == ACLCHECK_OK) {
        return true;
    }
    int column = -1;
    while ((column = bms_next_member(columns, column)) >= 0) {
        const auto attribute = static_cast<AttrNumber>(column + FirstLowInvalidHeapAttributeNumber);
        if (attribute == InvalidAttrNumber ||
            pg_attribute_aclcheck(relation, attribute, GetUserId(), ACL_SELECT) != ACLCHECK_OK) {
            return false;
        }
    }
    return !bms_is_empty(columns);
}

// The tables that hold the rows; false: one of them is none of ours to walk.
bool collect_tables(Source* source) {
    source->tables = NIL;
    source->parallel = true;
    List* members = find_all_inheritors(source->relation, AccessShareLock, nullptr);
    ListCell* cell = nullptr;
    foreach (cell, members) {
        Relation relation = table_open(lfirst_oid(cell), NoLock);
        const char kind = relation->rd_rel->relkind;
        bool walkable = kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE ||
                        (kind == RELKIND_MATVIEW && relation->rd_rel->relispopulated);
        if (RELATION_IS_OTHER_TEMP(relation)) {
            walkable = false;
        }
        if (walkable && kind != RELKIND_PARTITIONED_TABLE) {
            source->tables = lappend_oid(source->tables, RelationGetRelid(relation));
            source->blocks += RelationGetNumberOfBlocks(relation);
            source->tuples += relation->rd_rel->reltuples > 0 ? relation->rd_rel->reltuples : 0;
            source->parallel = source->parallel && relation->rd_rel->relpersistence != RELPERSISTENCE_TEMP;
        }
        table_close(relation, NoLock);
        if (!walkable) {
            return false;
        }
    }
    return true;
}

Oid equality_family(Oid type) {
    return lookup_type_cache(getBaseType(type), TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

// Does the index mean by "equal" what the type of its column does? Not one that compares images, or patterns.
bool has_plain_equality(Relation index, Relation relation, int column) {
    Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), index->rd_index->indkey.values[column] - 1);
    return index->rd_opfamily[column] == equality_family(attribute->atttypid) &&
           (!OidIsValid(index->rd_indcollation[column]) ||
            get_collation_isdeterministic(index->rd_indcollation[column]));
}

// In a transaction with one snapshot for all its statements an index may be younger than what the snapshot shows.
bool covers_snapshot(Relation index) {
    return !IsolationUsesXactSnapshot() ||
           TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), TransactionXmin);
}

// A unique index whose columns are all in the key, each as it is stored: then no key stands twice.
bool has_unique_index(Relation relation, Bitmapset* key) {
    bool unique = false;
    List* indexes = RelationGetIndexList(relation);
    ListCell* cell = nullptr;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        bool fits = form->indisunique && form->indimmediate && form->indisvalid && form->indisready &&
                    RelationGetIndexExpressions(index) == NIL && RelationGetIndexPredicate(index) == NIL &&
                    covers_snapshot(index);
        for (int i = 0; fits && i < IndexRelationGetNumberOfKeyAttributes(index); i++) {
            fits = bms_is_member(form->indkey.values[i], key) && has_plain_equality(index, relation, i);
        }
        unique = unique || fits;
        index_close(index, AccessShareLock);
    }
    list_free(indexes);
    return unique;
}

void find_uniqueness(Source* source, Relation relation, const int* keys, int key_count) {
    if (list_length(source->tables) > 1 && relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE) {
        return; // an index does not reach over inheritance children
    }
    Bitmapset* key = nullptr;
    for (int i = 0; i < key_count; i++) {
        Oid type = InvalidOid;
        Node* value = static_cast<Node*>(list_nth(source->values, keys[i]));
        const AttrNumber column = stored_column(value, type);
        if (column == 0) {
            return;
        }
        const Oid collation = exprCollation(value);
        if (OidIsValid(collation) && !get_collation_isdeterministic(collation)) {
            return;
        }
        // The same bytes under a coarser equality would make one key of two: 'a' and 'a ' as bpchar.
        const Oid stored = getBaseType(get_atttype(RelationGetRelid(relation), column));
        if (stored != type && equality_family(stored) != equality_family(type)) {
            return;
        }
        key = bms_add_member(key, column);
    }
    source->unique = key != nullptr && has_unique_index(relation, key);
}

Expr* prepare(Node* node) {
    return expression_planner(reinterpret_cast<Expr*>(node));
}

bool contains_sublink(Node* node, void* context) {
    return node != nullptr && (IsA(node, SubLink) || walk_children(node, contains_sublink, context));
}

bool can_scan(Source* source, const SourceRequest* request, const int* keys, int key_count) {
    Relation relation = relation_open(request->relation, AccessShareLock);
    const char kind = relation->rd_rel->relkind;
    bool scannable = (kind == RELKIND_RELATION || kind == RELKIND_MATVIEW || kind == RELKIND_PARTITIONED_TABLE) &&
                     check_enable_rls(request->relation, InvalidOid, true) != RLS_ENABLED;
    if (scannable) {
        Bitmapset* columns = nullptr;
        for (int i = 0; i < request->columns; i++) {
            Node* value = parse_expression(request->relation, request->values[i]);
            Node* row = parse_expression(request->relation, request->rows[i]);
            pull_varattnos(value, 1, &columns);
            pull_varattnos(row, 1, &columns);
            source->values = lappend(source->values, prepare(value));
            source->rows = lappend(source->rows, prepare(row));
        }
        if (request->condition != nullptr) {
            Node* condition = parse_condition(request->relation, request->condition);
            pull_varattnos(condition, 1, &columns);
            scannable = !contains_sublink(condition, nullptr);
            source->condition = scannable ? prepare(condition) : nullptr;
        }
        scannable = scannable && !reads_virtual_column(relation, columns) && may_read(request->relation, columns) &&
                    collect_tables(source);
    }
    if (scannable) {
        find_uniqueness(source, relation, keys, key_count);
        source->parallel = source->parallel && !is_parallel_unsafe(reinterpret_cast<Node*>(source->values), nullptr) &&
                           !is_parallel_unsafe(reinterpret_cast<Node*>(source->rows), nullptr) &&
                           !is_parallel_unsafe(reinterpret_cast<Node*>(source->condition), nullptr);
    }
    relation_close(relation, NoLock);
    return scannable;
}

bool is_heap(List* tables) {
    ListCell* cell = nullptr;
    foreach (cell, tables) {
        Relation relation = table_open(lfirst_oid(cell), NoLock);
        const bool heap = relation->rd_tableam == GetHeapamTableAmRoutine();
        table_close(relation, NoLock);
        if (!heap) {
            return false;
        }
    }
    return true;
}

} // namespace

Source* open_source(const SourceRequest* request, const int* keys, int key_count) {
    auto* source = static_cast<Source*>(palloc0(sizeof(Source)));
    source->relation = request->relation;
    source->path = Path::executor;
    const auto wanted = static_cast<Path>(path);
    if (!OidIsValid(request->relation) || wanted == Path::executor || !can_scan(source, request, keys, key_count)) {
        source->unique = false;
        source->parallel = false;
        source->tables = NIL; // what was collected until it turned out
        source->blocks = 0;
        source->tuples = 0;
        return source;
    }
    source->path = wanted != Path::slots && is_heap(source->tables) ? Path::raw : Path::slots;
    return source;
}

namespace {

List* as_targets(List* expressions) {
    List* targets = NIL;
    ListCell* cell = nullptr;
    foreach (cell, expressions) {
        targets = lappend(targets, makeTargetEntry(static_cast<Expr*>(lfirst(cell)),
                                                   static_cast<AttrNumber>(list_length(targets) + 1), nullptr, false));
    }
    return targets;
}

} // namespace

TupleDesc fetched_desc(const Source* source) {
    return ExecTypeFromTL(as_targets(source->rows));
}

ValuePlan* plan_column(Oid type, Oid collation, const ColumnRequest* column) {
    if (column->key) {
        return plan_key(type, column->operand, collation);
    }
    ValuePlan* plan = plan_value(type, column->operand, collation);
    if (plan != nullptr) {
        plan->tolerance = column->tolerance;
        plan->quick = plan->tolerance == Tolerance::none ? plan->codec : Codec::other;
        plan->width = column->width;
        plan->time_width = column->time_width;
    }
    return plan;
}

namespace {

// The source's expression as the table's own columns: those of a partition may stand in another order.
Node* for_table(Node* node, Relation relation, AttrMap* map) {
    if (map == nullptr) {
        return node;
    }
    bool whole_row = false;
    return map_variable_attnos(static_cast<Node*>(copyObjectImpl(node)), 1, 0, map, RelationGetForm(relation)->reltype,
                               &whole_row);
}

void compile_rows(TableReader* reader, const Source* source, AttrMap* map) {
    List* targets =
        as_targets(reinterpret_cast<List*>(for_table(reinterpret_cast<Node*>(source->rows), reader->relation, map)));
    TupleTableSlot* result = MakeSingleTupleTableSlot(ExecTypeFromTL(targets), &TTSOpsVirtual);
    reader->rows =
        ExecBuildProjectionInfo(targets, reader->context, result, nullptr, RelationGetDescr(reader->relation));
}

} // namespace

TableReader* open_table(const Source* source, Oid relation, const ColumnRequest* columns, bool with_rows) {
    auto* reader = static_cast<TableReader*>(palloc0(sizeof(TableReader)));
    reader->relation = table_open(relation, AccessShareLock);
    reader->executor = CreateExecutorState();
    MemoryContext before = MemoryContextSwitchTo(reader->executor->es_query_cxt);
    reader->context = CreateExprContext(reader->executor);
    reader->raw = source->path == Path::raw;
    reader->slot = reader->raw ? MakeSingleTupleTableSlot(RelationGetDescr(reader->relation), &TTSOpsHeapTuple)
                               : table_slot_create(reader->relation, nullptr);
    reader->context->ecxt_scantuple = reader->slot;

    Relation parent = table_open(source->relation, NoLock);
    AttrMap* map = relation == source->relation
                       ? nullptr
                       : build_attrmap_by_name_if_req(RelationGetDescr(reader->relation), RelationGetDescr(parent)
#if PG_VERSION_NUM >= 160000
                                                                                              ,
                                                      false
#endif
                         );
    table_close(parent, NoLock);

    const int count = list_length(source->values);
    reader->columns = static_cast<ColumnReader*>(palloc0(sizeof(ColumnReader) * static_cast<std::size_t>(count)));
    for (int i = 0; i < count; i++) {
        Node* value = for_table(static_cast<Node*>(list_nth(source->values, i)), reader->relation, map);
        ColumnReader& column = reader->columns[i];
        Oid type = InvalidOid;
        column.attribute = stored_column(value, type);
        if (column.attribute == 0) {
            type = exprType(value);
            column.computed = make_computed(value, RelationGetDescr(reader->relation));
        }
        column.plan = plan_column(type, exprCollation(value), &columns[i]);
        if (column.plan == nullptr) { // a cast that no codec stands for has been executed: the value is of its own type
            elog(ERROR, "no codec for column %d of type %u", i + 1, type);
        }
        reader->last_attribute =
            std::max(reader->last_attribute, last_column(value, RelationGetDescr(reader->relation)));
    }
    if (source->condition != nullptr) {
        Node* condition = for_table(reinterpret_cast<Node*>(source->condition), reader->relation, map);
        reader->condition_last = last_column(condition, RelationGetDescr(reader->relation));
        reader->last_attribute = std::max(reader->last_attribute, reader->condition_last);
        reader->condition = ExecInitQual(make_ands_implicit(reinterpret_cast<Expr*>(condition)), nullptr);
    }
    if (with_rows) {
        compile_rows(reader, source, map);
    }
    MemoryContextSwitchTo(before);
    return reader;
}

void close_table(TableReader* reader) {
    ExecDropSingleTupleTableSlot(reader->slot);
    Relation relation = reader->relation;
    FreeExecutorState(reader->executor);
    table_close(relation, NoLock);
    pfree(reader);
}

} // namespace pg::compare
