// What an SQL expression over the rows of a relation is: its type, collation, volatility, the columns it
// reads, and whether it is a bare column; and under which equality two types are compared. Asked of
// PostgreSQL's own parser, so that nothing but one scalar expression ever reaches generated SQL.
#include "pg/expression.hpp"
#include "pg/explaining.hpp"

extern "C" {
#include "access/sysattr.h"
}

namespace pg {
namespace {

struct ExpressionInfo {
    Oid type;
    int32 typmod;
    Oid collation;
    char volatility;
    const char* bare_column; // nullptr: not a bare column
    Bitmapset* columns;      // attribute numbers, offset by FirstLowInvalidHeapAttributeNumber
};

[[noreturn]] void refuse(const char* what) {
    ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s", what)));
    pg_unreachable();
}

// "*" and "t.*" are no scalars, though the raw parser takes them for one: they stand for several columns.
bool is_star(Node* node) {
    return IsA(node, ColumnRef) && IsA(llast(reinterpret_cast<ColumnRef*>(node)->fields), A_Star);
}

} // namespace

// The one target of "SELECT <expression>", or an error when the text is more than that.
Node* parse_scalar(const char* text) {
    List* parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
    auto* statement = reinterpret_cast<SelectStmt*>(linitial_node(RawStmt, parsed)->stmt);
    if (list_length(statement->targetList) != 1 || statement->fromClause != NIL || statement->whereClause != nullptr ||
        statement->groupClause != NIL || statement->havingClause != nullptr || statement->windowClause != NIL ||
        statement->sortClause != NIL || statement->limitCount != nullptr || statement->limitOffset != nullptr ||
        statement->lockingClause != NIL || statement->distinctClause != NIL || statement->op != SETOP_NONE) {
        refuse("an expression must be one SQL scalar");
    }
    auto* target = linitial_node(ResTarget, statement->targetList);
    if (target->name != nullptr || target->indirection != NIL || is_star(target->val)) {
        refuse("an expression must be one SQL scalar");
    }
    return target->val;
}

namespace {

// A parser that knows the columns of the relation, under the relation's own name. The lock on it stays until
// the transaction ends.
ParseState* parser_over(Oid relid, const char* text) {
    Relation relation = relation_open(relid, AccessShareLock);
    ParseState* state = make_parsestate(nullptr);
    state->p_sourcetext = text;
    ParseNamespaceItem* item = addRangeTableEntryForRelation(state, relation, AccessShareLock, nullptr, true, true);
    addNSItemToQuery(state, item, true, true, true);
    relation_close(relation, NoLock);
    return state;
}

} // namespace

Node* parse_expression(Oid relid, const char* text) {
    Node* raw = parse_scalar(text);
    ParseState* state = parser_over(relid, text);
    Node* node = transformExpr(state, raw, EXPR_KIND_SELECT_TARGET);
    if (exprType(node) == UNKNOWNOID) {
        node = coerce_type(state, node, UNKNOWNOID, TEXTOID, -1, COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
    }
    assign_expr_collations(state, node);
    if (state->p_hasAggs || state->p_hasWindowFuncs || state->p_hasTargetSRFs || state->p_hasSubLinks) {
        refuse("an expression cannot use an aggregate, a window function, a set-returning function or a "
               "subquery");
    }
    return node;
}

Node* parse_condition(Oid relid, const char* text) {
    Node* raw = parse_scalar(text);
    ParseState* state = parser_over(relid, text);
    Node* node = transformWhereClause(state, raw, EXPR_KIND_WHERE, "WHERE");
    assign_expr_collations(state, node);
    return node;
}

namespace {

ExpressionInfo describe(Oid relid, const char* text) {
    Node* node = parse_expression(relid, text);
    ExpressionInfo info{};
    info.type = exprType(node);
    info.typmod = exprTypmod(node);
    info.collation = exprCollation(node);
    info.volatility = contain_volatile_functions(node)  ? PROVOLATILE_VOLATILE
                      : contain_mutable_functions(node) ? PROVOLATILE_STABLE
                                                        : PROVOLATILE_IMMUTABLE;
    pull_varattnos(node, 1, &info.columns);
    if (IsA(node, Var) && reinterpret_cast<Var*>(node)->varattno > 0) {
        info.bare_column = get_attname(relid, reinterpret_cast<Var*>(node)->varattno, false);
    }
    return info;
}

// A condition is judged once for each row, as WHERE does it; a subquery may stand in it.
void check_condition(Oid relid, const char* text) {
    if (contain_volatile_functions(parse_condition(relid, text))) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION), errmsg("a condition cannot be volatile"),
                        errhint("Use immutable and stable functions only: the answer must not change from "
                                "one look to the next.")));
    }
}

