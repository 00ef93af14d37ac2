#!/bin/bash
# packages.sh FOLDER PACKAGE…: unpacks Debian packages below FOLDER, for tests that run servers of others: pg_cron, Prometheus, its exporters.
#
# Unpacked and not installed: their installation would start services, at each boot too, and add users; and it needs root, which this does
# not. apt verifies what it downloads as ever. What is there already is not fetched again. Says which could not be had, and goes on.
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"
for package in "$@"; do
    [ ! -e "$folder/.$package" ] || continue
    work=$(mktemp -d)
    chmod 755 "$work"
    if command -v apt-get >/dev/null && (cd "$work" && apt-get -qq -o Acquire::Retries=3 download "$package") >"$work/log" 2>&1 && dpkg -x "$work/$package"_*.deb "$folder"; then
        touch "$folder/.$package"
    else
        echo "  ($package could not be fetched: $(grep -m 1 '^E:' "$work/log" || tail -n 1 "$work/log"))"
    fi
    rm -rf "$work"
done
