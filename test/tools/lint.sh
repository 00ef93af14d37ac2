#!/bin/bash
# make lint: what no test sees: formatting, shell syntax, objects with constructors at namespace scope, clang-tidy on the core.
# A check whose tool is not installed is skipped, and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PG_CONFIG=${PG_CONFIG:-pg_config}
passed=0 failed=0 skipped=0

pass() { echo "  passed   $1"; passed=$((passed + 1)); }
fail() { echo "  FAILED   $1"; failed=$((failed + 1)); }
skip() { echo "  skipped  $1: $2"; skipped=$((skipped + 1)); }
newest() { # newest TOOL: Debian's may only have a version in its name
    command -v "$1" || compgen -c "$1-" | grep -xE "${1//+/\\+}-[0-9]+" | sort -V | tail -n 1
}
child=''
trap '[ -z "$child" ] || kill "$child"; exit 143' INT TERM HUP
on_each() { # on_each N COMMAND…: with N of the files on standard input at a time, on all processors; a signal is heeded at once
    xargs -0 -n "$1" -P "$(nproc)" "${@:2}" <&0 &
    child=$!
    local status=0
    wait "$child" || status=$?
    child=''
    return "$status"
}
shopt -s nullglob globstar
sources=({src,test}/**/*.{cpp,hpp,cc})
scripts=(.ci/run test/**/*.sh)
core=(src/core/*.cpp test/stress/*.cpp)

# Each major version of clang-format formats in its own way: the sources are kept in that of Debian 12.
if tool=$(newest clang-format) && "$tool" --version | grep -q ' version 14\.'; then
    bad=''
    for source in "${sources[@]}"; do "$tool" --dry-run -Werror "$source" 2>/dev/null || bad+=" $source"; done
    if [ -z "$bad" ]; then pass "clang-format"; else fail "clang-format: $tool -i$bad"; fi
else
    skip "clang-format" "version 14 is not installed"
fi

bad=0
for script in "${scripts[@]}"; do bash -n "$script" || bad=1; done
if [ "$bad" = 0 ]; then pass "bash -n"; else fail "bash -n"; fi
if tool=$(command -v shellcheck); then
    # SC1091: sourced files are found at run time. SC2016: programs for awk, apt and bash -c stand in single quotes on purpose.
    if "$tool" --severity=info --exclude=SC1091,SC2016 "${scripts[@]}"; then pass "shellcheck"; else fail "shellcheck"; fi
else
    skip "shellcheck" "it is not installed"
fi

if tool=$(newest clang++); then
    if on_each 8 "$tool" -std=c++20 -fsyntax-only -Wall -Wextra -Wno-unknown-warning-option \
        -Werror=global-constructors -Werror=exit-time-destructors -Isrc -isystem "$("$PG_CONFIG" --includedir-server)" \
        -DTANDEM_VERSION='"lint"' < <(printf '%s\0' src/**/*.cpp); then
        pass "no constructor or destructor at namespace scope"
    else
        fail "constructors or destructors at namespace scope (-Wglobal-constructors, -Wexit-time-destructors)"
    fi
else
    skip "no constructor or destructor at namespace scope" "clang++ is not installed"
fi

commands=build/cmake/compile_commands.json
if ! tool=$(newest clang-tidy); then
    skip "clang-tidy" "it is not installed"
elif [ ! -e "$commands" ]; then
    skip "clang-tidy" "$commands is not there (make test ONLY=unit makes it)"
elif on_each 4 "$tool" -p build/cmake --quiet --warnings-as-errors='*' \
    --header-filter='(src/core|test/stress)/.*' \
    --checks='-*,bugprone-*,-bugprone-easily-swappable-parameters,performance-*,clang-analyzer-*,misc-unused-*,misc-redundant-expression' < <(printf '%s\0' "${core[@]}"); then
    pass "clang-tidy on src/core and test/stress"
else
    fail "clang-tidy on src/core and test/stress"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
