# cluster.sh: a private temporary PostgreSQL cluster with pg_tandem from build/stage. To be sourced by a bash script.
# shellcheck shell=bash
#
#   source test/tools/cluster.sh
#   cluster_start demo "max_connections = 300" …   name, then lines for postgresql.conf
#   cluster_psql -c 'SELECT 1'                     psql without psqlrc, stopping at the first error
#   cluster_restart [fast|immediate|smart]         immediate: a crash
#   cluster_stop                                   stops it and removes its folder; happens at exit too, also on Ctrl-C
#   cluster_on_exit 'COMMAND'                      before that; a trap of your own on EXIT would replace ours
#   as_server_user COMMAND…                        as the user the server runs as, in the cluster's folder: absolute paths!
#
# Set before cluster_start: PRELOAD=no (no shared_preload_libraries), CLUSTER_FSYNC=on, CLUSTER_SHOW_LOG=1 (the end of the
# server's log is printed when the script fails). Exported after it: PGHOST, PGPORT, PGUSER, PGDATABASE and PATH, so that psql and
# pgbench just connect. CLUSTER_DIR is the folder, CLUSTER_LOG the server's log, CLUSTER_STAGE its own copy of the extension.
#
# It listens on a unix socket in that folder and on no port. Nothing of the system's PostgreSQL is read or changed. As
# root, server and initdb run as an unprivileged user; only root and that user can enter the folder.

CLUSTER_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CLUSTER_DIR='' CLUSTER_STAGE='' CLUSTER_LOG=''
CLUSTER_EXIT_COMMANDS=()
PG_CONFIG=${PG_CONFIG:-pg_config}
PGBIN=${PGBIN:-$("$PG_CONFIG" --bindir)}
export PG_CONFIG PGBIN PATH="$PGBIN:$PATH"

as_server_user() (
    cd "${CLUSTER_DIR:-/}" || exit
    if [ "$(id -u)" -ne 0 ]; then
        exec "$@"
    fi
    user=${TANDEM_SERVER_USER:-postgres}
    id "$user" >/dev/null 2>&1 || {
        echo "There is no user '$user' for the server to run as (PostgreSQL refuses root): name one, TANDEM_SERVER_USER=…" >&2
        exit 1
    }
    exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME="${CLUSTER_DIR:-/}" USER="$user" LOGNAME="$user" "$@"
)

# cluster_settings STAGE: the postgresql.conf lines by which a server finds the extension staged below STAGE.
# PostgreSQL 18 has extension_control_path; Debian's 15 to 17 have extension_destdir, for control files and $libdir. Both
# leave a bare name, as in shared_preload_libraries, to dynamic_library_path.
cluster_settings() {
    local share libs known
    share=$("$PG_CONFIG" --sharedir) libs=$("$PG_CONFIG" --pkglibdir)
    known=$(as_server_user "$PGBIN/postgres" --describe-config | cut -f 1)
    echo "dynamic_library_path = '$1$libs:\$libdir'"
    case $'\n'$known$'\n' in
    *$'\n'extension_control_path$'\n'*) echo "extension_control_path = '$1$share:\$system'" ;;
    *$'\n'extension_destdir$'\n'*) echo "extension_destdir = '$1'" ;;
    *)  echo "$("$PG_CONFIG" --version) can't find an extension outside its own folders: make install puts pg_tandem there." >&2
        [ -e "$share/extension/pg_tandem.control" ] ;;
    esac
}

