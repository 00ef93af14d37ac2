#!/bin/bash
# with-deps.sh COMMAND [ARGUMENT…]: installs what building and testing pg_tandem needs and this machine has not, then
# becomes COMMAND. Where all is there it does nothing and says nothing.
#
#   PG_VERSION=17 or PG_CONFIG=/path/to/pg_config  choose the PostgreSQL (see pg-version.sh)
#   TANDEM_BROWSER=no                              not the browser that looks at report(): its test is then skipped
#   WITH_PEERS=1                                   also the tools that the bench compares ours with; it goes without one that can't be installed
#
# COMMAND gets PG_VERSION, PG_CONFIG and PGBIN. No existing cluster is touched, and none is created: see no_main_cluster.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

can_be_root() { # can_be_root COMMAND: or say what a person who can has to type
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null || die "That needs root, and there is no sudo here. As root, type:" "  $1"
    [ -t 0 ] || sudo -n true 2>/dev/null ||
        die "That needs root, and sudo asks for a password where nobody can type one. As root, type:" "  $1"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt() { # apt update | apt install PACKAGE…
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 "$@" </dev/null
}

install() { # with the package lists as they are; with fresh ones where that does not do
    if ! apt-cache show --no-all-versions -- "$@" >/dev/null 2>&1 || ! apt install --no-install-recommends "$@"; then
        apt update
        apt install --no-install-recommends "$@"
    fi
}

# Debian's postgresql-NN creates a cluster 'main' on port 5432 and starts it when it is first installed. Nobody asked us
# for a server of that kind: a file beside createcluster.conf says no while we install, and is gone afterwards.
NO_CLUSTER=/etc/postgresql-common/createcluster.d/pg_tandem-installs-no-cluster.conf
no_main_cluster() {
    install postgresql-common
    trap main_cluster_as_before EXIT
    trap 'exit 130' INT TERM HUP
    as_root mkdir -p "$(dirname "$NO_CLUSTER")"
    echo 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
    [ "$(pg_conftool /etc/postgresql-common/createcluster.conf show -bs create_main_cluster)" = off ] ||
        die "Installing postgresql-$PG_VERSION would create and start a cluster on this machine, because its" \
            "createcluster.conf does not include createcluster.d. Install postgresql-$PG_VERSION yourself first."
}
main_cluster_as_before() {
    as_root rm -f "$NO_CLUSTER"
    as_root rmdir --ignore-fail-on-non-empty "$(dirname "$NO_CLUSTER")"
}

version=$("$HERE/pg-version.sh") || {
    [ -z "${PG_VERSION:-}${PG_CONFIG:-}" ] || exit 1 # it has said why
    command -v apt-get >/dev/null || die "No PostgreSQL was found: name one by PG_CONFIG=/path/to/pg_config."
    echo "Fetching the package lists, to see which PostgreSQL this Debian has."
    can_be_root "apt-get update"
    apt update
    version=$("$HERE/pg-version.sh") || die "No PostgreSQL was found among this machine's packages."
}
PG_VERSION=$version
DEBIAN_BIN=/usr/lib/postgresql/$PG_VERSION/bin
PGBIN=$DEBIAN_BIN
[ -z "${PG_CONFIG:-}" ] || PGBIN=$("$PG_CONFIG" --bindir)

declare -A WHY
need() { # need WHAT FOR PACKAGE…
    local package
    for package in "${@:2}"; do WHY[$package]=$1; done
}
need "to build"                                     g++ make libxxhash-dev libboost-dev
need "for the core's unit tests and benchmarks"     cmake libgtest-dev libbenchmark-dev
need "for the tests in Perl"                        perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl
if [ "$PGBIN" = "$DEBIAN_BIN" ]; then # a PostgreSQL from elsewhere is its owner's to complete
    need "to build against"                         "postgresql-server-dev-$PG_VERSION" libpq-dev
    need "for private temporary clusters"           "postgresql-$PG_VERSION" "postgresql-client-$PG_VERSION"
    need "for the tests in SQL"                     "postgresql-$PG_VERSION-pgtap"
fi

if command -v dpkg-query >/dev/null; then
    while read -r status package; do
        case $status in ii | hi) unset "WHY[$package]" ;; esac
    done < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${!WHY[@]}" 2>/dev/null || true)
else
    for command in g++ make cmake prove pg_prove "$PGBIN/postgres"; do
        command -v "$command" >/dev/null || die "$command is missing, and this is not Debian: install what the names" \
            "$(tr ' ' '\n' <<<"${!WHY[@]}" | sort | paste -sd ' ')" "stand for there."
    done
    WHY=()
fi

if [ ${#WHY[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${!WHY[@]}" | sort)
    echo "pg_tandem needs packages that are not installed; installing them now:"
    for package in "${missing[@]}"; do printf '  %-42s %s\n' "$package" "${WHY[$package]}"; done
    by_hand="apt-get install --no-install-recommends ${missing[*]}"
    can_be_root "$by_hand"
    [ -z "${WHY[postgresql-$PG_VERSION]:-}" ] || no_main_cluster
    install "${missing[@]}" || die "The packages could not be installed (above: apt's reason). By hand, as root:" "  $by_hand"
    if [ -n "${WHY[postgresql-$PG_VERSION]:-}" ]; then
        main_cluster_as_before
        trap - EXIT INT TERM HUP
    fi
fi

if [ -n "${WITH_PEERS:-}" ] && ! command -v pg_comparator >/dev/null; then
    echo "The bench compares ours with pg_comparator, which is not installed; installing postgresql-comparator now:"
    { command -v apt-get >/dev/null && (can_be_root "apt-get install postgresql-comparator") && install postgresql-comparator; } ||
        echo "postgresql-comparator could not be installed (above): the bench goes without, and says so." >&2
fi

# Only t/report.pl needs it, and skips where it is not.
wants_browser() { # would COMMAND run that test?
    [ "${TANDEM_BROWSER:-}" != no ] && [ "$(basename "${1:-}")" = test.sh ] && [[ ",${ONLY:-tap}," == *[,\ ]tap[,\ ]* ]] && [[ " ${TESTS:-report} " == *" report "* ]]
}
if wants_browser "$@" && ! command -v chromium >/dev/null; then
    echo "A test looks at report() in a browser, which is not installed; installing chromium now (TANDEM_BROWSER=no leaves it out):"
    { command -v apt-get >/dev/null && (can_be_root "apt-get install --no-install-recommends chromium") && install chromium fonts-dejavu-core; } ||
        echo "chromium could not be installed (above): t/report is skipped." >&2
fi

export PG_VERSION PGBIN
export PG_CONFIG=${PG_CONFIG:-$DEBIAN_BIN/pg_config}
exec "$@"
