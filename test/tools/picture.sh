#!/bin/bash
# picture.sh [FILE]: makes docs/report.png anew: the report of test/bench/report.sql's run, as chromium shows it. FILE keeps the page, too.
set -euo pipefail
# shellcheck source=test/tools/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cd "$CLUSTER_SOURCE"
command -v chromium >/dev/null || { echo "It takes chromium: apt-get install chromium" >&2; exit 1; }
test/tools/build.sh
cluster_start picture
work=$(mktemp -d)
cluster_on_exit 'rm -rf "$work"'
cluster_psql -c "CREATE EXTENSION pg_tandem" -f test/bench/report.sql >/dev/null
cluster_psql -At -c "SELECT tandem.report('checkout')" >"$work/report.html"
[ $# -eq 0 ] || cp "$work/report.html" "$1"
chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --user-data-dir="$work/profile" \
    --window-size=1200,1480 --screenshot="$work/report.png" "file://$work/report.html" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
cp "$work/report.png" docs/report.png
stat -c '%n: %s bytes' docs/report.png
