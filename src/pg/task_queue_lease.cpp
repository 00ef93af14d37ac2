// task_heartbeat(), task_finish(), and the rescue of tasks whose worker fell silent.
//
// Who holds a task is who has the token of its last claim: a number that nobody had before. It ends when the task is
// finished by it, taken back, or claimed again. So a worker that was thought dead and comes back can harm nothing: it
// has yesterday's number. A lease that has expired, but which nobody has ended, still holds: the work is done, and
// nobody else began it.
#include "pg/task_queue_lease.hpp"

#include "pg/task_answer.hpp"

extern "C" {
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/jsonb.h"
}

namespace pg::queue {
namespace {

using enum tandem::TaskState;
using task::Decision;
using task::kNone;
using task::Row;

constexpr int64 kLongestLease = 366 * USECS_PER_DAY;
constexpr const char* kFinishHint = "tandem.task_finish(id, lease_token, 'done', '{\"rows\": 10}')";
constexpr const char* kHeartbeatHint = "tandem.task_heartbeat('worker-1', ids, lease_tokens, '30 seconds')";

text* as_text(const char* value) {
    return cstring_to_text(value);
}

void push(JsonbParseState** state, const char* key, JsonbValue value) {
    JsonbValue name{};
    name.type = jbvString;
    name.val.string.val = const_cast<char*>(key);
    name.val.string.len = static_cast<int>(strlen(key));
    pushJsonbValue(state, WJB_KEY, &name);
    pushJsonbValue(state, WJB_VALUE, &value);
}

JsonbValue json_text(const text* value) {
    JsonbValue result{};
    result.type = value == nullptr ? jbvNull : jbvString;
    if (value != nullptr) {
        result.val.string.val = const_cast<char*>(VARDATA_ANY(value));
        result.val.string.len = static_cast<int>(VARSIZE_ANY_EXHDR(value));
    }
    return result;
}

JsonbValue json_number(int64 value) {
    JsonbValue result{};
    result.type = jbvNumeric;
    result.val.numeric = int64_to_numeric(value);
    return result;
}

// Full jitter: anywhere between now and the doubled backoff, so that what failed together does not come back together.
TimestampTz retry_at(TimestampTz now, const task::Kind& kind, int attempt) {
    int64 longest = std::max<int64>(kind.backoff, 0);
    for (int i = 1; i < attempt && longest < kind.backoff_max; i++) {
        longest = longest > PG_INT64_MAX / 2 ? PG_INT64_MAX : 2 * longest;
    }
    longest = std::min(longest, std::max<int64>(kind.backoff_max, 0));
    longest = std::min<int64>(longest, kLongestLease);
    return now + static_cast<int64>(pg_prng_double(&pg_global_prng_state) * static_cast<double>(longest));
}

// Nobody holds it any more, and nobody can finish it by the token that it had.
void end_lease(Row& row) {
    row.lease_token = kNone;
    row.lease_until = kNone;
}

} // namespace

text* get_worker(FunctionCallInfo fcinfo, int number, const char* hint) {
    if (PG_ARGISNULL(number)) {
        task::null_argument("worker", hint);
    }
    text* worker = PG_GETARG_TEXT_PP(number);
    const auto size = VARSIZE_ANY_EXHDR(worker);
    if (size == 0 || size > kLongestWorker) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        size == 0 ? errmsg("worker must not be empty") : errmsg("the name of the worker is too long"),
                        errdetail("It has %zu bytes; between 1 and %d are allowed.", static_cast<std::size_t>(size),
                                  kLongestWorker),
                        errhint("%s", hint)));
    }
    return worker;
}

TimestampTz lease_end(TimestampTz now, Interval* lease, const char* hint) {
    const TimestampTz end = DatumGetTimestampTz(
        DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(lease)));
    if (end <= now || end > now + kLongestLease) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("a lease must be longer than nothing and at most a year"),
                 errdetail("It is %s.", DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(lease)))),
                 errhint("%s", hint)));
    }
    return end;
}

int64 next_lease_token() {
    return nextval_internal(get_relname_relid("task_lease_token", get_namespace_oid("tandem", false)), false);
}

