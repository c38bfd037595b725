#!/bin/sh
# Runs tests/sdk: the providers' own client libraries against a server of ours. Does nothing where there are none.
#
#   scripts/test-sdk.sh            installs the libraries if they are missing, builds the server, runs the tests
#   scripts/test-sdk.sh built      the same with the server that `cargo test --workspace` has built: `cargo build` alone wants
#                                  other features of the dependencies, and would build half of them again
#   scripts/test-sdk.sh install    only installs the libraries
set -eu
cd "$(dirname "$0")/.."
[ -d tests/sdk ] || exit 0

if [ -f tests/sdk/requirements.txt ]; then
    # The stamp spares the network when the requirements have not changed.
    if ! cmp -s tests/sdk/requirements.txt .venv/requirements.txt; then
        python3 -m venv --clear .venv
        .venv/bin/pip install --quiet --disable-pip-version-check -r tests/sdk/requirements.txt
        cp tests/sdk/requirements.txt .venv/requirements.txt
    fi
fi
# SDKs that cannot be with others, each in a place of its own.
for name in signalwire swml telnyx; do
    if [ -f "tests/sdk/$name.txt" ] && ! cmp -s "tests/sdk/$name.txt" ".venv-$name/requirements.txt"; then
        python3 -m venv --clear ".venv-$name"
        ".venv-$name/bin/pip" install --quiet --disable-pip-version-check -r "tests/sdk/$name.txt"
        cp "tests/sdk/$name.txt" ".venv-$name/requirements.txt"
    fi
done
if [ -f tests/sdk/package.json ]; then
    lock=tests/sdk/package-lock.json
    if ! cmp -s "$lock" tests/sdk/node_modules/.installed; then
        npm ci --loglevel=error --no-audit --no-fund --prefix tests/sdk
        cp "$lock" tests/sdk/node_modules/.installed
    fi
fi
[ "${1:-run}" != install ] || exit 0
if [ -f tests/sdk/requirements.txt ]; then
    [ "${1:-run}" = built ] || cargo build
    # The tests wait for calls most of the time. But many of them listen to audio in real time: one file at once for each processor.
    status=0
    .venv/bin/python -m pytest tests/sdk --numprocesses "${SDK_TESTS_AT_A_TIME:-$(nproc)}" --dist loadfile || status=$?
    # A machine that stops for a second can spoil audio. At most three failed tests run once more, alone. Their names stay in the
    # output: a test that appears there often has a fault.
    failed=$(sed -n 's/^  "\(.*\)": true,*$/\1/p' .pytest_cache/v/cache/lastfailed 2>/dev/null || true)
    [ "$status" -eq 1 ] && [ -n "$failed" ] && [ "$(printf '%s\n' "$failed" | wc -l)" -le 3 ] || exit "$status"
    printf 'these tests failed, and run once more, alone:\n%s\n' "$failed"
    .venv/bin/python -m pytest tests/sdk --last-failed
    printf 'passed only when they ran alone:\n%s\n' "$failed"
fi
