// What happens when a deadline has passed. For the coordinator, and for deadline_round() where there is none.
//
// Everything of one breach is one transaction: the row of sla_breach, the alert, the event, the escalation, and that
// the deadline is taken out of task_deadline. First all tasks are looked at, each at its own moment (detected_at); what
// is slower comes after.
//
// The task's row is locked before the moment is taken. Whoever finishes the task then does so either before, and we see
// when, or after, and later than we: a breach and a finish in time exclude each other. A row that somebody else has
// changed or locked is not waited for, but looked at again.
#include "pg/deadline.hpp"

#include "pg/audit.hpp"
#include "pg/task_table.hpp"

extern "C" {
#include "access/heapam.h"
#include "catalog/indexing.h"
#include "commands/async.h"
#include "storage/bufmgr.h"
#include "utils/datetime.h"
#include "utils/json.h"
}

namespace pg::deadline {
namespace {

using task::kNone;
using task::Row;

constexpr const char* kChannel = "tandem_alert";
constexpr int64 kFirstRetry = 5'000; // microseconds, after a row was locked; then a quarter of the time that it is late
constexpr int64 kLastRetry = 1'000'000;
constexpr int64 kOrphanRetry = 30'000'000; // a deadline without its task: a restore may be under way
constexpr int64 kLeaseRetry = 1'000'000;   // after the queue was told

enum Side { kStart, kFinish };
constexpr const char* kSideName[] = {"start", "finish"};

// What is to be told of a deadline.
struct Finding {
    Finding* next;
    bool breach; // else: at risk
    Side side;
    TimestampTz due_at;
    TimestampTz seen_at;
    TimestampTz ended_at; // when it was started or finished, too late; kNone: not yet
    Row task;
};

struct Findings {
    Finding* first;
    Finding** end;
};

// Copies what is told of a task; its payload is not.
void keep(Row& row) {
    const auto copy = [](const text* value) {
        return cstring_to_text_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
    };
    row.kind = copy(row.kind);
    row.severity = copy(row.severity);
    row.tenant = copy(row.tenant);
    row.owner = row.idem_key = row.worker = nullptr;
    row.payload = row.result = Datum{0};
}

// Locks the task's row unless somebody else has it. What is found lives in the current memory context.
enum class Lock { missing, busy, locked };
Lock lock_task(const task::Table& table, const pg_uuid_t& id, Row& row) {
    for (int tries = 0; tries < 10; tries++) {
        task::Found found;
        if (!task::fetch_current(table, id, found)) {
            return Lock::missing;
        }
        if (TransactionIdIsValid(found.updater)) {
            ReleaseBuffer(found.buffer);
            return Lock::busy;
        }
        HeapTupleData tuple = found.tuple;
        Buffer buffer = InvalidBuffer;
        TM_FailureData failure;
        const TM_Result result = heap_lock_tuple(table.heap, &tuple, GetCurrentCommandId(true), LockTupleNoKeyExclusive,
                                                 LockWaitSkip, false, &buffer, &failure);
        if (result == TM_Ok) {
            task::Columns columns;
            task::read_row(table, &tuple, columns, row);
            keep(row);
        }
        if (BufferIsValid(buffer)) {
            ReleaseBuffer(buffer);
        }
        ReleaseBuffer(found.buffer);
        if (result == TM_Ok) {
            return Lock::locked;
        }
        if (result == TM_WouldBlock) {
            return Lock::busy;
        }
    }
    return Lock::busy; // it changes all the time
}

// One side of a task: takes out of `times` what is over, and adds what is to be told.
void judge(Times& times, Side side, const Row& row, TimestampTz now, Findings& findings) {
    TimestampTz& warn_at = times.at[side == kStart ? kStartWarn : kFinishWarn];
    TimestampTz& due_at = times.at[side == kStart ? kStartDue : kFinishDue];
    if (due_at == kNone) {
        warn_at = kNone;
        return;
    }
    const TimestampTz ended = side == kStart && row.started_at != kNone ? row.started_at : row.finished_at;
    const bool breach = ended != kNone ? ended > due_at : now > due_at;
    const bool warning = ended == kNone && !breach && warn_at != kNone && warn_at <= now && warn_at < due_at;
    if (breach || warning) {
        auto* finding = static_cast<Finding*>(palloc(sizeof(Finding)));
        *finding = {nullptr, breach, side, due_at, now, ended, row};
        *findings.end = finding;
        findings.end = &finding->next;
    }
    if (breach || ended != kNone) {
        warn_at = due_at = kNone;
    } else if (warn_at != kNone && warn_at <= now) {
        warn_at = kNone;
    }
}

void look(Look& at, const Table& deadlines, const task::Table& tasks, Findings& findings) {
    at.next = kNever;
    at.lease_ended = false;
    Stored stored;
    Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
    const bool is_there = fetch(deadlines, at.id, latest, stored);
    UnregisterSnapshot(latest);
    if (!is_there) {
        return;
    }
    TimestampTz now = GetCurrentTimestamp();
    at.next = look_at(stored.times);
    if (at.next > now) {
        return;
    }
    const TimestampTz late_since = at.next;
    Times sides = stored.times;
    sides.at[kLeaseDue] = kNone;
    if (look_at(sides) <= now) {
        Row row;
        switch (lock_task(tasks, at.id, row)) {
        case Lock::missing:
            at.next = now + kOrphanRetry;
            return;
        case Lock::busy:
            at.next = now + std::clamp((now - late_since) / 4, kFirstRetry, kLastRetry);
            return;
        case Lock::locked:
            break;
        }
        if (!fetch(deadlines, at.id, SnapshotSelf, stored)) { // meanwhile it was finished
            at.next = kNever;
            return;
        }
        now = GetCurrentTimestamp();
        Times times = stored.times;
        judge(times, kStart, row, now, findings);
        judge(times, kFinish, row, now, findings);
        if (times.at[kLeaseDue] != kNone && row.lease_until == kNone) {
            times.at[kLeaseDue] = kNone;
        }
        store(deadlines, at.id, &stored, times);
        stored.times = times;
        at.next = look_at(times);
    }
    if (stored.times.at[kLeaseDue] != kNone && stored.times.at[kLeaseDue] <= now) {
        at.lease_ended = true;
        sides = stored.times;
        sides.at[kLeaseDue] = now + kLeaseRetry;
        at.next = look_at(sides);
    }
}

// --- telling

void add_time(StringInfo json, const char* key, TimestampTz at) {
    char buffer[MAXDATELEN + 1];
    JsonEncodeDateTime(buffer, TimestampTzGetDatum(at), TIMESTAMPTZOID, nullptr);
    appendStringInfo(json, ", \"%s\": \"%s\"", key, buffer);
}

void add_text(StringInfo json, const char* key, const text* value) {
    appendStringInfo(json, ", \"%s\": ", key);
    escape_json(json, text_to_cstring(value));
}

// The alert, and the evidence of the event.
char* describe(const Finding& finding, tandem::TaskState state, bool escalated) {
    StringInfoData json;
    initStringInfo(&json);
    appendStringInfo(&json, "{\"type\": \"%s\", \"task_id\": \"%s\"", finding.breach ? "sla_breach" : "sla_at_risk",
                     DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&finding.task.id))));
    add_text(&json, "kind", finding.task.kind);
    add_text(&json, "severity", finding.task.severity);
    add_text(&json, "tenant", finding.task.tenant);
    const std::string_view name = tandem::task_state_name(state);
    appendStringInfo(&json, ", \"state\": \"%.*s\", \"which\": \"%s\"", static_cast<int>(name.size()), name.data(),
                     kSideName[finding.side]);
    add_time(&json, "due_at", finding.due_at);
    add_time(&json, "detected_at", finding.seen_at);
    if (finding.breach) {
        const int64 delay = finding.seen_at - finding.due_at;
        appendStringInfo(&json, ", \"delay_ms\": " INT64_FORMAT ".%03d", delay / 1000, static_cast<int>(delay % 1000));
        if (finding.ended_at != kNone) {
            add_time(&json, finding.side == kStart ? "started_at" : "finished_at", finding.ended_at);
        }
        if (escalated) {
            appendStringInfo(&json, ", \"escalated_to\": \"%.*s\"", static_cast<int>(name.size()), name.data());
        } else {
            appendStringInfoString(&json, ", \"escalated_to\": null");
        }
    }
    appendStringInfoChar(&json, '}');
    return json.data;
}

