#!/bin/bash
# build.sh [WERROR=1]: builds the extension for $PG_CONFIG and stages it below build/stage, where private clusters find it.
# Begins anew where what lies here was made for another PostgreSQL or compiler, or with less strictness than is asked for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PG_CONFIG=${PG_CONFIG:-pg_config}
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES # of the make that may have called us

made_for="$("$PG_CONFIG" --version) in $("$PG_CONFIG" --bindir), $(g++ --version | head -n 1)"
wanted=$made_for
case " $* " in *' WERROR=1 '*) wanted+=', strict' ;; esac
found=$(cat build/made-for 2>/dev/null || true)
if [ "$found" != "$wanted" ] && [ "$found" != "$made_for, strict" ]; then
    find src -name '*.o' -delete
    rm -f pg_tandem.so build/made-for
    found=$wanted
fi
rm -rf build/stage build/*.sql
make --no-print-directory -s -j "$(nproc)" PG_CONFIG="$PG_CONFIG" "$@" all
make --no-print-directory -s PG_CONFIG="$PG_CONFIG" "$@" stage
echo "$found" >build/made-for
