#!/bin/sh
# Every test: those in the crates and those in tests/ side by side, as they wait most of the time, then the SDKs'.
set -eu
cd "$(dirname "$0")/.."

# The libraries come over the network while the compiler has the processor.
scripts/test-sdk.sh install &
installing=$!
cargo test --workspace --no-run || { kill "$installing" 2>/dev/null || true; exit 1; }
wait "$installing"

units=$(mktemp)
trap 'rm -f "$units"' EXIT
cargo test --workspace --no-fail-fast --lib --bins >"$units" 2>&1 &
running=$!
status=0
cargo test --workspace --no-fail-fast --test '*' || status=$?
wait "$running" || status=$?
echo "the tests within the crates:"
cat "$units"
[ "$status" -eq 0 ] || exit "$status"
scripts/test-sdk.sh built