// A whole-row reference reads every column.
ArrayType* column_names(Oid relid, Bitmapset* columns) {
    const bool whole_row = bms_is_member(InvalidAttrNumber - FirstLowInvalidHeapAttributeNumber, columns);
    Relation relation = relation_open(relid, NoLock);
    TupleDesc desc = RelationGetDescr(relation);
    auto* names = static_cast<Datum*>(palloc(sizeof(Datum) * (desc->natts + 1)));
    int count = 0;
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(desc, i);
        if (!attribute->attisdropped &&
            (whole_row || bms_is_member(attribute->attnum - FirstLowInvalidHeapAttributeNumber, columns))) {
            names[count++] = NameGetDatum(&attribute->attname);
        }
    }
    ArrayType* result = construct_array(names, count, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR);
    relation_close(relation, NoLock);
    return result;
}

template <class F>
void explaining_expression(Oid relid, const char* expression, F&& f) {
    const char* relation = call([&] {
        const char* name = get_rel_name(relid);
        return name == nullptr ? "the relation"
                               : const_cast<const char*>(
                                     quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name));
    });
    explaining([&] { f(); },
               [&](ErrorData* data) {
                   if (data->detail == nullptr) {
                       data->detail = psprintf("In the expression: %s", expression);
                   }
                   if (data->hint == nullptr) {
                       data->hint =
                           psprintf("Write one SQL scalar over the columns of %s; qualify functions that are not in "
                                    "pg_catalog with their schema.",
                                    relation);
                   }
               });
}

Datum expression_info(FunctionCallInfo fcinfo) {
    const Oid relid = PG_GETARG_OID(0);
    const char* expression = call([&] { return text_to_cstring(PG_GETARG_TEXT_PP(1)); });
    ExpressionInfo info{};
    explaining_expression(relid, expression, [&] { info = describe(relid, expression); });

    return call([&] {
        TupleDesc desc = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        NameData bare;
        bool nulls[6] = {};
        if (info.bare_column != nullptr) {
            namestrcpy(&bare, info.bare_column);
        } else {
            nulls[4] = true;
        }
        Datum values[6] = {ObjectIdGetDatum(info.type),
                           Int32GetDatum(info.typmod),
                           ObjectIdGetDatum(info.collation),
                           CharGetDatum(info.volatility),
                           NameGetDatum(&bare),
                           PointerGetDatum(column_names(relid, info.columns))};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
    });
}

Datum condition_check(FunctionCallInfo fcinfo) {
    const Oid relid = PG_GETARG_OID(0);
    const char* condition = call([&] { return text_to_cstring(PG_GETARG_TEXT_PP(1)); });
    explaining_expression(relid, condition, [&] { check_condition(relid, condition); });
    PG_RETURN_VOID();
}

// The equality under which values of two types are compared: the operator, and the types to cast both sides
// to before.
struct Equality {
    Oid op;
    Oid left;
    Oid right;
};

constexpr Equality kTextEquality{TextEqualOperator, TEXTOID, TEXTOID};

// Does a value become the other type without a look at the session, such as its TimeZone?
bool casts_immutably(Oid from, Oid to) {
    Oid function = InvalidOid;
    switch (find_coercion_pathway(to, from, COERCION_IMPLICIT, &function)) {
    case COERCION_PATH_RELABELTYPE:
        return true;
    case COERCION_PATH_FUNC:
        return func_volatile(function) == PROVOLATILE_IMMUTABLE;
    default:
        return false;
    }
}

