#!/bin/bash
# make stress: many clients on tasks at once, in a private temporary cluster. docs/stress.md; tandem_stress --help.
#
#   make stress                                         about 10 seconds
#   make stress MODE=full                               about 5 minutes; also MODE=emergency, MODE=load
#   make stress STRESS="load --tasks 200 --threads 20"  any command and options of the program
#
# CLUSTER_FSYNC=off: without waiting for the disk.
set -euo pipefail
export CLUSTER_FSYNC=${CLUSTER_FSYNC:-on}
# shellcheck source=test/tools/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/../tools/cluster.sh"
cd "$CLUSTER_SOURCE"
test/tools/build.sh
make --no-print-directory -s -j "$(nproc)" PG_CONFIG="$PG_CONFIG" stress-program
export CLUSTER_SHOW_LOG=1
cluster_start stress "max_connections = 200" "max_wal_size = 4GB" "shared_buffers = 256MB" "tandem.naptime = '100ms'"
cluster_psql -c 'CREATE EXTENSION pg_tandem'
read -ra words <<<"${STRESS:-${MODE:-quick}}"
status=0
build/tandem_stress "${words[@]}" || status=$?
# A server that crashed and came back would only show as lost connections.
if grep -E 'PANIC|terminated by signal|TRAP: ' "$CLUSTER_LOG"; then
    echo "The server crashed (above)."
    status=1
fi
exit "$status"