Datum lease_evidence(text* worker, int64 token) {
    JsonbParseState* state = nullptr;
    pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
    push(&state, "worker", json_text(worker));
    push(&state, "lease_token", json_number(token));
    return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr)));
}

bool rescue(const pg_uuid_t& id) {
    task::Note note{"task_rescue"};
    const auto decide = [&](const Row& before, Row& after) {
        const TimestampTz now = after.updated_at;
        if (before.lease_until == kNone || before.lease_until > now) {
            return Decision::leave;
        }
        const char* worker = before.worker == nullptr ? "" : text_to_cstring(before.worker);
        const bool used_up = before.attempt >= before.max_attempts;
        note.reason = as_text(
            psprintf("the lease of worker \"%s\" expired at %s%s", worker, timestamptz_to_str(before.lease_until),
                     used_up ? psprintf("; attempt %d of %d: none is left", before.attempt, before.max_attempts) : ""));
        note.evidence = lease_evidence(before.worker, before.lease_token);
        if (used_up) {
            task::move_to(after, dead, now);
        } else if (before.state != escalated) {
            task::move_to(after, pending, now);
        }
        end_lease(after);
        after.run_at = std::max(after.run_at, now);
        return Decision::write;
    };
    return task::change(id, task::Wait::skip_locked, note, decide) == task::Outcome::written;
}

int64 rescue_expired(int64 limit) {
    const Oid relation = get_relname_relid("task_deadline", get_namespace_oid("tandem", false));
    Relation heap = table_open(relation, AccessShareLock);
    const AttrNumber id_column = get_attnum(relation, "task_id");
    const AttrNumber due_column = get_attnum(relation, "lease_due");
    ScanKeyData key;
    ScanKeyInit(&key, due_column, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
                TimestampTzGetDatum(GetCurrentTimestamp()));
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    TableScanDesc scan = table_beginscan(heap, snapshot, 1, &key);
    TupleTableSlot* slot = table_slot_create(heap, nullptr);
    int64 room = std::min<int64>(limit, 1000);
    auto* ids = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t) * static_cast<Size>(room)));
    int64 count = 0;
    while (count < limit && table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        bool isnull = false;
        if (count == room) {
            room *= 2;
            ids = static_cast<pg_uuid_t*>(repalloc_huge(ids, sizeof(pg_uuid_t) * static_cast<Size>(room)));
        }
        ids[count++] = *DatumGetUUIDP(slot_getattr(slot, id_column, &isnull));
    }
    ExecDropSingleTupleTableSlot(slot);
    table_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(heap, NoLock);
    int64 rescued = 0;
    for (int64 i = 0; i < count; i++) {
        CHECK_FOR_INTERRUPTS();
        rescued += rescue(ids[i]) ? 1 : 0;
    }
    pfree(ids);
    return rescued;
}

int64 rescue_now_and_then(TimestampTz now) {
    constexpr int64 kLimit = 100;
    constexpr int64 kShare = 50; // at most a fiftieth of the time
    static TimestampTz next = DT_NOBEGIN;
    static TimestampTz last = DT_NOBEGIN;
    if (now < next && now >= last) { // a clock that was set back puts it off no further
        return 0;
    }
    const int64 rescued = rescue_expired(kLimit);
    last = now;
    next = now + std::max<int64>(USECS_PER_SEC, kShare * (GetCurrentTimestamp() - now));
    return rescued;
}

