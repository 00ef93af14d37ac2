#!/usr/bin/env bash
# What a look at a run's guards costs: test/bench/guard.sh
#
#   GUARDS=20 METRICS=50 LOOKS=500   the defaults: guards over METRICS metrics of a user's and those that come with the extension
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
GUARDS=${GUARDS:-20} METRICS=${METRICS:-50} LOOKS=${LOOKS:-500}

test/tools/build.sh
source test/tools/cluster.sh
cluster_start guard "autovacuum = off" "tandem.naptime = '1min'" "shared_buffers = 256MB"
echo "Processor time of a look at $GUARDS guards of a run with $METRICS metrics, $LOOKS looks:"
cluster_psql -At -v guards="$GUARDS" -v metrics="$METRICS" -v looks="$LOOKS" -f test/bench/guard.sql 2>&1 | sed 's/^.*NOTICE:  //'
