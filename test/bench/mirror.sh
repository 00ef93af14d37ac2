#!/usr/bin/env bash
# What the mirror costs, as ratios from one run: test/bench/mirror.sh
#
#   ROUNDS=5 ROWS=200000 COPIED=100000    the defaults: rows of the UPDATE of a whole table, and of the COPY
#   SINGLE_ROUNDS=20 SECONDS_EACH=1       ... of single rows: many short turns, as a machine's speed drifts within a longer one
#   PARTS="update copy single"                           some of them only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5} SINGLE_ROUNDS=${SINGLE_ROUNDS:-20} SECONDS_EACH=${SECONDS_EACH:-1} ROWS=${ROWS:-200000} COPIED=${COPIED:-100000}
PARTS=" ${PARTS:-update copy single} "

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
# No flush to disk anywhere: the worst case for a mirror, as a commit that waits for a disk hides its cost.
cluster_start mirror "max_connections = 50" "synchronous_commit = off" "max_wal_size = 8GB" "autovacuum = off" "shared_buffers = 512MB"
sql() { cluster_psql -qAt "$@"; }
# timed TABLE STATEMENT…: their time in a session that has written the table before, as the first write of a session prepares the mirror.
timed() {
    local -a warm=(-c "UPDATE legacy.$1 SET v = v + 1 WHERE id = 1") statements=()
    [ "$1" != hand ] || warm+=(-c "UPDATE fresh.hand SET value = value + 1 WHERE id = 1")
    for statement in "${@:2}"; do statements+=(-c "$statement"); done
    sql "${warm[@]}" -c '\timing on' "${statements[@]}" | awk '/^Time:/ { sum += $2 } END { print sum }'
}
clean() { # clean TABLE [STATEMENT…]
    local -a statements=(-c "SET session_replication_role = replica")
    for statement in "${@:2}"; do statements+=(-c "$statement"); done
    sql "${statements[@]}" -c "VACUUM legacy.$1, fresh.$1" -c "DELETE FROM tandem.captured" -c "VACUUM tandem.captured"
}

sql -v rows="$ROWS" -f test/bench/mirror.sql
for run in lenient strict; do
    until [ "$(sql -c "SELECT stage FROM tandem.status('$run')")" = shadow ]; do sleep 0.5; done
done
sql -c "SELECT FROM tandem.promote('strict')" >/dev/null
sql -c VACUUM

declare -A results=() labels=(
    [plain]='no mirror'
    [hand]='both tables written by hand'
    [strict]='mirror, stage live (strict)'
    [lenient]='mirror, stages dualwrite and shadow (lenient)'
    [transition]='PL/pgSQL statement trigger, transition tables'
    [plpgsql]='PL/pgSQL row trigger'
)
ratio() { paste <(printf '%s' "${results[$1]}") <(printf '%s' "${results[$2]}") | awk '{ print $1 / $2 }' | median; } # the median of the rounds'
rows() { # rows BASE ≤|≥ BAR: a line for each table; the bar is the mirrors'
    local table against bar
    for table in "${tables[@]}"; do
        against=$(ratio "$table" "$1") bar=''
        case $table in strict | lenient) bar=$(reach "$against" "$2" "$3") ;; esac
        printf '%-58s %12.0f %11.2f   %s\n' "${labels[$table]}" "$(printf '%s' "${results[$table]}" | median)" "$against" "$bar"
    done
}
equal() {
    local answer
    answer=$(sql -c "SELECT bool_and(c.equal) FROM unnest('{hand,strict,lenient,plpgsql,transition}'::text[]) AS name,
                            tandem.compare(('legacy.' || name)::regclass, ('fresh.' || name)::regclass, columns => '{\"label\": \"note\", \"value\": \"v\"}') AS c")
    echo "both sides equal afterwards: $answer"
    [ "$answer" = t ]
}
tables=(plain hand strict lenient transition plpgsql)
turn() { # turn ROUND: the tables, in the other order every second time
    if (($1 % 2)); then printf '%s\n' "${tables[@]}"; else printf '%s\n' "${tables[@]}" | tac; fi
}

if [[ $PARTS = *" update "* ]]; then
    results=()
    for ((round = 1; round <= ROUNDS; round++)); do
        for table in $(turn "$round"); do
            statements=("UPDATE legacy.$table SET v = v + 1, note = id::text")
            [ "$table" != hand ] || statements+=("UPDATE fresh.$table SET value = value + 1, label = id::text")
            results[$table]+="$(timed "$table" "${statements[@]}")"$'\n'
            clean "$table"
        done
    done
    heading "Mirror: UPDATE of $ROWS rows in one statement, $ROUNDS rounds"
    printf '%-58s %12s %11s   %s\n' 'what' 'ms' '× by hand' 'to reach'
    rows hand ≤ 1.4
    against=$(ratio plpgsql strict)
    printf '%-58s %12s %11.2f   %s\n' 'PL/pgSQL row trigger against the mirror' '' "$against" "$(reach "$against" ≥ 2.5)"
    equal
fi

if [[ $PARTS = *" copy "* ]]; then
    results=()
    rows=$CLUSTER_DIR/rows
    sql -c "COPY (SELECT $ROWS + i, i, 'note ' || i FROM generate_series(1, $COPIED) AS i) TO STDOUT" >"$rows"
    for ((round = 1; round <= ROUNDS; round++)); do
        for table in $(turn "$round"); do
            statements=("\\copy legacy.$table from '$rows'")
            [ "$table" != hand ] || statements+=("\\copy fresh.$table from '$rows'")
            results[$table]+="$(timed "$table" "${statements[@]}")"$'\n'
            clean "$table" "DELETE FROM legacy.$table WHERE id > $ROWS" "DELETE FROM fresh.$table WHERE id > $ROWS"
        done
    done
    heading "Mirror: COPY of $COPIED rows, $ROUNDS rounds"
    printf '%-58s %12s %11s   %s\n' 'what' 'ms' '× by hand' 'to reach'
    rows hand ≤ 1.5
    against=$(ratio plpgsql strict)
    printf '%-58s %12s %11.2f\n' 'PL/pgSQL row trigger against the mirror' '' "$against"
    equal
fi

if [[ $PARTS = *" single "* ]]; then
    results=()
    tps() {
        local second=''
        [ "$1" != hand ] || second="UPDATE fresh.$1 SET value = value + 1, label = :id::text WHERE id = :id;"
        pgbench -n -M prepared -c 1 -T "$SECONDS_EACH" -f <(printf '\\set id random(1, %s)\n%sUPDATE legacy.%s SET v = v + 1, note = :id::text WHERE id = :id;\n%s%s' \
            "$ROWS" "${second:+BEGIN;$'\n'}" "$1" "${second:+$second$'\n'}" "${second:+COMMIT;$'\n'}") 2>/dev/null | awk '/^tps/ { print $3 }'
    }
    for ((round = 1; round <= SINGLE_ROUNDS; round++)); do
        for table in $(turn "$round"); do
            results[$table]+="$(tps "$table")"$'\n'
            clean "$table"
        done
    done
    heading "Mirror: single-row UPDATE, 1 client, prepared, $SINGLE_ROUNDS rounds of $SECONDS_EACH s, nothing flushed to disk"
    printf '%-58s %12s %11s   %s\n' 'what' 'TPS' '× no mirror' 'to reach'
    rows plain ≥ 0.75
    equal
fi
