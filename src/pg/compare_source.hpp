// One side of a comparison: where its rows come from, and how each compared value is had from them.
#pragma once

#include "pg/prelude.hpp"

#include "pg/compare_computed.hpp"
#include "pg/compare_settings.hpp"
#include "pg/value.hpp"

namespace pg::compare {

// SQL that was made for the comparison begins with it: in an error's CONTEXT it is left out.
#define TANDEM_MADE_SQL "/* pg_tandem */ "

inline constexpr int kSides = 2;
enum Side : int { kLegacy = 0, kNew = 1 };

// What the SQL side asks for, of one side. The values are of the types that the equality takes; the rows are what the
// judge reads as c1, c2, ...
struct SourceRequest {
    Oid relation;      // InvalidOid for a query
    const char* label; // for messages
    const char* from;  // the FROM item, for the executor
    int columns;
    const char** values;
    const char** rows;
    const char* condition; // nullptr: none
};

// A source whose expressions are parsed. Everything in it can be sent to a parallel worker as text.
struct Source {
    Oid relation;
    Path path;       // raw, slots or executor
    List* values;    // Expr, over the parent's columns as varno 1; NIL for the executor
    List* rows;      // Expr
    Expr* condition; // nullptr: none
    List* tables;    // Oids of the tables that hold the rows
    bool parallel;   // may workers read it?
    bool unique;     // does an index say that no key stands twice?
    std::int64_t blocks;
    double tuples; // as the statistics have it
};

// `keys`: the 0-based columns of the key. Locks the relations.
Source* open_source(const SourceRequest* request, const int* keys, int key_count);

// What the rows of a source are, as they are fetched; not of an executor source.
TupleDesc fetched_desc(const Source* source);

// How one table of a source is read.
struct ColumnReader {
    AttrNumber attribute; // > 0: the column as it is stored
    Computed* computed;   // else
    ValuePlan* plan;
};

struct TableReader {
    Relation relation;
    ColumnReader* columns;
    int last_attribute; // the highest that the readers and the condition need
    bool raw;           // heap tuples, read as they are stored
    ExprState* condition;
    int condition_last; // the highest that the condition needs
    ProjectionInfo* rows;
    ExprContext* context;
    EState* executor;
    TupleTableSlot* slot;
};

// Column by column: the plan for what a value becomes under the equality.
struct ColumnRequest {
    Oid operand; // common to both sides
    bool key;
    Tolerance tolerance;
    double width;
    std::int64_t time_width;
};

TableReader* open_table(const Source* source, Oid relation, const ColumnRequest* columns, bool with_rows);
void close_table(TableReader* reader);

// The plan for a column of an executor source.
ValuePlan* plan_column(Oid type, Oid collation, const ColumnRequest* column);

} // namespace pg::compare
