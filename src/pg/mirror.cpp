// The mirror: an AFTER ROW trigger on both tables of a mapping that writes the other side in the user's transaction.
// control/install/50_mirror.sql generates the statements, mirror_plan keeps them prepared. Whoever writes, the mirrored
// write runs as the run's owner.
//
// Loops: the row that a mirror writes fires the mirror of the other side, which must not write it back. What tells this
// echo from a write by an application's own trigger (which must be mirrored) is the mapping, the direction and the
// trigger depth: the echo is exactly one level below the mirror that caused it. The frame is backend-local and put back
// on every way out, errors included.
#include "pg/capture.hpp"
#include "pg/mirror_plan.hpp"
#include "pg/role.hpp"

extern "C" {
#include "utils/datum.h"
}

namespace pg {
namespace {

// The mirror that is writing now, if any.
struct Frame {
    int32 mapping;
    Direction direction;
    int depth;
    bool capture_echo; // see MirrorPlan
};

Frame current_frame = {0, Direction::forward, -1, false};
SPIPlanPtr failure_query = nullptr;

// Puts the enclosing frame back, also when the mirrored write fails: pg::call turns the ERROR into an exception.
class FrameScope {
  public:
    explicit FrameScope(const Frame& frame) : saved_(current_frame) { current_frame = frame; }
    ~FrameScope() { current_frame = saved_; }
    FrameScope(const FrameScope&) = delete;
    FrameScope& operator=(const FrameScope&) = delete;

