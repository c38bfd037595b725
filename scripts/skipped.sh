#!/bin/sh
# Prints the number of skipped tests and their reasons.
#
#   scripts/skipped.sh FILE    each line of FILE has the name of a test, a tab and the reason (tests/support/skip.rs)
set -eu
[ -f "$1" ] || exit 0
echo "skipped tests: $(cut -f 1 "$1" | sort -u | grep -c . || true)"
sort -u "$1" | cut -f 2 | sort | uniq -c | sort -rn
