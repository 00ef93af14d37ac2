// The executor's hooks: a statement that touches mapped tables is timed, and counted when it ends.
//
// Counted is the outermost statement that touches a mapped table; what runs inside it (triggers, functions, foreign
// keys, the mirror) is part of it. A function that is called by a statement on nothing mapped has its statements
// counted. What the extension's functions do is not, nor are checks of foreign keys and what the mirror writes, which
// run under SECURITY_NOFORCE_RLS.
//
// Which side: the one that is written; else the one that is read. A statement that reads both sides of a run says
// nothing about either, and is not counted there.
//
// Time is that in ExecutorStart, Run and Finish, not that between them: a cursor may wait for its client. An ERROR
// jumps over the rest of a hook; the transaction's or subtransaction's abort then finds the statement open, and counts
// it as an error.
//
// But for class 40, a deadlock or a serialization failure: the statement has lost against another one and is to be made
// again; it is not counted. While both sides serve keys, writers of the same rows meet from both. Each meeting costs
// one of the two, whichever, and so a larger part of the statements of the side that has fewer.
#include "pg/observe_hooks.hpp"

extern "C" {
#include "parser/parsetree.h"
}

namespace pg::observe {

int track = kTrackMapped;

namespace {

constexpr int kMostRuns = 4;  // that a statement counts for
constexpr int kMostOpen = 64; // statements: cursors

struct Open {
    const void* key; // QueryDesc, or the utility statement
    int level;       // of the subtransaction
    bool running;
    bool has_run;
    bool writes;
    bool has_lost; // against another transaction
    uint8 count;
    int64 began, ended, elapsed; // ended: when it was last at work
    uint16 series[kMostRuns];
};
Open open_statements[kMostOpen];
int open_count = 0;
int running = 0;
int own_functions = 0; // of the extension, in which we are
bool nothing_here = false;

ExecutorStart_hook_type previous_start = nullptr;
ExecutorRun_hook_type previous_run = nullptr;
ExecutorFinish_hook_type previous_finish = nullptr;
ExecutorEnd_hook_type previous_end = nullptr;
ProcessUtility_hook_type previous_utility = nullptr;
fmgr_hook_type previous_function = nullptr;

int64 clock_now() {
    return monotonic_ns(CLOCK_MONOTONIC);
}

void resume(Open* open) {
    open->running = true;
    open->has_run = true;
    running++;
    open->began = clock_now();
}

void pause(Open* open) {
    if (open != nullptr && open->running) {
        open->ended = clock_now();
        open->elapsed += open->ended - open->began;
        open->running = false;
        running--;
    }
}

// Counts it, and forgets it. `open` is no longer valid.
void close(Open* open, bool failed) {
    pause(open);
    if (open->has_run && !open->has_lost) {
        for (int i = 0; i < open->count; i++) {
            record(open->series[i], (open->elapsed + 500) / 1000, failed, open->ended);
        }
    }
    *open = open_statements[--open_count];
}

Open* find_open(const void* key) {
    for (int i = open_count - 1; i >= 0; i--) {
        if (open_statements[i].key == key) {
            return &open_statements[i];
        }
    }
    return nullptr;
}

bool may_observe() {
    return running == 0 && track != kTrackOff && !nothing_here && own_functions == 0 && !IsParallelWorker();
}

// What a statement touches: for each run, which sides, and which of them it writes.
struct Touched {
    int16 run;
    uint8 sides, written; // bits
};
struct Touch {
    int count;
    Touched runs[kMostRuns];
};

void touch(Touch* touch, Oid relation, bool writes) {
    const Place* places = nullptr;
    const int count = places_of(relation, &places);
    for (int i = 0; i < count; i++) {
        int at = 0;
        while (at < touch->count && touch->runs[at].run != places[i].run) {
            at++;
        }
        if (at == touch->count) {
            if (at == kMostRuns) {
                continue;
            }
            touch->runs[touch->count++] = {places[i].run, 0, 0};
        }
        const auto bit = static_cast<uint8>(1U << places[i].side);
        touch->runs[at].sides |= bit;
        touch->runs[at].written |= writes ? bit : uint8{0};
    }
}

constexpr bool is_one(uint8 sides) {
    return sides == 1 || sides == 2;
}

// nullptr: nothing is counted.
Open* begin(const Touch& touched, const void* key, int operation, bool writes) {
    if (InNoForceRLSOperation() || InSecurityRestrictedOperation() || open_count == kMostOpen) {
        return nullptr;
    }
    const int64 now = clock_now();
    Open* open = &open_statements[open_count];
    open->count = 0;
    for (int i = 0; i < touched.count; i++) {
        const Touched& run = touched.runs[i];
        const uint8 side = is_one(run.written) ? run.written : run.written == 0 ? run.sides : uint8{0};
        if (!is_one(side)) {
            continue;
        }
        const Target* target = target_of({run.run, side == 1 ? kLegacy : kNew}, operation, now);
        if (target != nullptr) {
            open->series[open->count++] = target->series;
        }
    }
    if (open->count == 0) {
        return nullptr;
    }
    open->key = key;
    open->level = GetCurrentTransactionNestLevel();
    open->has_run = false;
    open->writes = writes;
    open->has_lost = false;
    open->elapsed = 0;
    open->began = now;
    open->running = true;
    running++;
    open_count++;
    return open;
}

int operation_of(CmdType command) {
    switch (command) {
    case CMD_INSERT:
        return 1;
    case CMD_UPDATE:
        return 2;
    case CMD_DELETE:
        return 3;
    case CMD_MERGE:
        return 4;
    default:
        return 0;
    }
}
constexpr int kCopy = 5;
static_assert(kDefaultOperations[kCopy] == "copy" && kDefaultOperations[4] == "merge" &&
              kDefaultOperations[0] == "select");

Open* begin_query(const QueryDesc* query, int flags) {
    const PlannedStmt* plan = query->plannedstmt;
    if (!may_observe() || plan->relationOids == NIL || (flags & EXEC_FLAG_EXPLAIN_ONLY) != 0 || !anything_mapped()) {
        return nullptr;
    }
    Touch touched;
    touched.count = 0;
    const ListCell* cell = nullptr;
    foreach (cell, plan->relationOids) {
        touch(&touched, lfirst_oid(cell), false);
    }
    if (touched.count == 0) {
        return nullptr;
    }
    foreach (cell, plan->resultRelations) {
        touch(&touched, rt_fetch(lfirst_int(cell), plan->rtable)->relid, true);
    }
    return begin(touched, query, operation_of(query->operation),
                 plan->resultRelations != NIL || query->operation != CMD_SELECT);
}

void on_start(QueryDesc* query, int flags) {
    const bool is_observed = begin_query(query, flags) != nullptr;
    if (previous_start != nullptr) {
        previous_start(query, flags);
    } else {
        standard_ExecutorStart(query, flags);
    }
    if (is_observed) {
        pause(find_open(query));
    }
}

// Within PG_CATCH: why the statement ends.
void note_error(const QueryDesc* query) {
    if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_TRANSACTION_ROLLBACK) {
        if (Open* open = find_open(query); open != nullptr) {
            open->has_lost = true;
        }
    }
}

#if PG_VERSION_NUM >= 180000
void on_run(QueryDesc* query, ScanDirection direction, uint64 count) {
    const auto run = [&] { (previous_run != nullptr ? previous_run : standard_ExecutorRun)(query, direction, count); };
#else
void on_run(QueryDesc* query, ScanDirection direction, uint64 count, bool once) {
    const auto run = [&] {
        (previous_run != nullptr ? previous_run : standard_ExecutorRun)(query, direction, count, once);
    };
#endif
    Open* open = open_count == 0 ? nullptr : find_open(query);
    if (open == nullptr) {
        run();
        return;
    }
    resume(open);
    PG_TRY();
    { run(); }
    PG_CATCH();
    {
        note_error(query);
        PG_RE_THROW();
    }
    PG_END_TRY();
    pause(find_open(query)); // others may have come and gone meanwhile
}

void on_finish(QueryDesc* query) {
    const auto finish = [&] { (previous_finish != nullptr ? previous_finish : standard_ExecutorFinish)(query); };
    Open* open = open_count == 0 ? nullptr : find_open(query);
    if (open == nullptr || !open->writes) {
        finish();
        return;
    }
    resume(open);
    PG_TRY();
    { finish(); }
    PG_CATCH();
    {
        note_error(query);
        PG_RE_THROW();
    }
    PG_END_TRY();
    pause(find_open(query));
}

void on_end(QueryDesc* query) {
    if (open_count > 0) {
        if (Open* open = find_open(query); open != nullptr) {
            close(open, false);
        }
    }
    if (previous_end != nullptr) {
        previous_end(query);
    } else {
        standard_ExecutorEnd(query);
    }
}

// COPY of a table does not go through the executor.
Open* begin_copy(const PlannedStmt* statement) {
    if (statement->utilityStmt == nullptr || !IsA(statement->utilityStmt, CopyStmt) || !may_observe() ||
        !IsTransactionState()) {
        return nullptr;
    }
    const auto* copy = reinterpret_cast<const CopyStmt*>(statement->utilityStmt);
    if (copy->relation == nullptr || !anything_mapped()) {
        return nullptr;
    }
    Touch touched;
    touched.count = 0;
    touch(&touched, RangeVarGetRelid(copy->relation, NoLock, true), copy->is_from);
    if (touched.count == 0) {
        return nullptr;
    }
    Open* open = begin(touched, statement, kCopy, copy->is_from);
    if (open != nullptr) {
        open->has_run = true;
    }
    return open;
}

void on_utility(PlannedStmt* statement, const char* query, bool read_only_tree, ProcessUtilityContext context,
                ParamListInfo params, QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* completion) {
    const bool is_observed = begin_copy(statement) != nullptr;
    if (previous_utility != nullptr) {
        previous_utility(statement, query, read_only_tree, context, params, environment, dest, completion);
    } else {
        standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, dest, completion);
    }
    if (is_observed) {
        if (Open* open = find_open(statement); open != nullptr) {
            close(open, false);
        }
    }
}

// What runs when its transaction is aborted has failed; what was open, such as a cursor, just ends.
void abort_from(int level) {
    for (int i = open_count - 1; i >= 0; i--) {
        if (open_statements[i].level >= level) {
            open_statements[i].has_run |= open_statements[i].running;
            close(&open_statements[i], open_statements[i].running);
        }
    }
}

void on_transaction(XactEvent event, void*) {
    switch (event) {
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PARALLEL_ABORT:
        abort_from(0);
        [[fallthrough]];
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_PREPARE:
        open_count = running = own_functions = 0;
        break;
    default:
        break;
    }
}

void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        abort_from(GetCurrentTransactionNestLevel());
    } else if (event == SUBXACT_EVENT_COMMIT_SUB) {
        const int level = GetCurrentTransactionNestLevel();
        for (int i = 0; i < open_count; i++) {
            open_statements[i].level = std::min(open_statements[i].level, level - 1);
        }
    }
}

