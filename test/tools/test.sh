#!/bin/bash
# make test: builds with -Werror and runs every test against private temporary clusters. Called through with-deps.sh.
#
#   ONLY=regress,tap     only these kinds: build unit regress pgtap isolation tap (what they need is built all the same)
#   TESTS="compare 010"  only the files of which the name, or its part before the first '_' or '.', is one of these
#   SKIP="docs.pl sla.pl" but for these
#   TANDEM_TEST_JOBS=2   so many TAP tests at the same time (default: one for each processor, at most 2); most of their time they wait
#
# What a failed test leaves for a person to read is printed, and kept in build/test/. The last line counts programs and
# files, not assertions.
set -euo pipefail
# shellcheck source=test/tools/cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"
cd "$CLUSTER_SOURCE"
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES # of the make that may have called us
PGXS_TEST=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
KINDS="build unit regress pgtap isolation tap"
ONLY=${ONLY:-$KINDS}
ONLY=${ONLY//,/ }
TESTS=${TESTS:-} SKIP=${SKIP:-}
JOBS=${TANDEM_TEST_JOBS:-$(($(nproc) < 2 ? 1 : 2))}
TIMEOUT=${TANDEM_TEST_TIMEOUT:-900} # seconds for one test program: a hang is a failure, not a wait
for kind in $ONLY; do
    [[ " $KINDS " == *" $kind "* ]] || { echo "ONLY: there is no kind of test called '$kind', but: $KINDS" >&2; exit 1; }
done

# --- the folder in which all of it happens; the server's user can read it, whatever folder the checkout is in
WORK=$(mktemp -d "${TANDEM_TMP:-/tmp}/tandem-test.XXXXXX")
RESULTS=$WORK/results KEPT=build/test STEP=''
chmod 755 "$WORK"
processes_of_step() { # with all their descendants: `timeout` takes a process group of its own, so a group is not enough
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v root="$STEP" '
        { pid = $1; sub(/.*\) /, ""); parent[pid] = $2 }
        END { for (pid in parent) { for (p = pid; p > 1 && p != root; p = parent[p]); if (p == root) print pid } }'
}
running() { # is one of these processes there, and not as a zombie?
    local pid
    for pid in "$@"; do
        ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" || return 0
    done
    return 1
}
finish() {
    local status=$?
    set +e
    trap '' INT TERM HUP
    if [ -n "$STEP" ]; then
        local pids
        mapfile -t pids < <(processes_of_step)
        kill -TERM "${pids[@]}" 2>/dev/null
        for _ in {1..150}; do # time to clean up, for each of them
            running "${pids[@]}" || break
            sleep 0.1
        done
        kill -KILL "${pids[@]}" 2>/dev/null
    fi
    find "$WORK" -name postmaster.pid -exec head -n 1 {} \; | while read -r pid; do # a server whose TAP test was killed
        [[ "$(readlink "/proc/$pid/cwd")" != "$WORK"/* ]] || kill -QUIT "$pid"
    done
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- what is said and counted
heading() { printf '\n--- %s\n' "$*"; }
note() { # note passed|FAILED|skipped KIND NAME [MILLISECONDS] [WHY]
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" "${5:-}" >>"$RESULTS"
    printf '  %-8s %-44s %7s %s\n' "$1" "$3" "${4:+$4 ms}" "${5:-}"
}
now() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
keep() { # keep KIND NAME FILE…: for a person to read, as the checkout's owner
    mkdir -p "$KEPT/$1/$2"
    cp -r "${@:3}" "$KEPT/$1/$2/" 2>/dev/null || true
}
selected() { # selected FILE
    local name=${1##*/} test
    [[ " $SKIP " != *" $name "* ]] || return 1
    [ -n "$TESTS" ] || return 0
    for test in $TESTS; do
        test=${test##*/}
        if [ "$name" = "$test" ] || [ "${name%.*}" = "$test" ] || [ "${name%%[_.]*}" = "$test" ]; then return 0; fi
    done
    return 1
}
select_files() { # select_files KIND FILE… → FILES; says so where there are none
    local kind=$1 file
    shift
    FILES=()
    for file in "$@"; do
        if [ -e "$file" ] && selected "$file"; then FILES+=("$file"); fi
    done
    [ ${#FILES[@]} -eq 0 ] || return 0
    if [ -n "$TESTS" ]; then echo "  none is called $TESTS"; else note skipped "$kind" "$kind" '' "no test of this kind yet"; fi
    return 1
}
step() { # step KIND HEADING: runs kind_KIND beside this shell, which thereby heeds a signal at once
    local kind=$1 status=0 begun=$SECONDS
    [[ " $ONLY " == *" $kind "* ]] || [ "$kind" = build ] || return 0
    heading "$2"
    (
        trap - EXIT
        trap 'exit 143' INT TERM HUP # bash heeds it when the command has ended: until then processes_of_step finds it
        "kind_$kind"
    ) </dev/null &
    STEP=$!
    wait "$STEP" || status=$?
    STEP=''
    [ "$status" -eq 0 ] || note FAILED "$kind" "$kind" '' "ended early, with status $status"
    printf '%s\t%s\n' "$kind" $((SECONDS - begun)) >>"$WORK/times"
}

# --- build: no warning, nothing exported by accident, no PostgreSQL in the core
kind_build() {
    local names file found begun
    begun=$(now)
    if test/tools/build.sh WERROR=1; then
        note passed build "no warning" $(($(now) - begun))
    else
        note FAILED build "no warning" $(($(now) - begun)) "make WERROR=1 (above)"
        return 0
    fi
    cp -r build/stage "$WORK/stage"
    chmod -R a+rX "$WORK/stage"
    begun=$(now)
    if make --no-print-directory -s -j "$(nproc)" PG_CONFIG="$PG_CONFIG" stress-program; then
        cp build/tandem_stress "$WORK/"
        note passed build "the stress program" $(($(now) - begun))
    else
        note FAILED build "the stress program" $(($(now) - begun)) "make stress-program (above)"
    fi

    names=$(nm --dynamic --defined-only pg_tandem.so | awk '{ sub(/@.*/, "", $NF); print $NF }' |
        grep -vxE 'Pg_magic_func|_PG_init|pg_finfo_[a-z0-9_]+|tandem_[a-z0-9_]+' || true)
    if [ -z "$names" ]; then note passed build "exports only what PostgreSQL needs"; else
        note FAILED build "exports only what PostgreSQL needs" '' "also exported:"
        printf '    %s\n' "$names"
    fi

    found=''
    for file in src/core/*.[ch]pp; do
        [ -e "$file" ] || continue
        # With no PostgreSQL on the include path its headers are not found; one found all the same shows in the list.
        g++ -std=c++20 -Isrc -M -x c++ "$file" >"$WORK/headers" 2>&1 || found+="$file: $(grep -m 1 error "$WORK/headers")"$'\n'
        ! grep -qE '/postgresql/|/libpq|src/pg/' "$WORK/headers" || found+="$file: includes PostgreSQL or src/pg"$'\n'
    done
    if [ -z "$found" ]; then note passed build "src/core knows nothing of PostgreSQL"; else
        note FAILED build "src/core knows nothing of PostgreSQL"
        printf '    %s\n' "$found"
    fi
}

# --- unit: the core under AddressSanitizer and UBSan
kind_unit() {
    local begun log=$WORK/unit.log name outcome seconds
    if [ ! -e CMakeLists.txt ]; then
        note skipped unit unit '' "there is no CMakeLists.txt yet"
        return 0
    fi
    begun=$(now)
    if ! { cmake -S . -B build/cmake -DCMAKE_BUILD_TYPE=Debug -DTANDEM_SANITIZE=ON &&
        cmake --build build/cmake -j "$(nproc)"; } >"$log" 2>&1; then
        tail -n 60 "$log"
        note FAILED unit "build of the core" $(($(now) - begun)) "CMake (above)"
        return 0
    fi
    echo "  (built in $(($(now) - begun)) ms)"
    ctest --test-dir build/cmake --output-on-failure --timeout "$TIMEOUT" >"$log" 2>&1 || cat "$log"
    while read -r name outcome seconds; do
        selected "$name" || continue
        case $outcome in
        Passed) note passed unit "$name" "$seconds" ;;
        Skipped) note skipped unit "$name" "$seconds" ;;
        *) note FAILED unit "$name" "$seconds" "$outcome" ;;
        esac
    done < <(sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) [.]* *(\*\*\*)?([A-Z][A-Za-z]*).* ([0-9]+)\.([0-9]{2}) sec.*/\1 \3 \4\50/p' "$log" |
        sed -E 's/ 0+([0-9])/ \1/')
    grep -qE '^ *[0-9]+/[0-9]+ Test' "$log" || note FAILED unit unit '' "ctest ran no test (above)"
}

# --- what pg_regress and pg_isolation_regress say: 'test NAME ... ok  5 ms', and since PostgreSQL 16 'ok 1  - NAME  5 ms'
note_regress() { # note_regress KIND FOLDER OUTPUT STATUS
    local outcome name time failed=0
    while read -r outcome name time; do
        [ "$outcome" = passed ] || failed=1
        note "$outcome" "$1" "$name" "$time"
    done < <(awk '
        function tell(ok, name) {
            print ok ? "passed" : "FAILED", name, match($0, /[0-9]+ ms/) ? substr($0, RSTART, RLENGTH - 3) : ""
        }
        / \.\.\. /                 { tell($0 ~ / \.\.\. ok /, $1 == "test" ? $2 : $1) }
        /^ok +[0-9]+ +[-+] /       { tell(1, $4) }
        /^not ok +[0-9]+ +[-+] /   { tell(0, $5) }' "$3")
    if [ -s "$2/regression.diffs" ]; then
        keep "$1" all "$2/regression.diffs" "$2/results"
        cat "$2/regression.diffs"
        echo "  (kept: $KEPT/$1/all/)"
    elif [ "$4" -ne 0 ]; then
        cat "$3"
        [ "$failed" = 1 ] || note FAILED "$1" "$1" '' "ended with status $4 (above)"
    fi
}
run_regress() { # run_regress KIND PROGRAM INPUT FILE…: in a cluster without preload
    local kind=$1 program=$2 in=$WORK/$1/in out=$WORK/$1/out names=() file status=0
    mkdir -p "$in" "$out/results"
    cp -r "$3"/. "$in/"
    for file in "${@:4}"; do
        file=${file##*/}
        names+=("${file%.*}")
        # An answer not yet written is an empty one: the difference shows all of it, and the other files are run too.
        [ -e "$in/expected/${file%.*}.out" ] || { mkdir -p "$in/expected" && : >"$in/expected/${file%.*}.out"; }
    done
    chmod -R a+rX "$WORK/$kind"
    [ "$(id -u)" -ne 0 ] || chown -R "${TANDEM_SERVER_USER:-postgres}:" "$WORK/$kind"
    PRELOAD=no TANDEM_STAGE=$WORK/stage cluster_start "$kind"
    as_server_user timeout --kill-after=10 $((TIMEOUT * 3)) "$program" --inputdir="$in" --outputdir="$out" --bindir="$PGBIN" \
        --host="$PGHOST" --port="$PGPORT" --user=postgres --dbname="contrib_regression" "${names[@]}" \
        >"$WORK/$kind.log" 2>&1 || status=$?
    note_regress "$kind" "$out" "$WORK/$kind.log" "$status"
    cluster_stop
}
kind_regress() {
    select_files regress sql/*.sql || return 0
    mkdir -p "$WORK/sql-and-expected/expected"
    cp -r sql "$WORK/sql-and-expected/"
    [ ! -d expected ] || cp -r expected "$WORK/sql-and-expected/"
    run_regress regress "$PGXS_TEST/regress/pg_regress" "$WORK/sql-and-expected" "${FILES[@]}"
}
kind_isolation() {
    select_files isolation test/isolation/specs/*.spec || return 0
    run_regress isolation "$PGXS_TEST/isolation/pg_isolation_regress" test/isolation "${FILES[@]}"
}

# --- what one run of prove over one file says
note_prove() { # note_prove KIND NAME STATUS MILLISECONDS OUTPUT
    local why
    if [ "$3" -ne 0 ]; then
        cat "$5"
        keep "$1" "$2" "$5"
        [ "$3" -ne 124 ] || why="ended after $TIMEOUT s"
        note FAILED "$1" "$2" "$4" "${why:-above; kept: $KEPT/$1/$2/}"
    elif why=$(grep -m 1 -oE '\. skipped.*' "$5"); then
        note skipped "$1" "$2" "$4" "${why#. skipped: }"
    else
        note passed "$1" "$2" "$4"
    fi
}

# --- pgTAP: each file in a database of its own. Its template has pgTAP; pg_tandem is created in each, for a database that the
# worker is busy in is no good template.
kind_pgtap() {
    local file name begun status
    select_files pgtap test/pgtap/*.sql || return 0
    TANDEM_STAGE=$WORK/stage cluster_start pgtap
    cluster_psql -c 'CREATE DATABASE with_pgtap'
    cluster_psql -d with_pgtap -c 'CREATE EXTENSION pgtap'
    cluster_psql -c 'ALTER DATABASE with_pgtap WITH ALLOW_CONNECTIONS false IS_TEMPLATE true'
    for file in "${FILES[@]}"; do
        name=$(basename "$file" .sql) begun=$(now) status=0
        {
            cluster_psql -c "CREATE DATABASE \"$name\" TEMPLATE with_pgtap" &&
                cluster_psql -d "$name" -c 'CREATE EXTENSION pg_tandem' &&
                timeout --kill-after=10 "$TIMEOUT" pg_prove --dbname "$name" --ext .sql --failures --comments "$file" &&
                PGOPTIONS='-c statement_timeout=30s' cluster_psql -c "DROP DATABASE \"$name\" WITH (FORCE)"
        } >"$WORK/pgtap.log" 2>&1 || status=$?
        note_prove pgtap "$name" "$status" $(($(now) - begun)) "$WORK/pgtap.log"
    done
    cluster_stop
}

debian_package() { # debian_package EXTENSION: its package, where the PostgreSQL is Debian's
    local version
    version=$("$PG_CONFIG" --version | grep -oE '[0-9]+' | head -n 1)
    [ "$PGBIN" != "/usr/lib/postgresql/$version/bin" ] || echo "postgresql-$version-$1"
}

# --- TAP: whole servers, made by PostgreSQL's own Perl modules (see test/t/TandemCluster.pm)
kind_tap() {
    local file name packages home=$WORK/tap
    select_files tap test/t/*.pl || return 0
    mkdir -p "$home"
    cp -r test docs README.md "$home/"  # docs: their commands are a test
    TANDEM_STAGE=$WORK/stage TANDEM_SETTINGS=$(cluster_settings "$WORK/stage")
    if [ -d ../shared/data ]; then
        TANDEM_DATA=$WORK/data
        cp -r --no-preserve=mode,ownership ../shared/data "$TANDEM_DATA"
        chmod -R a+rX "$TANDEM_DATA"
        export TANDEM_DATA
    fi
    [ ! -e "$WORK/tandem_stress" ] || export TANDEM_STRESS=$WORK/tandem_stress
    if grep -q TANDEM_PACKAGES "${FILES[@]}"; then # servers of others, that the tests start; pg_cron is found where pg_tandem is
        mapfile -t packages < <(debian_package cron)
        ! apt-cache show promtool >/dev/null 2>&1 || packages+=(promtool) # from Debian 13 on a package of its own
        test/tools/packages.sh build/packages prometheus prometheus-postgres-exporter "${packages[@]}"
        cp -r build/packages "$WORK/packages"
        for name in lib share; do
            [ ! -d "$WORK/packages/usr/$name/postgresql" ] || cp -r "$WORK/packages/usr/$name/postgresql" "$WORK/stage/usr/$name/"
        done
        chmod -R a+rX "$WORK/packages" "$WORK/stage"
        export TANDEM_PACKAGES=$WORK/packages
    fi
    export TANDEM_STAGE TANDEM_SETTINGS PERL5LIB=$PGXS_TEST/perl:$home/test/t${PERL5LIB:+:$PERL5LIB}
    export PG_REGRESS=$PGXS_TEST/regress/pg_regress PGPORT=65432 TMPDIR=$home/tmp # sockets: a short path
    mkdir "$TMPDIR"
    chmod -R a+rX "$home"
    [ "$(id -u)" -ne 0 ] || chown -R "${TANDEM_SERVER_USER:-postgres}:" "$home"
    local -A running_taps=() begun_taps=() # by process
    for file in "${FILES[@]}"; do
        [ "${#running_taps[@]}" -lt "$JOBS" ] || end_tap
        begin_tap "$file"
    done
    while [ "${#running_taps[@]}" -gt 0 ]; do end_tap; done
}
begin_tap() { # begin_tap FILE: a process of its own
    local name
    name=$(basename "$1" .pl)
    # A folder apart: t/docs has the name of the copy of docs/, which others read, and what is left of it is removed at its end.
    export TESTDIR=$home/runs/$name TESTDATADIR=$home/runs/$name/tmp_check TESTLOGDIR=$home/runs/$name/tmp_check/log
    as_server_user mkdir -p "$TESTLOGDIR"
    as_server_user timeout --kill-after=10 "$TIMEOUT" env -C "$home" prove --failures --comments "$1" >"$WORK/tap.$name.log" 2>&1 &
    running_taps[$!]=$name begun_taps[$!]=$(now)
}
end_tap() { # waits for the one that ends first, and says what came of it
    local pid status=0 name
    wait -n -p pid "${!running_taps[@]}" || status=$?
    name=${running_taps[$pid]}
    [ "$status" -eq 0 ] || keep tap "$name" "$home/runs/$name/tmp_check/log"
    note_prove tap "$name" "$status" $(($(now) - ${begun_taps[$pid]})) "$WORK/tap.$name.log"
    rm -rf "${home:?}/runs/$name" || true
    unset "running_taps[$pid]" "begun_taps[$pid]"
}

# --- all of it
rm -rf "$KEPT"
: >"$RESULTS"
step build     "build with -Werror for $("$PG_CONFIG" --version)"
step unit      "unit: the core under sanitizers (CMake)"
if [ -d "$WORK/stage" ]; then
    step regress   "regress: sql/ against expected/, without preload"
    step pgtap     "pgtap: test/pgtap/, with preload"
    step isolation "isolation: test/isolation/specs/, without preload"
    step tap       "tap: test/t/"
else
    echo "Nothing was staged, so no test that needs a server was run."
fi

heading "summary ($SECONDS s)"
awk -F '\t' -v times="$WORK/times" '
    BEGIN { while ((getline line < times) > 0) { split(line, t, "\t"); time[t[1]] = t[2] } }
    { n[$2, $1]++; if (!($2 in seen)) { seen[$2]; order[++kinds] = $2 } }
    $1 != "passed" { others = others sprintf("%s: %s %s %s\n", $1, $2, $3, $5) }
    END {
        printf "%-12s %8s %8s %8s %8s\n", "", "passed", "failed", "skipped", "seconds"
        for (i = 1; i <= kinds; i++) {
            k = order[i]
            printf "%-12s %8d %8d %8d %8d\n", k, n[k, "passed"], n[k, "FAILED"], n[k, "skipped"], time[k]
        }
        printf "%s", others
    }' "$RESULTS"
count() { grep -c "^$1"$'\t' "$RESULTS" || true; }
passed=$(count passed) failed=$(count FAILED) skipped=$(count skipped)
if [ -n "$TESTS" ] && [ "$failed" -eq 0 ] && ! cut -f 2 "$RESULTS" | grep -qvx build; then
    echo "No test is called '$TESTS'."
    failed=1
fi
tail=''
[ "$skipped" -eq 0 ] || tail=", $skipped skipped"
echo "$passed passed, $failed failed$tail"
[ "$failed" -eq 0 ]
