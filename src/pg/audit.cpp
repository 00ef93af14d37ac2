// audit: one event, appended. By heap_insert into the month's partition and its indexes, without executor, SPI or
// trigger: every change of a task pays for it.
//
// The transaction has its id before it takes seq. Sealing builds upon that: when a number was seen taken, and every
// transaction id that was given out by then is decided, so is the row of that number (audit_seal.cpp).
#include "pg/audit.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/nbtree.h"
#include "commands/sequence.h"
}

namespace pg::audit {
namespace {

// A text that is the same from one event to the next.
struct KeptText {
    Oid of = InvalidOid;
    text* value = nullptr;
};
KeptText actor;
KeptText role;
text* client = nullptr;
bool listens = false;

void forget_roles(Datum, int, uint32) {
    actor.of = InvalidOid;
    role.of = InvalidOid;
}

void keep(text*& place, const char* value) {
    const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    text* made = cstring_to_text(value);
    MemoryContextSwitchTo(caller);
    if (place != nullptr) {
        pfree(place);
    }
    place = made;
}

Datum name_of(Oid user, KeptText& kept) {
    if (kept.of != user) {
        if (!listens) {
            CacheRegisterSyscacheCallback(AUTHOID, forget_roles, Datum{0});
            listens = true;
        }
        kept.of = InvalidOid;
        keep(kept.value, GetUserNameFromId(user, false));
        kept.of = user;
    }
    return PointerGetDatum(kept.value);
}

Datum client_name() {
    const char* name = application_name != nullptr ? application_name : "";
    if (client == nullptr || strlen(name) != VARSIZE_ANY_EXHDR(client) ||
        memcmp(VARDATA_ANY(client), name, VARSIZE_ANY_EXHDR(client)) != 0) {
        keep(client, name);
    }
    return PointerGetDatum(client);
}

// In whose name: SET ROLE counts, our SECURITY DEFINER functions do not. But SQL that PostgreSQL or the mirror runs
// inside somebody else's statement (an index expression under ANALYZE, a cascade's trigger) must not put that one's
// name here.
Oid acting_role() {
    Oid user = InvalidOid;
    int flags = 0;
    GetUserIdAndSecContext(&user, &flags);
    return (flags & (SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS)) != 0 ? user : GetOuterUserId();
}

void insert_index(const Index& index, Relation heap, const Datum* values, const bool* nulls, ItemPointer tid) {
    Datum keys[INDEX_MAX_KEYS];
    bool absent[INDEX_MAX_KEYS];
    for (int i = 0; i < index.info->ii_NumIndexAttrs; i++) {
        const int column = index.info->ii_IndexAttrNumbers[i] - 1;
        keys[i] = values[column];
        absent[i] = nulls[column];
    }
    Relation relation = index_open(index.oid, RowExclusiveLock);
    index.info->ii_AmCache = nullptr; // what the access method keeps there lives for this call
    index.info->ii_Context = CurrentMemoryContext;
    index_insert(relation, keys, absent, tid, heap, index.info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false,
                 index.info);
    finish_index_insert(relation, index.info);
    index.info->ii_AmCache = nullptr;
    index_close(relation, NoLock);
}

// An index that somebody added, with an expression or a condition.
void insert_indexes_by_executor(Relation heap, HeapTuple tuple) {
    EState* state = CreateExecutorState();
    auto* result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, heap, 0, nullptr, 0);
    ExecOpenIndices(result, false);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(RelationGetDescr(heap), &TTSOpsHeapTuple);
    ExecStoreHeapTuple(tuple, slot, false);
    slot->tts_tableOid = RelationGetRelid(heap);
    insert_index_tuples(result, slot, state);
    ExecDropSingleTupleTableSlot(slot);
    ExecCloseIndices(result);
    FreeExecutorState(state);
}

struct Row {
    Datum values[kColumns];
    bool nulls[kColumns];

    void set(Column column, Datum value) {
        values[column] = value;
        nulls[column] = false;
    }
    void set_text(Column column, const text* value) {
        if (value != nullptr) {
            set(column, PointerGetDatum(value));
        }
    }
};

void insert(Relation relation, const Month& month, Row& row) {
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(relation), row.values, row.nulls);
    const bool bare = !ActiveSnapshotSet(); // moving a value out of line needs one
    if (bare) {
        PushActiveSnapshot(GetTransactionSnapshot());
    }
    heap_insert(relation, tuple, GetCurrentCommandId(true), 0, nullptr);
    if (!month.plain) {
        insert_indexes_by_executor(relation, tuple);
    } else {
        for (int i = 0; i < month.index_count; i++) {
            const Index& index = month.indexes[i];
            if (index.where_not_null == 0 || !row.nulls[index.where_not_null - 1]) {
                insert_index(index, relation, row.values, row.nulls, &tuple->t_self);
            }
        }
    }
    if (bare) {
        PopActiveSnapshot();
    }
    heap_freetuple(tuple);
}

} // namespace

