// Batches of rows in a subtransaction; only of a batch that fails, each row in its own, and of a row that fails, each
// expression.
#include "pg/compare_careful.hpp"

#include "pg/expression.hpp"

extern "C" {
#include "access/sysattr.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/json.h"
}

namespace pg::compare {
namespace {

constexpr int kRowsPerFetch = 1000;

enum FailedColumn : int { kFailedColumns, kMessage, kSqlState, kSource, kFailedExtras };

struct Reader {
    Relation relation;
    EState* executor;
    ExprContext* context;
    TupleTableSlot* slot; // of the relation's own row type
    ExprState** expressions;
    int columns;
    MemoryContext batch;
    CarefulRows* result;
    bool blind; // an expression reads what is not read here
};

struct Row {
    Datum* values;
    bool* nulls;
};

// Every column that the caller may read, and NULL for the others.
const char* readable_columns(Relation relation) {
    StringInfoData list;
    initStringInfo(&list);
    const Oid relid = RelationGetRelid(relation);
    const bool all = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
    for (int i = 0; i < RelationGetDescr(relation)->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), i);
        if (!attribute->attisdropped) {
            const bool readable =
                all || pg_attribute_aclcheck(relid, attribute->attnum, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
            appendStringInfo(&list, "%s%s", list.len == 0 ? "" : ", ",
                             readable ? quote_identifier(NameStr(attribute->attname)) : "NULL");
        }
    }
    return list.data;
}

// ctid and its like are not among the columns that are read.
bool reads_system_column(Node* node) {
    Bitmapset* columns = nullptr;
    pull_varattnos(node, 1, &columns);
    const int first = bms_next_member(columns, -1);
    return first >= 0 && first + FirstLowInvalidHeapAttributeNumber < 0;
}

TupleDesc make_desc(const SourceRequest* request, Node** nodes, int extras) {
    TupleDesc desc = CreateTemplateTupleDesc(request->columns + extras);
    for (int i = 0; i < request->columns; i++) {
        const auto number = static_cast<AttrNumber>(i + 1);
        TupleDescInitEntry(desc, number, psprintf("c%d", i + 1), exprType(nodes[i]), exprTypmod(nodes[i]), 0);
        TupleDescInitEntryCollation(desc, number, exprCollation(nodes[i]));
    }
    return desc;
}

void add_extras(TupleDesc desc, int columns) {
    const struct {
        const char* name;
        Oid type;
    } extras[kFailedExtras] = {
        {"failed_columns", INT4ARRAYOID}, {"message", TEXTOID}, {"sqlstate", TEXTOID}, {"source", JSONOID}};
    for (int i = 0; i < kFailedExtras; i++) {
        TupleDescInitEntry(desc, static_cast<AttrNumber>(columns + i + 1), extras[i].name, extras[i].type, -1, 0);
    }
}

Reader* open_reader(const SourceRequest* request) {
    auto* reader = static_cast<Reader*>(palloc0(sizeof(Reader)));
    reader->relation = relation_open(request->relation, AccessShareLock);
    reader->executor = CreateExecutorState();
    reader->context = CreateExprContext(reader->executor);
    reader->slot = MakeSingleTupleTableSlot(RelationGetDescr(reader->relation), &TTSOpsVirtual);
    reader->context->ecxt_scantuple = reader->slot;
    reader->columns = request->columns;
    reader->batch = AllocSetContextCreate(CurrentMemoryContext, "tandem careful rows", ALLOCSET_DEFAULT_SIZES);
    const auto columns = static_cast<std::size_t>(request->columns);
    reader->expressions = static_cast<ExprState**>(palloc(sizeof(ExprState*) * columns));
    auto* nodes = static_cast<Node**>(palloc(sizeof(Node*) * columns));
    for (int i = 0; i < request->columns; i++) {
        nodes[i] = parse_expression(request->relation, request->rows[i]);
        reader->blind = reader->blind || reads_system_column(nodes[i]);
        Expr* expression = expression_planner(reinterpret_cast<Expr*>(nodes[i]));
        reader->expressions[i] = ExecInitExpr(expression, nullptr);
    }
    auto* result = static_cast<CarefulRows*>(palloc0(sizeof(CarefulRows)));
    reader->result = result;
    result->rows_desc = make_desc(request, nodes, 0);
    result->failed_desc = make_desc(request, nodes, kFailedExtras);
    add_extras(result->failed_desc, request->columns);
    result->rows = tuplestore_begin_heap(true, false, work_mem);
    result->failed = tuplestore_begin_heap(true, false, work_mem);
    return reader;
}

// SELECT leaves dropped columns out; the row type has them.
void store_row(const Reader* reader, HeapTuple tuple, TupleDesc desc) {
    ExecClearTuple(reader->slot);
    TupleDesc own = RelationGetDescr(reader->relation);
    int live = 0;
    for (int i = 0; i < own->natts; i++) {
        reader->slot->tts_isnull[i] = true;
        if (!TupleDescAttr(own, i)->attisdropped) {
            live++;
            reader->slot->tts_values[i] = heap_getattr(tuple, live, desc, &reader->slot->tts_isnull[i]);
        }
    }
    ExecStoreVirtualTuple(reader->slot);
}

void evaluate(const Reader* reader, int column, Row row) {
    row.values[column] = ExecEvalExpr(reader->expressions[column], reader->context, &row.nulls[column]);
}

Row new_row(const Reader* reader) {
    const auto room = static_cast<std::size_t>(reader->columns + kFailedExtras);
    return {static_cast<Datum*>(palloc0(sizeof(Datum) * room)), static_cast<bool*>(palloc0(sizeof(bool) * room))};
}

void keep(const Reader* reader, Row row) {
    tuplestore_putvalues(reader->result->rows, reader->result->rows_desc, row.values, row.nulls);
    reader->result->row_count++;
}

Datum source_json(const Reader* reader) {
    const Datum row = ExecFetchSlotHeapTupleDatum(reader->slot);
    return DirectFunctionCall1(row_to_json, row);
}

// One expression after the other, each on its own: what can be had is kept, the first error is told.
void keep_failed(const Reader* reader) {
    const Row row = call([&] { return new_row(reader); });
    auto* failed =
        call([&] { return static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<std::size_t>(reader->columns))); });
    int count = 0;
    const ErrorData* first = nullptr;
    for (int i = 0; i < reader->columns; i++) {
        const ErrorData* error = attempt([&] { evaluate(reader, i, row); });
        if (error != nullptr) {
            if (!is_rows_fault(error->sqlerrcode)) {
                throw Error(const_cast<ErrorData*>(error));
            }
            row.nulls[i] = true;
            failed[count++] = Int32GetDatum(i + 1);
            first = first != nullptr ? first : error;
        }
    }
    call([&] {
        if (count == 0) {
            keep(reader, row); // it does not fail when asked again
            return;
        }
        Datum* extra = row.values + reader->columns;
        extra[kFailedColumns] =
            PointerGetDatum(construct_array(failed, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
        extra[kMessage] = CStringGetTextDatum(first->message != nullptr ? first->message : "");
        extra[kSqlState] = CStringGetTextDatum(unpack_sql_state(first->sqlerrcode));
        extra[kSource] = source_json(reader);
        tuplestore_putvalues(reader->result->failed, reader->result->failed_desc, row.values, row.nulls);
        reader->result->failed_count++;
    });
}

void read_batch(const Reader* reader, const SPITupleTable* tuples, std::uint64_t count) {
    auto* rows = call([&] { return static_cast<Row*>(palloc(sizeof(Row) * count)); });
    const ErrorData* error = attempt([&] {
        for (std::uint64_t i = 0; i < count; i++) {
            CHECK_FOR_INTERRUPTS();
            store_row(reader, tuples->vals[i], tuples->tupdesc);
            rows[i] = new_row(reader);
            for (int column = 0; column < reader->columns; column++) {
                evaluate(reader, column, rows[i]);
            }
        }
    });
    if (error != nullptr && !is_rows_fault(error->sqlerrcode)) {
        throw Error(const_cast<ErrorData*>(error));
    }
    for (std::uint64_t i = 0; i < count; i++) {
        if (error == nullptr) {
            call([&] { keep(reader, rows[i]); });
        } else {
            call([&] { store_row(reader, tuples->vals[i], tuples->tupdesc); });
            keep_failed(reader);
        }
    }
}

} // namespace

