#include "server.hpp"

#include <algorithm>

namespace stress {

ServerWatch::ServerWatch(const std::string& conninfo)
    : connection_(conninfo, "tandem_stress watch"),
      begun_lsn_(connection_.query("SELECT pg_current_wal_insert_lsn()").text(0, 0)), begun_(read()) {}

ServerFigures ServerWatch::read() {
    const Result result =
        connection_.query("SELECT current_setting('server_version'), (SELECT wal_fpi FROM pg_stat_wal), t.n_tup_upd, "
                          "t.n_tup_hot_upd, t.n_dead_tup,"
                          "       t.autovacuum_count, d.deadlocks"
                          "  FROM pg_stat_user_tables AS t, pg_stat_database AS d"
                          " WHERE t.relid = 'tandem.task'::regclass AND d.datname = current_database()");
    ServerFigures now;
    now.version = result.text(0, 0);
    now.wal_full_pages = result.real(0, 1);
    now.updates = result.real(0, 2);
    now.hot_updates = result.real(0, 3);
    now.dead_tuples = result.real(0, 4);
    now.autovacuums = result.real(0, 5);
    now.deadlocks = result.real(0, 6);
    return now;
}

void ServerWatch::sample() {
    const double waiting = connection_
                               .query("SELECT count(*) FROM pg_stat_activity"
                                      " WHERE application_name LIKE 'tandem_stress %' AND wait_event_type = 'Lock'")
                               .real(0, 0);
    waiting_ += waiting;
    most_waiting_ = std::max(most_waiting_, waiting);
    ++samples_;
}

ServerFigures ServerWatch::figures() {
    ServerFigures now = read();
    now.wal_bytes =
        connection_.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)", {begun_lsn_}, false).real(0, 0);
    now.wal_full_pages -= begun_.wal_full_pages;
    now.updates -= begun_.updates;
    now.hot_updates -= begun_.hot_updates;
    now.autovacuums -= begun_.autovacuums;
    now.deadlocks -= begun_.deadlocks;
    now.most_waiting = most_waiting_;
    now.mean_waiting = samples_ > 0 ? waiting_ / samples_ : 0;
    now.samples = samples_;
    return now;
}

OldSnapshot::OldSnapshot(const std::string& conninfo) : connection_(conninfo, "tandem_stress old snapshot") {
    connection_.query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tandem.task");
}

} // namespace stress