// PostgreSQL tells of each call of a function that has settings of its own, as all of ours have that are not C, and of
// its end, also by an ERROR. Whose it is is kept with what the caller knows of the function.
enum Whose : int { kUnknown, kOurs, kOthers };
struct Function {
    Whose whose;
    Datum previous; // another hook's
};

Whose whose(Oid function) {
    const Oid ours = get_namespace_oid("tandem", true);
    return OidIsValid(ours) && get_func_namespace(function) == ours ? kOurs : kOthers;
}

void on_function(FmgrHookEventType event, FmgrInfo* info, Datum* kept) {
    auto* function = reinterpret_cast<Function*>(DatumGetPointer(*kept));
    if (function == nullptr) {
        function = static_cast<Function*>(MemoryContextAllocZero(info->fn_mcxt, sizeof(Function)));
        function->whose = whose(info->fn_oid);
        *kept = PointerGetDatum(function);
    }
    if (function->whose == kOurs) {
        own_functions += event == FHET_START ? 1 : -1;
    }
    if (previous_function != nullptr) {
        previous_function(event, info, &function->previous);
    }
}

bool check_operation(char** value, void**, GucSource) {
    if (strlen(*value) < NAMEDATALEN) {
        return true;
    }
    GUC_check_errdetail("The name of an operation has at most %d bytes.", NAMEDATALEN - 1);
    return false;
}

