#!/usr/bin/env bash
# The figures of docs/figures.md, as ratios from one run: `make bench`. Alternatives take turns within a round, so that a machine that
# slows down slows all of them; the median of the rounds is printed, and the ratio is the median of the rounds' ratios.
#
#   ROUNDS=5 SECONDS_EACH=4 make bench     more rounds, longer turns
#   SIZE=1M make bench                     smaller tables for the comparison, which has a file and settings of its own: compare.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5}

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
# No flush to disk anywhere: the worst case for a mirror, as a commit that waits for a disk hides its cost.
cluster_start bench "max_connections = 200" "synchronous_commit = off" "max_wal_size = 8GB" "autovacuum = off" \
    "track_commit_timestamp = on"

sql() { cluster_psql -qAt "$@"; }

sql -v rows=10000 -f test/bench/mirror.sql
for run in lenient strict; do
    until [ "$(sql -c "SELECT stage FROM tandem.status('$run')")" = shadow ]; do sleep 0.2; done
done
sql -c "SELECT FROM tandem.promote('strict')" >/dev/null
sql -c VACUUM

timed() { sql -c '\timing on' -c "$1" | awk '/^Time:/ { print $2 }'; }

# --- route -------------------------------------------------------------------------------------------------------
calls=1000000
with='' without=''
for ((round = 1; round <= ROUNDS; round++)); do
    without+="$(timed "SELECT count(lower(i::text)) FROM generate_series(1, $calls) AS i")"$'\n'
    with+="$(timed "SELECT count(tandem.route('strict', i::text)) FROM generate_series(1, $calls) AS i")"$'\n'
done
heading "route(): $calls calls in one statement, $ROUNDS rounds"
each=$(printf '%s' "$with" | median | awk -v n=$calls '{ print n / $1 * 1000 }')
printf '%-58s %10s   %s\n' 'what' '' 'to reach'
printf '%-58s %10.0f   %s\n' 'calls per second, statement and key conversion included' "$each" "$(reach "$each" ≥ 2000000)"
paste <(printf '%s' "$with") <(printf '%s' "$without") | awk '{ print $1 / $2 }' | median |
    awk '{ printf "%-58s %10.2f\n", "time against lower(key) in its place", $1 }'

# --- the others ----------------------------------------------------------------------------------------------------
cluster_stop
test/bench/mirror.sh
TRIALS=$((5 * ROUNDS)) test/bench/rollback.sh
test/bench/compare.sh
test/bench/capture.sh
test/bench/backfill.sh
test/bench/task.sh
test/bench/observe.sh
test/bench/guard.sh
test/bench/report.sh
MINUTES=2 test/bench/soak.sh