bool is_record(Oid type) {
    return type == RECORDOID || type_is_rowtype(type);
}

// Will record_eq take rows of both types? It wants the same types column by column, names do not matter.
bool same_columns(Oid left, Oid right) {
    if (left == RECORDOID || right == RECORDOID) {
        return false; // unknown before there is a row
    }
    TupleDesc l = lookup_rowtype_tupdesc_copy(left, -1);
    TupleDesc r = lookup_rowtype_tupdesc_copy(right, -1);
    int i = 0;
    int j = 0;
    for (;;) {
        while (i < l->natts && TupleDescAttr(l, i)->attisdropped) {
            i++;
        }
        while (j < r->natts && TupleDescAttr(r, j)->attisdropped) {
            j++;
        }
        if (i == l->natts || j == r->natts) {
            return i == l->natts && j == r->natts;
        }
        if (TupleDescAttr(l, i++)->atttypid != TupleDescAttr(r, j++)->atttypid) {
            return false;
        }
    }
}

// false: the two have no equality in common that means the same in every session.
bool find_equality(Oid left, Oid right, Equality& result) {
    left = getBaseType(left);
    right = getBaseType(right);
    // json has no equality of its own; by its text, the order of keys and spaces would count.
    left = left == JSONOID ? JSONBOID : left;
    right = right == JSONOID ? JSONBOID : right;

    const Oid left_op = lookup_type_cache(left, TYPECACHE_EQ_OPR)->eq_opr;
    if (left == right) {
        if (!OidIsValid(left_op)) {
            result = kTextEquality;
            return true;
        }
        result = {left_op, left, right};
        Oid declared_left = InvalidOid;
        Oid declared_right = InvalidOid;
        op_input_types(left_op, &declared_left, &declared_right);
        if (!IsPolymorphicType(declared_left) && declared_left != RECORDOID) {
            result.left = declared_left;
            result.right = declared_right;
        }
        return true;
    }
    if (is_record(left) && is_record(right)) {
        result = {left_op, right, right};
        return OidIsValid(left_op) && same_columns(left, right);
    }

    Operator tuple = oper(nullptr, list_make1(makeString(pstrdup("="))), left, right, true, -1);
    if (tuple == nullptr) {
        return false;
    }
    const Oid op = oprid(tuple);
    ReleaseSysCache(tuple);
    result.op = op;
    op_input_types(op, &result.left, &result.right);
    // Not timestamp = timestamptz, which depends on TimeZone; nor an operator that only bears the name, as of
    // two boxes.
    return op_volatile(op) == PROVOLATILE_IMMUTABLE && (is_index_equality(op) || op_hashjoinable(op, result.left)) &&
           !IsPolymorphicType(result.left) && casts_immutably(left, result.left) &&
           casts_immutably(right, result.right);
}

const char* operator_text(Oid op) {
    HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(op));
    if (!HeapTupleIsValid(tuple)) {
        elog(ERROR, "cache lookup failed for operator %u", op);
    }
    auto* form = reinterpret_cast<Form_pg_operator>(GETSTRUCT(tuple));
    const char* text =
        psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)), NameStr(form->oprname));
    ReleaseSysCache(tuple);
    return text;
}

// All columns NULL where the pair has no equality.
Datum equality(FunctionCallInfo fcinfo) {
    return call([&] {
        TupleDesc desc = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        Equality equality{};
        Datum values[3] = {};
        bool nulls[3] = {true, true, true};
        if (find_equality(PG_GETARG_OID(0), PG_GETARG_OID(1), equality)) {
            values[0] = CStringGetTextDatum(operator_text(equality.op));
            values[1] = ObjectIdGetDatum(equality.left);
            values[2] = ObjectIdGetDatum(equality.right);
            nulls[0] = nulls[1] = nulls[2] = false;
        }
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
    });
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_expression_info) {
    return pg::entry([&] { return pg::expression_info(fcinfo); });
}

TANDEM_FUNCTION(tandem_condition_check) {
    return pg::entry([&] { return pg::condition_check(fcinfo); });
}

TANDEM_FUNCTION(tandem_equality) {
    return pg::entry([&] { return pg::equality(fcinfo); });
}
