// The mirror: an AFTER ROW trigger on both tables of a mapping that writes the other side in the user's transaction.
// control/install/50_mirror.sql generates the statements, mirror_plan keeps them prepared, mirror_write executes them.
// Whoever writes, the mirrored write runs as the run's owner.
//
// Where no trigger of the application is concerned, the rows are written at the end of the statement (mirror_scope),
// and many of them together (mirror_bulk).
//
// Loops: the row that a mirror writes fires the mirror of the other side, which must not write it back. What tells this
// echo from a write by an application's own trigger (which must be mirrored) is the mapping, the direction and the
// trigger depth: the echo is exactly one level below the mirror that caused it. The frame is backend-local and put back
// on every way out, errors included.
//
// Cascades: what foreign keys do to other tables under the mirror's own statement fires at that depth, too. It is not
// written back: where the source has such a key, its own cascade came here by itself; and a row that the other side
// refused to move would take the source's row with it that has moved. What differs then is found by validations, as the
// key is noted.
#include "pg/backfill.hpp"
#include "pg/capture.hpp"
#include "pg/dirty.hpp"
#include "pg/fence.hpp"
#include "pg/mirror_bulk.hpp"
#include "pg/mirror_scope.hpp"
#include "pg/mirror_sibling.hpp"
#include "pg/role.hpp"

extern "C" {
#include "parser/parse_func.h"
}

