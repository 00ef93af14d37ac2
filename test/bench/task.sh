#!/usr/bin/env bash
# What a task's change costs, how soon a breach is seen, and what an old snapshot and a million deadlines do: test/bench/task.sh
#
#   ROUNDS=5 SECONDS_EACH=4 HOLD=60 DEADLINES=1000000 RATE=2000   the defaults; HOLD seconds with an old snapshot, and as many without;
#                                                                 RATE changes a second are the load under which breaches are detected
#   PARTS="cas many cpu breach snapshot deadlines"                only these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-4} HOLD=${HOLD:-60} DEADLINES=${DEADLINES:-1000000} RATE=${RATE:-2000}
PARTS=${PARTS:-cas many cpu breach snapshot deadlines}
ROWS=10000

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
# With fsync, as synchronous_commit shall show what it costs; checkpoints between the rounds, not in them.
CLUSTER_FSYNC=on cluster_start task "max_connections = 100" "max_wal_size = 8GB" "checkpoint_timeout = 1h" "autovacuum = off" \
    "shared_buffers = 512MB" "tandem.naptime = '100ms'"
sql() { cluster_psql -qAt "$@"; }
wants() { [[ " $PARTS " == *" $1 "* ]]; }
ratios() { paste <(printf '%s' "$1") <(printf '%s' "$2") | awk '{ print $1 / $2 }' | median; } # ratios THESE THOSE: the median of the pairs'

sql -v rows=$ROWS -f test/bench/task.sql

# --- single changes ----------------------------------------------------------------------------------------------
# Change number i is of row i mod ROWS, whose version is 1 + i / ROWS: a script knows what to expect without reading.
declare -A TABLE=([cas]=tandem.task [plain]=bench.plain [event]=bench.plain_with_event [many]=tandem.task [together]=tandem.task)
changes() { sql -c "SELECT sum(version - 1) FROM ${TABLE[$1]} WHERE kind = '$([ "$1" = many ] && echo bench.many || echo bench)'"; }
ID="('00000000-0000-7000-8000-' || :n)::uuid"
next() { printf '\\set i :i + 1\n\\set n 100000000000 + :i %% %d\n\\set v 1 + :i / %d\n' $ROWS $ROWS; }
plain() { echo "UPDATE $1 SET state = 'running', version = version + 1, updated_at = clock_timestamp() WHERE id = $ID AND version = :v"; }
script() {
    case $1 in
    cas) next; echo "SELECT ok, version FROM tandem.task_cas($ID, :v, 'running');" ;;
    plain) next; echo "$(plain bench.plain);" ;;
    event) # what an application would have to write to have a record too
        next
        echo "WITH u AS ($(plain bench.plain_with_event) RETURNING id, state, version)"
        echo "INSERT INTO bench.event (at, lsn, kind, actor, role, client, task_id, state, version)"
        echo "SELECT clock_timestamp(), pg_current_wal_insert_lsn(), 'change', session_user, current_user, current_setting('application_name'), id, state, version FROM u;" ;;
    many) # 100 in a call
        printf '\\set i :i + 100\n\\set b (:i / 100) %% %d\n\\set v 1 + :i / %d\n' $((ROWS / 100)) $ROWS
        echo "SELECT count(*) FILTER (WHERE m.ok) FROM bench.batch AS b, tandem.task_cas_many(b.ids, array_fill(:v::bigint, '{100}'), b.states) AS m WHERE b.n = :b;" ;;
    together) # 100 calls in a transaction
        echo 'BEGIN;'
        for _ in {1..100}; do script cas; done
        echo 'COMMIT;' ;;
    esac
}
per_transaction() { case $1 in many | together) echo 100 ;; *) echo 1 ;; esac; }
changes_a_second() { # changes_a_second SCRIPT SETTING LIMIT…: and all of them were accepted
    local before after said
    before=$(changes "$1")
    said=$(PGOPTIONS="-c synchronous_commit=$2" pgbench -n -M prepared -c 1 "${@:3}" -D i=$((before - 1)) -f <(script "$1") 2>&1) || { echo "$said" >&2; return 1; }
    after=$(changes "$1")
    awk -v wanted=$((after - before)) -v n="$(per_transaction "$1")" '
        /^number of transactions actually processed/ { split($NF, t, "/"); made = t[1] * n }
        /^tps/ { tps = $3 * n }
        END { if (made != wanted) { print made " changes sent, " wanted " accepted" >"/dev/stderr"; exit 1 } print tps }' <<<"$said"
}
declare -A result=()
measure() { # measure SETTING SCRIPT…: in turns, the order changing from round to round
    local setting=$1 round what order
    shift
    result=()
    for ((round = 1; round <= ROUNDS; round++)); do
        order=("$@")
        ((round % 2)) || mapfile -t order < <(printf '%s\n' "$@" | tac)
        for what in "${order[@]}"; do
            sql -c "VACUUM ${TABLE[$what]}" -c 'CHECKPOINT'
            changes_a_second "$what" off -t $((ROWS / $(per_transaction "$what"))) >/dev/null # each page's first change after a checkpoint is logged as a whole
            result[$what]+="$(changes_a_second "$what" "$setting" -T "$SECONDS_EACH")"$'\n'
        done
    done
}
row() { # row SCRIPT AGAINST LABEL [LEAST]
    local against
    against=$(ratios "${result[$1]}" "${result[$2]}")
    printf '%-62s %10.0f %8.2f   %s\n' "$3" "$(printf '%s' "${result[$1]}" | median)" "$against" "$([ -z "${4:-}" ] || reach "$against" ≥ "$4")"
}
if wants cas; then
    for setting in on off; do
        measure $setting plain cas event
        heading "Changes of one task, 1 client, pgbench -M prepared, synchronous_commit = $setting, $ROUNDS rounds of $SECONDS_EACH s"
        printf '%-62s %10s %8s   %s\n' 'what' 'TPS' '× plain' 'to reach'
        row plain plain 'UPDATE … SET state, version, updated_at WHERE id AND version'
        row cas plain 'task_cas, with its event' 1.0
        row event plain 'the plain UPDATE with an INSERT of an event'
    done
