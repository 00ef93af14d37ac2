#!/usr/bin/env bash
# How fast the backfill copies, against INSERT … SELECT of the same rows, and what writers of the legacy table notice of it: test/bench/backfill.sh
#
#   ROUNDS=3 ROWS=3000000 CLIENTS=2 RATE=400 TURNS=6 SLICES=2 SLICE=4    the defaults; RATE transactions a second are made by CLIENTS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-3} ROWS=${ROWS:-3000000} CLIENTS=${CLIENTS:-2} RATE=${RATE:-400} TURNS=${TURNS:-6} SLICES=${SLICES:-2} SLICE=${SLICE:-4}

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
# No flush to disk anywhere: the worst case, as a commit that waits for a disk hides what comes before it.
cluster_start backfill "max_connections = 50" "synchronous_commit = off" "max_wal_size = 16GB" "autovacuum = off" "shared_buffers = ${BUFFERS:-512MB}" "tandem.naptime = '100ms'"
sql() { cluster_psql -qAt "$@"; }
row() { printf '%-66s %12s %8s   %s\n' "$1" "$2" "$3" "${4:-}"; }

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
row 'what' 'rows/s' '× plain' 'to reach'
row 'INSERT … SELECT, one statement' "$(number "$clock_plain")" '1.00'
row 'backfill, from its first batch to its end, ANALYZE included' "$(number "$clock_copied")" "$(ratio "$clock")" "$(reach "$(printf '%s' "$clock" | median)" ≥ 0.7)"
row 'INSERT … SELECT, rows a second of processor time' "$(number "$cpu_plain")" '1.00'
row 'backfill, the same' "$(number "$cpu_copied")" "$(ratio "$processor")"

# --- what writers notice: the latency of updates of random rows, mirrored already. Short slices by turns, with the backfill paused, at work, and
# paused beside an endless loop of the shell: that one touches no row and no page, so it tells what any process costs that takes a processor away.
# What this machine does meanwhile on its own meets all three alike, and mostly one slice: each slice has percentiles of its own, and the medians
# of those count. Those of all slices of a kind together are told too: a stall of the machine is in them.
samples=$CLUSTER_DIR/samples
mkdir "$samples"
slice() { # slice KIND NUMBER: the transactions' milliseconds, the lag behind their schedule included, without the first half second
    local folder=$CLUSTER_DIR/pgbench
    rm -rf "$folder" && mkdir "$folder"
    (cd "$folder" && pgbench -n -M prepared -c "$CLIENTS" -j 1 -R "$RATE" -T "$SLICE" -l -f <(printf '\\set id random(1, %s)\nUPDATE legacy.item SET qty = qty + 1 WHERE id = :id;\n' "$ROWS") >/dev/null 2>&1)
    # a line: client, number, time, script, second, microsecond, lag
    cat "$folder"/pgbench_log* | awk '{ at = $5 + $6 / 1e6 } NR == 1 { from = at + 0.5 } at > from { print $3 / 1000 }' >"$samples/$1.$2"
}
heading "Writers: $RATE updates a second of random rows by $CLIENTS clients, $((TURNS * SLICES)) slices of $SLICE s for each line"
rates=''
for ((round = 1; round <= TURNS; round++)); do
    fresh
    sql -c "SELECT FROM bench.run(), tandem.pause('b')"
    for ((slice = 1; slice <= SLICES; slice++)); do
        slice paused "$round.$slice"
        sql -c "SELECT FROM tandem.resume('b')"
        before=$(sql -c "SELECT rows_seen FROM tandem.backfill_runs")
        slice copying "$round.$slice"
        seen=$(($(sql -c "SELECT rows_seen FROM tandem.backfill_runs") - before))
        [ "$(sql -c "SELECT stage FROM tandem.runs WHERE run = 'b'")" = dualwrite ] || { echo "the backfill was at its end before the writers were: more ROWS, or fewer SLICES" >&2; exit 1; }
        sql -c "SELECT FROM tandem.pause('b')"
        rates+="$((seen / SLICE))"$'\n'
        (while :; do :; done) &
        loop=$!
        slice loop "$round.$slice"
        kill "$loop"
        wait "$loop" 2>/dev/null || true
    done
    sql -c "SELECT FROM tandem.cancel('b')"
done
percentile() { # percentile P: of the numbers of standard input
    sort -g | awk -v p="$1" '{ a[NR] = $1 } END { printf "%.3f\n", a[int(NR * p) + 1] }'
}
times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b / a }'; }
row 'what' 'ms' '× paused' 'to reach'
declare -A ms=() all=()
for p in 50 99; do
    for kind in paused copying loop; do
        ms[$kind]=$(for file in "$samples/$kind".*; do percentile "0.$p" <"$file"; done | median)
        all[$kind]=$(cat "$samples/$kind".* | percentile "0.$p")
    done
    row "p$p, the backfill paused" "${ms[paused]}" '1.00'
    against=$(times "${ms[paused]}" "${ms[copying]}")
    row "p$p, at work" "${ms[copying]}" "$against" "$([ "$p" = 50 ] || reach "$against" ≤ 1.5)"
    row "p$p, paused beside an endless loop" "${ms[loop]}" "$(times "${ms[paused]}" "${ms[loop]}")"
    row "p$p of all slices together: paused" "${all[paused]}" '1.00'
    row "p$p of all slices together: at work" "${all[copying]}" "$(times "${all[paused]}" "${all[copying]}")"
    row "p$p of all slices together: beside the loop" "${all[loop]}" "$(times "${all[paused]}" "${all[loop]}")"
done
row 'rows a second that were copied meanwhile' "$(number "$rates")" ''