// The state that the policy asks for, where it is legal; and claimed before others of its severity.
bool escalate(const Finding& finding, tandem::TaskState& state) {
    const std::optional<tandem::TaskState> wanted = escalation_for(finding.task.kind, finding.task.severity);
    if (!wanted || finding.ended_at != kNone) { // what has ended, too late, needs nobody
        return false;
    }
    const tandem::TaskState to = *wanted;
    const task::Note note{"sla_escalation",
                          cstring_to_text(psprintf("the %s deadline was missed", kSideName[finding.side]))};
    // The row is ours already: there is nobody to wait for.
    const task::Outcome outcome =
        task::change(finding.task.id, task::Wait::block, note, [to](const Row& before, Row& after) {
            if (before.state == to || !tandem::is_legal(task::kind_of(before.kind).transitions, before.state, to)) {
                return task::Decision::leave;
            }
            constexpr int16 kOneSeverity = 10;
            task::move_to(after, to, after.updated_at);
            after.priority = static_cast<int16>(std::min(before.priority + kOneSeverity, PG_INT16_MAX));
            return task::Decision::write;
        });
    if (outcome == task::Outcome::written) {
        state = to;
    }
    return outcome == task::Outcome::written;
}

// sla_breach, as 13_sla.sql has it
enum BreachColumn { kTaskId, kWhich, kDueAt, kDetectedAt, kKind, kSeverity, kTenant, kEscalatedTo, kBreachColumns };

