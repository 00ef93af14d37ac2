#!/bin/bash
# Prints the major version of the PostgreSQL to build and test with; nothing, and status 1, where it can't be known yet.
# In this order: $PG_VERSION; the version of $PG_CONFIG; the newest one installed; the distribution's default.
set -euo pipefail

if [ -n "${PG_VERSION:-}" ]; then
    version=$PG_VERSION
elif [ -n "${PG_CONFIG:-}" ]; then
    version=$("$PG_CONFIG" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
else
    version=$(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | cut -d / -f 5 | grep -x '[0-9]*' | sort -n | tail -n 1 ||
        apt-cache depends postgresql 2>/dev/null | sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1 || true)
fi
if ! [[ $version =~ ^[0-9]+$ ]]; then
    [ -z "$version" ] || echo "not a major version of PostgreSQL: '$version' (PG_VERSION is a number such as 15)" >&2
    exit 1
fi
echo "$version"
