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
    # The tests wait for calls most of the time, so several files run at once.
    .venv/bin/python -m pytest tests/sdk --numprocesses "${SDK_TESTS_AT_A_TIME:-4}" --dist loadfile
fi
