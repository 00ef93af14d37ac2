#!/bin/bash
# make demo: the main job of pg_tandem on live traffic, in a private temporary cluster, in about a minute.
#
# pgbench's own tables move to a new design under pgbench's own traffic: mirrored, copied, compared, served by the new side in steps; then
# one cent goes wrong behind the mirror's back, and the run goes back by itself. Every claim is checked: status 0 means it all happened.
#
#   schema.sql, mapping.sql  both schemas, and what is what      traffic.sql    the application, for pgbench
#   views.sql                measurements, from tandem's tables
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LC_ALL=C.UTF-8 PGCLIENTENCODING=UTF8 PGAPPNAME=demo
STARTED=$EPOCHREALTIME
# shellcheck source=test/tools/cluster.sh
source "$HERE/../tools/cluster.sh"
# shellcheck source=test/demo/show.sh
source "$HERE/show.sh"

CLIENTS=${DEMO_CLIENTS:-4} RATE=${DEMO_RATE:-250} HOLD='8 seconds' EVERY='1 second'
TRAFFIC='' WORK=$(mktemp -d) DEADLINE=0
TRAFFIC_LOG=$WORK/pgbench
cluster_on_exit 'rm -rf "$WORK"'

traffic_goes_on() {
    kill -0 "$TRAFFIC" 2>/dev/null || fail "pgbench ended before its time" "$(tail -n 20 "$TRAFFIC_LOG")"
}

traffic_number() { # traffic_number LABEL: a number from pgbench's own report
    sed -n "s/^$1: *\([0-9]*\).*/\1/p" "$TRAFFIC_LOG"
}

backfill_bars() { # the progress of all tables, over the bars that stand there
    local row percent
    [ "$1" = first ] || printf '\e[4A'
    while IFS='|' read -r row percent rest; do
        printf '\e[K     %-14s %s %6s %%  %s\n' "$row" "$(bar "$percent" 40)" "$percent" "$rest"
    done < <(value "$BACKFILL")
}
backfill_line() { # the same where lines cannot be drawn over
    value "SELECT '     ' || string_agg(format('%s %s %%', new, percent), ' · ' ORDER BY started_at) FROM tandem.backfill_progress WHERE rows_seen > 0"
}
BACKFILL="SELECT new, percent, to_char(rows_seen, 'FM999,999,990') || ' rows' FROM tandem.backfill_progress ORDER BY started_at, new"

follow_step() { # follow_step KIND WEIGHT: the run as it is since it was promoted or retried, until it goes on
    local line
    while line=$(value "SELECT line FROM demo.step WHERE kind = '$1' AND weight = $2 AND until IS NULL") && [ -n "$line" ]; do
        traffic_goes_on
        ((SECONDS < DEADLINE)) || fail "the run did not go on from weight $2" "$(value "SELECT tandem.status('bank')")"
        live "$line"
        sleep 0.5
    done
    live_end
    value "SELECT line FROM demo.step WHERE kind = '$1' AND weight = $2 ORDER BY seq LIMIT 1" | sed 's/^/     /'
}

printf '%s\n' "${BOLD}pg_tandem: two schemas in tandem, under live traffic$PLAIN"
[ -e "$HERE/../../pg_tandem.so" ] || say "Building it for PostgreSQL $("$PGBIN/pg_config" --version | cut -d ' ' -f 2) …"
"$HERE/../tools/build.sh"
cluster_start demo "track_commit_timestamp = on"
SET_UP=$EPOCHREALTIME

# ---------------------------------------------------------------------------------------------------------------------
chapter "A bank on an old schema"
pgbench --initialize --quiet --scale=1 >/dev/null 2>&1
cluster_psql -f "$HERE/schema.sql" -c "CREATE EXTENSION pg_tandem"
say "PostgreSQL $(value "SELECT split_part(current_setting('server_version'), ' ', 1)"), a private cluster that is gone afterwards. Schema legacy holds pgbench's" \
    "own tables with $(value "SELECT to_char(count(*), 'FM999,999') FROM legacy.pgbench_accounts") accounts. Schema bank is their new design, still empty: other" \
    "names, wider keys, euros for cents, a computed status, one column made of two, two made of one:"
cluster_psql -o /dev/null -v hold="$HOLD" -v every="$EVERY" -f "$HERE/mapping.sql" -f "$HERE/views.sql"
show "SELECT * FROM demo.computed;"

