#!/bin/sh
# Builds the packages of a release: what `make package` calls.
#
#   scripts/package.sh deb        the Debian packages: tandem, and tandem-speech
#   scripts/package.sh tarball    both programs with the documentation, unit and example configuration
#   scripts/package.sh sbom       the software bill of materials of each program (CycloneDX, JSON)
#   scripts/package.sh all        all three, and SHA256SUMS
#
# The files are in target/packages, or in the directory OUT. The programs are built with the profile `dist` of Cargo.toml.
# TANDEM_BINARY=PATH and SPEECH_BINARY=PATH each pack that program and do not build it. The same commit and the same compiler give the
# same files: times are SOURCE_DATE_EPOCH, or the time of the last commit.
set -eu
cd "$(dirname "$0")/.."

CARGO_DEB=3.8.0

what=${1:-all}
case $what in deb | tarball | sbom | all) ;; *) sed -n '4,7s/^#   //p' "$0" >&2; exit 1 ;; esac

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
built=$target/dist
out=$(realpath -m "${OUT:-$target/packages}")
extra=$built/extra
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')
name=tandem-$version-${host%%-*}-linux
mkdir -p "$out"

# Both programs, stripped, at $built/tandem and $built/tandem-speech.
programs() {
    # Paths of this machine are not in the programs: another directory gives the same files.
    for each in "$PWD=/tandem" "$target=/tandem/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo"; do
        RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$each"
        CFLAGS="${CFLAGS:-} -ffile-prefix-map=$each"
    done
    export RUSTFLAGS CFLAGS CXXFLAGS="${CXXFLAGS:-} $CFLAGS"
    # Two commands: one command would give both programs the features of the crates that either of them uses.
    program tandem tandem "${TANDEM_BINARY:-}"
    program tandem-speech-server tandem-speech "${SPEECH_BINARY:-}"
}

# program PACKAGE NAME PATH: without a PATH, builds the package.
program() {
    if [ -n "$3" ]; then
        mkdir -p "$built"
        strip -o "$built/$2" "$3"
        chmod 755 "$built/$2"
    else
        scripts/packages.sh demo
        cargo build --locked --profile dist --package "$1"
    fi
}

# Man pages and completions at $extra, written by the program tandem itself.
extras() {
    rm -rf "$extra"
    mkdir -p "$extra/man" "$extra/completions"
    "$built/tandem" man "$extra/man" >/dev/null
    gzip -9n "$extra"/man/*.1
    for shell in bash:tandem.bash zsh:_tandem fish:tandem.fish; do
        "$built/tandem" completions "${shell%%:*}" >"$extra/completions/${shell#*:}"
    done
}

deb() {
    case $(cargo-deb --version 2>/dev/null) in *$CARGO_DEB) ;; *) cargo install --locked --force --version "$CARGO_DEB" cargo-deb ;; esac
    for package in tandem tandem-speech-server; do
        cargo deb --package "$package" --profile dist --no-build --no-strip --output "$out/"
    done
}

tarball() {
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    root=$stage/$name
    install -D -m 755 -t "$root/bin" "$built/tandem" "$built/tandem-speech"
    install -D -m 644 packaging/debian/tandem.toml "$root/etc/tandem.toml"
    install -m 644 tandem.example.toml "$root/etc/tandem.example.toml"
    install -D -m 644 packaging/debian/tandem.service "$root/lib/systemd/system/tandem.service"
    install -D -m 644 packaging/debian/tandem.sysusers "$root/lib/sysusers.d/tandem.conf"
    install -m 644 packaging/debian/kernel-relay.conf packaging/debian/low-ports.conf "$root/lib/systemd/system"
    install -m 644 packaging/README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$root"
    install -m 644 README.md "$root/README.source.md"
    (cd docs && find . -name '*.md' -o -path './monitoring/*' -type f -o -path './pictures/*' -type f) | while read -r page; do
        install -D -m 644 "docs/$page" "$root/docs/$page"
    done
    install -D -m 644 -t "$root/share/man/man1" "$extra"/man/*.1.gz
    for each in tandem.bash:bash-completion/completions/tandem _tandem:zsh/site-functions/_tandem tandem.fish:fish/vendor_completions.d/tandem.fish; do
        install -D -m 644 "$extra/completions/${each%%:*}" "$root/share/${each#*:}"
    done
    tar --directory "$stage" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu --create "$name" |
        gzip -9n >"$out/$name.tar.gz"
    rm -rf "$stage"
    trap - EXIT
}

sbom() {
    packaging/sbom.py --target "$host" >"$out/tandem-$version.cdx.json"
    packaging/sbom.py --target "$host" --package tandem-speech-server >"$out/tandem-speech-$version.cdx.json"
}

if [ "$what" != sbom ]; then
    programs
    extras
fi
case $what in
all)
    tarball
    sbom
    deb
    (cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
    ;;
*) "$what" ;;
esac
ls -l "$out"
