// Sides that only the executor can read: views, foreign tables, queries, row security, conditions with subqueries.
#include "pg/compare_pass.hpp"

namespace pg::compare {
namespace {

struct Receiver {
    DestReceiver base;
    Participant* participant;
    int side;
    const ColumnRequest* requests;
    ValuePlan** plans;
    int* place;          // of each column: its own
    TupleTableSlot* row; // of the fetch pass
    MemoryContext per_row;
};

Receiver* receiver_of(DestReceiver* self) {
    return reinterpret_cast<Receiver*>(self);
}

void start(DestReceiver* self, int, TupleDesc desc) {
    Receiver* receiver = receiver_of(self);
    const int columns = receiver->participant->shape->columns;
    receiver->plans = static_cast<ValuePlan**>(palloc(sizeof(ValuePlan*) * static_cast<std::size_t>(columns)));
    receiver->place = static_cast<int*>(palloc(sizeof(int) * static_cast<std::size_t>(columns)));
    for (int i = 0; i < columns; i++) {
        receiver->place[i] = i;
        Form_pg_attribute attribute = TupleDescAttr(desc, i);
        receiver->plans[i] = plan_column(attribute->atttypid, attribute->attcollation, &receiver->requests[i]);
        if (receiver->plans[i] == nullptr) {
            elog(ERROR, "no codec for column %d of type %u", i + 1, attribute->atttypid);
        }
    }
    if (desc->natts > columns) {
        TupleDesc row = CreateTemplateTupleDesc(columns);
        for (int i = 0; i < columns; i++) {
            TupleDescCopyEntry(row, static_cast<AttrNumber>(i + 1), desc, static_cast<AttrNumber>(columns + i + 1));
        }
#if PG_VERSION_NUM >= 190000
        TupleDescFinalize(row);
#endif
        receiver->row = MakeSingleTupleTableSlot(row, &TTSOpsVirtual);
    }
    receiver->per_row = AllocSetContextCreate(CurrentMemoryContext, "tandem comparison row", ALLOCSET_DEFAULT_SIZES);
}

bool receive(TupleTableSlot* slot, DestReceiver* self) {
    Receiver* receiver = receiver_of(self);
    MemoryContext before = MemoryContextSwitchTo(receiver->per_row);
    take_row(receiver->participant, receiver->side, receiver->plans, receiver->place, slot, receiver->row);
    MemoryContextSwitchTo(before);
    MemoryContextReset(receiver->per_row);
    return true;
}

void nothing(DestReceiver*) {}

void append_list(StringInfo sql, const char** expressions, int count) {
    for (int i = 0; i < count; i++) {
        appendStringInfo(sql, "%s(%s\n)", sql->data[sql->len - 1] == ' ' ? "" : ", ", expressions[i]);
    }
}

} // namespace

void read_query(Participant* participant, int side, const SourceRequest* request) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, TANDEM_MADE_SQL "SELECT ");
    append_list(&sql, request->values, request->columns);
    if (participant->pass == Pass::fetch) {
        append_list(&sql, request->rows, request->columns);
    }
    appendStringInfo(&sql, " FROM %s", request->from);
    if (request->condition != nullptr) {
        appendStringInfo(&sql, " WHERE (%s\n)", request->condition);
    }

    Receiver receiver{};
    receiver.base.rStartup = start;
    receiver.base.receiveSlot = receive;
    receiver.base.rShutdown = nothing;
    receiver.base.rDestroy = nothing;
    receiver.base.mydest = DestNone;
    receiver.participant = participant;
    receiver.side = side;
    receiver.requests = participant->shape->column();

    SPIExecuteOptions options{};
    options.read_only = true;
    options.dest = &receiver.base;
    const int code = SPI_execute_extended(sql.data, &options);
    if (code < 0) {
        elog(ERROR, "SPI_execute_extended returned %s", SPI_result_code_string(code));
    }
    flush(participant); // the receiver's own memory went with the executor's
}

} // namespace pg::compare
