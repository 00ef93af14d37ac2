#!/usr/bin/env bash
# What observing costs: pgbench -S on mapped and unmapped tables against a server without pg_tandem, and against one with
# pg_stat_statements; a call of observe() against one of an empty C function: test/bench/observe.sh
#
#   ROUNDS=20 SECONDS_EACH=2 MODE=simple CALLS=2000000     the defaults
#   PARTS="statements processor calls"                             only these
#
# The servers run beside one another, with the same data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-20} SECONDS_EACH=${SECONDS_EACH:-2} MODE=${MODE:-simple} CALLS=${CALLS:-2000000}
PARTS=${PARTS:-statements processor calls}

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
sql() { cluster_psql -qAt "$@"; }
wants() { [[ " $PARTS " == *" $1 "* ]]; }
quartile() { printf '%s' "$2" | sort -g | awk -v q="$1" '{ a[NR] = $1 } END { print a[int((NR - 1) * q / 4) + 1] }'; } # quartile 1|3 NUMBERS

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
    # Both at the same time, one client each, and told is processor time: what else the machine does costs both the same.
    declare -A folder=([tandem]=data [absent]=absent [statements]=statements)
    processor() { sed 's/.*) //' "/proc/$(head -n 1 "$CLUSTER_DIR/${folder[$1]}/postmaster.pid")/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1e6 / hz }'; } # µs, of sessions that have ended
    cost() { # cost SERVER DATABASE: µs of processor in the server for a transaction
        local before said
        before=$(processor "$1")
        said=$(PGPORT=${port[$1]} pgbench -n -S -M "$MODE" -c 1 -T "$SECONDS_EACH" "$2" 2>/dev/null)
        sleep 0.1 # the postmaster takes in its children
        awk -v us="$(processor "$1")" -v before="$before" '/^number of transactions actually/ { print (us - before) / $NF }' <<<"$said"
    }
    beside() { # beside SERVER DATABASE FIRST: what a transaction costs without, over what it costs in that server, which is started first or second
        if [ "$3" = 1 ]; then cost "$1" "$2" >"$CLUSTER_DIR/cost" & else cost absent "$2" >"$CLUSTER_DIR/cost.absent" & fi
        if [ "$3" = 1 ]; then cost absent "$2" >"$CLUSTER_DIR/cost.absent"; else cost "$1" "$2" >"$CLUSTER_DIR/cost"; fi
        wait $!
        cat "$CLUSTER_DIR/cost.absent" >>"$CLUSTER_DIR/costs"
        paste "$CLUSTER_DIR/cost.absent" "$CLUSTER_DIR/cost" | awk '{ print $1 / $2 }'
    }
    declare -A result=()
    pairs=("tandem mapped" "statements mapped" "tandem unmapped")
    for ((round = 0; round <= ROUNDS; round++)); do # the first one warms up, and is not counted
        for pair in "${pairs[@]}"; do
            # shellcheck disable=SC2086
            value=$(beside $pair $((round % 2)))
            [ "$round" = 0 ] || result[$pair]+="$value"$'\n'
        done
    done
    counted=$(sql -d mapped -c "SELECT n FROM tandem.latency_totals WHERE run = 'bench'")
    heading "pgbench -S -M $MODE, beside a server without pg_tandem: TPS that a processor would do, one client each, $ROUNDS rounds of ${SECONDS_EACH} s"
    printf '%-50s %9s %19s   %s\n' 'what' '× without' 'half of the rounds' 'to reach'
    row() { # row PAIR LABEL [LEAST [LEAST-OF-ANOTHER]]
        local ratio bar=''
        ratio=$(printf '%s' "${result[$1]}" | median)
        [ -z "${3:-}" ] || bar=$(reach "$ratio" ≥ "$3")
        [ -z "${4:-}" ] || bar+="; $(reach "$ratio" ≥ "$4" 'as pg_stat_statements')"
        printf '%-50s %9.4f %9.4f %9.4f   %s\n' "$2" "$ratio" "$(quartile 1 "${result[$1]}")" "$(quartile 3 "${result[$1]}")" "$bar"
    }
    row 'tandem mapped' 'pg_tandem, table mapped: every statement observed' 0.98 "$(printf '%s' "${result['statements mapped']}" | median)"
    row 'statements mapped' 'pg_stat_statements'
    row 'tandem unmapped' 'pg_tandem, table not mapped' 0.995
    printf '%-50s %9.2f\n' 'without: µs of processor for a transaction' "$(median <"$CLUSTER_DIR/costs")"
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
    heading "observe(), processor time: 400 pairs of $((CALLS / 400)) calls in one statement"
    sql -d mapped -F ' ' -c 'SET max_parallel_workers_per_gather = 0' -c "SELECT round(base, 1), round(more, 1) FROM bench.calls(400, $((CALLS / 400)))" |
        while read -r base more; do
            printf '%-62s %10.1f   %s\n' 'ns for a call of an empty C function, its arguments included' "$base" '' 'ns more for observe()' "$more" "to reach: $(reach "$more" ≤ 60)"
        done
    counted=$(sql -d mapped -c "SELECT n FROM tandem.latency_totals WHERE operation = 'checkout'")
    [ "$counted" = $((CALLS / 400 * 400)) ] && echo "all $counted were counted"
fi