cluster_start() { # cluster_start [NAME] [LINE…]
    local name=${1:-cluster} stage=${TANDEM_STAGE:-$CLUSTER_SOURCE/build/stage}
    shift || true
    cluster_traps
    [ -z "$CLUSTER_DIR" ] || { echo "cluster_start: a cluster runs already in $CLUSTER_DIR" >&2; return 1; }
    [ -d "$stage" ] || { echo "cluster_start: nothing is staged in $stage (make stage)" >&2; return 1; }

    # The folder's name stays short: a socket's path ends at 107 bytes.
    CLUSTER_DIR=$(mktemp -d "${TANDEM_TMP:-/tmp}/tandem-${name:0:20}.XXXXXX") || return
    CLUSTER_STAGE=$CLUSTER_DIR/stage CLUSTER_LOG=$CLUSTER_DIR/log
    # A copy: the server's user may be unable to enter the checkout, and a rebuild can't pull a library from under a server.
    cp -r "$stage" "$CLUSTER_STAGE" || return
    if [ "$(id -u)" -eq 0 ]; then
        chown -R "${TANDEM_SERVER_USER:-postgres}:" "$CLUSTER_DIR" || return
    fi

    unset PGHOSTADDR PGSERVICE PGSERVICEFILE PGSYSCONFDIR PGOPTIONS PGSSLMODE PGREQUIRESSL PGREQUIREAUTH PGPASSWORD PGPASSFILE \
        PGTARGETSESSIONATTRS PGCLIENTENCODING PGCHANNELBINDING PGDATA PGCLUSTER PGAPPNAME PGTZ PGDATESTYLE
    export PGHOST=$CLUSTER_DIR PGPORT=54321 PGUSER=postgres PGDATABASE=postgres
    as_server_user "$PGBIN/initdb" --pgdata="$CLUSTER_DIR/data" --username=postgres --auth=trust --encoding=UTF8 \
        --locale=C.UTF-8 --no-sync >"$CLUSTER_LOG.initdb" 2>&1 || { cat "$CLUSTER_LOG.initdb" >&2; return 1; }
    {
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$CLUSTER_DIR'"
        echo "port = $PGPORT"
        echo "fsync = ${CLUSTER_FSYNC:-off}"
        echo "max_connections = 200"
        echo "max_worker_processes = 16"
        echo "timezone = 'UTC'"
        echo "log_timezone = 'UTC'"
        echo "log_line_prefix = '%m [%p] %b %q%u@%d %a: '"
        cluster_settings "$CLUSTER_STAGE" || return
        [ "${PRELOAD:-yes}" = no ] || echo "shared_preload_libraries = 'pg_tandem'"
        printf '%s\n' "$@"
    } | as_server_user tee -a "$CLUSTER_DIR/data/postgresql.conf" >/dev/null || return
    cluster_pg_ctl start
}

cluster_pg_ctl() { # on failure: why, from the server's own log
    as_server_user "$PGBIN/pg_ctl" --pgdata="$CLUSTER_DIR/data" --log="$CLUSTER_LOG" --silent --wait "$@" </dev/null || {
        echo "pg_ctl $* failed; the end of the server's log:" >&2
        tail -n 40 "$CLUSTER_LOG" >&2 || true
        return 1
    }
}

cluster_restart() {
    cluster_pg_ctl restart --mode="${1:-fast}"
}

cluster_psql() {
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$@"
}

cluster_stop() {
    [ -n "$CLUSTER_DIR" ] || return 0
    if [ -e "$CLUSTER_DIR/data/postmaster.pid" ]; then
        cluster_pg_ctl stop --mode=immediate || true
    fi
    rm -rf "$CLUSTER_DIR"
    CLUSTER_DIR='' CLUSTER_STAGE='' CLUSTER_LOG=''
}

cluster_on_exit() {
    CLUSTER_EXIT_COMMANDS+=("$1")
}

cluster_traps() {
    trap cluster_cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

cluster_cleanup() {
    local status=$? command children
    set +e
    trap '' INT TERM HUP # a second Ctrl-C must not interrupt the cleaning up
    for command in "${CLUSTER_EXIT_COMMANDS[@]}"; do eval "$command"; done
    mapfile -t children < <(jobs -p)
    [ ${#children[@]} -eq 0 ] || kill "${children[@]}" 2>/dev/null
    if [ "$status" -ne 0 ] && [ "${CLUSTER_SHOW_LOG:-}" = 1 ] && [ -n "$CLUSTER_DIR" ]; then
        echo "the end of the server's log:" >&2
        tail -n 40 "$CLUSTER_LOG" >&2
    fi
    cluster_stop
    trap - EXIT
    exit "$status"
}
cluster_traps