bool is_rows_fault(int sqlstate) {
    if (sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE || sqlstate == ERRCODE_ASSERT_FAILURE) {
        return false;
    }
    switch (ERRCODE_TO_CATEGORY(sqlstate)) {
    case MAKE_SQLSTATE('0', '8', '0', '0', '0'): // connection
    case MAKE_SQLSTATE('2', '5', '0', '0', '0'): // transaction state
    case MAKE_SQLSTATE('4', '0', '0', '0', '0'): // transaction rollback
    case MAKE_SQLSTATE('5', '3', '0', '0', '0'): // insufficient resources
    case MAKE_SQLSTATE('5', '5', '0', '0', '0'): // object not in prerequisite state
    case MAKE_SQLSTATE('5', '7', '0', '0', '0'): // operator intervention
    case MAKE_SQLSTATE('5', '8', '0', '0', '0'): // system error
    case MAKE_SQLSTATE('F', '0', '0', '0', '0'): // configuration file
    case MAKE_SQLSTATE('X', 'X', '0', '0', '0'): // internal error
        return false;
    default:
        return true; // whatever an expression may raise; if no row does, the error is raised again
    }
}

CarefulRows* read_carefully(const SourceRequest* request) {
    Reader* reader = call([&] { return open_reader(request); });
    if (reader->blind) {
        return reader->result; // the error stands for all
    }
    Portal portal = call([&] {
        const char* sql = psprintf(TANDEM_MADE_SQL "SELECT %s FROM %s%s%s%s", readable_columns(reader->relation),
                                   request->from, request->condition != nullptr ? " WHERE (" : "",
                                   request->condition != nullptr ? request->condition : "",
                                   request->condition != nullptr ? "\n)" : "");
        SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
        if (plan == nullptr) {
            elog(ERROR, "SPI_prepare returned %s", SPI_result_code_string(SPI_result));
        }
        return SPI_cursor_open(nullptr, plan, nullptr, nullptr, true);
    });
    for (;;) {
        const std::uint64_t count = call([&] {
            SPI_cursor_fetch(portal, true, kRowsPerFetch);
            return SPI_processed;
        });
        if (count == 0) {
            break;
        }
        MemoryContext before = MemoryContextSwitchTo(reader->batch);
        SPITupleTable* tuples = SPI_tuptable;
        read_batch(reader, tuples, count);
        MemoryContextSwitchTo(before);
        call([&] {
            ResetExprContext(reader->context);
            MemoryContextReset(reader->batch);
            SPI_freetuptable(tuples);
        });
    }
    return call([&] {
        SPI_cursor_close(portal);
        ExecDropSingleTupleTableSlot(reader->slot);
        FreeExecutorState(reader->executor);
        relation_close(reader->relation, NoLock);
        return reader->result;
    });
}

} // namespace pg::compare
