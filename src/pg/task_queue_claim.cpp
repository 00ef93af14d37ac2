// task_claim(): hands out the tasks that come first, each with a lease and a token that nobody had before.
//
// Levels are visited by priority, those of one priority merged by run_at. Of a row that an open transaction has changed
// or deleted another is taken (SKIP LOCKED): no claim ever waits for another one. That the task is what its ready row
// says is judged on the task itself, as every change is: so a row too many does no harm, and is cleaned away.
#include "pg/task_queue_lease.hpp"
#include "pg/task_queue_scan.hpp"
#include "pg/worker.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/datum.h"
}

namespace pg::queue {
namespace {

constexpr int64 kMostTasks = 10'000;
constexpr int kMostKinds = 1000;
constexpr const char* kHint = "tandem.task_claim('worker-1', kinds => '{mail,report}', n => 10, lease => '1 minute')";

struct Request {
    text* worker;
    int64 n;
    Interval* lease;
    Wanted wanted;
};

// All that a claim has at hand.
struct Claim {
    const Request* request;
    ReturnSetInfo* result;
    Reader reader;
    task::Note note;
    int64 claimed;
    bool read_whole; // a level was read from its beginning
};

void answer(Claim* claim, const task::Row& row) {
    pg_uuid_t id = row.id;
    const Datum values[] = {UUIDPGetDatum(&id), Int64GetDatum(row.version), Int64GetDatum(row.lease_token),
                            PointerGetDatum(row.kind), row.payload};
    const bool nulls[] = {false, false, false, false, false};
    tuplestore_putvalues(claim->result->setResult, claim->result->setDesc, const_cast<Datum*>(values),
                         const_cast<bool*>(nulls));
}

void claim_one(Claim* claim, const Cursor& cursor, const Candidate& candidate) {
    const Request& request = *claim->request;
    const int64 token = next_lease_token();
    bool stale = false;
    task::Row claimed{};
    const auto decide = [&](const task::Row& before, task::Row& after) {
        stale = !can_be_claimed(before) || before.run_at != candidate.at.run_at || before.priority != cursor.priority;
        if (stale ||
            !tandem::is_legal(task::kind_of(before.kind).transitions, before.state, tandem::TaskState::claimed)) {
            return task::Decision::leave;
        }
        task::move_to(after, tandem::TaskState::claimed, after.updated_at);
        after.worker = request.worker;
        after.lease_token = token;
        after.lease_until = lease_end(after.updated_at, request.lease, kHint);
        claimed = after;
        claimed.kind = reinterpret_cast<text*>(DatumGetPointer(datumCopy(PointerGetDatum(after.kind), false, -1)));
        claimed.payload = datumCopy(after.payload, false, -1);
        return task::Decision::write;
    };
    claim->note.evidence = lease_evidence(request.worker, token);
    expect_removal(candidate.at.id, const_cast<ItemPointer>(&candidate.tid));
    const task::Outcome outcome = task::change(candidate.at.id, task::Wait::skip_locked, claim->note, decide);
    switch (outcome) {
    case task::Outcome::written:
        answer(claim, claimed);
        claim->claimed++;
        break;
    case task::Outcome::skipped: // somebody else is faster
        break;
    case task::Outcome::missing:
    case task::Outcome::left:
        // In SERIALIZABLE the task is not read as it is now.
        if ((outcome == task::Outcome::missing || stale) && !IsolationIsSerializable() &&
            is_there(&claim->reader, candidate)) {
            remove_stale(claim->reader.table, const_cast<ItemPointer>(&candidate.tid));
        }
        break;
    }
}

// The levels of one priority, merged by run_at.
void claim_from(Claim* claim, const Source* sources, int count, Whole whole) {
    const Request& request = *claim->request;
    auto* cursors = static_cast<Cursor*>(palloc_extended(sizeof(Cursor) * static_cast<Size>(count), MCXT_ALLOC_HUGE));
    for (int i = 0; i < count; i++) {
        open_cursor(&claim->reader, &cursors[i], sources[i].level, PointerGetDatum(sources[i].tenant),
                    PointerGetDatum(sources[i].kind), sources[i].priority, request.wanted.now, whole);
        claim->read_whole = claim->read_whole || (cursors[i].level.whole && sources[i].level != nullptr);
    }
    const MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem claim", ALLOCSET_SMALL_SIZES);
    while (claim->claimed < request.n) {
        Cursor* best = nullptr;
        for (int i = 0; i < count; i++) {
            const Candidate* candidate = peek(&claim->reader, &cursors[i], request.n - claim->claimed);
            if (candidate != nullptr && (best == nullptr || candidate->at < best->batch[best->used].at)) {
                best = &cursors[i];
            }
        }
        if (best == nullptr) {
            break;
        }
        const Candidate candidate = best->batch[best->used];
        take(best);
        const MemoryContext caller = MemoryContextSwitchTo(work);
        claim_one(claim, *best, candidate);
        MemoryContextSwitchTo(caller);
        MemoryContextReset(work);
    }
    for (int i = 0; i < count; i++) {
        close_cursor(&claim->reader, &cursors[i]);
    }
    MemoryContextDelete(work);
    pfree(cursors);
}

void claim_all(Claim* claim, Whole whole) {
    Sources sources = find_sources(claim->request->wanted, claim->reader.table, nullptr);
    std::sort(sources.data, sources.data + sources.count,
              [](const Source& a, const Source& b) { return a.priority > b.priority; });
    for (int from = 0; from < sources.count && claim->claimed < claim->request->n;) {
        int to = from + 1;
        while (to < sources.count && sources.data[to].priority == sources.data[from].priority) {
            to++;
        }
        claim_from(claim, sources.data + from, to - from, whole);
        from = to;
    }
}

// What has been added since the claim began counts, too.
void claim_again(Claim* claim, Request* request, Whole whole) {
    const ReadyTable table = claim->reader.table;
    end_reading(&claim->reader);
    request->wanted.now = GetCurrentTimestamp();
    begin_reading(&claim->reader, table);
    claim_all(claim, whole);
}

[[noreturn]] void refuse(const char* what, const char* detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what), errdetail("%s", detail),
                    errhint("%s", kHint)));
    pg_unreachable();
}

