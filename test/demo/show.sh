# show.sh: how the demo speaks, waits and checks. Sourced by demo.sh.
# shellcheck shell=bash
BOLD='' RED='' GREEN='' BLUE='' PLAIN='' LIVE=no CHAPTER=0 WIDTH=100
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
    LIVE=yes # lines may be drawn over
    WIDTH=$(tput cols 2>/dev/null || echo 80)
    [ -n "${NO_COLOR:-}" ] || BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' BLUE=$'\e[36m' PLAIN=$'\e[0m'
fi

chapter() {
    CHAPTER=$((CHAPTER + 1))
    printf '\n%s %2d  %s%s\n' "$BOLD" "$CHAPTER" "$1" "$PLAIN"
}

say() { printf '     %s\n' "$@"; }

live() { # a line that the next one replaces; nothing where lines cannot be replaced
    [ "$LIVE" = no ] || printf '\r\e[K     %s' "${1:0:WIDTH-6}"
}
live_end() {
    [ "$LIVE" = no ] || printf '\r\e[K'
}

bar() { # bar PERCENT WIDTH
    local full=$((${1%.*} * $2 / 100)) out='' i
    for ((i = 0; i < $2; i++)); do if ((i < full)); then out+=█; else out+=░; fi; done
    printf '%s' "$out"
}

coloured() { # ticks, crosses and verdicts of a table or a dashboard
    sed -e "s/✓/$GREEN✓$PLAIN/g; s/✗/$RED✗$PLAIN/g; s/▒/$RED▒$PLAIN/g" \
        -e "s/\bOK\b/${GREEN}OK$PLAIN/g; s/\bWARNING\b/${RED}WARNING$PLAIN/g; s/\bCRITICAL\b/${RED}CRITICAL$PLAIN/g"
}

value() { cluster_psql -At -c "$1"; }

typed() { # SQL as one would type it
    printf '%s\n' "$1" | sed "s/^/     $BLUE/; s/\$/$PLAIN/"
}

show() { # show SQL: the statement, and what it answers
    typed "$1"
    cluster_psql -P border=1 -P linestyle=unicode -P format=wrapped -P columns=94 -P footer=off -P null=· -c "$1" | sed '/^$/d; s/ *$//; s/^/     /' | coloured
}

fail() {
    live_end
    printf '\n%s ✗  %s%s\n' "$RED" "$1" "$PLAIN" >&2
    [ $# -lt 2 ] || printf '    %s\n' "${@:2}" >&2
    exit 1
}

check() { # check CLAIM SQL: the claim is printed if the SQL says true, and ends the demo otherwise
    local answer
    answer=$(value "$2") || fail "$1" "the check itself failed: $2"
    [ "$answer" = t ] || fail "this did not happen: $1" "$2" "answered: ${answer:-nothing}"
    say "$GREEN✓$PLAIN $1"
}

wait_until() { # wait_until SECONDS WHAT SQL: until the SQL says true
    local until=$((SECONDS + $1))
    until [ "$(value "$3")" = t ]; do
        ((SECONDS < until)) || fail "this did not happen within $1 seconds: $2" "$(value "SELECT tandem.status('bank')")"
        traffic_goes_on
        sleep 0.1
    done
}
