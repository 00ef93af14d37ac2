#!/usr/bin/env bash
# How fast the backfill copies, against INSERT … SELECT of the same rows, and what writers of the legacy table notice of it: test/bench/backfill.sh
#
#   ROUNDS=3 ROWS=3000000 CLIENTS=2 RATE=400 SECONDS_EACH=5    the defaults; RATE transactions a second are made by CLIENTS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-3} ROWS=${ROWS:-3000000} CLIENTS=${CLIENTS:-2} RATE=${RATE:-400} SECONDS_EACH=${SECONDS_EACH:-5}

test/tools/build.sh
source test/tools/cluster.sh
# No flush to disk anywhere: the worst case, as a commit that waits for a disk hides what comes before it.
cluster_start backfill "max_connections = 50" "synchronous_commit = off" "max_wal_size = 16GB" "autovacuum = off" "shared_buffers = ${BUFFERS:-512MB}" "tandem.naptime = '100ms'"
sql() { cluster_psql -qAt "$@"; }
median() { sort -g | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
heading() { printf '\n%s\n' "$1"; }
row() { printf '%-66s %12s %8s\n' "$@"; }

sql -v rows="$ROWS" -f test/bench/backfill.sql
cpu() { sql -c "SELECT bench.cpu($1)"; }

# --- speed: the plain statement and the backfill by turns; rows a second by the clock, and by processor time, which other work does not touch
fresh() { # fresh: both tables as they were before the run
    sql -c "SELECT FROM bench.fresh()" -c "CHECKPOINT"
}
plain() { # rows a second of the clock, of the processor
    fresh
    sql <<'SQL'
SELECT clock_timestamp() AS began, bench.cpu(pg_backend_pid()) AS cpu \gset
INSERT INTO store.item SELECT id, name, qty, price, note, at FROM legacy.item;
SELECT bench.rows() / extract(epoch FROM clock_timestamp() - :'began'), bench.rows() / greatest(bench.cpu(pg_backend_pid()) - :cpu, 0.01);
SQL
}
copied() { # the same of a backfill; its executor had nothing else to do
    fresh
    sql -c "SELECT FROM bench.run()"
    local pid='' first='' last=''
    until [ -n "$pid" ]; do pid=$(sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor'"); done
    first=$(cpu "$pid")
    until [ "$(sql -c "SELECT count(*) FROM tandem.backfill_progress WHERE rows_seen >= bench.rows()")" = 1 ]; do sleep 0.1; done
    last=$(cpu "$pid")
    until [ "$(sql -c "SELECT count(*) FROM tandem.backfill_progress WHERE state = 'finished'")" = 1 ]; do sleep 0.1; done
    sql -c "SELECT p.rows_seen / extract(epoch FROM p.finished_at - p.started_at), p.rows_seen / ($last - $first) FROM tandem.backfill_progress AS p"
    # nobody compares while the next alternative is measured
    until [ "$(sql -c "SELECT count(*) FROM tandem.runs WHERE stage = 'shadow'")" = 1 ]; do sleep 0.2; done
    sql -c "SELECT FROM tandem.cancel('b')"
}
clock_plain='' clock_copied='' cpu_plain='' cpu_copied='' clock='' processor=''
for ((round = 1; round <= ROUNDS; round++)); do
    if ((round % 2)); then
        a=$(plain) b=$(copied)
    else
        b=$(copied) a=$(plain)
    fi
    clock_plain+="${a%|*}"$'\n' clock_copied+="${b%|*}"$'\n' cpu_plain+="${a#*|}"$'\n' cpu_copied+="${b#*|}"$'\n'
    clock+="$(awk -v a="${a%|*}" -v b="${b%|*}" 'BEGIN { print b / a }')"$'\n' processor+="$(awk -v a="${a#*|}" -v b="${b#*|}" 'BEGIN { print b / a }')"$'\n'
done
number() { printf '%s' "$1" | median | awk '{ printf "%.0f", $1 }'; }
ratio() { printf '%s' "$1" | median | awk '{ printf "%.2f", $1 }'; }
heading "Backfill: $ROWS rows, $ROUNDS rounds, nothing flushed to disk"
row 'what' 'rows/s' '× plain'
row 'INSERT … SELECT, one statement' "$(number "$clock_plain")" '1.00'
row 'backfill, from its first batch to its end, ANALYZE included' "$(number "$clock_copied")" "$(ratio "$clock")"
row 'INSERT … SELECT, rows a second of processor time' "$(number "$cpu_plain")" '1.00'
row 'backfill, the same' "$(number "$cpu_copied")" "$(ratio "$processor")"

# --- what writers notice: the latency of updates of random rows, mirrored already, with the backfill paused and at work, by turns
latency() { # latency NAME: p50 and p99 in ms, of transactions that do not queue behind others of the same client
    local folder=$CLUSTER_DIR/pgbench.$1
    rm -rf "$folder" && mkdir "$folder"
    (cd "$folder" && pgbench -n -M prepared -c "$CLIENTS" -j 1 -R "$RATE" -T "$SECONDS_EACH" -l -f <(printf '\\set id random(1, %s)\nUPDATE legacy.item SET qty = qty + 1 WHERE id = :id;\n' "$ROWS") >/dev/null 2>&1)
    # a line: client, number, time, script, second, microsecond, lag; the time includes the lag behind the schedule
    cat "$folder"/pgbench_log* | awk '{ print $3 / 1000 }' | sort -g | awk '{ a[NR] = $1 } END { print a[int(NR * 0.5) + 1] "|" a[int(NR * 0.99) + 1] "|" NR }'
}
heading "Writers: $RATE updates a second of random rows by $CLIENTS clients while the backfill is paused, and while it copies, $ROUNDS rounds of ${SECONDS_EACH} s"
quiet50='' quiet99='' busy50='' busy99='' ratios='' rates=''
for ((round = 1; round <= ROUNDS; round++)); do
    fresh
    sql -c "SELECT FROM bench.run(), tandem.pause('b')"
    a=$(latency quiet)
    sql -c "SELECT FROM tandem.resume('b')"
    before=$(sql -c "SELECT rows_seen FROM tandem.backfill_runs")
    b=$(latency busy)
    seen=$(($(sql -c "SELECT rows_seen FROM tandem.backfill_runs") - before))
    [ "$(sql -c "SELECT stage FROM tandem.runs WHERE run = 'b'")" = dualwrite ] || { echo "the backfill was at its end before the writers were: more ROWS, or fewer SECONDS_EACH" >&2; exit 1; }
    sql -c "SELECT FROM tandem.cancel('b')"
    IFS='|' read -r q50 q99 _ <<<"$a"
    IFS='|' read -r b50 b99 _ <<<"$b"
    quiet50+="$q50"$'\n' quiet99+="$q99"$'\n' busy50+="$b50"$'\n' busy99+="$b99"$'\n' rates+="$((seen / SECONDS_EACH))"$'\n'
    ratios+="$(awk -v a="$q99" -v b="$b99" 'BEGIN { print b / a }')"$'\n'
done
two() { printf '%s' "$1" | median | awk '{ printf "%.2f", $1 }'; }
row 'what' 'ms' '× paused'
row 'p50, paused' "$(two "$quiet50")" ''
row 'p50, at work' "$(two "$busy50")" ''
row 'p99, paused' "$(two "$quiet99")" '1.00'
row 'p99, at work' "$(two "$busy99")" "$(two "$ratios")"
row 'rows a second that were copied meanwhile' "$(number "$rates")" ''
