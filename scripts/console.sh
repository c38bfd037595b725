#!/bin/sh
# Builds the web console into console/dist, which is committed: cargo build embeds it and needs no Node.
#   scripts/console.sh build     npm ci, tsc, esbuild
#   scripts/console.sh check     builds into a temporary folder and compares with console/dist
set -eu
usage() {
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
[ $# -eq 1 ] || usage
case "$1" in build | check) ;; *) usage ;; esac
cd "$(dirname "$0")/../console"

# The result depends on the sources and the locked versions only: no hash in names, no source map, no time.
bundle() {
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    node_modules/.bin/tsc --project .
    rm -rf "$1"
    mkdir -p "$1"
    node_modules/.bin/esbuild src/main.tsx --bundle --minify --format=esm --target=es2022 --charset=utf8 \
        --jsx=automatic --jsx-import-source=preact --legal-comments=none --log-level=warning \
        --outfile="$1/console.js"
    cp static/index.html static/icon.svg "$1/"
    chmod 644 "$1"/*
}

# The whole console as a browser loads it, and the amount of TypeScript.
limits() {
    size=0
    for file in "$1"/*; do size=$((size + $(gzip -9 -n -c "$file" | wc -c))); done
    lines=$(find src -name '*.ts' -o -name '*.tsx' | xargs cat | wc -l)
    echo "console: $size octets gzip (at most 122880), $lines lines of TypeScript (at most 6000)"
    [ "$size" -le 122880 ] && [ "$lines" -le 6000 ]
}

case "$1" in
build)
    bundle dist
    limits dist
    ;;
check)
    to=$(mktemp -d)
    trap 'rm -rf "$to"' EXIT
    bundle "$to/dist"
    diff -r "$to/dist" dist || { echo "console/dist is not what console/src makes: run scripts/console.sh build" >&2; exit 1; }
    limits dist
    ;;
esac
