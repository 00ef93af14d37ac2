#!/usr/bin/env bash
# Rollback under write load: the part of `make bench` that measures how fast everybody is back on legacy. Called by bench.sh; alone:
#
#   TRIALS=100 test/bench/rollback.sh        of each kind (25); needs build/stage (make stage) and about 3 seconds a trial
#
# A session is routed to legacy when its answers are: what counts is the last answer of `new` that anybody gets. The rate leaves the
# processors some air, else the figure would show how long 100 processes queue for two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source test/tools/cluster.sh
source test/bench/figures.sh
TRIALS=${TRIALS:-25}
sessions=100
cluster_start rollback "max_connections = 200" "synchronous_commit = off" "autovacuum = off" "track_commit_timestamp = on"
sql() { cluster_psql -qAt "$@"; }
sql -c "CREATE EXTENSION pg_tandem" -f test/bench/rollback.sql >/dev/null

pgbench -n -c $sessions -j 2 -T 3600 -R 2000 -f test/bench/rollback.pgbench >"$CLUSTER_DIR/pgbench.log" 2>&1 &
until [ "$(sql -c "SELECT count(DISTINCT client) FROM bench.answer")" -ge $sessions ]; do sleep 0.1; done

sql -c "CALL bench.by_guard($TRIALS)" >/dev/null
# By hand: somebody connects, and calls it.
for ((trial = 1; trial <= TRIALS; trial++)); do
    sql -c "CALL bench.arm()" >/dev/null
    sql >/dev/null <<'SQL'
SELECT clock_timestamp() AS called \gset
SELECT FROM tandem.rollback('flip', 'bench');
INSERT INTO bench.trial VALUES ('by hand', :'called', clock_timestamp());
SQL
    sql -c "CALL bench.finish()" >/dev/null
done

row() { # row WHO LABEL [BAR of the p99]
    local median p99 slowest n
    IFS='|' read -r median p99 slowest n < <(sql -c "SELECT bench.figures('$1')")
    printf '%-62s %8s %8s %8s %6s   %s\n' "$2" "$median" "$p99" "$slowest" "$n" "$([ -z "${3:-}" ] || reach "$p99" ≤ "$3")"
}
printf '\nRollback under write load, %s sessions on %s cores, times to the last answer of new in ms\n' "$sessions" "$(nproc)"
printf '%-62s %8s %8s %8s %6s   %s\n' 'from' 'median' 'p99' 'slowest' 'trials' 'to reach, p99'
row verdict 'the verdict of the guard, in the worker' 50
row 'by hand' 'the call of rollback() in a new session'
row 'wrong row' 'the commit of a wrong row, validate_every = 1 s' 1500
late=$(sql -c "SELECT sum(late) FROM bench.trial")
echo "calls of route() after rollback() had returned that said new: $late"
[ "$late" = 0 ]
