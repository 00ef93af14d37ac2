#!/usr/bin/env bash
# What capturing changed keys costs the writers, and a round of continuous validation the server: test/bench/capture.sh
#
#   ROUNDS=5 SECONDS_EACH=4 ROWS=10000000 RATE=2000 EVERY=5    the defaults; RATE rows a second are changed of a table of ROWS rows,
#                                                              and a round is made EVERY seconds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-4} ROWS=${ROWS:-10000000} RATE=${RATE:-2000} EVERY=${EVERY:-5}

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
# No flush to disk anywhere: the worst case, as a commit that waits for a disk hides what comes before it.
cluster_start capture "max_connections = 50" "synchronous_commit = off" "max_wal_size = 8GB" "autovacuum = off" "shared_buffers = ${BUFFERS:-512MB}"
sql() { cluster_psql -qAt "$@"; }

sql -v rows="$ROWS" -f test/bench/capture.sql
for run in none trigger large; do
    until [ "$(sql -c "SELECT stage FROM tandem.status('$run')")" = shadow ]; do sleep 0.5; done
done
for run in none trigger; do sql -c "SELECT FROM tandem.promote('$run')"; done # strict: the cheaper mirror, so the dearer capture
sql -c 'VACUUM'

# --- what it costs a writer
script() { printf '\\set id random(1, 10000)\nUPDATE legacy.%s SET v = v + 1 WHERE id = :id;\n' "$1"; }
tps() { pgbench -n -M prepared -c "$2" -T "$SECONDS_EACH" -f <(script "$1") 2>/dev/null | awk '/^tps/ { print $3 }'; }
timed() { sql -c '\timing on' -c "$1" | awk '/^Time:/ { print $2 }'; }
compare() { # compare LABEL COMMAND…: in pairs, the order changing from pair to pair; the command's argument is the table
    local label=$1 none='' captured='' ratios='' a b i
    shift
    for ((i = 1; i <= ROUNDS; i++)); do
        if ((i % 2)); then
            a=$("$@" none) b=$("$@" trigger)
        else
            b=$("$@" trigger) a=$("$@" none)
        fi
        none+="$a"$'\n' captured+="$b"$'\n' ratios+="$(awk -v a="$a" -v b="$b" 'BEGIN { print b / a }')"$'\n'
        sql -c "DELETE FROM tandem.captured" -c "VACUUM tandem.captured, legacy.none, legacy.trigger, fresh.none, fresh.trigger"
    done
    local ratio bar=''
    ratio=$(printf '%s' "$ratios" | median)
    [[ $label != *TPS ]] || bar=$(reach "$ratio" ≥ 0.92)
    printf '%-52s %12.1f %12.1f %8.3f   %s\n' "$label" "$(printf '%s' "$none" | median)" "$(printf '%s' "$captured" | median)" "$ratio" "$bar"
}
# Without client and network: a procedure that commits each row. What remains is noise of the caches, not of the scheduler.
alone() {
    printf 'SELECT public.cpu() AS before \\gset\nDO $$ BEGIN FOR i IN 1..20000 LOOP UPDATE legacy.%s SET v = v + 1 WHERE id = 1 + i %% 10000; COMMIT; END LOOP; END $$;\nSELECT (public.cpu() - :before) / 20;\n' "$1" | sql
}
one() { tps "$1" 1; }
two() { tps "$1" 2; }
many() { timed "UPDATE legacy.$1 SET v = v + 1" | awk '{ print $1 / 10 }'; }
heading "Capture: mirrored UPDATEs with and without it, $ROUNDS pairs of ${SECONDS_EACH} s, nothing flushed to disk"
printf '%-52s %12s %12s %8s   %s\n' 'what' 'without' 'with' 'ratio' 'to reach'
compare 'one row a transaction, 1 client: TPS' one
compare 'one row a transaction, 2 clients: TPS' two
compare 'one row a transaction, no client: µs of processor' alone
compare '10,000 rows in one statement: µs a row' many

# --- what a round costs
cpu_of() { printf "SELECT public.cpu() AS before \\gset\n%s;\nSELECT round(public.cpu() - :before, 1);\n" "$1" | sql; }
heading "Rounds: $RATE rows a second changed of $ROWS, a round every $EVERY s"
pgbench -n -M prepared -c 4 -j 2 -R "$RATE" -T $((EVERY * (ROUNDS + 2))) -f <(printf '\\set id random(1, %s)\nUPDATE legacy.large SET v = v + 1 WHERE id = :id;\n' "$ROWS") >/dev/null 2>&1 &
load=$!
# In one session, as the worker's executor is one: the first round pays for its caches, and is not counted.
cpu=$(for ((i = 0; i <= ROUNDS; i++)); do
    printf 'SELECT pg_sleep(%s) \\g /dev/null\nSELECT public.cpu() AS before \\gset\n' "$EVERY"
    printf "SELECT tandem.validate('large', changes_only => true) \\\\g /dev/null\nSELECT round(public.cpu() - :before, 1);\n"
done | sed 's/\\\\/\\/' | sql | tail -n +2)
wait "$load"
sql -c "SELECT format('  %s, %s + %s rows, equal: %s, %s ms', scope, legacy_rows, new_rows, equal, round(1000 * extract(epoch FROM elapsed)))
          FROM tandem.comparisons WHERE run = 'large' AND scope = 'changes' ORDER BY id" | tail -n +2
each=$(printf '%s\n' "$cpu" | median)
printf '%-52s %12.1f   to reach: %s\n' 'processor time of a round, ms, median' "$each" "$(reach "$each" ≤ 200)"
printf '%-52s %12.1f\n' '... the dearest, ms' "$(printf '%s\n' "$cpu" | sort -g | tail -n 1)"
printf '%-52s %12.1f\n' '... of a full comparison, ms' "$(cpu_of "SELECT FROM tandem.validate('large')" | tail -n 1)"
[ "$(sql -c "SELECT bool_and(equal) FROM tandem.comparisons")" = t ]
