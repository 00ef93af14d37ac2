#!/usr/bin/env bash
# The comparison's figures of docs/figures.md: ours and its peers on the same tables in the same run, as ratios to F, the time of
# `count(last column)` on both tables with as many workers. F and what it is compared with take turns; medians of the rounds.
#
#   WITH_PEERS=1 test/tools/with-deps.sh test/bench/compare.sh     alone; `make bench` calls it too
#   SIZE=100k      rows a table (10M)       ROUNDS=5    rounds of ours (3)           WORKERS=1   parallel workers (processors less one)
#   PEERS=no       without the peers        WORK_MEM=256MB   that the peers get      METHOD=join VIA=slots   what ours is forced to
#
# Both tables fit in shared_buffers four times, as PostgreSQL reads a table larger than a quarter of it through a small ring.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
SIZE=${SIZE:-10M}
ROUNDS=${ROUNDS:-3}
WORKERS=${WORKERS:-$(($(nproc) > 1 ? $(nproc) - 1 : 1))}
WORK_MEM=${WORK_MEM:-256MB}
rows=$(numfmt --from=si "${SIZE^^}")

[ -d build/stage ] || test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
buffers=$((rows * 600 / 1000000 + 256))
available=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
if ((buffers + rows * 400 / 1000000 > available)); then
    echo "compare.sh: $SIZE rows want $buffers MB of shared buffers and as much again beside; $available MB are free. Choose a smaller SIZE." >&2
    exit 1
fi
cluster_start compare "shared_buffers = '${buffers}MB'" "synchronous_commit = off" "max_wal_size = 16GB" "autovacuum = off" "jit = off" \
    "max_parallel_workers_per_gather = $WORKERS" "tandem.compare_method = '${METHOD:-auto}'" "tandem.compare_path = '${VIA:-auto}'"

sql() { cluster_psql -qAtX "$@"; }
say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

