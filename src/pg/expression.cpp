// What an SQL expression over the rows of a relation is: its type, collation, volatility, the columns it reads, and whether it
// is a bare column. Asked of PostgreSQL's own parser, so that nothing but one scalar expression ever reaches generated SQL.
#include "pg/prelude.hpp"

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
    if (target->name != nullptr || target->indirection != NIL) {
        refuse("an expression must be one SQL scalar");
    }
    return target->val;
}

ExpressionInfo describe(Oid relid, const char* text) {
    Node* raw = parse_scalar(text);
    Relation relation = relation_open(relid, AccessShareLock);

    ParseState* state = make_parsestate(nullptr);
    state->p_sourcetext = text;
    ParseNamespaceItem* item = addRangeTableEntryForRelation(state, relation, AccessShareLock, nullptr, true, true);
    addNSItemToQuery(state, item, true, true, true);

    Node* node = transformExpr(state, raw, EXPR_KIND_SELECT_TARGET);
    if (exprType(node) == UNKNOWNOID) {
        node = coerce_type(state, node, UNKNOWNOID, TEXTOID, -1, COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
    }
    assign_expr_collations(state, node);
    if (state->p_hasAggs || state->p_hasWindowFuncs || state->p_hasTargetSRFs || state->p_hasSubLinks) {
        refuse("an expression cannot use an aggregate, a window function, a set-returning function or a subquery");
    }

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
    relation_close(relation, NoLock);
    return info;
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

Datum expression_info(FunctionCallInfo fcinfo) {
    const Oid relid = PG_GETARG_OID(0);
    const char* expression = text_to_cstring(PG_GETARG_TEXT_PP(1));

    ExpressionInfo info{};
    try {
        call([&] { info = describe(relid, expression); });
    } catch (const Error& error) {
        // The parser's own message stays; what it was about and what to do is added.
        ErrorData* data = error.data();
        if (data != nullptr) {
            call([&] {
                if (data->detail == nullptr) {
                    data->detail = psprintf("In the expression: %s", expression);
                }
                if (data->hint == nullptr) {
                    data->hint = psprintf("Write one SQL scalar over the columns of %s; qualify functions that are not in "
                                          "pg_catalog with their schema.",
                                          quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
                                                                     get_rel_name(relid)));
                }
                data->cursorpos = 0;
            });
        }
        throw;
    }

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

// An equality operator that means the same in every session: not timestamp = timestamptz, which depends on TimeZone.
bool is_equality(Oid op) {
    if (!OidIsValid(op) || op_volatile(op) != PROVOLATILE_IMMUTABLE) {
        return false;
    }
    if (is_index_equality(op)) {
        return true;
    }
    Oid left = InvalidOid;
    Oid right = InvalidOid;
    op_input_types(op, &left, &right);
    return op_hashjoinable(op, left);
}

const char* operator_text(Oid op) {
    HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(op));
    if (!HeapTupleIsValid(tuple)) {
        elog(ERROR, "cache lookup failed for operator %u", op);
    }
    auto* form = reinterpret_cast<Form_pg_operator>(GETSTRUCT(tuple));
    const char* text = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
                                NameStr(form->oprname));
    ReleaseSysCache(tuple);
    return text;
}

// The operator under which two types are compared: its text; '' where neither type has one (compare their text); NULL where
// the pair has none in common.
const char* equality_of(Oid left, Oid right) {
    left = getBaseType(left);
    right = getBaseType(right);
    const Oid left_eq = lookup_type_cache(left, TYPECACHE_EQ_OPR)->eq_opr;
    if (left == right) {
        return OidIsValid(left_eq) ? operator_text(left_eq) : "";
    }
    if (!OidIsValid(left_eq) && !OidIsValid(lookup_type_cache(right, TYPECACHE_EQ_OPR)->eq_opr)) {
        return "";
    }
    Operator tuple = oper(nullptr, list_make1(makeString(pstrdup("="))), left, right, true, -1);
    if (tuple == nullptr) {
        return nullptr;
    }
    const Oid op = oprid(tuple);
    ReleaseSysCache(tuple);
    return is_equality(op) ? operator_text(op) : nullptr;
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_expression_info) {
    return pg::entry([&] { return pg::expression_info(fcinfo); });
}

TANDEM_FUNCTION(tandem_equality) {
    return pg::entry([&]() -> Datum {
        const char* text = pg::equality_of(PG_GETARG_OID(0), PG_GETARG_OID(1));
        if (text == nullptr) {
            PG_RETURN_NULL();
        }
        PG_RETURN_TEXT_P(cstring_to_text(text));
    });
}
