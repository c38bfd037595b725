#!/bin/sh
# Checks licences, sources and bans of all dependencies (deny.toml), and security advisories where their database can be reached.
# Installs cargo-deny below the target folder if it is missing.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools

if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    deny=$tools/bin/cargo-deny
    # Unoptimized: it builds in half the time, and runs for a second.
    [ -x "$deny" ] || cargo install --locked --debug --root "$tools" "cargo-deny@$version"
fi

"$deny" --log-level warn check bans licenses sources
if "$deny" --log-level error fetch db >/dev/null 2>&1; then
    "$deny" --log-level warn check advisories
else
    echo "skipped: the database of security advisories cannot be reached from here"
    printf '%s\t%s\n' "make check: advisories" "the database of security advisories cannot be reached" \
        >>"${TANDEM_SKIPPED_TESTS:-/dev/null}"
fi
