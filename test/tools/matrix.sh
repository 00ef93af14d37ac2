#!/bin/bash
# make test-matrix: runs `make test` on PostgreSQL 15, 17 and 18, each in a clean Debian root made by debootstrap.
#
#   ROOTS="bookworm trixie"  only these roots           ONLY=, TESTS=, SKIP=  handed on to `make test`
#   TANDEM_CACHE=DIR         where roots are kept between runs (default: pg_tandem in the user's cache folder)
#   TANDEM_TESTED=RELEASE    all tests have run on this Debian release just now: the last root runs what may differ there, the others the tests in SQL only
#   TANDEM_JOBS=2            so many roots at the same time (default: one for each processor, at most 2); each builds with its share of the processors
#   TANDEM_QUICK=            every round of the random tests, as on the machine itself; in the roots they make fewer
#   TANDEM_MIRROR=URI        the Debian archive, instead of the one in this machine's apt configuration
#
# In a root the packages are installed as root and the tests run as an ordinary user; `make test` on the machine itself
# covers the rest. No browser is installed in a root: t/report says there that it is skipped. A root that can't be made is skipped, loudly. A test that fails in one fails the whole.
#
# /proc, /dev and the processes of a root live in namespaces of their own (unshare): they are gone when the last
# process is, however that came about, so an interrupted run leaves no mount and no server behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ROOTS=${ROOTS:-bookworm trixie forky}
CACHE=${TANDEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pg_tandem}
ROOT_TIMEOUT=${TANDEM_ROOT_TIMEOUT:-1500} # seconds for the tests in one root: a hang is a failure, not a wait
JOBS=${TANDEM_JOBS:-$(($(nproc) < 2 ? 1 : 2))}
OMP_NUM_THREADS=$(($(nproc) > JOBS ? $(nproc) / JOBS : 1)) # what nproc answers in a root
export OMP_NUM_THREADS
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }
banner() { printf '\n%s\n== %s\n%s\n' "$LINE" "$*" "$LINE"; }
LINE=$(printf '=%.0s' {1..100})

skip_all() { # nothing can be made on this machine: say why, and count every root as skipped
    banner "MATRIX SKIPPED: $1"
    say "0 passed, 0 failed, $(wc -w <<<"$ROOTS") skipped"
    exit 0
}

# --- root is needed for chroot and mounts
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || skip_all "it needs root, and there is no sudo here"
    sudo_options=()
    if [ ! -t 0 ]; then
        sudo -n true 2>/dev/null || skip_all "it needs root, and sudo asks for a password where nobody can type one"
        sudo_options=(-n)
    fi
    say "The roots need root (chroot, mounts): going on by sudo."
    exec sudo "${sudo_options[@]}" env "TANDEM_CACHE=$CACHE" "ROOTS=$ROOTS" "ONLY=${ONLY:-}" "TESTS=${TESTS:-}" "SKIP=${SKIP:-}" \
        "TANDEM_MIRROR=${TANDEM_MIRROR:-}" "TANDEM_TESTED=${TANDEM_TESTED:-}" "TANDEM_JOBS=${TANDEM_JOBS:-}" "http_proxy=${http_proxy:-}" "CI=${CI:-}" "${BASH_SOURCE[0]}" "$@"
fi

NAMESPACES=(unshare --mount --pid --fork --kill-child --ipc --uts)
"${NAMESPACES[@]}" true 2>/dev/null ||
    skip_all "this machine allows no namespaces (unshare), so nothing can be mounted"
command -v apt-get >/dev/null || skip_all "this is not a Debian machine"

# --- interrupted: end what runs in a root; its mounts end with it
CHILD='' TEMP=''
declare -A RUNNING=() # roots that are being tested, each by a process of its own
finish() {
    local status=$? pid
    trap '' INT TERM HUP
    for pid in "${RUNNING[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ -n "$CHILD" ]; then
        kill -KILL "$CHILD" 2>/dev/null || true # --kill-child takes the root's init along, and that all else
        wait "$CHILD" 2>/dev/null || true
    fi
    [ -z "$TEMP" ] || remove_root "$TEMP"
    exit "$status"
}
remove_root() { # never through a mount
    if grep -qF " $1/" /proc/self/mountinfo; then
        say "something is mounted below $1: left alone" >&2
        return 1
    fi
    rm -rf --one-file-system "$1" 2>/dev/null || { sleep 1 && rm -rf --one-file-system "$1"; } # its last process may still write
}
on_signals() {
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}
on_signals
attend() { # run in the background and wait: a trap then acts at once, not when the command ends
    "$@" </dev/null &
    CHILD=$!
    local status=0
    wait "$CHILD" || status=$?
    CHILD=''
    return "$status"
}

