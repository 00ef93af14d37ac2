// The coordinator's share in the audit record: it seals it, a slice in each transaction, as deadlines wait meanwhile.
#include "pg/worker.hpp"

namespace pg::worker {

long seal_audit() {
    constexpr long kSoon = 1;      // milliseconds: there is more
    constexpr long kLater = 1'000; // how long an event waits for its seal, at least
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, "pg_tandem coordinator: sealing the audit record");
    if (SPI_connect() != SPI_OK_CONNECT) {
        elog(ERROR, "SPI_connect failed");
    }
    if (SPI_execute("SELECT tandem.audit_seal_round()", false, 1) != SPI_OK_SELECT) {
        elog(ERROR, "the audit record cannot be sealed");
    }
    bool isnull = false;
    const bool more = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_stat(false);
    pgstat_report_activity(STATE_IDLE, nullptr);
    return more ? kSoon : kLater;
}

} // namespace pg::worker
