#!/usr/bin/env bash
# What report() takes for a run of 24 hours with 10,000 measurements, and how large its page is; dashboard(), too: test/bench/report.sh
#
#   ROUNDS=5 the default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5}

test/tools/build.sh
source test/tools/cluster.sh
source test/bench/figures.sh
cluster_start report "tandem.naptime = '1h'"
sql() { cluster_psql -qAt "$@"; }
timed() { sql -c '\timing on' -c "$1" | awk '/^Time:/ { print $2 }'; }

sql -c "CREATE EXTENSION pg_tandem" -f test/bench/report.sql
report='' dashboard=''
for ((round = 1; round <= ROUNDS; round++)); do # each in a session of its own, whose caches are empty
    report+="$(timed "SELECT length(tandem.report('checkout'))")"$'\n'
    dashboard+="$(timed "SELECT count(*) FROM tandem.dashboard('checkout')")"$'\n'
done
size=$(sql -c "SELECT length(tandem.report('checkout'))")
printf '\nreport() of a day: %s measurements, %s comparisons, %s hours of latencies, %s tasks; %s rounds\n' \
    "$(sql -c "SELECT count(*) FROM tandem.measurement")" "$(sql -c "SELECT count(*) FROM tandem.comparison")" "$(sql -c "SELECT count(*) FROM tandem.latency_hour")" \
    "$(sql -c "SELECT count(*) FROM tandem.task")" "$ROUNDS"
line() { printf '%-58s %10.0f   %s\n' "$1" "$2" "${3:-}"; }
each=$(printf '%s' "$report" | median)
printf '%-58s %10s   %s\n' 'what' '' 'to reach'
line 'report(), ms, median' "$each" "$(reach "$each" ≤ 1000)"
line '... the slowest' "$(printf '%s' "$report" | sort -g | tail -n 1)"
kb=$(awk -v n="$size" 'BEGIN { print n / 1000 }')
line 'its page, kB' "$kb" "$(reach "$kb" ≤ 1000)"
line 'dashboard(), ms, median' "$(printf '%s' "$dashboard" | median)"
