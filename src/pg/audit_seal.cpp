// audit_seal: what sealing needs of PostgreSQL's insides; control/install/08_audit_seal.sql has the law and the order
// of things.
#include "pg/audit_digest.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "portability/instr_time.h"
#include "storage/lock.h"
#include "utils/xid8.h"
}

namespace pg::audit {
namespace {

// A slice: the coordinator, which also serves deadlines, must be back within five milliseconds.
constexpr int kSliceRows = 1000;
constexpr double kSliceMs = 2.5;

Oid own_table(const char* name) {
    return get_relname_relid(name, get_namespace_oid("tandem", false));
}

Datum make_row(FunctionCallInfo fcinfo, Datum* values, bool* nulls) {
    TupleDesc desc = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

// In this order: whoever has taken a number up to seq had its transaction id before.
Datum bound(FunctionCallInfo fcinfo) {
    LOCAL_FCINFO(call, 1);
    InitFunctionCallInfoData(*call, nullptr, 1, InvalidOid, nullptr, nullptr);
    call->args[0] = {ObjectIdGetDatum(own_table("event_seq")), false};
    const Datum seq = pg_sequence_last_value(call);
    const bool none = call->isnull; // nobody has taken a number yet
    const FullTransactionId next = ReadNextFullTransactionId();
    Datum values[] = {seq, FullTransactionIdGetDatum(next)};
    bool nulls[] = {none, false};
    return make_row(fcinfo, values, nulls);
}

// A tag that no SQL can lock: relations are locked by another kind of tag.
bool lock_sealing() {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, own_table("audit_seal"), 0);
    return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

struct Slice {
    int64 to_seq;
    int row_count;
    bytea* rows;
};

// Offsets within a seal have four bytes.
Slice digest_slice(int64 after, int64 upto) {
    upto = std::min(upto, after + INT64CONST(0xFFFFFFFF));
    Slice slice{after, 0, static_cast<bytea*>(palloc(VARHDRSZ + kSliceRows * kListedSize))};
    RowDigest digest;
    instr_time began;
    INSTR_TIME_SET_CURRENT(began);

    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    static SPIPlanPtr plan = nullptr;
    if (plan == nullptr) {
        Oid types[] = {INT8OID, INT8OID};
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "%s WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT %d", kSelect, kSliceRows);
        SPIPlanPtr made = SPI_prepare(sql.data, 2, types);
        if (made == nullptr || SPI_keepplan(made) != 0) {
            elog(ERROR, "SPI_prepare failed");
        }
        plan = made;
    }
    Datum values[] = {Int64GetDatum(after), Int64GetDatum(upto)};
    Portal portal = SPI_cursor_open(nullptr, plan, values, nullptr, true);
    bool whole = false; // every row up to upto was read
    for (;;) {
        SPI_cursor_fetch(portal, true, 100);
        for (uint64 i = 0; i < SPI_processed; i++) {
            HeapTuple tuple = SPI_tuptable->vals[i];
            bool isnull = false;
            slice.to_seq = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, kSeq + 1, &isnull));
            uint8 sum[PG_SHA256_DIGEST_LENGTH];
            digest.of(tuple, SPI_tuptable->tupdesc, sum);
            auto* place = reinterpret_cast<uint8*>(VARDATA(slice.rows)) + slice.row_count * kListedSize;
            put_be32(place, static_cast<uint32>(slice.to_seq - after));
            memcpy(place + 4, sum, kDigestSize);
            slice.row_count++;
        }
        whole = SPI_processed < 100 && slice.row_count < kSliceRows;
        SPI_freetuptable(SPI_tuptable);
        instr_time now;
        INSTR_TIME_SET_CURRENT(now);
        INSTR_TIME_SUBTRACT(now, began);
        if (whole || slice.row_count == kSliceRows || INSTR_TIME_GET_MILLISEC(now) > kSliceMs) {
            break;
        }
    }
    SPI_cursor_close(portal);
    SPI_finish();
    digest.release();
    if (whole) {
        slice.to_seq = upto;
    }
    SET_VARSIZE(slice.rows, VARHDRSZ + slice.row_count * kListedSize);
    return slice;
}

// '', 'forever', or a number of days, months or years: an interval's text, in words that cannot be misread.
bool check_retention(char** value, void**, GucSource) {
    const char* at = *value;
    if (at == nullptr || *at == '\0' || strcmp(at, "forever") == 0) {
        return true;
    }
    int digits = 0;
    bool positive = false;
    for (; *at >= '0' && *at <= '9'; at++, digits++) {
        positive = positive || *at != '0';
    }
    while (*at == ' ') {
        at++;
    }
    constexpr const char* kUnits[] = {"day", "days", "month", "months", "year", "years"};
    const bool unit =
        std::any_of(std::begin(kUnits), std::end(kUnits), [&](const char* u) { return strcmp(at, u) == 0; });
    if (digits == 0 || digits > 5 || !positive || !unit) {
        GUC_check_errdetail("It must be a number of days, months or years, or empty to keep events forever.");
        GUC_check_errhint("For example: '13 months'.");
        return false;
    }
    return true;
}

char* retention = nullptr;

// Past the trigger that refuses it.
int64 prune(int64 until) {
    Relation seals = table_open(own_table("audit_seal"), RowExclusiveLock);
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(until));
    TableScanDesc scan = table_beginscan(seals, GetActiveSnapshot(), 1, &key);
    int64 count = 0;
    for (HeapTuple tuple = heap_getnext(scan, ForwardScanDirection); tuple != nullptr;
         tuple = heap_getnext(scan, ForwardScanDirection)) {
        ItemPointerData place = tuple->t_self;
        simple_heap_delete(seals, &place);
        count++;
    }
    table_endscan(scan);
    table_close(seals, NoLock);
    return count;
}

} // namespace

void define_settings() {
    DefineCustomStringVariable("tandem.event_retention", "How long events are kept; empty: forever.",
                               "Whole months that are sealed and past it are dropped, and an event says so.",
                               &retention, "", PGC_SUSET, 0, check_retention, nullptr, nullptr);
}

} // namespace pg::audit

TANDEM_FUNCTION(tandem_audit_bound) {
    return pg::entry([&] { return pg::audit::bound(fcinfo); });
}

TANDEM_FUNCTION(tandem_audit_lock) {
    return pg::entry([&]() -> Datum { PG_RETURN_BOOL(pg::audit::lock_sealing()); });
}

TANDEM_FUNCTION(tandem_audit_digests) {
    return pg::entry([&] {
        const pg::audit::Slice slice = pg::audit::digest_slice(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
        Datum values[] = {Int64GetDatum(slice.to_seq), Int32GetDatum(slice.row_count), PointerGetDatum(slice.rows)};
        bool nulls[3] = {};
        return pg::audit::make_row(fcinfo, values, nulls);
    });
}

TANDEM_FUNCTION(tandem_audit_prune) {
    return pg::entry([&]() -> Datum { PG_RETURN_INT64(pg::audit::prune(PG_GETARG_INT64(0))); });
}
