// audit_month: which partition of tandem.event a moment belongs to, kept from one event to the next, and made on
// demand.
//
// Months are those of UTC, whatever the session's time zone is.
#include "pg/audit.hpp"
#include "pg/role.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "catalog/index.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "datatype/timestamp.h"
#include "storage/lmgr.h"
}

namespace pg::audit {
namespace {

bool valid = false;
Month known = {};
Oid parent = InvalidOid;
MemoryContext context = nullptr;

// Anything of the partition or its parent changed: an index came, the partition was detached, the extension dropped.
void forget(Datum, Oid relation) {
    if (relation == InvalidOid || relation == known.relation || relation == parent) {
        valid = false;
    }
}

Oid table_named(const char* name) {
    const Oid schema = get_namespace_oid("tandem", true);
    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

TimestampTz month_begin(int year, int month) {
    pg_tm tm = {};
    tm.tm_year = year + (month - 1) / 12;
    tm.tm_mon = (month - 1) % 12 + 1;
    tm.tm_mday = 1;
    int zone = 0;
    TimestampTz result = 0;
    if (tm2timestamp(&tm, 0, &zone, &result) != 0) {
        elog(ERROR, "month out of range");
    }
    return result;
}

struct Bounds {
    NameData name;
    TimestampTz from, to;
};

Bounds bounds_of(TimestampTz at) {
    pg_tm tm = {};
    fsec_t fraction = 0;
    // The range of four digits, as the name has them.
    if (TIMESTAMP_NOT_FINITE(at) || timestamp2tm(at, nullptr, &tm, &fraction, nullptr, nullptr) != 0 ||
        tm.tm_year < 1 || tm.tm_year > 9999) {
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("an event cannot have happened then"),
                        errhint("Check the server's clock.")));
    }
    Bounds result = {};
    snprintf(NameStr(result.name), NAMEDATALEN, "event_%04d_%02d", tm.tm_year, tm.tm_mon);
    result.from = month_begin(tm.tm_year, tm.tm_mon);
    result.to = month_begin(tm.tm_year, tm.tm_mon + 1);
    return result;
}

// The column of `WHERE column IS NOT NULL`; 0 for no condition, -1 for any other.
int condition_of(List* predicate) {
    if (predicate == NIL) {
        return 0;
    }
    auto* test = static_cast<NullTest*>(linitial(predicate));
    if (list_length(predicate) != 1 || !IsA(test, NullTest) || test->nulltesttype != IS_NOT_NULL ||
        !IsA(test->arg, Var)) {
        return -1;
    }
    const AttrNumber column = reinterpret_cast<Var*>(test->arg)->varattno;
    return column > 0 ? column : -1;
}

[[noreturn]] void refuse_restoring(const char* detail, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the audit record is being restored"),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

// The highest number in a partition; 0: it is empty, or has no index on seq.
int64 last_number(Relation relation) {
    int64 last = 0;
    ListCell* cell = nullptr;
    foreach (cell, RelationGetIndexList(relation)) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        if (index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indkey.values[0] == kSeq + 1 &&
            index->rd_index->indisvalid && index->rd_indpred == nullptr &&
            (index->rd_indoption[0] & INDOPTION_DESC) == 0) {
            Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
            IndexScanDesc scan = begin_index_scan(relation, index, snapshot, 0);
            index_rescan(scan, nullptr, 0, nullptr, 0);
            TupleTableSlot* slot = table_slot_create(relation, nullptr);
            if (index_getnext_slot(scan, BackwardScanDirection, slot)) {
                bool isnull = false;
                last = std::max(last, DatumGetInt64(slot_getattr(slot, kSeq + 1, &isnull)));
            }
            ExecDropSingleTupleTableSlot(slot);
            index_endscan(scan);
            UnregisterSnapshot(snapshot);
        }
        index_close(index, AccessShareLock);
    }
    return last;
}

int64 sequence_position() {
    LOCAL_FCINFO(call, 1);
    InitFunctionCallInfoData(*call, nullptr, 1, InvalidOid, nullptr, nullptr);
    call->args[0] = {ObjectIdGetDatum(table_named("event_seq")), false};
    const Datum position = pg_sequence_last_value(call);
    return call->isnull ? 0 : DatumGetInt64(position);
}

// A restore makes the partitions, fills them, and makes their indexes last; when it sets the sequence nobody knows,
// where it does several things at a time. An event in between would take a number that is about to come, or that is
// there.
void check_restored(List* partitions) {
    int64 last = 0;
    ListCell* cell = nullptr;
    foreach (cell, partitions) {
        Relation relation = try_relation_open(lfirst_oid(cell), AccessShareLock);
        if (relation == nullptr) {
            continue;
        }
        const bool bare = RelationGetIndexList(relation) == NIL;
        const NameData name = relation->rd_rel->relname;
        last = std::max(last, bare ? 0 : last_number(relation));
        relation_close(relation, AccessShareLock);
        if (bare) {
            refuse_restoring(psprintf("Partition tandem.%s has no indexes yet.", NameStr(name)),
                             "Wait until the restore has ended.");
        }
    }
    // After the rows: whoever wrote one has taken its number before.
    const int64 position = last > 0 ? sequence_position() : 0;
    if (position < last) {
        refuse_restoring(
            psprintf("Event " INT64_FORMAT " is there, but the sequence tandem.event_seq stands at " INT64_FORMAT ".",
                     last, position),
            "Wait until the restore has ended. If it has: SELECT setval('tandem.event_seq', max(seq)) FROM "
            "tandem.event.");
    }
}

void make_partition(const Bounds& bounds) {
    PreventCommandIfReadOnly("an event");
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(parent));
    if (!HeapTupleIsValid(tuple)) {
        elog(ERROR, "cache lookup failed for relation %u", parent);
    }
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);

    const bool bare = !ActiveSnapshotSet();
    if (bare) {
        PushActiveSnapshot(GetTransactionSnapshot());
    }
    ActAs as(owner);
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    Oid types[] = {NAMEOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
    NameData name = bounds.name;
    Datum values[] = {NameGetDatum(&name), TimestampTzGetDatum(bounds.from), TimestampTzGetDatum(bounds.to)};
    if (SPI_execute_with_args("SELECT tandem.make_event_partition($1, $2, $3)", 3, types, values, nullptr, false, 0) !=
        SPI_OK_SELECT) {
        elog(ERROR, "the month's partition could not be made");
    }
    SPI_finish();
    as.release();
    if (bare) {
        PopActiveSnapshot();
    }
}

