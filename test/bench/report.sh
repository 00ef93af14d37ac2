#!/usr/bin/env bash
# What report() takes for a run of 24 hours with 10,000 measurements, and how large its page is; dashboard(), too: test/bench/report.sh
#
#   ROUNDS=5 the default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ROUNDS=${ROUNDS:-5}

test/tools/build.sh
source test/tools/cluster.sh
cluster_start report "tandem.naptime = '1h'"
sql() { cluster_psql -qAt "$@"; }
median() { sort -g | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
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
printf '%-58s %10.0f\n' 'report(), ms, median' "$(printf '%s' "$report" | median)" '... the slowest' "$(printf '%s' "$report" | sort -g | tail -n 1)" \
    'its page, kB' "$(awk -v n="$size" 'BEGIN { print n / 1000 }')" 'dashboard(), ms, median' "$(printf '%s' "$dashboard" | median)"
awk -v ms="$(printf '%s' "$report" | median)" -v bytes="$size" 'BEGIN { exit !(ms <= 1000 && bytes <= 1000000) }' || { echo "more than 1 s or 1 MB" >&2; exit 1; }
