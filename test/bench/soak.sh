#!/usr/bin/env bash
# A day of template 24-hour, compressed, at full validation under a load like TPC-B on the side that route() names: test/bench/soak.sh
#
#   MINUTES=10 CLIENTS=4 RATE=400    the defaults: the day's length, clients and transactions a second (0: as many as they can)
#   FULL_EVERY='5 minutes'           how often, in time of the day, everything is compared and not only what changed
#
# Prints writes that were lost, rollbacks (there was nothing to roll back for: each were a false one), transactions a second, and the memory
# of the worker's processes and of the clients' backends as the day goes on. Fails where a client gave up. Full validation: every change is compared,
# every five seconds of the day, and everything every five minutes of it. make bench has a day of two minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
MINUTES=${MINUTES:-10} CLIENTS=${CLIENTS:-4} RATE=${RATE:-400} FULL_EVERY=${FULL_EVERY:-5 minutes}

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
cluster_start soak "shared_buffers = 256MB" "max_wal_size = 4GB" "synchronous_commit = off" "tandem.naptime = '100ms'"
sql() { cluster_psql -qAt "$@"; }
until_true() {
    until [ "$(sql -c "SELECT $1")" = t ]; do
        if [ "$(sql -c "SELECT count(*) FROM tandem.rollback")" != 0 ]; then
            echo "A false rollback: $(sql -c "SELECT reason FROM tandem.rollback ORDER BY id LIMIT 1")" >&2
            exit 1
        fi
        sleep 0.5
    done
}

sql -v scale="$(awk -v m="$MINUTES" 'BEGIN { print 1440 / m }')" -v full_every="$FULL_EVERY" -f test/bench/soak.sql >/dev/null

rate=(--rate="$RATE")
[ "$RATE" != 0 ] || rate=()
pgbench --no-vacuum --client="$CLIENTS" --jobs=2 "${rate[@]}" --time=$((MINUTES * 120 + 600)) --max-tries=1000 --protocol=prepared \
    --file=test/bench/soak.pgbench >"$CLUSTER_DIR/pgbench.out" 2>"$CLUSTER_DIR/pgbench.err" &
load=$!
sql -c "SELECT tandem.start('day')" >/dev/null
until_true "stage = 'shadow' FROM tandem.runs"
sleep 5 # the caches of all processes are filled

# memory LABEL: a line for each kind of process, of the process that has most; memory that is its own, and the shared memory that it has touched
memory() {
    sql -F ' ' -c "SELECT pid, CASE WHEN backend_type = 'client backend' THEN 'client' ELSE replace(backend_type, 'pg_tandem ', '') END
                     FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem %' OR application_name = 'pgbench'" |
        while read -r pid kind; do
            awk -v kind="$kind" -v label="$1" '/^RssAnon:/ { anon = $2 } /^RssShmem:/ { shmem = $2 } END { print label, kind, anon, shmem }' "/proc/$pid/status"
        done
}
{
    memory begin
    for weight in 25 50 75; do
        until_true "weight >= $weight FROM tandem.runs"
        memory "$weight"
    done
    until_true "weight = 100 FROM tandem.runs"
    sql -c "SELECT tandem.complete('day', 'day')" >/dev/null # begins rampdown
    until_true "NOT EXISTS (SELECT FROM tandem.promotion_blockers((SELECT r FROM tandem.run AS r), 'complete', 100))"
    memory end
} >"$CLUSTER_DIR/memory"
# A client that gave up loses no writes: it makes none.
working=$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'")
if [ "$working" != "$CLIENTS" ]; then
    echo "Only $working of $CLIENTS clients were still at work:" >&2
    tail -n 20 "$CLUSTER_DIR/pgbench.err" >&2
    exit 1
fi
# Whose session is ended says what he has done until then.
sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'" >/dev/null
wait $load || true

read -r processed < <(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$CLUSTER_DIR/pgbench.out")
tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$CLUSTER_DIR/pgbench.out")
sql -v processed="$processed" -v tps="$tps" -v minutes="$MINUTES" -v clients="$CLIENTS" -f test/bench/soak_result.sql | while read -r line; do
    case $line in 'lost writes '* | 'false rollbacks '*) line+="   to reach: $(reach "${line##* }" ≤ 0)" ;; esac
    echo "$line"
done
sql -c "SELECT tandem.complete('day', 'day')" >/dev/null
sql -F ' ' -c "SELECT 'stage', stage FROM tandem.runs"
printf '\n%-14s %44s   %17s\n' 'memory, kB' 'its own: in shadow, at 25, 50, 75 %, at the end' 'shared, touched'
for kind in launcher coordinator executor client; do
    awk -v kind=$kind '$2 == kind { if ($3 > anon[$1]) anon[$1] = $3; if ($4 > shmem[$1]) shmem[$1] = $4 }
        END { printf "%-14s %8d %8d %8d %8d %8d %17d\n", kind, anon["begin"], anon["25"], anon["50"], anon["75"], anon["end"], shmem["end"] }' "$CLUSTER_DIR/memory" |
        while read -r name begin quarter half most end shared; do
            # no growth: what a session's caches take in half a day is not what a leak does
            printf '%-14s %8d %8d %8d %8d %8d   %17d   to reach, end / at 50 %%: %s\n' "$name" "$begin" "$quarter" "$half" "$most" "$end" "$shared" "$(reach "$(awk -v a="$end" -v b="$half" 'BEGIN { print a / (b > 0 ? b : 1) }')" ≤ 1.1)"
        done
done