void assign_operation(const char*, void*) {
    operation_version++;
}

} // namespace

void observe_nothing_here() {
    nothing_here = true;
}

void define_hook_settings() {
    static const config_enum_entry tracks[] = {
        {"off", kTrackOff, false}, {"mapped", kTrackMapped, false}, {nullptr, 0, false}};
    DefineCustomEnumVariable("tandem.track", "Which statements are observed: those on mapped tables, or none.", nullptr,
                             &track, kTrackMapped, tracks, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("tandem.operation",
                               "The operation that this session's statements on mapped tables are part of.",
                               "Empty: each counts as select, insert, update, delete, merge or copy.", &operation_name,
                               "", PGC_USERSET, 0, check_operation, assign_operation, nullptr);
}

// Only where there is shared memory to count in.
void install_hooks() {
    previous_start = ExecutorStart_hook;
    ExecutorStart_hook = on_start;
    previous_run = ExecutorRun_hook;
    ExecutorRun_hook = on_run;
    previous_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = on_finish;
    previous_end = ExecutorEnd_hook;
    ExecutorEnd_hook = on_end;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = on_utility;
    previous_function = fmgr_hook;
    fmgr_hook = on_function;
    RegisterXactCallback(on_transaction, nullptr);
    RegisterSubXactCallback(on_subtransaction, nullptr);
}

} // namespace pg::observe