namespace pg {
namespace {

// The mirror that is writing now, if any.
struct Frame {
    int32 mapping;
    Direction direction;
    int depth;
    bool capture_echo;                    // see MirrorPlan
    const scope::Group* groups = nullptr; // several tables together, in place of that mapping
    bool one_way = false;                 // nothing that this writes comes back to legacy, by whatever cascade
    bool ours = true;                     // what is written is written by us, and what triggers make of it
};

Frame current_frame = {0, Direction::forward, -1, false, nullptr, false, false};

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

// Fired one level below the mirror: is it what a foreign key of the side that is being written did to another table? Of
// one legacy table in several new ones each has to hear: only one of those may have such a key itself.
bool is_cascade(const MirrorPlan* plan) {
    if (plan->shared) {
        return false;
    }
    const auto is_below = [plan](int32 mapping, Direction direction) {
        return direction != plan->key.direction && std::ranges::find(plan->relatives, mapping) != plan->relatives.end();
    };
    bool cascade = false;
    for (const scope::Group* group = current_frame.groups; group != nullptr; group = group->next) {
        cascade |= is_below(group->key.mapping, group->key.direction);
    }
    return cascade || is_below(current_frame.mapping, current_frame.direction);
}

// A row of legacy that a new table has just written, and of which another new table has to hear.
bool is_from_sibling(const MirrorPlan* plan) {
    if (!plan->shared) {
        return false;
    }
    bool reverse = current_frame.groups == nullptr && current_frame.direction == Direction::reverse;
    for (const scope::Group* group = current_frame.groups; group != nullptr; group = group->next) {
        reverse |= group->key.direction == Direction::reverse;
    }
    return reverse;
}

bool update_as_owner(const MirrorPlan* plan, Relation source, const Change& change, Oid function) {
    ActAs owner(plan->owner, ActAs::Mode::write_settled);
    const bool written = bulk::update_one(plan, source, change, function);
    owner.release();
    return written;
}

bool write_as_owner(const MirrorPlan* plan, Relation source, const Change& change, Oid function, bool wait) {
    if (scope::bulk_rows > 0 && change.kind == Change::Kind::update && plan->settled_row != NIL &&
        update_as_owner(plan, source, change, function)) {
        return true;
    }
    ActAs owner(plan->owner, ActAs::Mode::write);
    const bool written = write_row(plan, source, change, wait);
    owner.release();
    return written;
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

void record_failure(const MirrorPlan* plan, Relation source, const Change& change, Oid function,
                    const ErrorData* error) {
    dirty::record(plan->key.mapping, source, change.before, change.after, function, error);
}

// Recording may have waited for a promotion: nobody reads the new side yet, is it so still?
bool still_lenient(const PlanKey& key, Relation source, Oid function) {
    AcceptInvalidationMessages();
    return find_plan(key, source, function)->lenient;
}

// In stages dualwrite and shadow nobody reads the new side yet: its failure is recorded and must not fail the user.
bool write_leniently(const MirrorPlan* plan, Relation source, const Change& change, Oid function, bool wait) {
    bool written = true;
    ErrorData* failure = attempt([&] { written = write_as_owner(plan, source, change, function, wait); });
    if (failure == nullptr) {
        return written;
    }
    if (!is_new_sides_fault(failure->sqlerrcode)) {
        throw Error(failure);
    }
    const bool lenient = call([&] {
        record_failure(plan, source, change, function, failure);
        return still_lenient(plan->key, source, function);
    });
    if (!lenient) {
        throw Error(failure);
    }
    return true;
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
MirrorPlan* connected_plan(const PlanKey& key, Relation source, Oid function) {
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    return find_plan(key, source, function);
}

MirrorPlan* plan_of(const PlanKey& key, Relation source, Oid function) {
    MirrorPlan* plan = loaded_plan(key);
    if (plan == nullptr) {
        plan = connected_plan(key, source, function);
        SPI_finish();
    }
    return plan;
}

// Do triggers of the application see a row before it is written? They may give it another key.
bool changes_rows_before(Relation relation) {
    const TriggerDesc* triggers = relation->trigdesc;
    return triggers != nullptr && (triggers->trig_insert_before_row || triggers->trig_update_before_row);
}

// Within SPI.
void write_change(const MirrorPlan* plan, Relation source, const Change& change, Oid function, bool wait = false) {
    const bool written = plan->lenient && plan->key.direction == Direction::forward
                             ? write_leniently(plan, source, change, function, wait)
                             : call([&] { return write_as_owner(plan, source, change, function, wait); });
    if (!written) {
        call([&] { sibling::wait(plan, source, change.after, function); });
    }
}

void mirror_row(const TriggerData* data, Oid function) {
    Relation source = data->tg_relation;
    const PlanKey key = call([&] { return key_of(data); });
    const int depth = trigger_depth();
    const bool below = current_frame.depth + 1 == depth;
    const bool echo = (below && current_frame.mapping == key.mapping && current_frame.direction != key.direction) ||
                      (current_frame.one_way && key.direction == Direction::reverse);
    // Our own write, coming back. Its key is noted already, unless it may have become another one on the way.
    if (echo && !current_frame.capture_echo && !changes_rows_before(source)) {
        return;
    }
    if (!current_frame.ours) {
        call([&] { fence::check(key, data, function); });
    }
    const MirrorPlan* plan = call([&] {
        const MirrorPlan* found = plan_of(key, source, function);
        capture::row(found, data);
        return found;
    });
    const Change change = change_of(data);
    const bool wait = below && !echo && is_from_sibling(plan);
    if (echo || (below && is_cascade(plan)) || (!wait && plan->together && scope::collect(key, function, change))) {
        return;
    }
    scope::write_collected();
    const FrameScope frame({key.mapping, key.direction, depth, false});
    MirrorPlan* used = call([&] { return connected_plan(key, source, function); });
    current_frame.capture_echo = used->capture_echo;
    const PlanUse use(used);
    write_change(used, source, change, function, wait);
    call([] { SPI_finish(); });
}

// May they be written together? Where triggers must fire for the echo of one table, only that table by itself: they are
// told from others by the frame.
bool fit_together(const scope::Group* groups, Oid& owner) {
    for (const scope::Group* group = groups; group != nullptr; group = group->next) {
        Relation source = table_open(group->key.source, AccessShareLock);
        const MirrorPlan* plan = find_plan(group->key, source, group->function);
        table_close(source, NoLock);
        if (!plan->together || (plan->capture_echo && groups->next != nullptr) ||
            (OidIsValid(owner) && owner != plan->owner)) {
            return false;
        }
        owner = plan->owner;
    }
    return true;
}

void write_group(const scope::Group& group) {
    Relation source = nullptr;
    MirrorPlan* plan = call([&] {
        source = table_open(group.key.source, AccessShareLock);
        return find_plan(group.key, source, group.function);
    });
    current_frame.capture_echo = plan->capture_echo;
    const PlanUse use(plan);
    call([&] {
        ActAs owner(plan->owner, ActAs::Mode::write);
        bulk::write(plan, source, group.changes, group.count, group.function);
        owner.release();
        table_close(source, NoLock);
    });
}

enum class Outcome { written, one_by_one, foreign_key };

// All rows at once, or nothing. Foreign keys are looked at when all are
// there, as those of the statement itself were: it may delete a parent before its children.
Outcome write_together(const scope::Group* groups) {
    const FrameScope frame(groups->next == nullptr
                               ? Frame{groups->key.mapping, groups->key.direction, trigger_depth(), false}
                               : Frame{0, Direction::forward, trigger_depth(), false, groups});
    Oid owner = InvalidOid; // of all
    if (!call([&] { return fit_together(groups, owner); })) {
        return Outcome::one_by_one;
    }
    ErrorData* failure = attempt([&] {
        call([] { bulk::begin(); });
        for (const scope::Group* group = groups; group != nullptr; group = group->next) {
            write_group(*group);
        }
        call([&] { bulk::finish(owner); });
    });
    if (failure != nullptr && !is_new_sides_fault(failure->sqlerrcode)) {
        throw Error(failure);
    }
    return failure == nullptr                                     ? Outcome::written
           : failure->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION ? Outcome::foreign_key
                                                                  : Outcome::one_by_one;
}

// Within SPI.
void write_one_by_one(const scope::Group& group) {
    const FrameScope frame({group.key.mapping, group.key.direction, trigger_depth(), false});
    Relation source = nullptr;
    MirrorPlan* plan = call([&] {
        source = table_open(group.key.source, AccessShareLock);
        return find_plan(group.key, source, group.function);
    });
    current_frame.capture_echo = plan->capture_echo;
    const PlanUse use(plan);
    for (int i = 0; i < group.count; i++) {
        write_change(plan, source, group.changes[i], group.function);
    }
    call([&] { table_close(source, NoLock); });
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
    forget_plan(key); // a kept plan knows a function by its number, whatever it is called by now
    find_plan(key, source, function);
    relation_close(source, NoLock);
    SPI_finish();
}

} // namespace

bool mirror_groups(const scope::Group* groups, int rows, bool last) {
    call([] {
        if (SPI_connect() != SPI_OK_CONNECT) {
            elog(ERROR, "SPI_connect failed");
        }
    });
    const bool several = groups->next != nullptr;
    const Outcome outcome = several || rows >= scope::bulk_rows ? write_together(groups) : Outcome::one_by_one;
    const bool later = outcome == Outcome::foreign_key && !last;
    if (outcome != Outcome::written && !later) {
        for (const scope::Group* group = groups; group != nullptr; group = group->next) {
            scope::Group alone = *group;
            alone.next = nullptr;
            if (!(several && group->count >= scope::bulk_rows && write_together(&alone) == Outcome::written)) {
                write_one_by_one(*group);
            }
        }
    }
    call([] { SPI_finish(); });
    return !later;
}

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

// copy_insert(role, statement, mapping): one INSERT, for whose rows the reverse mirror is not even called where that
// can be had. Returns how many there were.
TANDEM_FUNCTION(tandem_copy_insert) {
    return pg::entry([&]() -> Datum {
        const pg::FrameScope scope({PG_GETARG_INT32(2), pg::Direction::forward, pg::trigger_depth(), false});
        return pg::call([&] {
            char* schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
            List* name = list_make2(makeString(schema), makeString(pstrdup("mirror")));
            return UInt64GetDatum(pg::insert_quietly(get_role_oid(NameStr(*PG_GETARG_NAME(0)), false),
                                                     LookupFuncName(name, 0, nullptr, false),
                                                     text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2)));
        });
    });
}

// repair_as(role, query, mapping, direction): the same for a row of either side. The next validation looks at the row.
TANDEM_FUNCTION(tandem_repair_as) {
    return pg::entry([&]() -> Datum {
        const char* direction = pg::call([&] { return text_to_cstring(PG_GETARG_TEXT_PP(3)); });
        const pg::FrameScope scope({PG_GETARG_INT32(2),
                                    strcmp(direction, "forward") == 0 ? pg::Direction::forward : pg::Direction::reverse,
                                    pg::trigger_depth(), true});
        return pg::call([&] { return pg::query_as(fcinfo, pg::ActAs::Mode::write); });
    });
}

// dirty_as(role, query, mapping): the same for rows of the new side that legacy has the say about. Nothing comes back
// to legacy, also not what a foreign key's cascade does to other tables: the next validation looks at it.
TANDEM_FUNCTION(tandem_dirty_as) {
    return pg::entry([&]() -> Datum {
        const pg::FrameScope scope(
            {PG_GETARG_INT32(2), pg::Direction::forward, pg::trigger_depth(), true, nullptr, true});
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