  private:
    Frame saved_;
};

int trigger_depth() {
    LOCAL_FCINFO(info, 0);
    InitFunctionCallInfoData(*info, nullptr, 0, InvalidOid, nullptr, nullptr);
    return DatumGetInt32(pg_trigger_depth(info));
}

struct Row {
    Datum* values;
    char* nulls;
};

Row allocate(int columns) {
    return {static_cast<Datum*>(palloc(sizeof(Datum) * (columns + 1))), static_cast<char*>(palloc(columns + 1))};
}

void fill(const Row& row, int offset, const MirrorPlan* plan, HeapTuple tuple, TupleDesc desc) {
    for (int i = 0; i < plan->columns; i++) {
        bool isnull = false;
        row.values[offset + i] = heap_getattr(tuple, plan->attributes[i], desc, &isnull);
        row.nulls[offset + i] = isnull ? 'n' : ' ';
    }
}

// An UPDATE that touches nothing the other side knows needs no write there.
bool same(const Row& row, const MirrorPlan* plan, TupleDesc desc) {
    for (int i = 0; i < plan->columns; i++) {
        const int j = plan->columns + i;
        Form_pg_attribute attribute = TupleDescAttr(desc, plan->attributes[i] - 1);
        if (row.nulls[i] != row.nulls[j] ||
            (row.nulls[i] == ' ' &&
             !datumIsEqual(row.values[i], row.values[j], attribute->attbyval, attribute->attlen))) {
            return false;
        }
    }
    return true;
}

// What is there now counts, also for a transaction with a snapshot of its own: the backfill may have copied a row
// behind it. Whoever else changed the row of the other side changed the row of this side as well, and the user's own
// statement met that conflict.
uint64 execute(SPIPlanPtr plan, const Row& row) {
    Snapshot snapshot = IsolationUsesXactSnapshot() ? GetLatestSnapshot() : InvalidSnapshot;
    const int code = SPI_execute_snapshot(plan, row.values, row.nulls, snapshot, InvalidSnapshot, false, true, 0);
    if (code < 0) {
        elog(ERROR, "SPI_execute_snapshot returned %s", SPI_result_code_string(code));
    }
    return SPI_processed;
}

// Has this transaction changed the row again since? An application's trigger that fired before us may have, and its
// change was then mirrored before ours: the row as it was here is no news any more.
bool superseded(const TriggerData* data, HeapTuple tuple) {
    Relation relation = data->tg_relation;
    TupleTableSlot* slot = table_slot_create(relation, nullptr);
    const bool current = table_tuple_fetch_row_version(relation, &tuple->t_self, SnapshotSelf, slot);
    ExecDropSingleTupleTableSlot(slot);
    return !current;
}

// The mirrored write itself, as the run's owner.
void write(const MirrorPlan* plan, const TriggerData* data) {
    TupleDesc desc = RelationGetDescr(data->tg_relation);
    Row row = allocate(2 * plan->columns);
    if (TRIGGER_FIRED_BY_INSERT(data->tg_event)) {
        fill(row, 0, plan, data->tg_trigtuple, desc);
        if (!superseded(data, data->tg_trigtuple)) {
            execute(plan->upsert, row);
        }
    } else if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        fill(row, 0, plan, data->tg_trigtuple, desc);
        execute(plan->remove, row);
    } else {
        fill(row, 0, plan, data->tg_newtuple, desc);
        fill(row, plan->columns, plan, data->tg_trigtuple, desc);
        if (same(row, plan, desc)) {
            return;
        }
        if (superseded(data, data->tg_newtuple)) {
            // What it became is there already; what it was must not stay under another key.
            execute(plan->remove, {row.values + plan->columns, row.nulls + plan->columns});
            return;
        }
        // Addressed by the OLD key. No row there (not yet copied): the whole row is written.
        if (execute(plan->update, row) == 0) {
            execute(plan->upsert, row);
        }
    }
}

void write_as_owner(const MirrorPlan* plan, const TriggerData* data) {
    ActAs owner(plan->owner, ActAs::Mode::write);
    write(plan, data);
    owner.release();
}

// Interrupts, broken servers and conflicts with other transactions are the user's business; anything else is a fault of
// the new side. A conflict (deadlock, serialization, lock_timeout) must not be passed over: whoever holds the row of
// the new side is about to write ours from it, and would overwrite what the user wrote here.
bool is_new_sides_fault(int sqlerrcode) {
    const int category = ERRCODE_TO_CATEGORY(sqlerrcode);
    return category != ERRCODE_OPERATOR_INTERVENTION && category != ERRCODE_INSUFFICIENT_RESOURCES &&
           category != ERRCODE_INTERNAL_ERROR && category != ERRCODE_TRANSACTION_ROLLBACK &&
           sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE;
}

void record_failure(const MirrorPlan* plan, const TriggerData* data, Oid function, const ErrorData* error) {
    ActAs extension(function_owner(function), ActAs::Mode::write);
    if (failure_query == nullptr) {
        Oid types[5] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
        failure_query = prepare_kept("SELECT tandem.mirror_failed($1, $2, $3, $4, $5)", 5, types);
    }
    HeapTuple tuple = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
    const Datum row = heap_copy_tuple_as_datum(tuple, RelationGetDescr(data->tg_relation));
    Oid out = InvalidOid;
    bool varlena = false;
    getTypeOutputInfo(RelationGetForm(data->tg_relation)->reltype, &out, &varlena);
    const char* event = TRIGGER_FIRED_BY_INSERT(data->tg_event)   ? "INSERT"
                        : TRIGGER_FIRED_BY_DELETE(data->tg_event) ? "DELETE"
                                                                  : "UPDATE";
    Datum values[5] = {Int32GetDatum(plan->key.mapping), CStringGetTextDatum(event),
                       CStringGetTextDatum(OidOutputFunctionCall(out, row)),
                       CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
                       CStringGetTextDatum(error->message != nullptr ? error->message : "")};
    if (SPI_execute_plan(failure_query, values, nullptr, false, 0) < 0) {
        elog(ERROR, "could not record a failed mirror write");
    }
    extension.release();
}

// Recording may have waited for a promotion: nobody reads the new side yet, is it so still?
bool still_lenient(const PlanKey& key, const TriggerData* data, Oid function) {
    AcceptInvalidationMessages();
    return find_plan(key, data->tg_relation, function)->lenient;
}

// In stages dualwrite and shadow nobody reads the new side yet: its failure is recorded and must not fail the user.
void write_leniently(const MirrorPlan* plan, const TriggerData* data, Oid function) {
    ErrorData* failure = attempt([&] { write_as_owner(plan, data); });
    if (failure == nullptr) {
        return;
    }
    if (!is_new_sides_fault(failure->sqlerrcode)) {
        throw Error(failure);
    }
    const bool lenient = call([&] {
        record_failure(plan, data, function, failure);
        return still_lenient(plan->key, data, function);
    });
    if (!lenient) {
        throw Error(failure);
    }
}

PlanKey key_of(const TriggerData* data) {
    const Trigger* trigger = data->tg_trigger;
    if (trigger->tgnargs != 2) {
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("the mirror trigger takes a mapping and a direction"),
                        errhint("tandem.start() makes these triggers.")));
    }
    return {pg_strtoint32(trigger->tgargs[0]),
            strcmp(trigger->tgargs[1], "forward") == 0 ? Direction::forward : Direction::reverse,
            RelationGetRelid(data->tg_relation)};
}

