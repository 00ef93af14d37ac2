#!/bin/bash
# screenshot.sh: makes docs/pictures/prometheus.png: a real run in a private cluster, scraped by Debian's exporter and Prometheus, seen in Chromium.
# Called through with-deps.sh. Takes about two minutes. Nothing is installed but what with-deps.sh does; the servers are unpacked (packages.sh) and end with it.
set -euo pipefail
# shellcheck source=test/tools/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cd "$CLUSTER_SOURCE"
command -v chromium >/dev/null || { echo "There is no chromium here." >&2; exit 1; }
packages=$PWD/build/packages
test/tools/packages.sh "$packages" prometheus prometheus-postgres-exporter libjs-bootstrap4 libjs-d3 libjs-eonasdan-bootstrap-datetimepicker libjs-jquery libjs-jquery-hotkeys \
    libjs-moment libjs-moment-timezone libjs-mustache libjs-popper.js libjs-rickshaw fonts-glyphicons-halflings
[ -n "${TANDEM_STAGE:-}" ] || test/tools/build.sh

cluster_start picture "tandem.naptime = '200ms'"
work=$CLUSTER_DIR/servers
mkdir "$work"
cluster_psql -f - >/dev/null <<'SQL'
CREATE EXTENSION pg_tandem;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
CREATE SCHEMA legacy;
CREATE TABLE legacy.account (id integer PRIMARY KEY, cents bigint NOT NULL);
INSERT INTO legacy.account SELECT i, 1000 FROM generate_series(1, 20000) AS i;
CREATE SCHEMA bank;
CREATE TABLE bank.account (id bigint PRIMARY KEY, cents bigint NOT NULL);
SELECT tandem.create_run('bank', 'legacy', 'bank', hold => '8 seconds', steps => '{5,25,50,75,100}');
SELECT tandem.map_table('bank', 'legacy.account', 'bank.account');
SELECT tandem.set_option('bank', 'validate_every', '2 seconds');
SQL

free_port() { # nobody listens on it now
    local port
    while port=$((20000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}
exporter=$(free_port) web=$(free_port)
cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$CLUSTER_STAGE$("$PG_CONFIG" --sharedir)/pg_tandem/tandem_rules.yml]
scrape_configs: [{job_name: pg_tandem, static_configs: [{targets: ['127.0.0.1:$exporter']}]}]
YAML
DATA_SOURCE_NAME="host=$PGHOST port=$PGPORT user=monitor dbname=postgres sslmode=disable" "$packages/usr/bin/prometheus-postgres-exporter" \
    --web.listen-address="127.0.0.1:$exporter" --disable-default-metrics --disable-settings-metrics \
    --extend.query-path="$CLUSTER_STAGE$("$PG_CONFIG" --sharedir)/pg_tandem/tandem_queries.yaml" >"$work/exporter.log" 2>&1 &
"$packages/usr/bin/prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="127.0.0.1:$web" \
    --web.local-assets="$packages/usr/share/prometheus/web/" --log.level=warn >"$work/prometheus.log" 2>&1 &

# Traffic on both sides, as route() says; after a while a write behind the mirror's back.
cat >"$work/traffic.sql" <<'SQL'
\set id random(1, 20000)
SELECT (tandem.route('bank', :id::text) = 'new')::integer AS on_new \gset
\if :on_new
UPDATE bank.account SET cents = cents + 1 WHERE id = :id;
\else
UPDATE legacy.account SET cents = cents + 1 WHERE id = :id;
\endif
SQL
pgbench --no-vacuum --client=2 --rate=100 --time=100 --file="$work/traffic.sql" >"$work/pgbench.log" 2>&1 &
cluster_psql -c "SELECT pg_sleep(5)" -c "SELECT stage FROM tandem.start('bank')" -c "SELECT pg_sleep(50)" \
    -c "ALTER TABLE bank.account DISABLE TRIGGER USER; UPDATE bank.account SET cents = cents + 1 WHERE id = 4709; ALTER TABLE bank.account ENABLE ALWAYS TRIGGER tandem_mirror_1" \
    -c "SELECT pg_sleep(12)" >/dev/null

encode() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'; }
url="http://127.0.0.1:$web/classic/graph?" n=0
for expression in 'max by (run) (tandem_run_weight_ratio)' 'histogram_quantile(0.95, sum by (side, le) (rate(tandem_latency_seconds_bucket{operation="update"}[15s])))' \
    'count by (alertname) (ALERTS{alertstate="firing"})'; do
    url+="g$n.expr=$(encode "$expression")&g$n.tab=0&g$n.stacked=0&g$n.range_input=80s&"
    n=$((n + 1))
done
mkdir -p docs/pictures
chromium --headless=new --no-sandbox --disable-gpu --user-data-dir="$work/browser" --hide-scrollbars --window-size=1200,2270 --virtual-time-budget=15000 \
    --screenshot="$PWD/docs/pictures/prometheus.png" "$url" >"$work/chromium.log" 2>&1 || { cat "$work/chromium.log" >&2; exit 1; }
ls -l docs/pictures/prometheus.png
