#!/bin/sh
# Instructions that the CPU executes for a frame of 20 ms in each case of benches/media, as callgrind counts them: the same on
# a busy machine as on an idle one. Compares them with those in benches/media/instructions.txt, and fails when a case takes
# over 10 % more, or is not in there.
#
#   scripts/instructions.sh [BENCH...]    all benches, or those
#   scripts/instructions.sh --record      writes the file anew
#
# What callgrind offers is not always what the machine has: it knows no AVX-512, and passes AVX2 on only where it is. Opus,
# the Fourier transforms and memcpy choose their code by that, so counts are of one kind of CPU, which the file names.
set -eu
cd "$(dirname "$0")/.."

record=
[ "${1:-}" != --record ] || { record=yes; shift; }
[ -z "$record" ] || [ $# = 0 ] || { echo "--record takes all benches" >&2; exit 2; }
command -v valgrind >/dev/null || { echo "no valgrind here: scripts/packages.sh instructions" >&2; exit 2; }

recorded=benches/media/instructions.txt
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

[ $# -gt 0 ] && benches=$(printf ' --bench %s' "$@") || benches=--benches
machine=$(uname -m)
grep -qw avx2 /proc/cpuinfo && machine="$machine with AVX2"
about="# $(rustc --version | cut -d ' ' -f 1-2), $(valgrind --version), $machine"

# Each return from work_counted dumps what was executed in it, so the dumps of a process are its cases. (Of two options with the
# same pattern callgrind heeds one.)
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=valgrind --quiet --tool=callgrind --toggle-collect=*work_counted* \
--dump-after=*::work_counted* --callgrind-out-file=$folder/%p"
# shellcheck disable=SC2086 # words
cargo bench --quiet --package tandem-media $benches -- --count >"$folder/said" 2>"$folder/errors" ||
    { cat "$folder/errors" "$folder/said" >&2; exit 1; }

tab=$(printf '\t')
grep "^counted$tab" "$folder/said" | while IFS=$tab read -r _ process frames case; do
    [ "$process" = "${last:-}" ] || number=0
    last=$process number=$((number + 1))
    total=$(sed -n 's/^totals: *//p' "$folder/$process.$number")
    printf '%s\t%s\n' "$((total / frames))" "$case"
done >"$folder/counted"
[ -s "$folder/counted" ] || { echo "nothing was counted" >&2; exit 1; }

if [ -n "$record" ]; then
    { echo "# Instructions a frame of 20 ms: scripts/instructions.sh --record"; echo "$about"; cat "$folder/counted"; } >"$recorded"
    cat "$recorded"
    exit
fi
grep -qxF "$about" "$recorded" || echo "recorded with others: $(sed -n 2p "$recorded"); here: $about" >&2
awk -F '\t' '
    /^#/ { next }
    FILENAME != ARGV[2] { recorded[$2] = $1; next }
    !($2 in recorded) { printf "%9d %9s %7s  %s: NOT RECORDED\n", $1, "-", "", $2; bad++; next }
    {
        change = recorded[$2] ? ($1 / recorded[$2] - 1) * 100 : 0
        verdict = change > 10 ? ": TOO MANY" : change < -10 ? ": fewer, to be recorded" : ""
        printf "%9d %9d %+6.1f%%  %s%s\n", $1, recorded[$2], change, $2, verdict
        bad += change > 10
    }
    END { if (bad) printf "%d of %d cases take over 10 %% more instructions than %s says, or are not in it\n", bad, FNR, ARGV[1]; exit bad > 0 }
' "$recorded" "$folder/counted"