// Looks the month up, and makes it, without locking its partition.
void learn(TimestampTz at) {
    if (context == nullptr) {
        context =
            AllocSetContextCreate(CacheMemoryContext, "pg_tandem month of the audit record", ALLOCSET_SMALL_SIZES);
        watch_relations(forget);
    }
    valid = false;
    known = {};
    parent = table_named("event");
    if (!OidIsValid(parent)) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension pg_tandem is not installed in this database"),
                 errhint("CREATE EXTENSION pg_tandem.")));
    }
    const Bounds bounds = bounds_of(at);
    check_restored(find_inheritance_children(parent, NoLock));
    known.relation = table_named(NameStr(bounds.name));
    if (!OidIsValid(known.relation)) {
        make_partition(bounds);
        AcceptInvalidationMessages();
        known.relation = table_named(NameStr(bounds.name));
    }
    known.from = bounds.from;
    known.to = bounds.to;
    known.sequence = table_named("event_seq");
}

// Under the partition's lock: what it looks like.
void learn_indexes(Relation relation) {
    MemoryContextReset(context);
    known.plain = true;
    known.index_count = 0;
    if (!relation->rd_rel->relispartition || get_partition_parent(RelationGetRelid(relation), true) != parent) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table tandem.%s is no partition of tandem.event", RelationGetRelationName(relation)),
                        errhint("Rename it, or attach it again.")));
    }
    if (RelationGetNumberOfAttributes(relation) != kColumns) {
        elog(ERROR, "tandem.event has other columns than the library");
    }
    List* oids = RelationGetIndexList(relation);
    known.indexes = static_cast<Index*>(MemoryContextAllocZero(context, sizeof(Index) * (list_length(oids) + 1)));
    ListCell* cell = nullptr;
    foreach (cell, oids) {
        Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);
        if (index->rd_index->indisready) {
            const MemoryContext caller = MemoryContextSwitchTo(context);
            IndexInfo* info = BuildIndexInfo(index);
            MemoryContextSwitchTo(caller);
            const int condition = condition_of(info->ii_Predicate);
            known.plain =
                known.plain && condition >= 0 && info->ii_Expressions == NIL && info->ii_ExclusionOps == nullptr;
            known.indexes[known.index_count++] = {lfirst_oid(cell), static_cast<AttrNumber>(std::max(condition, 0)),
                                                  info};
        }
        index_close(index, NoLock);
    }
}

} // namespace

Relation open_month(TimestampTz at, const Month*& month) {
    for (;;) {
        const bool fresh = !valid || at < known.from || at >= known.to;
        if (fresh) {
            learn(at);
            valid = true; // until the callback says otherwise: what it hears while we wait for the lock counts
        }
        Relation relation = OidIsValid(known.relation) ? try_table_open(known.relation, RowExclusiveLock) : nullptr;
        if (relation != nullptr && valid) {
            if (fresh) {
                learn_indexes(relation);
            }
            if (valid) {
                month = &known;
                return relation;
            }
        }
        valid = false;
        if (relation != nullptr) {
            table_close(relation, RowExclusiveLock);
        }
        CHECK_FOR_INTERRUPTS();
    }
}

} // namespace pg::audit