# timed SQL…: sets seconds, answer, memory (MB: RssAnon and dynamic shared memory of backend and workers, at most) and temp (MB)
timed() {
    local before sampler backend fifo=$CLUSTER_DIR/fifo out=$CLUSTER_DIR/out
    before=$(sql -c "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    rm -f "$fifo" "$out"
    mkfifo "$fifo"
    sql <"$fifo" >"$out" &
    backend=$!
    exec 7>"$fifo"
    echo "SELECT pg_backend_pid();" >&7
    until [ -s "$out" ]; do sleep 0.01; done
    perl test/bench/memory.pl "$(head -n 1 "$out")" >"$out.memory" 7>&- & # else it would hold the pipe open that it waits for
    sampler=$!
    printf '%s\n' "\\timing on" "$@" "\\timing off" "SELECT FROM pg_stat_force_next_flush();" >&7
    exec 7>&-
    wait "$backend"
    wait "$sampler"
    answer=$(sed 1d "$out" | grep -v '^Time:' | grep . || true)
    seconds=$(awk '/^Time:/ { t += $2 } END { print t / 1000 }' "$out")
    memory=$(cat "$out.memory")
    temp=$(sql -c "SELECT (temp_bytes - $before) / 1e6 FROM pg_stat_database WHERE datname = current_database()")
}
full() { timed "SELECT count(score) FROM legacy.t;" "SELECT count(score) FROM $1;"; }

# row LABEL SECONDS RATIO MEMORY TEMP NOTE [WHAT-IS-TO-BE-REACHED]
row() { awk -v label="$1" -v s="$2" -v r="$3" -v m="$4" -v t="$5" -v note="$6" -v bar="${7:-}" \
    'BEGIN { printf "| %s | %s | %s | %s | %s | %s | %s |\n", label, s == "" ? "" : sprintf("%.2f", s), r == "" ? "" : sprintf("%.2f", r), m == "" ? "" : sprintf("%.1f", m), t == "" ? "" : sprintf("%.0f", t), note, bar }' |
    tee -a "$CLUSTER_DIR/table" >&2; }

# ours LABEL EXPECTED-COUNTS TABLE MOST-F MOST-MB [MORE-ARGUMENTS]: F and compare() by turns; no bar where it is empty
ours() {
    local round times='' ratios='' memories='' temps='' f method='' most bar=''
    for ((round = 1; round <= ROUNDS; round++)); do
        full "$3"
        f=$seconds
        timed "SELECT c.missing || ' ' || c.extra || ' ' || c.changed || ' ' || c.duplicates || ' by ' || c.method FROM tandem.compare('legacy.t', '$3'${6:-}) AS c;"
        [ "${answer% by *}" = "$2 0" ] || { echo "$1: compare() says '$answer', where there are '$2 0'" >&2; exit 1; }
        method=${answer#* by }
        times+=$seconds$'\n' ratios+=$(awk -v a="$seconds" -v f="$f" 'BEGIN { print a / f }')$'\n' memories+=$memory$'\n' temps+=$temp$'\n'
    done
    ratio=$(printf %s "$ratios" | median)
    most=$(printf %s "$memories" | sort -g | tail -n 1)
    [ -z "$4" ] || bar=$(reach "$ratio" ≤ "$4" F)
    [ -z "$5" ] || bar+="${bar:+; }$(reach "$most" ≤ "$5" MB)"
    row "$1" "$(printf %s "$times" | median)" "$ratio" "$most" "$(printf %s "$temps" | median)" "$method" "$bar"
}

# peer LABEL EXPECTED TIMES SQL…: once, with F before it; ours is to be so many times as fast
peer() {
    full new.t
    local f=$seconds
    timed "SET work_mem = '$WORK_MEM';" "${@:4}"
    peer_row "$1" "$2" "$(xargs <<<"$answer")" "$f" "$memory" "$temp" "$3"
}
peer_row() { # peer_row LABEL EXPECTED FOUND F MEMORY TEMP TIMES; seconds is what it took
    row "$1" "$seconds" "$(awk -v a="$seconds" -v f="$4" 'BEGIN { print a / f }')" "$5" "$6" \
        "$(if [ "$3" = "$2" ]; then awk -v a="$seconds" -v f="$4" -v ours="$few" 'BEGIN { printf "%.1f × ours", a / f / ours }'; else echo "WRONG: finds $3, not $2"; fi)" \
        "$([ -z "$7" ] || reach "$(awk -v a="$seconds" -v f="$4" -v ours="$few" 'BEGIN { print a / f / ours }')" ≥ "$7" '× ours')"
}

# --- the tables: about 100 bytes a row
columns="id integer, account integer NOT NULL, amount numeric(12,2) NOT NULL, status text, note text, created timestamptz NOT NULL, score double precision"
table() { # table NAME SELECT-OVER-l
    say "$1"
    sql -c "CREATE TABLE $1 ($columns)" -c "INSERT INTO $1 $2" -c "ALTER TABLE $1 ADD PRIMARY KEY (id)" -c "VACUUM (FREEZE, ANALYZE) $1"
    warm "$1"
}
warm() { sql -c "SELECT FROM pg_prewarm('$1')" -c "SELECT count(*) FROM $1" >/dev/null; }
sql -c "CREATE EXTENSION pg_tandem" -c "CREATE EXTENSION pg_prewarm" -c "CREATE SCHEMA legacy" -c "CREATE SCHEMA new"
table legacy.t "SELECT g, (g * 7919::bigint % 1000003)::integer, (g % 100000) / 100.0 + g % 7, (ARRAY['open', 'paid', 'cancelled', 'refunded'])[1 + g % 4], CASE WHEN g % 10 > 0 THEN 'note ' || md5(g::text) END,
                       timestamptz '2020-01-01Z' + g * interval '17 s', g / 3.0 FROM generate_series(1, $rows) AS g"
everything="SELECT id, account, amount, status, note, created, score FROM legacy.t AS l"
table new.t "$everything"
bytes=$(sql -c "SELECT pg_relation_size('legacy.t') / $rows")

# --- ours
{
    echo "Comparison: 2 × $SIZE rows, 7 columns, $bytes bytes a row, $WORKERS parallel workers on $(nproc) processors, warm, $ROUNDS rounds; PostgreSQL $(sql -c 'SHOW server_version')"
    echo
    echo "| case | seconds | × F | MB beside shared buffers | MB of temp files | | to reach |"
    echo "|---|---|---|---|---|---|---|"
} | tee "$CLUSTER_DIR/table" >&2
times=''
for ((round = 1; round <= ROUNDS; round++)); do
    full new.t
    times+=$seconds$'\n'
done
row "F: \`count(last column)\` on both tables" "$(printf %s "$times" | median)" 1 "$memory" "$temp" ""
ours "no difference" "0 0 0" new.t 1.2 16

step=$((rows / 100))
table new.few "SELECT id, account, CASE WHEN id % $step = 1 THEN amount + 0.01 ELSE amount END, status, CASE WHEN id IN ($step, 2 * $step) THEN coalesce(note, '') || '.' ELSE note END, created, score FROM legacy.t
               WHERE id % $((rows / 20)) <> 2 UNION ALL SELECT $rows + g, 1, 1, NULL, NULL, '2024-01-01Z', 0 FROM generate_series(1, 15) AS g"
ours "137 differences (102 changed, 20 missing, 15 extra)" "20 15 102" new.few 1.2 16
few=$ratio

table new.mapped "SELECT id, account, amount, upper(status), note, created, score * 2 FROM legacy.t"
ours "no difference, through expressions on 2 columns" "0 0 0" new.mapped 1.8 16 ", columns => '{\"status\": \"upper(status)\", \"score\": \"score * 2\"}'"
sql -c "DROP TABLE new.mapped"

table new.some "SELECT id, account, CASE WHEN id % 20 = 1 THEN amount + 0.01 ELSE amount END, status, note, created, score FROM legacy.t"
ours "5 % of the rows differ" "0 0 $((rows / 20))" new.some 3 64
sql -c "DROP TABLE new.some"

table new.all "SELECT id, account, amount + 0.01, status, note, created, score FROM legacy.t"
ours "every row differs" "0 0 $rows" new.all "" ""
sql -c "DROP TABLE new.all"

# --- peers: on the tables with 137 differences
peers_in_sql() { # peers_in_sql WHERE-THE-ROWS-LIE
    peer "FULL JOIN … IS DISTINCT FROM, work_mem $WORK_MEM$1" 137 12 \
        "SELECT count(*) FROM legacy.t AS l FULL JOIN new.t AS n USING (id) WHERE (l.account, l.amount, l.status, l.note, l.created, l.score) IS DISTINCT FROM (n.account, n.amount, n.status, n.note, n.created, n.score);"
    peer "EXCEPT both ways, work_mem $WORK_MEM$1" "122 117" 30 \
        "SELECT count(*) FROM (TABLE legacy.t EXCEPT TABLE new.t) AS x;" "SELECT count(*) FROM (TABLE new.t EXCEPT TABLE legacy.t) AS x;"
}
if [ "${PEERS:-yes}" != no ]; then
    sql -c "DROP TABLE new.t" -c "ALTER TABLE new.few RENAME TO t"
    warm legacy.t
    warm new.t
    peers_in_sql ""
    peer "\`sum(hashtext(row::text))\` as pgcopydb does: says only whether" "t" "" \
        "SELECT (SELECT sum(hashtext(t::text)::bigint) FROM legacy.t AS t) <> (SELECT sum(hashtext(t::text)::bigint) FROM new.t AS t);"
    if ! command -v pg_comparator >/dev/null; then
        row "pg_comparator" "" "" "" "" "NOT RUN: it is not installed (Debian package postgresql-comparator)"
    elif ! sql -c "CREATE EXTENSION pgcmp" 2>"$CLUSTER_DIR/pgcmp"; then
        row "pg_comparator" "" "" "" "" "NOT RUN: $(head -n 1 "$CLUSTER_DIR/pgcmp")"
    else
        full new.t
        f=$seconds
        before=$(sql -c "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
        source="DBI:Pg:dbname=$PGDATABASE;host=$PGHOST;port=$PGPORT"
        began=$EPOCHREALTIME
        PGOPTIONS="-c work_mem=$WORK_MEM" pg_comparator --source-1="$source" --source-2="$source" --max-report=100000 --prefix=cmp \
            "pgsql://postgres@/$PGDATABASE/legacy.t?id:account,amount,status,note,created,score" "pgsql://postgres@/$PGDATABASE/new.t?id:account,amount,status,note,created,score" \
            >"$CLUSTER_DIR/comparator" 2>"$CLUSTER_DIR/comparator.err" || true
        seconds=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
        found=$(grep -cE '^(UPDATE|INSERT|DELETE) ' "$CLUSTER_DIR/comparator" || true)
        temp=$(sql -c "SELECT (temp_bytes - $before) / 1e6 FROM pg_stat_database WHERE datname = current_database()")
        [ "$found" -gt 0 ] || head -n 20 "$CLUSTER_DIR/comparator" "$CLUSTER_DIR/comparator.err" >&2
        peer_row "pg_comparator $(pg_comparator --version 2>/dev/null | grep -oE '[0-9]+\.[0-9.]+' | head -n 1), both sides at once, temporary tables" 137 "$found" "$f" "" "$temp" 15
    fi
    # Two tables that were filled apart do not lie in the same order: no merge join without a sort.
    table new.shuffled "SELECT * FROM new.t ORDER BY hashint8extended(id, 7)"
    sql -c "DROP TABLE new.t" -c "ALTER TABLE new.shuffled RENAME TO t"
    ours "137 differences, the new table's rows in no order" "20 15 102" new.t 1.2 16
    few=$ratio
    peers_in_sql ", the new table's rows in no order"
else
    row "peers" "" "" "" "" "NOT RUN: PEERS=no"
fi
cat "$CLUSTER_DIR/table"
