// audit_verify(from_seq, to_seq): the seals in their order, and beside them the events in theirs, under one snapshot.
// The first number at which they do not agree is the answer.
#include "pg/audit_digest.hpp"

namespace pg::audit {
namespace {

constexpr int kHeadSize = PG_SHA256_DIGEST_LENGTH;
constexpr long kSealsAtOnce = 16;
constexpr long kRowsAtOnce = 500;

struct Verdict {
    int64 first_bad; // where reason is set
    const char* reason;
    int64 rows;
    int64 dropped;
    bool any; // a seal was found good
    uint8 head[kHeadSize];
};

// A cursor of which one row is current.
struct Stream {
    Portal portal;
    long step;
    SPITupleTable* batch;
    uint64 count;
    uint64 at;

    bool end() const { return at >= count; }
    HeapTuple tuple() const { return batch->vals[at]; }
    TupleDesc desc() const { return batch->tupdesc; }
    Datum get(int column) const {
        bool isnull = false;
        return SPI_getbinval(tuple(), desc(), column, &isnull);
    }
    void next() {
        if (++at >= count) {
            fetch();
        }
    }
    void fetch() {
        if (batch != nullptr) {
            SPI_freetuptable(batch);
        }
        SPI_cursor_fetch(portal, true, step);
        batch = SPI_tuptable;
        count = SPI_processed;
        at = 0;
        CHECK_FOR_INTERRUPTS();
    }
};

Stream open_stream(const char* sql, std::span<const Datum> values, long step) {
    Oid types[] = {INT8OID, INT8OID};
    Stream stream{};
    stream.portal = SPI_cursor_open_with_args(nullptr, sql, static_cast<int>(values.size()), types,
                                              const_cast<Datum*>(values.data()), nullptr, true, 0);
    stream.step = step;
    stream.fetch();
    return stream;
}

// Runs of numbers that retention has dropped, ascending, apart from each other.
struct Dropped {
    struct Run {
        int64 from, to;
    };
    Run* runs;
    int count;

    bool has(int64 seq) const {
        const Run* after =
            std::upper_bound(runs, runs + count, seq, [](int64 s, const Run& run) { return s < run.from; });
        return after != runs && seq < (after - 1)->to;
    }
};

// A month was dropped as tandem.audit_dropped says only where the event of that number says the same, or was dropped
// itself.
constexpr char kTrusted[] =
    "SELECT d.* FROM tandem.audit_dropped AS d"
    " WHERE EXISTS (SELECT FROM tandem.event AS e WHERE e.seq = d.event_seq AND e.kind = 'retention' AND e.evidence ="
    "       jsonb_build_object('partition', d.partition, 'seqs', d.seqs, 'until_seq', d.until_seq, 'head', "
    "encode(d.head, 'hex')))"
    "    OR EXISTS (SELECT FROM tandem.audit_dropped AS x WHERE x.event_seq > d.event_seq AND x.seqs @> d.event_seq)";

Dropped read_dropped() {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(
        &sql, "SELECT lower(r), upper(r) FROM (SELECT unnest(range_agg(t.seqs)) AS r FROM (%s) AS t) AS u ORDER BY 1",
        kTrusted);
    if (SPI_execute(sql.data, true, 0) != SPI_OK_SELECT) {
        elog(ERROR, "the dropped months cannot be read");
    }
    Dropped dropped{static_cast<Dropped::Run*>(palloc(sizeof(Dropped::Run) * (SPI_processed + 1))),
                    static_cast<int>(SPI_processed)};
    for (int i = 0; i < dropped.count; i++) {
        bool isnull = false;
        dropped.runs[i] = {DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)),
                           DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull))};
    }
    return dropped;
}

// The end of a seal: its number and its head. False: the query found none.
struct End {
    int64 seq;
    uint8 head[kHeadSize];
};

bool read_end(const char* sql, std::span<const Datum> values, End& end) {
    Oid types[] = {INT8OID};
    if (SPI_execute_with_args(sql, static_cast<int>(values.size()), types, const_cast<Datum*>(values.data()), nullptr,
                              true, 1) != SPI_OK_SELECT) {
        elog(ERROR, "the seals cannot be read");
    }
    if (SPI_processed == 0) {
        return false;
    }
    bool isnull = false;
    end.seq = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    const bytea* head = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
    memset(end.head, 0, kHeadSize);
    memcpy(end.head, VARDATA_ANY(head), std::min<std::size_t>(kHeadSize, VARSIZE_ANY_EXHDR(head)));
    return true;
}

struct Seal {
    int64 to_seq, after_seq;
    TimestampTz sealed_at;
    int32 row_count;
    bytea* rows;
    bytea* head;