# --- what the machine's own apt configuration says
settings_of_apt() { # that a root needs too: the proxy, and whether a mirror's dates are to be believed
    apt-config dump | grep -E '^Acquire::(Check-Valid-Until|Check-Date|Retries|ForceIPv[46]|https?::(Proxy|Timeout)[^ ]*) ' || true
}
find_mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|Debian|//p' | head -n 1)
    if [ -z "$uri" ]; then # no lists have been fetched yet: go by the address
        uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1 || true)
    fi
    case $uri in
    mirror+file:*) uri=$(awk '/^https?:/ {print $1; exit}' "${uri#mirror+file:}") ;;
    esac
    printf '%s' "${uri%/}"
}
MIRROR=${TANDEM_MIRROR:-$(find_mirror)}
[ -n "$MIRROR" ] || skip_all "apt's configuration names no Debian archive (name one: TANDEM_MIRROR=URI)"
if [ -z "${http_proxy:-}" ]; then # debootstrap fetches by wget, which knows nothing of apt's proxy
    http_proxy=$(apt-config shell p Acquire::http::Proxy | sed -n "s/^p='\(.*\)'$/\1/p")
fi
export http_proxy

if ! command -v debootstrap >/dev/null || [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    say "Installing debootstrap and debian-archive-keyring: they make the clean Debian roots."
    export DEBIAN_FRONTEND=noninteractive
    { apt-get install -qq -y --no-install-recommends debootstrap debian-archive-keyring </dev/null ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap debian-archive-keyring; } \
            </dev/null; } || skip_all "debootstrap could not be installed"
fi

ARCH=$(dpkg --print-architecture)
mkdir -p "$CACHE/roots" "$CACHE/logs"
chmod 700 "$CACHE/roots" # a root's apt configuration may hold a proxy's password
exec 9>"$CACHE/roots/.lock"
flock -n 9 || { say "waiting for another matrix run to end …"; flock 9; }

# --- a root
make_root() { # make_root NAME DIR
    local name=$1 dir=$2 script='' keyring=/usr/share/keyrings/debian-archive-keyring.gpg include=adduser other
    # A debootstrap older than the release knows it not; every release since is made as sid is.
    [ -e "/usr/share/debootstrap/scripts/$name" ] || script=/usr/share/debootstrap/scripts/sid
    # A keyring older than the release may lack its key: a newer root, verified by it, has a newer one.
    for other in trixie forky; do
        [ "$other" != "$name" ] || break
        [ ! -e "$CACHE/roots/$other-$ARCH$keyring" ] || keyring=$CACHE/roots/$other-$ARCH$keyring
    done
    case $MIRROR in https:*) include+=,ca-certificates ;; esac

    for other in "$dir".tmp.*; do
        [ ! -e "$other" ] || remove_root "$other"
    done
    TEMP=$dir.tmp.$$
    if attend "${NAMESPACES[@]}" --mount-proc bash -c 'timeout --kill-after=10 900 debootstrap "$@"; exit $?' make_root \
        --variant=minbase --arch="$ARCH" --force-check-gpg --keyring="$keyring" --include="$include" \
        "$name" "$TEMP" "$MIRROR" ${script:+"$script"} &&
        { settings_of_apt && echo 'DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb";};'; } \
            >"$TEMP/etc/apt/apt.conf.d/99machine" &&
        printf '#!/bin/sh\nexit 101\n' >"$TEMP/usr/sbin/policy-rc.d" && # no package starts a service in a root
        chmod 755 "$TEMP/usr/sbin/policy-rc.d" &&
        chroot "$TEMP" useradd --create-home builder &&
        mv "$TEMP" "$dir"; then # complete only now: an interrupted root is never taken for one
        TEMP=''
    else
        remove_root "$TEMP"
        TEMP=''
        return 1
    fi
}

in_root() { # in_root DIR COMMAND…: with /proc, /dev, /dev/shm and an init that reaps
    # shellcheck disable=SC2016
    attend "${NAMESPACES[@]}" bash -ec '
        root=$1 limit=$2
        shift 2
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
        status=0
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
            DEBIAN_FRONTEND=noninteractive OMP_NUM_THREADS="$OMP_NUM_THREADS" CI="${CI:-}" ${http_proxy:+http_proxy="$http_proxy"} \
            ${ONLY:+ONLY="$ONLY"} ${TESTS:+TESTS="$TESTS"} ${SKIP:+SKIP="$SKIP"} TANDEM_QUICK="${TANDEM_QUICK-1}" TANDEM_BROWSER=no \
            timeout --kill-after=10 "$limit" chroot "$root" "$@" || status=$?
        [ "$status" -ne 124 ] || echo "ended after $limit s: TANDEM_ROOT_TIMEOUT"
        exit "$status"' in_root "$1" "$ROOT_TIMEOUT" "${@:2}"
}