int64 append(const Event& event) {
    PreventCommandIfReadOnly("an event"); // a standby would say that it gives no transaction ids
    const TimestampTz at = event.at != 0 ? event.at : GetCurrentTimestamp();
    const Month* month = nullptr;
    Relation relation = open_month(at, month);
    (void)GetTopTransactionId();
    const int64 seq = nextval_internal(month->sequence, false);

    const std::size_t size = strlen(event.kind);
    char kind[VARHDRSZ + NAMEDATALEN];
    Assert(size <= NAMEDATALEN);
    SET_VARSIZE(kind, VARHDRSZ + size);
    memcpy(VARDATA(kind), event.kind, size);

    Row row;
    std::fill_n(row.nulls, kColumns, true);
    row.set(kSeq, Int64GetDatum(seq));
    row.set(kAt, TimestampTzGetDatum(at));
    row.set(kLsn, LSNGetDatum(GetXLogInsertRecPtr()));
    row.set(kKind, PointerGetDatum(kind));
    row.set(kActor, name_of(GetSessionUserId(), actor));
    row.set(kRole, name_of(acting_role(), role));
    row.set(kClient, client_name());
    row.set_text(kReason, event.reason);
    if (event.run != nullptr) {
        row.set_text(kRun, event.run->run);
        row.set_text(kStage, event.run->stage);
        row.set_text(kPhase, event.run->phase);
        if (event.run->weight) {
            row.set(kWeight, Int32GetDatum(*event.run->weight));
        }
        if (event.run->epoch) {
            row.set(kEpoch, Int64GetDatum(*event.run->epoch));
        }
    }
    if (event.task_id != nullptr) {
        row.set(kTaskId, UUIDPGetDatum(event.task_id));
    }
    row.set_text(kState, event.state);
    if (event.version != 0) {
        row.set(kVersion, Int64GetDatum(event.version));
    }
    if (event.evidence != 0) {
        row.set(kEvidence, event.evidence);
    }
    insert(relation, *month, row);
    table_close(relation, NoLock); // the lock stays until the end, as after any INSERT
    return seq;
}

} // namespace pg::audit

namespace {

text* text_argument(FunctionCallInfo fcinfo, int i) {
    return PG_ARGISNULL(i) ? nullptr : PG_GETARG_TEXT_PP(i);
}

} // namespace

// append_event(kind, reason, evidence, run, stage, phase, weight, epoch, at, task_id, state, version)
TANDEM_FUNCTION(tandem_append_event) {
    return pg::entry([&]() -> Datum {
        if (PG_ARGISNULL(0) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) >= NAMEDATALEN) {
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("an event needs a kind of less than %d bytes", NAMEDATALEN),
                            errhint("tandem.append_event(kind, reason, evidence)")));
        }
        pg::audit::RunFacts run{text_argument(fcinfo, 3), text_argument(fcinfo, 4), text_argument(fcinfo, 5), {}, {}};
        if (!PG_ARGISNULL(6)) {
            run.weight = PG_GETARG_INT32(6);
        }
        if (!PG_ARGISNULL(7)) {
            run.epoch = PG_GETARG_INT64(7);
        }
        const char* kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
        pg::audit::Event event{kind, text_argument(fcinfo, 1)};
        event.evidence = PG_ARGISNULL(2) ? Datum{0} : PG_GETARG_DATUM(2);
        event.at = PG_ARGISNULL(8) ? 0 : PG_GETARG_TIMESTAMPTZ(8);
        event.run = &run;
        event.task_id = PG_ARGISNULL(9) ? nullptr : PG_GETARG_UUID_P(9);
        event.state = text_argument(fcinfo, 10);
        event.version = PG_ARGISNULL(11) ? 0 : PG_GETARG_INT64(11);
        PG_RETURN_INT64(pg::audit::append(event));
    });
}

TANDEM_FUNCTION(tandem_refuse_change) {
    return pg::entry([&]() -> Datum {
        if (!CALLED_AS_TRIGGER(fcinfo)) {
            elog(ERROR, "refuse_change() is a trigger");
        }
        const auto* data = reinterpret_cast<TriggerData*>(fcinfo->context);
        const char* verb = TRIGGER_FIRED_BY_UPDATE(data->tg_event)   ? "changed"
                           : TRIGGER_FIRED_BY_DELETE(data->tg_event) ? "deleted"
                                                                     : "truncated";
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("the audit record is append-only: it cannot be %s", verb),
                        errdetail("Events of runs, tasks and operators stand in tandem.event; tandem.audit_verify() "
                                  "finds what was altered by other ways."),
                        errhint("Let tandem.event_retention drop whole months that are sealed.")));
        PG_RETURN_NULL();
    });
}
