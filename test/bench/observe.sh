#!/usr/bin/env bash
# What observing costs: pgbench -S on mapped and unmapped tables against a server without pg_tandem, and against one with
# pg_stat_statements; a call of observe() against one of an empty C function: test/bench/observe.sh
#
#   ROUNDS=24 SECONDS_EACH=2 CLIENTS=2 MODE=simple CALLS=2000000   the defaults
#   PARTS="statements processor calls"                             only these
#
# The servers run beside one another, with the same data, and are measured in turns; the one that is not asked does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-24} SECONDS_EACH=${SECONDS_EACH:-2} CLIENTS=${CLIENTS:-2} MODE=${MODE:-simple} CALLS=${CALLS:-2000000}
PARTS=${PARTS:-statements processor calls}

test/tools/build.sh
source test/tools/cluster.sh
sql() { cluster_psql -qAt "$@"; }
median() { sort -g | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
heading() { printf '\n%s\n' "$1"; }
wants() { [[ " $PARTS " == *" $1 "* ]]; }
ratios() { paste <(printf '%s' "$1") <(printf '%s' "$2") | awk '{ print $1 / $2 }' | median; } # the median of the pairs'

cluster_start observe "max_connections = 50" "autovacuum = off" "shared_buffers = 128MB"
for database in mapped unmapped; do # the same, but for what is mapped
    sql -c "CREATE DATABASE $database"
    sql -d $database <<'SQL'
CREATE EXTENSION pg_tandem;
CREATE SCHEMA fresh; CREATE SCHEMA legacy;
CREATE TABLE legacy.thing (id integer PRIMARY KEY); CREATE TABLE fresh.thing (id integer PRIMARY KEY);
SELECT FROM tandem.create_run('elsewhere', 'legacy', 'fresh');
SELECT FROM tandem.map_table('elsewhere', 'legacy.thing', 'fresh.thing');
SQL
    pgbench -i -q -s 5 $database >/dev/null 2>&1
done
sql -d mapped <<'SQL'
CREATE TABLE fresh.pgbench_accounts (LIKE pgbench_accounts INCLUDING ALL);
SELECT FROM tandem.create_run('bench', 'public', 'fresh');
SELECT FROM tandem.map_table('bench', 'public.pgbench_accounts', 'fresh.pgbench_accounts');
SELECT FROM tandem.add_operation('bench', 'select', '1 ms');
SQL

for database in mapped unmapped; do sql -d $database -f test/bench/observe.sql; done

if wants statements || wants processor; then
    declare -A preload=([absent]='' [statements]=pg_stat_statements) port=([tandem]=$PGPORT [absent]=54322 [statements]=54323)
    other() { # other SERVER start|stop
        as_server_user "$PGBIN/pg_ctl" --pgdata="$CLUSTER_DIR/$1" --log="$CLUSTER_DIR/log.$1" --silent --wait "$2" --mode=fast </dev/null
    }
    cluster_pg_ctl stop
    for server in absent statements; do
        cp -a "$CLUSTER_DIR/data" "$CLUSTER_DIR/$server"
        printf "port = %s\nshared_preload_libraries = '%s'\n" "${port[$server]}" "${preload[$server]}" >>"$CLUSTER_DIR/$server/postgresql.conf"
        as_server_user "$PGBIN/pg_ctl" --pgdata="$CLUSTER_DIR/$server" --log="$CLUSTER_DIR/log.$server" --silent --wait start </dev/null
        cluster_on_exit "other $server stop"
    done
    cluster_pg_ctl start
    PGPORT=${port[statements]} sql -d mapped -c 'CREATE EXTENSION pg_stat_statements'
fi

if wants statements; then
    declare -A folder=([tandem]=data [absent]=absent [statements]=statements)
    # Processor time of the sessions that have ended, in ms: it says the same on a machine that is busy with something else.
    processor() { sed 's/.*) //' "/proc/$(head -n 1 "$CLUSTER_DIR/${folder[$1]}/postmaster.pid")/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000 / hz }'; }
    measure() { # measure SERVER DATABASE: transactions a second, and their processor time in the server, in µs each
        local before said
        before=$(processor "$1")
        said=$(PGPORT=${port[$1]} pgbench -n -S -M "$MODE" -c "$CLIENTS" -j "$CLIENTS" -T "$SECONDS_EACH" "$2" 2>/dev/null)
        sleep 0.1 # the postmaster takes in its children
        awk -v ms="$(processor "$1")" -v before="$before" '/^number of transactions actually/ { n = $NF } /^tps/ { t = $3 } END { print t, (ms - before) * 1000 / n }' <<<"$said"
    }
    pairs=("absent mapped" "tandem mapped" "statements mapped" "absent unmapped" "tandem unmapped")
    declare -A result=() took=()
    for ((round = 0; round <= ROUNDS; round++)); do # the first one warms up, and is not counted
        order=("${pairs[@]}")
        ((round % 2)) || mapfile -t order < <(printf '%s\n' "${pairs[@]}" | tac)
        for pair in "${order[@]}"; do
            # shellcheck disable=SC2086
            read -r value time <<<"$(measure $pair)"
            [ "$round" = 0 ] || { result[$pair]+="$value"$'\n' took[$pair]+="$time"$'\n'; }
        done
    done
    counted=$(sql -d mapped -c "SELECT n FROM tandem.latency_totals WHERE run = 'bench'")
    heading "pgbench -S -M $MODE, $CLIENTS clients on $(nproc) cores, $ROUNDS rounds of ${SECONDS_EACH} s"
    printf '%-50s %8s %9s %14s %9s\n' 'what' 'TPS' '× absent' 'processor, µs' '× absent'
    row() {
        printf '%-50s %8.0f %9.4f %14.2f %9.4f\n' "$3" "$(printf '%s' "${result[$1]}" | median)" "$(ratios "${result[$1]}" "${result[$2]}")" \
            "$(printf '%s' "${took[$1]}" | median)" "$(ratios "${took[$1]}" "${took[$2]}")"
    }
    row 'absent mapped' 'absent mapped' 'without pg_tandem'
    row 'tandem mapped' 'absent mapped' 'pg_tandem, table mapped: every statement observed'
    row 'statements mapped' 'absent mapped' 'pg_stat_statements'
    row 'tandem unmapped' 'absent unmapped' 'pg_tandem, table not mapped'
    echo "statements observed: $counted"
    [ "$counted" -gt 0 ]
fi

if wants processor; then
    heading "Processor time in the server of a SELECT by key in PL/pgSQL, without and with being observed: 2000 pairs of 500 statements"
    printf '%-50s %12s %12s %9s\n' 'what' 'ns without' 'ns more' 'share'
    row() { # row SERVER DATABASE SETTING OFF ON LABEL
        PGPORT=${port[$1]} sql -d "$2" -F ' ' -c "SELECT base, more, 1 + more / base FROM bench.pairs('$3', '$4', '$5', 2000, 500)" |
            while read -r base more share; do printf '%-50s %12.0f %12.0f %9.4f\n' "$6" "$base" "$more" "$share"; done
    }
    row tandem mapped tandem.track off mapped 'pg_tandem, table mapped'
    row statements mapped pg_stat_statements.track none all 'pg_stat_statements'
    row tandem unmapped tandem.track off mapped 'pg_tandem, table not mapped'
fi

if wants calls; then
    sql -d mapped <<'SQL'
SELECT FROM tandem.add_operation('bench', 'checkout', '200 ms');
CREATE FUNCTION public.nothing(text, text, text, interval, boolean) RETURNS void LANGUAGE c AS 'tandem_guard_test', 'tandem_guard_nothing';
SQL
    timed() { # timed FUNCTION: ms for all calls
        sql -d mapped -c 'SET max_parallel_workers_per_gather = 0' -c '\timing on' \
            -c "SELECT count($1('bench', 'checkout', 'new', d, true)) FROM (SELECT interval '1 ms' * (i % 1000) AS d FROM generate_series(1, $CALLS) AS i OFFSET 0) AS x" | awk '/^Time:/ { t = $2 } END { print t }'
    }
    beyond=''
    for ((round = 1; round <= ROUNDS; round++)); do
        if ((round % 2)); then
            a=$(timed public.nothing) b=$(timed tandem.observe)
        else
            b=$(timed tandem.observe) a=$(timed public.nothing)
        fi
        beyond+="$(awk -v a="$a" -v b="$b" -v n="$CALLS" 'BEGIN { print (b - a) * 1e6 / n }')"$'\n'
    done
    heading "observe(), $ROUNDS rounds of $CALLS calls in one statement"
    printf '%-62s %10.1f\n' 'ns beyond a call of an empty C function, median' "$(printf '%s' "$beyond" | median)" '... the best round' "$(printf '%s' "$beyond" | sort -g | head -n 1)"
    counted=$(sql -d mapped -c "SELECT n FROM tandem.latency_totals WHERE operation = 'checkout'")
    [ "$counted" = $((CALLS * ROUNDS)) ] && echo "all $counted were counted"
fi
