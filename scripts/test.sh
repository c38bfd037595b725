#!/bin/sh
# Every test: those in the crates and those in tests/ side by side, as they wait most of the time, then the SDKs'. At its
# end, the number of skipped tests and their reasons.
set -eu
cd "$(dirname "$0")/.."

# .ci/run sets the variable, because its checks write to the file, too.
TANDEM_SKIPPED_TESTS=${TANDEM_SKIPPED_TESTS:-$(mktemp)}
export TANDEM_SKIPPED_TESTS
units=$(mktemp)
trap 'scripts/skipped.sh "$TANDEM_SKIPPED_TESTS"; rm -f "$units" "$TANDEM_SKIPPED_TESTS"' EXIT

# The libraries and the models for speech come over the network while the compiler has the processor.
{ scripts/test-sdk.sh install && scripts/speech-models.sh fetch; } &
installing=$!
cargo test --workspace --no-run || { kill "$installing" 2>/dev/null || true; exit 1; }
wait "$installing"
models=$(scripts/speech-models.sh install)
if [ -n "$models" ]; then
    export TANDEM_SPEECH_MODELS="$models"
fi

cargo test --workspace --no-fail-fast --lib --bins >"$units" 2>&1 &
running=$!
status=0
cargo test --workspace --no-fail-fast --test '*' || status=$?
wait "$running" || status=$?
echo "the tests within the crates:"
cat "$units"
[ "$status" -eq 0 ] || exit "$status"
scripts/test-sdk.sh built