void get_kinds(ArrayType* array, Request* request) {
    if (ARR_NDIM(array) > 1) {
        refuse("kinds must be a list", "The array has more than one dimension.");
    }
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    if (count == 0) {
        refuse("kinds is empty", "NULL stands for all kinds; an empty list could never claim anything.");
    }
    if (count > kMostKinds) {
        refuse("too many kinds", psprintf("There are %d; at most %d can be named.", count, kMostKinds));
    }
    request->wanted.kinds = static_cast<text**>(palloc(sizeof(text*) * static_cast<Size>(count)));
    for (int i = 0; i < count; i++) {
        if (nulls[i]) {
            refuse("a kind must not be NULL", psprintf("Element %d is.", i + 1));
        }
        auto* kind = reinterpret_cast<text*>(DatumGetPointer(elements[i]));
        const bool known = std::any_of(request->wanted.kinds, request->wanted.kinds + request->wanted.kind_count,
                                       [&](const text* other) { return task::view(other) == task::view(kind); });
        if (!known) { // named twice, it is claimed from once
            request->wanted.kinds[request->wanted.kind_count++] = kind;
        }
    }
}

Request get_request(FunctionCallInfo fcinfo) {
    Request request{};
    request.worker = get_worker(fcinfo, 0, kHint);
    if (!PG_ARGISNULL(1)) {
        get_kinds(PG_GETARG_ARRAYTYPE_P(1), &request);
    }
    request.n = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
    if (request.n < 1 || request.n > kMostTasks) {
        refuse("n must be between 1 and 10000",
               PG_ARGISNULL(2) ? "It is NULL." : psprintf("It is %d.", PG_GETARG_INT32(2)));
    }
    if (PG_ARGISNULL(3)) {
        refuse("lease must not be NULL", "It says how long the worker may be silent before another one gets the task.");
    }
    request.lease = PG_GETARG_INTERVAL_P(3);
    request.wanted.now = GetCurrentTimestamp();
    (void)lease_end(request.wanted.now, request.lease, kHint);
    request.wanted.scope = task::current_scope();
    return request;
}

} // namespace
} // namespace pg::queue

// task_claim(worker, kinds, n, lease) → (id, version, lease_token, kind, payload)
TANDEM_FUNCTION(tandem_task_claim) {
    return pg::entry([&]() -> Datum {
        using namespace pg::queue;
        PreventCommandIfReadOnly("task_claim()");
        PreventCommandDuringRecovery("task_claim()");
        Request request = get_request(fcinfo);
        InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
        Claim claim{};
        claim.request = &request;
        claim.result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
        claim.note.event = "task_claim";
        const ReadyTable table = open_ready(RowExclusiveLock);
        begin_reading(&claim.reader, table);
        claim_all(&claim, Whole::seldom);
        // Where an old snapshot keeps a million dead entries, others have claimed everything by the time that a level
        // has been read from its beginning.
        if (claim.claimed == 0 && claim.read_whole) {
            claim_again(&claim, &request, Whole::never);
        }
        // Without a coordinator it falls to the claims to take back what others have lost.
        if (claim.claimed == 0 && pg::worker::shared == nullptr && rescue_now_and_then(request.wanted.now) > 0) {
            claim_again(&claim, &request, Whole::often);
        }
        end_reading(&claim.reader);
        close_ready(table);
        return Datum{0};
    });
}
