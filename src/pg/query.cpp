// What a query that is compared is: one SELECT that reads, its columns, and its text with every name qualified. Asked
// of PostgreSQL's own parser, as CREATE VIEW does it: what the text means is settled once, by the caller's search_path,
// and nothing but that one SELECT ever reaches generated SQL.
#include "pg/explaining.hpp"
#include "pg/prelude.hpp"

extern "C" {
#include "parser/analyze.h"
#include "utils/ruleutils.h"
}

namespace pg {
namespace {

struct QuerySource {
    const char* text;
    int columns;
    Datum* names;
    Datum* types;
    Datum* collations;
};

[[noreturn]] void refuse(int sqlstate, const char* what, const char* detail) {
    ereport(ERROR, (errcode(sqlstate), errmsg("%s", what), errdetail("%s", detail)));
    pg_unreachable();
}

// PostgreSQL 15 declares its walkers without arguments, which C++ reads as none.
#if PG_VERSION_NUM >= 160000
constexpr auto as_walker(bool (*walker)(Node*, void*)) {
    return walker;
}
#else
auto as_walker(bool (*walker)(Node*, void*)) {
    return reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker));
}
#endif

// Goes through the query and everything below it: nothing may lock, write, or give other rows at the next look.
bool check_node(Node* node, void* context) {
    if (node == nullptr) {
        return false;
    }
    if (IsA(node, Query)) {
        auto* query = reinterpret_cast<Query*>(node);
        if (query->rowMarks != NIL) {
            refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "a query that is compared cannot lock rows",
                   "FOR UPDATE and its like write to the rows.");
        }
        if (query->hasModifyingCTE || query->commandType != CMD_SELECT) {
            refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "a query that is compared cannot write",
                   "INSERT, UPDATE, DELETE or MERGE stands in it.");
        }
        return query_tree_walker(query, as_walker(check_node), context, QTW_EXAMINE_RTES_BEFORE);
    }
    if (IsA(node, RangeTblEntry)) {
        const auto* sample = reinterpret_cast<RangeTblEntry*>(node)->tablesample;
        if (sample != nullptr && sample->repeatable == nullptr) {
            refuse(ERRCODE_INVALID_OBJECT_DEFINITION, "a query that is compared cannot be volatile",
                   "TABLESAMPLE without REPEATABLE gives other rows at every look.");
        }
        return false; // query_tree_walker goes into it
    }
    return expression_tree_walker(node, as_walker(check_node), context);
}

// A function of the server's own may be volatile: it reads no tables. Any other one that is takes a snapshot of its own
// for each of its statements, and the two sides of a check would be told about two moments.
bool is_volatile_and_ours(Oid function, void* /*context*/) {
    return function >= FirstNormalObjectId && func_volatile(function) == PROVOLATILE_VOLATILE;
}

bool calls_volatile(Node* node, void* context) {
    if (node == nullptr) {
        return false;
    }
    if (IsA(node, Query)) {
        return query_tree_walker(reinterpret_cast<Query*>(node), as_walker(calls_volatile), context, 0);
    }
    return check_functions_in_node(node, is_volatile_and_ours, context) ||
           expression_tree_walker(node, as_walker(calls_volatile), context);
}

enum class Volatile { never, builtin };

Query* analyze(const char* sql, Volatile allowed) {
    List* parsed = raw_parser(sql, RAW_PARSE_DEFAULT);
    if (list_length(parsed) != 1) {
        refuse(ERRCODE_SYNTAX_ERROR, "a query that is compared must be one SELECT",
               psprintf("Found: %d statements.", list_length(parsed)));
    }
    RawStmt* raw = linitial_node(RawStmt, parsed);
    if (!IsA(raw->stmt, SelectStmt)) {
        refuse(ERRCODE_SYNTAX_ERROR, "a query that is compared must be one SELECT",
               psprintf("Found: %s.", GetCommandTagName(CreateCommandTag(raw->stmt))));
    }
    Query* query = parse_analyze_fixedparams(raw, sql, nullptr, 0, nullptr);
    if (query->commandType != CMD_SELECT) {
        refuse(ERRCODE_FEATURE_NOT_SUPPORTED, "a query that is compared cannot write", "Found: SELECT INTO.");
    }
    check_node(reinterpret_cast<Node*>(query), nullptr);
    if (allowed == Volatile::never ? contain_volatile_functions(reinterpret_cast<Node*>(query))
                                   : calls_volatile(reinterpret_cast<Node*>(query), nullptr)) {
        refuse(
            ERRCODE_INVALID_OBJECT_DEFINITION, "a query that is compared cannot be volatile",
            "It calls a function that gives another value at every call, or that is not declared STABLE or IMMUTABLE.");
    }
    return query;
}