chapter "The application writes, all the time"
QUIET=$(value "SELECT a.aid FROM legacy.pgbench_accounts AS a, tandem.run AS r
                WHERE tandem.bucket(r.salt, a.aid::text) BETWEEN 2500 AND 4999 ORDER BY abs(a.aid - 4711) LIMIT 1")
pgbench --no-vacuum --file="$HERE/traffic.sql" --client="$CLIENTS" --time=600 --rate="$RATE" --define=scale=1 --define=quiet="$QUIET" \
    --max-tries=100 --failures-detailed >"$TRAFFIC_LOG" 2>&1 &
TRAFFIC=$!
say "pgbench's bank transactions, $RATE a second from $CLIENTS clients, until the end. They ask of each row:"
show "SELECT tandem.route('bank', '$QUIET');"
say "and write it on the side that route() names. Entries go by the number of their account."

chapter "Checked before anything is touched, and started"
show "SELECT status, count(*) AS checks, string_agg(DISTINCT check_name, ', ') AS what
  FROM tandem.preflight('bank') GROUP BY status;"
check "preflight finds nothing in the way" "SELECT count(*) = 0 FROM tandem.preflight('bank') WHERE status <> 'OK' AND check_name <> 'settings'" # fsync is off in private clusters
show "SELECT run, stage, phase, weight, waiting_for FROM tandem.start('bank');"
say "From here on each write reaches both sides in one transaction. What was there is copied:"

chapter "Backfill, under traffic"
DEADLINE=$((SECONDS + 120))
[ "$LIVE" = no ] || backfill_bars first
until [ "$(value "SELECT bool_and(state = 'finished') FROM tandem.backfill_progress")" = t ]; do
    traffic_goes_on
    ((SECONDS < DEADLINE)) || fail "the backfill did not end" "$(value "SELECT tandem.status('bank')")"
    if [ "$LIVE" = yes ]; then backfill_bars again && sleep 0.1; else backfill_line && sleep 1; fi
done
if [ "$LIVE" = yes ]; then backfill_bars again; else backfill_bars first | sed 's/\x1b\[K//'; fi
wait_until 30 "the first comparison of both sides" "SELECT stage = 'shadow' FROM tandem.runs"
show "SELECT new, equal, legacy_rows, new_rows, missing, extra, changed, time
  FROM demo.last_comparison;"
check "both sides are equal, row by row, in one snapshot, while pgbench writes" \
    "SELECT bool_and(equal) AND count(*) = 4 AND sum(legacy_rows) >= 100011 FROM demo.last_comparison"

chapter "Traffic moves over: 5, 25, 50 %, each held for $HOLD, both sides compared every second"
DEADLINE=$((SECONDS + 120))
say "$(printf '%-7s %6s   %-20s %10s %9s %8s %12s %12s' stage weight '' writes 'by bank' share comparisons differences)"
follow_step synced 0
follow_step promote 5
follow_step promote 25
until [ "$(value "SELECT transactions >= 500 AND validations >= 2 FROM demo.step WHERE weight = 50")" = t ]; do
    traffic_goes_on
    ((SECONDS < DEADLINE)) || fail "no traffic at 50 %"
    live "$(value "SELECT line FROM demo.step WHERE weight = 50")"
    sleep 0.5
done
live_end
value "SELECT line FROM demo.step WHERE weight = 50" | sed 's/^/     /'
check "each step took its share of the accounts, and no comparison found a difference" \
    "SELECT count(*) = 4 AND bool_and(share_fits) AND sum(differences) = 0 FROM demo.step"

# ---------------------------------------------------------------------------------------------------------------------
chapter "One cent goes wrong"
TRIGGER=$(value "SELECT tgname FROM pg_trigger WHERE tgrelid = 'bank.account'::regclass AND tgname LIKE 'tandem\_mirror\_%'")
say "Somebody gives an account a cent, behind the mirror's back: one of 100,000 rows."
CORRUPT="BEGIN;
ALTER TABLE bank.account DISABLE TRIGGER $TRIGGER;
UPDATE bank.account SET balance = balance + 0.01 WHERE id = $QUIET;
ALTER TABLE bank.account ENABLE ALWAYS TRIGGER $TRIGGER;
COMMIT;"
check "account $QUIET is live on the new side" "SELECT tandem.route('bank', '$QUIET') = 'new'"
typed "$CORRUPT"
for ((try = 1; ; try++)); do # briefly: what waits for a table lock makes the traffic wait behind it
    cluster_psql -c "SET lock_timeout = '200ms'" -c "$CORRUPT" 2>"$WORK/error" && break
    if ! grep -q 'lock timeout\|deadlock' "$WORK/error" || ((try > 50)); then fail "the row could not be corrupted" "$(cat "$WORK/error")"; fi
    sleep 0.1
done
CORRUPTED=$(value "SELECT pg_xact_commit_timestamp(xmin) FROM bank.account WHERE id = $QUIET")
say "committed at ${CORRUPTED:11:12}"

chapter "Found, and rolled back by itself"
wait_until 20 "the rollback" "SELECT EXISTS (SELECT FROM tandem.rollback_proofs)"
show "SELECT new_table, kind, key, columns, legacy, new FROM tandem.differences LIMIT 1;"
check "exactly the row and the column that were changed" \
    "SELECT count(*) = 1 AND bool_and(new_table = 'bank.account' AND kind = 'changed' AND key = '{\"id\": $QUIET}' AND columns = '{balance}'
            AND legacy = '{\"balance\": 0.00}' AND new = '{\"balance\": 0.01}') FROM demo.cause"
