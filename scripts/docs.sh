#!/bin/sh
# The documentation as pages for a browser.
#   scripts/docs.sh build    the pages, with a search, in target/docs; installs mdBook when it is missing
#   scripts/docs.sh check    docs/reference is what the program says; no dead link, and no page outside docs/SUMMARY.md
#   scripts/docs.sh write    writes docs/reference again (needs target/debug/tandem)
set -eu
MDBOOK=0.5.4
usage() {
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
[ $# -eq 1 ] || usage
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

# The version of mdBook is fixed, so that everybody gets the same pages.
mdbook() {
    program=$target/mdbook/bin/mdbook
    if ! "$program" --version 2>/dev/null | grep -qx "mdbook v$MDBOOK"; then
        cargo install --locked --root "$target/mdbook" --target-dir "$target/mdbook/build" --no-default-features --features search \
            "mdbook@$MDBOOK" >&2
        rm -rf "$target/mdbook/build"
    fi
    "$program" "$@"
}

case "$1" in
build)
    to=$(realpath "$target")
    scripts/book.py stage "$to/docs-pages"
    MDBOOK_BOOK__SRC="$to/docs-pages" mdbook build docs --dest-dir "$to/docs"
    echo "open $target/docs/index.html"
    ;;
check)
    scripts/reference.py --check
    scripts/book.py check
    ;;
write)
    scripts/reference.py
    scripts/book.py check
    ;;
*) usage ;;
esac