// False: that deadline's breach is known, for example from a dump.
bool is_new_breach(Relation breaches, Oid key, const Finding& finding) {
    ScanKeyData keys[3];
    ScanKeyInit(&keys[0], kTaskId + 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&finding.task.id));
    ScanKeyInit(&keys[1], kWhich + 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(kSideName[finding.side]));
    keys[1].sk_collation = C_COLLATION_OID;
    ScanKeyInit(&keys[2], kDueAt + 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ, TimestampTzGetDatum(finding.due_at));
    SysScanDesc scan = systable_beginscan(breaches, key, true, SnapshotSelf, 3, keys);
    const bool found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    return !found;
}

void insert_breach(Relation breaches, const Finding& finding, bool escalated, tandem::TaskState state) {
    Datum values[kBreachColumns];
    bool nulls[kBreachColumns] = {};
    values[kTaskId] = UUIDPGetDatum(&finding.task.id);
    values[kWhich] = CStringGetTextDatum(kSideName[finding.side]);
    values[kDueAt] = TimestampTzGetDatum(finding.due_at);
    values[kDetectedAt] = TimestampTzGetDatum(finding.seen_at);
    values[kKind] = PointerGetDatum(finding.task.kind);
    values[kSeverity] = PointerGetDatum(finding.task.severity);
    values[kTenant] = PointerGetDatum(finding.task.tenant);
    values[kEscalatedTo] = PointerGetDatum(escalated ? task::state_text(state) : nullptr);
    nulls[kEscalatedTo] = !escalated;
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(breaches), values, nulls);
    CatalogTupleInsert(breaches, tuple);
    heap_freetuple(tuple);
}

void tell(Finding& finding, Relation breaches, Oid key, Tally& tally) {
    tandem::TaskState& state = finding.task.state;
    bool escalated = false;
    if (finding.breach) {
        if (!is_new_breach(breaches, key, finding)) {
            return;
        }
        escalated = escalate(finding, state);
        insert_breach(breaches, finding, escalated, state);
        tally.breaches++;
    } else {
        tally.warnings++;
    }
    char* json = describe(finding, state, escalated);
    audit::Event event{finding.breach ? "sla_breach" : "sla_at_risk"};
    event.task_id = &finding.task.id;
    event.state = task::state_text(state);
    event.evidence = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
    event.at = finding.seen_at;
    audit::append(event);
    Async_Notify(kChannel, json);
}

} // namespace

void settle(Look* looks, int count, Tally& tally, More more, void* context) {
    const Table deadlines = open_table(RowExclusiveLock);
    const task::Table tasks = task::open_table(RowExclusiveLock);
    Relation breaches = nullptr;
    Oid key = InvalidOid;
    Findings findings{nullptr, nullptr};
    findings.end = &findings.first;
    int looked = 0;
    Finding** next = &findings.first;
    for (;;) {
        for (; looked < count; looked++) {
            look(looks[looked], deadlines, tasks, findings);
        }
        Finding* finding = *next;
        if (finding == nullptr) {
            break;
        }
        next = &finding->next;
        if (breaches == nullptr) {
            const Oid schema = get_namespace_oid("tandem", false);
            breaches = table_open(get_relname_relid("sla_breach", schema), RowExclusiveLock);
            key = get_relname_relid("sla_breach_task_id_which_due_at_key", schema);
        }
        tell(*finding, breaches, key, tally);
        if (*next != nullptr && memcmp((*next)->task.id.data, finding->task.id.data, UUID_LEN) == 0) {
            (*next)->task.state = finding->task.state; // it may have been escalated
        }
        // What falls due while we tell is looked at before the rest is told.
        count = more != nullptr ? more(context) : count;
        if (looked < count) {
            CommandCounterIncrement(); // see what we have written
        }
    }
    if (breaches != nullptr) {
        table_close(breaches, NoLock);
    }
    task::close_table(tasks);
    close_table(deadlines);
}

} // namespace pg::deadline

// deadline_round(most integer) → what was done, or NULL: for tick(), which has no heap and reads the table.
TANDEM_FUNCTION(tandem_deadline_round) {
    return pg::entry([&]() -> Datum {
        using namespace pg::deadline;
        const int most = std::clamp(PG_GETARG_INT32(0), 1, 100'000);
        auto* looks = static_cast<Look*>(palloc(sizeof(Look) * static_cast<Size>(most)));
        int count = 0;
        const Table table = open_table(AccessShareLock);
        const TimestampTz now = GetCurrentTimestamp();
        Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
        SysScanDesc scan = systable_beginscan(table.heap, InvalidOid, false, latest, 0, nullptr);
        while (count < most) {
            HeapTuple tuple = systable_getnext(scan);
            if (!HeapTupleIsValid(tuple)) {
                break;
            }
            CHECK_FOR_INTERRUPTS();
            if (look_at(read_times(table.heap, tuple, &looks[count].id)) <= now) {
                count++;
            }
        }
        systable_endscan(scan);
        UnregisterSnapshot(latest);
        close_table(table);
        Tally tally{};
        settle(looks, count, tally);
        if (tally.breaches + tally.warnings == 0) {
            PG_RETURN_NULL();
        }
        PG_RETURN_TEXT_P(
            cstring_to_text(psprintf("deadlines: %d breaches, %d warnings", tally.breaches, tally.warnings)));
    });
}