// Within SPI from here on.
MirrorPlan* connected_plan(const PlanKey& key, const TriggerData* data, Oid function) {
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    return find_plan(key, data->tg_relation, function);
}

// Do triggers of the application see a row before it is written? They may give it another key.
bool changes_rows_before(Relation relation) {
    const TriggerDesc* triggers = relation->trigdesc;
    return triggers != nullptr && (triggers->trig_insert_before_row || triggers->trig_update_before_row);
}

void mirror_row(const TriggerData* data, Oid function) {
    const PlanKey key = call([&] { return key_of(data); });
    const int depth = trigger_depth();
    if (current_frame.mapping == key.mapping && current_frame.direction != key.direction &&
        current_frame.depth + 1 == depth) {
        // Our own write, coming back. Its key is noted already, unless it may have become another one on the way.
        if (current_frame.capture_echo || changes_rows_before(data->tg_relation)) {
            call([&] {
                capture::row(connected_plan(key, data, function), data);
                SPI_finish();
            });
        }
        return;
    }
    const FrameScope scope({key.mapping, key.direction, depth, false});
    MirrorPlan* plan = call([&] {
        MirrorPlan* found = connected_plan(key, data, function);
        capture::row(found, data);
        return found;
    });
    current_frame.capture_echo = plan->capture_echo;
    const PlanUse use(plan);
    if (plan->lenient && key.direction == Direction::forward) {
        write_leniently(plan, data, function);
    } else {
        call([&] { write_as_owner(plan, data); });
    }
    call([] { SPI_finish(); });
}

// Prepares the statements of a direction outside of any trigger.
void check(int32 mapping, const char* direction, Oid function) {
    const bool forward = strcmp(direction, "forward") == 0;
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    Oid types[2] = {INT4OID, BOOLOID};
    Datum values[2] = {Int32GetDatum(mapping), BoolGetDatum(forward)};
    if (SPI_execute_with_args(
            "SELECT CASE WHEN $2 THEN v.legacy ELSE v.new END::oid FROM tandem.mappings AS v WHERE v.id = $1", 2, types,
            values, nullptr, true, 1) != SPI_OK_SELECT ||
        SPI_processed != 1) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("mapping %d does not exist", mapping)));
    }
    bool isnull = false;
    const Oid relid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    Relation source = relation_open(relid, AccessShareLock);
    const PlanKey key = {mapping, forward ? Direction::forward : Direction::reverse, RelationGetRelid(source)};
    find_plan(key, source, function);
    relation_close(source, NoLock);
    SPI_finish();
}

} // namespace
} // namespace pg

// mirror_check(mapping, direction): errors are those that the mirror would meet.
TANDEM_FUNCTION(tandem_mirror_check) {
    return pg::entry([&]() -> Datum {
        pg::check(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), fcinfo->flinfo->fn_oid);
        PG_RETURN_VOID();
    });
}

// copy_as(role, query, mapping): query_as() whose inserts into the new side are taken for the mirror's own.
TANDEM_FUNCTION(tandem_copy_as) {
    return pg::entry([&]() -> Datum {
        const pg::FrameScope scope({PG_GETARG_INT32(2), pg::Direction::forward, pg::trigger_depth(), false});
        return pg::call([&] { return pg::query_as(fcinfo, pg::ActAs::Mode::write); });
    });
}

// Row trigger: mirrors INSERT, UPDATE and DELETE. Statement trigger: refuses TRUNCATE, which fires no row trigger.
TANDEM_FUNCTION(tandem_mirror) {
    return pg::entry([&]() -> Datum {
        if (!CALLED_AS_TRIGGER(fcinfo)) {
            ereport(ERROR,
                    (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                     errmsg("tandem.mirror() is a trigger function"), errhint("tandem.start() makes its triggers.")));
        }
        const auto* data = reinterpret_cast<TriggerData*>(fcinfo->context);
        if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)) {
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("cannot truncate \"%s\" while a run mirrors it",
                                   RelationGetRelationName(data->tg_relation)),
                            errdetail("TRUNCATE fires no row trigger: the other side would keep its rows."),
                            errhint("Use DELETE, or end the run first with tandem.cancel() or tandem.complete().")));
        }
        if (!TRIGGER_FIRED_AFTER(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event)) {
            ereport(ERROR,
                    (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("the mirror is an AFTER ROW trigger"),
                     errhint("tandem.start() makes its triggers.")));
        }
        pg::mirror_row(data, fcinfo->flinfo->fn_oid);
        return PointerGetDatum(nullptr);
    });
}