    int count() const { return static_cast<int>(VARSIZE_ANY_EXHDR(rows) / kListedSize); }
    const uint8* listed(int i) const { return reinterpret_cast<const uint8*>(VARDATA_ANY(rows)) + i * kListedSize; }
    int64 seq(int i) const {
        const uint8* place = listed(i);
        return after_seq + ((static_cast<int64>(place[0]) << 24) | (place[1] << 16) | (place[2] << 8) | place[3]);
    }
};

Seal current_seal(const Stream& stream) {
    return {DatumGetInt64(stream.get(1)), DatumGetInt64(stream.get(2)),   DatumGetTimestampTz(stream.get(3)),
            DatumGetInt32(stream.get(4)), DatumGetByteaPP(stream.get(5)), DatumGetByteaPP(stream.get(6))};
}

// Is the seal what was made here, behind that head? Then its list is, too.
bool is_genuine(const Seal& seal, const uint8* previous, Sha256& hash, uint8 (&head)[kHeadSize]) {
    uint8 numbers[24];
    put_be64(numbers, seal.after_seq);
    put_be64(numbers + 8, seal.to_seq);
    put_be64(numbers + 16, seal.sealed_at);
    hash.begin();
    hash.add(previous, kHeadSize);
    hash.add(numbers, sizeof(numbers));
    hash.add(VARDATA_ANY(seal.rows), VARSIZE_ANY_EXHDR(seal.rows));
    hash.finish(head);
    return VARSIZE_ANY_EXHDR(seal.head) == kHeadSize && memcmp(VARDATA_ANY(seal.head), head, kHeadSize) == 0 &&
           VARSIZE_ANY_EXHDR(seal.rows) % kListedSize == 0 && seal.count() == seal.row_count;
}

// Says what is wrong, if it is within what was asked for. The first word counts.
struct Judge {
    Verdict& verdict;
    int64 from, to;

    bool bad(int64 seq, const char* reason) {
        if (seq >= from && seq <= to && verdict.reason == nullptr) {
            verdict.first_bad = seq;
            verdict.reason = reason;
        }
        return verdict.reason != nullptr;
    }
};

// The rows of a seal beside those of the table. True: something is wrong.
bool check_rows(const Seal& seal, Stream& rows, const Dropped& dropped, RowDigest& digest, Judge& judge) {
    const int count = seal.count();
    for (int i = 0;;) {
        const bool listed = i < count;
        const bool there = !rows.end() && DatumGetInt64(rows.get(kSeq + 1)) <= seal.to_seq;
        if (!listed && !there) {
            return false;
        }
        const int64 expected = listed ? seal.seq(i) : PG_INT64_MAX;
        const int64 found = there ? DatumGetInt64(rows.get(kSeq + 1)) : PG_INT64_MAX;
        if (expected < found) {
            if (dropped.has(expected)) {
                judge.verdict.dropped++;
            } else if (judge.bad(expected, "the event was deleted")) {
                return true;
            }
            i++;
            continue;
        }
        if (found < expected) {
            if (judge.bad(found, "the event was inserted after its number was sealed")) {
                return true;
            }
        } else {
            uint8 sum[PG_SHA256_DIGEST_LENGTH];
            digest.of(rows.tuple(), rows.desc(), sum);
            if (memcmp(sum, seal.listed(i) + 4, kDigestSize) != 0 && judge.bad(found, "the event was changed")) {
                return true;
            }
            judge.verdict.rows++;
            i++;
        }
        rows.next();
    }
}

void check_end(const End& last, int64 last_after, Judge& judge) {
    End known{};
    if (!read_end("SELECT sealed_seq, sealed_head FROM tandem.audit_progress", {}, known)) {
        return; // nothing was sealed since a restore
    }
    if (known.seq > last.seq) {
        judge.bad(last.seq + 1, "a seal was removed");
    } else if (known.seq < last.seq) {
        judge.bad(known.seq + 1, "a seal was added");
    } else if (memcmp(known.head, last.head, kHeadSize) != 0) {
        judge.bad(last_after + 1, "the seal was changed");
    }
}