namespace {

struct Finish {
    int64 token;
    tandem::TaskState state;
    Datum result;
    bool ok;
    int64 version; // 0: there is no such task
    const char* reason;
};

const char* why_not(const Row& row, int64 token) {
    const char* state = tandem::task_state_name(row.state).data();
    if (tandem::is_finished(row.state)) {
        return psprintf("finished: the task is %s already", state);
    }
    if (row.lease_token == kNone) {
        return psprintf("lease ended: the attempt was finished already, or its lease had expired and the task was "
                        "taken back; it is %s",
                        state);
    }
    return psprintf(
        "lease lost: since then the task was claimed by worker \"%s\", with another token than " INT64_FORMAT,
        row.worker == nullptr ? "" : text_to_cstring(row.worker), token);
}

Decision judge(Finish* finish, task::Note* note, const Row& before, Row& after) {
    finish->ok = false;
    finish->version = before.version;
    if (before.lease_token != finish->token || finish->token == kNone || tandem::is_finished(before.state)) {
        finish->reason = why_not(before, finish->token);
        return Decision::leave;
    }
    const task::Kind& kind = task::kind_of(before.kind);
    if (!tandem::may_change(kind.transitions, before.state, finish->state)) {
        finish->reason =
            psprintf("illegal: a task of kind \"%s\" does not go from %s to %s", text_to_cstring(before.kind),
                     tandem::task_state_name(before.state).data(), tandem::task_state_name(finish->state).data());
        return Decision::leave;
    }
    const TimestampTz now = after.updated_at;
    text* worker = before.worker;
    note->evidence = lease_evidence(worker, finish->token);
    note->reason = nullptr;
    task::move_to(after, finish->state, now);
    after.worker = worker;
    if (finish->state == failed) {
        if (before.attempt >= before.max_attempts) {
            task::move_to(after, dead, now);
            note->reason =
                as_text(psprintf("attempt %d of %d failed: none is left", before.attempt, before.max_attempts));
        } else {
            after.run_at = retry_at(now, kind, before.attempt);
            note->reason = as_text(psprintf("attempt %d of %d failed: the next one from %s", before.attempt,
                                            before.max_attempts, timestamptz_to_str(after.run_at)));
        }
    } else if (finish->state == pending || finish->state == escalated) {
        // Given back, not tried: it does not count as an attempt.
        after.attempt = static_cast<int16>(std::max(before.attempt - 1, 0));
        after.run_at = now;
    }
    end_lease(after);
    if (finish->result != Datum{0}) {
        after.result = finish->result;
    }
    finish->ok = true;
    finish->version = after.version;
    finish->reason = after.state == dead && finish->state != dead ? "dead: its attempts are used up" : nullptr;
    return Decision::write;
}

tandem::TaskState finishing_state(text* name) {
    const tandem::TaskState state = task::parse_state(name);
    if (tandem::is_active(state)) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a task cannot be finished as %s", tandem::task_state_name(state).data()),
                        errdetail("That is a state in which a worker holds it."),
                        errhint("Finish as done, failed, cancelled or pending (given back); tandem.task_cas() tells "
                                "that it is running.")));
    }
    return state;
}

constexpr task::OutColumn kFinishColumns[] = {{"ok", BOOLOID}, {"version", INT8OID}, {"reason", TEXTOID}};
TupleDesc finish_type = nullptr;

// Elements of an array without a NULL.
int get_elements(ArrayType* array, Oid type, int16 size, bool by_value, char align, const char* what,
                 Datum** elements) {
    if (ARR_NDIM(array) > 1) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a list", what),
                        errdetail("The array has more than one dimension."), errhint("%s", kHeartbeatHint)));
    }
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(array, type, size, by_value, align, elements, &nulls, &count);
    for (int i = 0; i < count; i++) {
        if (nulls[i]) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain NULL", what),
                            errdetail("Element %d is NULL.", i + 1), errhint("%s", kHeartbeatHint)));
        }
    }
    return count;
}

// False: the lease is lost.
bool extend_lease(const pg_uuid_t& id, text* worker, int64 token, Interval* extend) {
    bool holds = false;
    const task::Note note{"task_heartbeat"};
    const auto decide = [&](const Row& before, Row& after) {
        holds = before.lease_token == token && token != kNone && before.lease_until != kNone &&
                before.worker != nullptr && task::view(before.worker) == task::view(worker);
        if (!holds) {
            return Decision::leave;
        }
        const TimestampTz until = lease_end(GetCurrentTimestamp(), extend, kHeartbeatHint);
        if (until <= before.lease_until) { // never shorter than it was promised
            return Decision::leave;
        }
        after.lease_until = until;
        return Decision::touch;
    };
    const task::Outcome outcome = task::change(id, task::Wait::block, note, decide);
    return holds && outcome != task::Outcome::missing;
}

} // namespace
} // namespace pg::queue