fi
if wants many; then
    for setting in on off; do
        measure $setting cas many together
        heading "Changes in batches, 1 client, prepared, synchronous_commit = $setting, $ROUNDS rounds of $SECONDS_EACH s"
        printf '%-62s %10s %8s   %s\n' 'what' 'changes/s' '× single' 'to reach'
        row cas cas 'task_cas, one in a transaction'
        row together cas '100 task_cas in a transaction'
        row many cas 'task_cas_many of 100' 5
    done
fi

# --- processor time ----------------------------------------------------------------------------------------------
if wants cpu; then
    result=()
    for ((round = 0; round <= 4 * ROUNDS; round++)); do # in one session each; the first round pays for its caches, and is not counted
        sql -c 'VACUUM tandem.task, bench.plain'
        order=(plain cas none)
        ((round % 2)) || order=(cas plain none)
        for what in "${order[@]}"; do
            took=$(sql -c "SELECT bench.loop('none')" -c "SELECT bench.loop('$what')" | tail -n 1)
            [ "$round" = 0 ] || result[$what]+="$took"$'\n'
        done
    done
    heading "Server processor time of an uncontended change in PL/pgSQL, $((4 * ROUNDS)) rounds of $ROWS changes in a transaction"
    printf '%-62s %10s %8s   %s\n' 'what' 'µs' '× plain' 'to reach'
    for what in plain cas none; do
        against=$(ratios "${result[$what]}" "${result[plain]}")
        printf '%-62s %10.2f %8.2f   %s\n' "$(case $what in plain) echo 'UPDATE … WHERE id AND version' ;; cas) echo 'task_cas, with its event' ;; *) echo 'the loop alone' ;; esac)" \
            "$(printf '%s' "${result[$what]}" | median)" "$against" "$([ "$what" != cas ] || reach "$against" ≤ 1.0)"
    done
fi

# --- breaches ----------------------------------------------------------------------------------------------------
if wants breach; then
    sql -c "SELECT FROM tandem.sla_policy('bench.sla', 'critical', '2 seconds', '1 hour')"
    pgbench -n -M prepared -c 8 -j 2 -R "$RATE" -T 12 -f <(printf "SELECT FROM tandem.task_create('bench.load');\n") >/dev/null 2>&1 &
    load=$!
    sleep 1
    pgbench -n -M prepared -c 4 -R 200 -t 250 -f <(printf "SELECT FROM tandem.task_create('bench.sla', severity => 'critical');\n") >/dev/null 2>&1
    sleep 3
    wait "$load"
    heading "Breaches: 1,000 deadlines while $RATE tasks a second are made"
    sql -F ' ' -c "SELECT count(*), round(percentile_disc(0.5) WITHIN GROUP (ORDER BY ms), 2), round(percentile_disc(0.99) WITHIN GROUP (ORDER BY ms), 2), round(max(ms), 2)
                     FROM (SELECT 1000 * extract(epoch FROM b.detected_at - b.due_at) AS ms FROM tandem.sla_breaches AS b JOIN tandem.task AS t ON t.id = b.task_id WHERE t.kind = 'bench.sla') AS b" |
        while read -r n p50 p99 max; do
            printf '%-62s %10d\n' 'breaches' "$n"
            printf '%-62s %10.2f   %s\n' 'detected_at - due_at, ms, p50' "$p50" '' '... p99' "$p99" "to reach: $(reach "$p99" ≤ 20)" '... the latest' "$max" ''
            [ "$n" = 1000 ]
        done
fi

