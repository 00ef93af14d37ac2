#!/usr/bin/env bash
# What the mirror costs, as ratios from one run: test/bench/mirror.sh
#
#   ROUNDS=5 SECONDS_EACH=4 ROWS=200000 COPIED=100000    the defaults: rows of the UPDATE of a whole table, and of the COPY
#   PARTS="update copy single"                           some of them only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-4} ROWS=${ROWS:-200000} COPIED=${COPIED:-100000}
PARTS=" ${PARTS:-update copy single} "

test/tools/build.sh
source test/tools/cluster.sh
# No flush to disk anywhere: the worst case for a mirror, as a commit that waits for a disk hides its cost.
cluster_start mirror "max_connections = 50" "synchronous_commit = off" "max_wal_size = 8GB" "autovacuum = off" "shared_buffers = 512MB"
sql() { cluster_psql -qAt "$@"; }
median() { sort -g | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
heading() { printf '\n%s\n' "$1"; }
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
row() { # row TABLE BASE DIVISOR DECIMALS
    printf "%-58s %12.$4f %10.2f\\n" "${labels[$1]}" "$(printf '%s' "${results[$1]}" | median | awk -v d="$3" '{ print $1 / d }')" "$(ratio "$1" "$2")"
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
    printf '%-58s %12s %10s\n' 'what' 'ms' '× by hand'
    for table in "${tables[@]}"; do row "$table" hand 1 0; done
    printf '%-58s %12s %10.2f\n' 'PL/pgSQL row trigger against the mirror' '' "$(ratio plpgsql strict)"
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
    printf '%-58s %12s %10s\n' 'what' 'ms' '× by hand'
    for table in "${tables[@]}"; do row "$table" hand 1 0; done
    printf '%-58s %12s %10.2f\n' 'PL/pgSQL row trigger against the mirror' '' "$(ratio plpgsql strict)"
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
    for ((round = 1; round <= ROUNDS; round++)); do
        for table in $(turn "$round"); do
            results[$table]+="$(tps "$table")"$'\n'
            clean "$table"
        done
    done
    heading "Mirror: single-row UPDATE, 1 client, prepared, $ROUNDS rounds of $SECONDS_EACH s, nothing flushed to disk"
    printf '%-58s %12s %10s\n' 'what' 'TPS' '× no mirror'
    for table in "${tables[@]}"; do row "$table" plain 1 0; done
    equal
fi