// task_finish(id, lease_token, state, result) → (ok, version, reason)
TANDEM_FUNCTION(tandem_task_finish) {
    return pg::entry([&]() -> Datum {
        using namespace pg::queue;
        constexpr const char* names[] = {"id", "lease_token", "state"};
        for (int i = 0; i < 3; i++) {
            if (PG_ARGISNULL(i)) {
                pg::task::null_argument(names[i], kFinishHint);
            }
        }
        Finish finish{PG_GETARG_INT64(1), finishing_state(PG_GETARG_TEXT_PP(2)), Datum{0}, false, 0, nullptr};
        if (!PG_ARGISNULL(3)) {
            finish.result = JsonbPGetDatum(PG_GETARG_JSONB_P(3));
            pg::task::check_limit("result", finish.result);
        }
        pg::task::Note note{"task_finish"};
        const pg_uuid_t id = *PG_GETARG_UUID_P(0);
        const auto decide = [&](const Row& before, Row& after) { return judge(&finish, &note, before, after); };
        if (pg::task::change(id, pg::task::Wait::block, note, decide) == pg::task::Outcome::missing) {
            finish = {};
            finish.reason = "missing: there is no such task";
        }
        const Datum values[] = {BoolGetDatum(finish.ok), Int64GetDatum(finish.version),
                                finish.reason == nullptr ? Datum{0} : CStringGetTextDatum(finish.reason)};
        const bool nulls[] = {false, finish.version == 0, finish.reason == nullptr};
        return pg::task::make_record(&finish_type, kFinishColumns, values, nulls);
    });
}

// task_heartbeat(worker, ids, lease_tokens, extend) → the ids of which the lease is lost
TANDEM_FUNCTION(tandem_task_heartbeat) {
    return pg::entry([&]() -> Datum {
        using namespace pg::queue;
        text* worker = get_worker(fcinfo, 0, kHeartbeatHint);
        constexpr const char* names[] = {"worker", "ids", "lease_tokens", "extend"};
        for (int i = 1; i < 4; i++) {
            if (PG_ARGISNULL(i)) {
                pg::task::null_argument(names[i], kHeartbeatHint);
            }
        }
        Datum* ids = nullptr;
        Datum* tokens = nullptr;
        const int count = get_elements(PG_GETARG_ARRAYTYPE_P(1), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, "ids", &ids);
        const int token_count = get_elements(PG_GETARG_ARRAYTYPE_P(2), INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE,
                                             "lease_tokens", &tokens);
        if (count != token_count) {
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("ids and lease_tokens must be of equal length"),
                     errdetail("There are %d ids and %d lease tokens.", count, token_count),
                     errhint("%s", kHeartbeatHint)));
        }
        Interval* extend = PG_GETARG_INTERVAL_P(3);
        (void)lease_end(GetCurrentTimestamp(), extend, kHeartbeatHint);
        InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
        auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
        const MemoryContext work =
            AllocSetContextCreate(CurrentMemoryContext, "pg_tandem heartbeat", ALLOCSET_SMALL_SIZES);
        const MemoryContext caller = MemoryContextSwitchTo(work);
        for (int i = 0; i < count; i++) {
            CHECK_FOR_INTERRUPTS();
            const pg_uuid_t id = *DatumGetUUIDP(ids[i]);
            if (!extend_lease(id, worker, DatumGetInt64(tokens[i]), extend)) {
                const bool isnull = false;
                tuplestore_putvalues(result->setResult, result->setDesc, &ids[i], const_cast<bool*>(&isnull));
            }
            MemoryContextReset(work);
        }
        MemoryContextSwitchTo(caller);
        MemoryContextDelete(work);
        return Datum{0};
    });
}

// task_rescue(most) → how many were taken back
TANDEM_FUNCTION(tandem_task_rescue) {
    return pg::entry([&]() -> Datum {
        const int32 most = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
        if (most < 1) {
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the limit must be at least 1")));
        }
        PG_RETURN_INT64(pg::queue::rescue_expired(most));
    });
}