fill_root() { # fill_root DIR: the checkout as it is now, untracked files included but no ignored ones, in /src
    local dir=$1
    rm -rf --one-file-system "$dir/src" "$dir/shared" "$dir/tmp" &&
        mkdir -p "$dir/src" "$dir/shared" && mkdir -m 1777 "$dir/tmp" &&
        git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
        tar -c --null --files-from=- --ignore-failed-read 2>/dev/null | tar -x --no-same-owner -C "$dir/src" &&
        { [ ! -d ../shared/data ] || cp -r --no-preserve=mode,ownership ../shared/data "$dir/shared/"; } &&
        chroot "$dir" chown -R builder: /src &&
        cp -L /etc/resolv.conf /etc/hosts "$dir/etc/"
}

run_root() { # run_root DIR: install what is missing as root, then the tests as an ordinary user
    fill_root "$1" &&
        { in_root "$1" /bin/bash -c 'cd /src && HOME=/root exec test/tools/with-deps.sh true' || return 90; } &&
        say "-- packages are there after $SECONDS s" &&
        in_root "$1" setpriv --reuid=builder --regid=builder --init-groups \
            env HOME=/home/builder USER=builder LOGNAME=builder /bin/bash -c 'cd /src && exec make test'
}

# --- all roots
passed=0 failed=0 skipped=0 table=
declare -A verdicts=() told=()

present() { # present NAME: its root is there, or is made; else it is skipped
    local name=$1 dir=$CACHE/roots/$1-$ARCH log=$CACHE/logs/$1.log
    [ ! -d "$dir" ] || return 0
    SECONDS=0
    banner "$name: making a clean root"
    if make_root "$name" "$dir" >"$log" 2>&1; then
        say "made in $SECONDS s"
        return 0
    fi
    tail -n 30 "$log"
    banner "$name SKIPPED: its root could not be made (above: the end of debootstrap's output)"
    verdicts[$name]=skipped told[$name]="$SECONDS s  no root"
    return 1
}

begin() { # begin NAME: tests it, in a process of its own
    local name=$1 only=${ONLY:-} skip=${SKIP:-}
    if [ -z "$only" ] && [ -n "${TANDEM_TESTED:-}" ]; then # the oldest release is the machine's, so the newest repeats what another server may make different, and the others SQL
        only=regress,pgtap,isolation
        if [ "$name" = "${ROOTS##* }" ]; then
            only=$only,tap
            skip='alert.pl audit.pl check.pl compare_concurrent.pl compare_oracle.pl compare_shared_memory.pl concurrency.pl docs.pl encoding.pl grafana.pl guard_rule.pl'
            skip+=' nagios.pl preflight.pl prometheus.pl rehearsal.pl report.pl rollback.pl settings.pl sla.pl state_json.pl stress.pl task_oracle.pl task_queue.pl template.pl verbs.pl'
        fi
    fi
    say "$(date +%T) $name: make test as an ordinary user"
    (
        RUNNING=() CHILD='' TEMP='' SECONDS=0 status=0
        on_signals
        export ONLY=$only SKIP=$skip
        run_root "$CACHE/roots/$name-$ARCH" >"$CACHE/logs/$name.log" 2>&1 || status=$?
        echo "$SECONDS s" >"$CACHE/logs/$name.took"
        exit "$status"
    ) &
    RUNNING[$name]=$!
}

end_next() { # waits for the one that ends first, and says what came of it
    local pid name log status=0 counts
    wait -n -p pid "${RUNNING[@]}" || status=$?
    for name in "${!RUNNING[@]}"; do
        [ "${RUNNING[$name]}" != "$pid" ] || break
    done
    log=$CACHE/logs/$name.log
    unset "RUNNING[$name]"
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1 || true)
    banner "$name"
    [ "$status" -ne 0 ] || [ -n "$counts" ] || status=1 # nothing was tested
    case $status in
    0) tail -n 15 "$log"
       verdicts[$name]=passed ;;
    90) cat "$log"
       banner "$name SKIPPED: its packages could not be installed (above: all output)"
       verdicts[$name]=skipped counts='no packages' ;;
    *) cat "$log"
       verdicts[$name]=FAILED counts="${counts:-exit status $status}" ;;
    esac
    told[$name]="$(cat "$CACHE/logs/$name.took" 2>/dev/null)  $counts"
}

ready=() # the newest first: it has most to do
for name in $ROOTS; do # made in this order: a newer root is verified by the keyring of the one before
    if present "$name"; then ready=("$name" "${ready[@]}"); fi
done
for name in "${ready[@]}"; do
    [ "${#RUNNING[@]}" -lt "$JOBS" ] || end_next
    begin "$name"
done
while [ "${#RUNNING[@]}" -gt 0 ]; do end_next; done
for name in $ROOTS; do
    case ${verdicts[$name]} in
    passed) passed=$((passed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
    table+=$(printf '%-10s %-8s %s' "$name" "${verdicts[$name]}" "${told[$name]}")$'\n'
done

banner "matrix"
printf '%s' "$table"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
