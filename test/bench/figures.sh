# figures.sh: what the scripts of test/bench have in common. To be sourced by a bash script.
# shellcheck shell=bash

# Median of the numbers on standard input.
median() { sort -g | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }

heading() { printf '\n%s\n' "$1"; }

# reach VALUE ≤|≥ BAR [UNIT]: the column "to reach" of a line: the bar, and a mark where the value that was measured, as it is and not as it is
# printed, misses it. Nothing where there is no bar. A bar that is missed ends no script: who reads the figures decides.
reach() {
    [ $# -ge 3 ] || return 0
    printf '%s %s%s' "$2" "$3" "${4:+ $4}"
    awk -v value="$1" -v sense="$2" -v bar="$3" 'BEGIN { exit value != "" && (sense == "≤" ? value + 0 <= bar + 0 : value + 0 >= bar + 0) }' && printf ', missed'
    return 0
}