QuerySource describe(const char* sql, const char* search_path, Volatile allowed) {
    const int guc_level = NewGUCNestLevel();
    (void)set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    Query* query = analyze(sql, allowed);
    AtEOXact_GUC(false, guc_level);

    QuerySource result{};
    const int most = list_length(query->targetList);
    result.names = static_cast<Datum*>(palloc(sizeof(Datum) * (most + 1)));
    result.types = static_cast<Datum*>(palloc(sizeof(Datum) * (most + 1)));
    result.collations = static_cast<Datum*>(palloc(sizeof(Datum) * (most + 1)));
    ListCell* cell = nullptr;
    foreach (cell, query->targetList) {
        const auto* target = lfirst_node(TargetEntry, cell);
        if (target->resjunk) {
            continue;
        }
        auto* expression = reinterpret_cast<Node*>(target->expr);
        auto* name = static_cast<NameData*>(palloc(sizeof(NameData)));
        namestrcpy(name, target->resname);
        result.names[result.columns] = NameGetDatum(name);
        result.types[result.columns] = ObjectIdGetDatum(exprType(expression));
        result.collations[result.columns] = ObjectIdGetDatum(exprCollation(expression));
        result.columns++;
    }
    result.text = pg_get_querydef(query, false); // under our search_path: qualified
    return result;
}

// The parser's own message stays; which query it was about and what to do is added.
Datum query_source(FunctionCallInfo fcinfo, Volatile allowed) {
    struct {
        const char* sql;
        const char* label;
        const char* search_path;
    } arguments{};
    call([&] {
        arguments.sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
        arguments.label = text_to_cstring(PG_GETARG_TEXT_PP(1));
        arguments.search_path = text_to_cstring(PG_GETARG_TEXT_PP(2));
    });
    const QuerySource source = explaining(
        [&] { return describe(arguments.sql, arguments.search_path, allowed); },
        [&](ErrorData* data) {
            data->detail = psprintf("%s%sIn %s: %s", data->detail == nullptr ? "" : data->detail,
                                    data->detail == nullptr ? "" : "\n", arguments.label, arguments.sql);
            if (data->hint == nullptr) {
                data->hint =
                    data->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE
                        ? pstrdup("It runs with your rights: GRANT them, or leave out what you may not read.")
                        : pstrdup("Write one SELECT, VALUES, TABLE or WITH ... SELECT that only reads, without "
                                  "parameters and volatile functions.");
            }
        });

    return call([&] {
        TupleDesc desc = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        const auto array = [&](Datum* values, Oid type, int length, bool byval, char align) {
            return PointerGetDatum(construct_array(values, source.columns, type, length, byval, align));
        };
        Datum values[4] = {CStringGetTextDatum(source.text),
                           array(source.names, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR),
                           array(source.types, OIDOID, sizeof(Oid), true, TYPALIGN_INT),
                           array(source.collations, OIDOID, sizeof(Oid), true, TYPALIGN_INT)};
        bool nulls[4] = {};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
    });
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_query_columns) {
    return pg::entry([&] { return pg::query_source(fcinfo, pg::Volatile::never); });
}

TANDEM_FUNCTION(tandem_check_columns) {
    return pg::entry([&] { return pg::query_source(fcinfo, pg::Volatile::builtin); });
}