# --- an old snapshot ---------------------------------------------------------------------------------------------
queue() { # a task is made, another one claimed and finished: tasks a second over HOLD seconds
    pgbench -n -M prepared -c 4 -j 2 -T "$HOLD" -f <(
        printf "SELECT FROM tandem.task_create('bench.queue');\n"
        printf "SELECT id AS task, lease_token AS token FROM tandem.task_claim('bench ' || :client_id, '{bench.queue}') \\\\gset\n"
        printf "SELECT ok FROM tandem.task_finish(:task::uuid, :token::bigint, 'done') \\\\gset\n"
    ) 2>&1 | awk '/^tps/ { print $3 } /rror:|ERROR|aborted/ { print >"/dev/stderr" }'
}
if wants snapshot; then
    sql -c "SELECT count(tandem.task_create('bench.queue')) FROM generate_series(1, 1000)" >/dev/null
    sql -c 'VACUUM' -c 'CHECKPOINT' -c 'ALTER SYSTEM SET autovacuum = on' -c 'ALTER SYSTEM SET autovacuum_naptime = 5' -c 'SELECT pg_reload_conf()' >/dev/null
    without=$(PGOPTIONS='-c synchronous_commit=off' queue)
    sql -c 'VACUUM' -c 'CHECKPOINT'
    coproc SNAPSHOT { sql; }
    echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tandem.task;" >&"${SNAPSHOT[1]}"
    read -r _ <&"${SNAPSHOT[0]}"
    with=$(PGOPTIONS='-c synchronous_commit=off' queue)
    dead=$(sql -c "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'tandem.task_ready'::regclass")
    echo 'COMMIT; \q' >&"${SNAPSHOT[1]}"
    wait "$SNAPSHOT_PID" || true
    sql -c 'ALTER SYSTEM SET autovacuum = off' -c 'SELECT pg_reload_conf()' >/dev/null
    heading "Queue: create, claim and finish, 4 clients, $HOLD s each, nothing waits for the disk, autovacuum on"
    printf '%-62s %10s %8s   %s\n' 'what' 'tasks/s' '× without' 'to reach'
    against=$(awk -v a="$with" -v b="$without" 'BEGIN { print a / b }')
    printf '%-62s %10.0f %8.2f\n' 'without an old snapshot' "$without" 1
    printf '%-62s %10.0f %8.2f   %s\n' "with one, held open all the time" "$with" "$against" "$(reach "$against" ≥ 0.8)"
    printf '%-62s %10.0f\n' 'dead rows of task_ready at its end' "$dead"
fi

# --- many deadlines ----------------------------------------------------------------------------------------------
coordinator() { sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tandem coordinator' AND datname = current_database()"; }
if wants deadlines; then
    sql -v n="$DEADLINES" <<'SQL'
SELECT FROM tandem.sla_policy('bench.first', 'critical', '1 ms', '1 day');
WITH made AS (
    INSERT INTO tandem.task (id, version, created_at, updated_at, run_at, priority, kind, severity, state, owner, start_due, finish_due)
    SELECT gen_random_uuid(), 1, now(), now(), now(), 10, 'bench.deadline', 'normal', 'pending', 'postgres', now() + '10 minutes' + i * interval '1 ms', now() + '1 hour' + i * interval '1 ms'
      FROM generate_series(1, :n) AS i RETURNING id, start_due, finish_due)
INSERT INTO tandem.task_deadline (task_id, start_due, finish_due) SELECT * FROM made;
VACUUM ANALYZE tandem.task, tandem.task_deadline;
SQL
    # The coordinator is ready when it detects: a task that is due by then is waiting for it, in the last row of the table.
    sql -c "SELECT FROM tandem.task_create('bench.first', severity => 'critical', run_at => clock_timestamp() + interval '1 second')" >/dev/null
    cluster_restart fast
    until [ -n "$(coordinator)" ]; do sleep 0.01; done
    started=$(sql -c "SELECT backend_start FROM pg_stat_activity WHERE pid = $(coordinator)")
    first="SELECT detected_at - '$started' FROM tandem.sla_breaches WHERE kind = 'bench.first' ORDER BY detected_at LIMIT 1"
    for _ in {1..600}; do
        took=$(sql -c "SELECT extract(epoch FROM x) FROM ($first) AS f (x)")
        [ -z "$took" ] || break
        sleep 0.1
    done
    heading "$DEADLINES tasks with two open deadlines each"
    own=$(awk '/^RssAnon/ { print $2 / 1024 }' "/proc/$(coordinator)/status")
    printf '%-62s %10s   %s\n' 'what' '' 'to reach'
    printf '%-62s %10.2f   %s\n' "start of the coordinator → the first breach detected, s" "${took:-99999}" "$(reach "${took:-99999}" ≤ 5)"
    printf '%-62s %10.1f   %s\n' 'memory of the coordinator beside shared memory, MB' "$own" "$(reach "$own" ≤ 200)"
fi