void verify(std::optional<int64> from, std::optional<int64> to, Verdict& verdict) {
    Judge judge{verdict, from.value_or(PG_INT64_MIN), to.value_or(PG_INT64_MAX)};
    const Dropped dropped = read_dropped();
    RowDigest digest;
    Sha256 hash;

    // Where the chain begins.
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT t.until_seq, t.head FROM (%s) AS t ORDER BY t.until_seq DESC, t.event_seq DESC",
                     kTrusted);
    End last{};
    (void)read_end(sql.data, {}, last);
    const Datum first_asked[] = {Int64GetDatum(judge.from)};
    if (from) {
        (void)read_end("SELECT to_seq, head FROM tandem.audit_seal WHERE to_seq < $1 ORDER BY to_seq DESC", first_asked,
                       last);
    }
    int64 last_after = last.seq - 1;

    const Datum bounds[] = {Int64GetDatum(from ? last.seq : PG_INT64_MIN), Int64GetDatum(judge.to)};
    Stream seals = open_stream("SELECT to_seq, after_seq, sealed_at, row_count, rows, head FROM tandem.audit_seal"
                               " WHERE to_seq > $1 AND after_seq < $2 ORDER BY to_seq",
                               bounds, kSealsAtOnce);
    StringInfoData select;
    initStringInfo(&select);
    appendStringInfo(&select, "%s WHERE seq > $1 ORDER BY seq", kSelect);
    // From the first number that was asked for, also where its seal has gone with its month.
    const Datum rows_after[] = {
        Int64GetDatum(from ? std::min(last.seq, judge.from - (judge.from > PG_INT64_MIN ? 1 : 0)) : PG_INT64_MIN)};
    Stream rows = open_stream(select.data, rows_after, kRowsAtOnce);

    bool bad = false;
    for (; !bad && !rows.end() && DatumGetInt64(rows.get(kSeq + 1)) <= last.seq; rows.next()) {
        bad = judge.bad(DatumGetInt64(rows.get(kSeq + 1)), "the event was inserted after its number was sealed");
    }
    for (; !bad && !seals.end(); seals.next()) {
        const Seal seal = current_seal(seals);
        uint8 head[kHeadSize];
        if (seal.after_seq != last.seq) {
            bad = judge.bad(std::max(judge.from, std::min(seal.after_seq, last.seq) + 1),
                            "a seal was removed or changed");
        } else if (!is_genuine(seal, last.head, hash, head)) {
            bad = judge.bad(std::max(judge.from, seal.after_seq + 1), "the seal was changed");
        } else {
            bad = check_rows(seal, rows, dropped, digest, judge);
            last.seq = seal.to_seq;
            last_after = seal.after_seq;
            memcpy(last.head, head, kHeadSize);
            if (!bad) {
                memcpy(verdict.head, head, kHeadSize);
                verdict.any = true;
            }
        }
    }
    SPI_cursor_close(seals.portal);
    SPI_cursor_close(rows.portal);
    if (!bad && last.seq < judge.to) {
        check_end(last, last_after, judge);
    }

    // A month that nobody dropped by retention, though tandem.audit_dropped says so.
    resetStringInfo(&sql);
    appendStringInfo(&sql,
                     "SELECT d.event_seq, d.head FROM tandem.audit_dropped AS d"
                     " WHERE NOT EXISTS (SELECT FROM (%s) AS t WHERE t.event_seq = d.event_seq) ORDER BY d.event_seq",
                     kTrusted);
    End forged{};
    if (read_end(sql.data, {}, forged) && (verdict.reason == nullptr || forged.seq < verdict.first_bad)) {
        verdict.reason = nullptr;
        judge.bad(forged.seq, "no retention event tells what tandem.audit_dropped does");
    }
    digest.release();
    hash.release();
}

Datum verify(FunctionCallInfo fcinfo) {
    TupleDesc desc = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    const auto argument = [&](int i) {
        return PG_ARGISNULL(i) ? std::nullopt : std::optional<int64>(PG_GETARG_INT64(i));
    };
    // Nothing at all would be verified, and be found genuine.
    if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1) && PG_GETARG_INT64(0) > PG_GETARG_INT64(1)) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("from_seq must not be greater than to_seq"),
                 errdetail("They are " INT64_FORMAT " and " INT64_FORMAT ".", PG_GETARG_INT64(0), PG_GETARG_INT64(1)),
                 errhint("NULL stands for the first, and for the last event.")));
    }
    Verdict verdict{};
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    verify(argument(0), argument(1), verdict);
    SPI_finish();

    char head[2 * kHeadSize + 1];
    for (int i = 0; i < kHeadSize; i++) {
        snprintf(head + 2 * i, 3, "%02x", verdict.head[i]);
    }
    const bool ok = verdict.reason == nullptr;
    Datum values[] = {BoolGetDatum(ok),
                      Int64GetDatum(verdict.first_bad),
                      CStringGetTextDatum(head),
                      Int64GetDatum(verdict.rows),
                      Int64GetDatum(verdict.dropped),
                      ok ? Datum{0} : CStringGetTextDatum(verdict.reason)};
    bool nulls[] = {false, ok, !verdict.any, false, false, ok};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

} // namespace
} // namespace pg::audit

TANDEM_FUNCTION(tandem_audit_verify) {
    return pg::entry([&] { return pg::audit::verify(fcinfo); });
}
