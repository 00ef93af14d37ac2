#include "pg/compare_progress.hpp"

extern "C" {
#include "catalog/pg_authid.h"
#include "utils/acl.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
}

namespace pg::compare {
namespace {

// A number that PostgreSQL's own commands are far from: its views pass over it.
constexpr auto kCommand = static_cast<ProgressCommandType>(0x7464);

} // namespace

void start_progress(Oid legacy, Oid new_relation) {
    pgstat_progress_start_command(kCommand, legacy);
    show(kNewRelation, new_relation);
    show_phase(Phase::planning);
}

void show(Counter counter, std::int64_t value) {
    pgstat_progress_update_param(counter, value);
}

void show_phase(Phase phase) {
    show(kPhase, static_cast<std::int64_t>(phase));
    show(kRowsDone, 0);
    show(kBlocksDone, 0);
    show(kStarted, GetCurrentTimestamp());
}

void end_progress() {
    pgstat_progress_end_command();
}

namespace {

const char* phase_name(std::int64_t phase) {
    switch (static_cast<Phase>(phase)) {
    case Phase::planning:
        return "planning";
    case Phase::scanning:
        return "scanning";
    case Phase::rescanning:
        return "scanning again with a larger sketch";
    case Phase::partitioning:
        return "partitioning";
    case Phase::matching:
        return "matching partitions";
    case Phase::fetching:
        return "fetching candidates";
    case Phase::judging:
        return "judging candidates";
    case Phase::joining:
        return "joining";
    case Phase::row_by_row:
        return "reading row by row, as an expression fails";
    }
    return "unknown";
}

Datum progress(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    const int backends = pgstat_fetch_stat_numbackends();
    for (int i = 1; i <= backends; i++) {
#if PG_VERSION_NUM >= 160000
        LocalPgBackendStatus* local = pgstat_get_local_beentry_by_index(i);
#else
        LocalPgBackendStatus* local = pgstat_fetch_stat_local_beentry(i);
#endif
        if (local == nullptr || local->backendStatus.st_progress_command != kCommand) {
            continue;
        }
        const PgBackendStatus& backend = local->backendStatus;
        const std::int64_t* counter = backend.st_progress_param;
        const bool visible = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
                             has_privs_of_role(GetUserId(), backend.st_userid);
        Datum values[12] = {Int32GetDatum(backend.st_procpid), ObjectIdGetDatum(backend.st_databaseid)};
        bool nulls[12];
        for (int column = 0; column < 12; column++) {
            nulls[column] = column > 1 && !visible;
        }
        if (visible) {
            values[2] = ObjectIdGetDatum(backend.st_progress_command_target);
            values[3] = ObjectIdGetDatum(static_cast<Oid>(counter[kNewRelation]));
            values[4] = CStringGetTextDatum(phase_name(counter[kPhase]));
            for (int i = kRowsTotal; i <= kCandidates; i++) {
                values[5 + i - kRowsTotal] = Int64GetDatum(counter[i]);
            }
            values[11] = TimestampTzGetDatum(counter[kStarted]);
        }
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return Datum{0};
}

} // namespace
} // namespace pg::compare

TANDEM_FUNCTION(tandem_comparison_progress) {
    return pg::entry([&] { return pg::call([&] { return pg::compare::progress(fcinfo); }); });
}