show "SELECT automatic, reason, from_weight, elapsed FROM tandem.rollback_proofs;"
wait_until 20 "the proof" "SELECT bool_and(verdict <> 'pending') FROM tandem.rollback_proofs"
value "SELECT line FROM demo.timeline('$CORRUPTED')" | sed 's/^/     /'
show "SELECT tandem.route('bank', aid::text) AS \"served by\", count(*) AS accounts
  FROM legacy.pgbench_accounts GROUP BY 1;"
check "every account is served by legacy again, $QUIET too" \
    "SELECT bool_and(tandem.route('bank', aid::text) = 'legacy') FROM legacy.pgbench_accounts"
check "by itself, from 50 %, and the run waits for people: degraded" \
    "SELECT bool_and(p.automatic AND p.from_weight = 50 AND r.phase = 'degraded' AND r.weight = 0) FROM tandem.rollback_proofs AS p, tandem.runs AS r"

chapter "Was a write lost?"
say "pg_tandem's own proof compares every table again after the flip:"
show "SELECT verdict, mappings, legacy_rows, new_rows, differences, unexplained
  FROM tandem.rollback_proofs;"
check "nothing differs but that one cent" "SELECT verdict = 'explained' AND differences = 1 AND unexplained = 0 FROM tandem.rollback_proofs"
say "The bank's own law, of which pg_tandem knows nothing: what was booked is what changed."
show "SELECT * FROM demo.books;"
check "the books balance on the legacy side, in one snapshot of the running system" \
    "SELECT accounts = tellers AND tellers = branches AND branches = entries FROM demo.books WHERE side = 'legacy'"
wait_until 20 "pgbench to go on" "SELECT s.transactions > 0 FROM demo.step AS s WHERE s.kind = 'rollback'"
check "pgbench goes on, and all it writes goes to legacy" \
    "SELECT s.transactions > 0 AND r.last_on_new < r.committed_at + interval '1 second' FROM demo.step AS s, demo.rollback AS r WHERE s.kind = 'rollback'"

chapter "Mended, and on again"
show "UPDATE bank.account SET balance = 0.00 WHERE id = $QUIET;"
show "SELECT stage, phase, weight, health_score, waiting_for
  FROM tandem.retry('bank', 'the cent is back');"
DEADLINE=$((SECONDS + 60))
follow_step retry 0
check "validated clean again, and promoted to 5 % again" \
    "SELECT r.weight >= 5 AND s.validations > 0 AND s.differences = 0 FROM tandem.runs AS r, demo.step AS s WHERE s.kind = 'retry'"

chapter "The end of the day"
traffic_goes_on
kill -ALRM "$TRAFFIC" # what ends pgbench's own --time: it finishes its transactions and reports
wait "$TRAFFIC" || fail "pgbench reports errors" "$(tail -n 20 "$TRAFFIC_LOG")"
DONE=$(traffic_number 'number of transactions actually processed') FAILED=$(traffic_number 'number of failed transactions')
RETRIED=$(traffic_number 'total number of retries')
BOOKED=$(value "SELECT count(*) FROM legacy.pgbench_history")
say "pgbench reports $DONE transactions, $FAILED failed, $RETRIED tried again. Legacy has $BOOKED entries."
[ "$FAILED" = 0 ] || fail "$FAILED transactions failed"
check "not one write was lost, not one was made twice" "SELECT $BOOKED = $DONE AND count(DISTINCT id) = $DONE FROM legacy.pgbench_history"
check "the books balance on both sides, and are the same" \
    "SELECT count(*) = 2 AND bool_and(accounts = tellers AND tellers = branches AND branches = entries) AND count(DISTINCT accounts) = 1 FROM demo.books"
check "a last comparison of all tables: equal" "SELECT bool_and(equal) AND count(*) = 4 FROM tandem.validate('bank')"
check "no comparison ever reported a row that was not wrong" \
    "SELECT count(*) = 0 FROM tandem.differences WHERE (new_table, key) IS DISTINCT FROM ('bank.account', '{\"id\": $QUIET}'::jsonb)"

printf '\n'
value "SELECT tandem.dashboard('bank')" | sed 's/^/  /' | coloured
ENDED=$EPOCHREALTIME

printf '\n%s     Measured in this run%s\n' "$BOLD" "$PLAIN"
value "SELECT format('%-52s %s', what, measured) FROM demo.measured('$CORRUPTED', $DONE, $FAILED, $RETRIED)" | sed 's/^/     /'
say "$(awk -v a="$STARTED" -v b="$SET_UP" -v c="$ENDED" 'BEGIN { printf "%-52s %.0f s, and %.0f s to build and start a server", "this demo", c - b, b - a }')"
