#!/bin/sh
# A release build that knows what calls run through. Built once so that it counts, put under the load of scripts/figures.sh and of
# `tandem demo`, then built again by what was counted (profile-guided optimisation): a short call takes 15 % less CPU, as
# what it runs lies together in memory. The result is where `cargo build --release` leaves its own: target/release/tandem.
#
# Takes two whole builds and two minutes of load on 127.0.0.0/8: some 25 minutes with two cores.
set -eu
cd "$(dirname "$0")/.."

scripts/packages.sh release
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(realpath "${CARGO_TARGET_DIR:-target}")
host=$(rustc -vV | sed -n 's/^host: //p')
counts=$target/pgo-counts

# That of the compiler's own LLVM where rustup has it (rustup component add llvm-tools), else Debian's, which reads older formats too.
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[ -x "$profdata" ] || profdata=$(ls /usr/bin/llvm-profdata-* /usr/bin/llvm-profdata 2>/dev/null | sort -V | tail -1)

# build FOLDER FLAG: leaves its path in $tandem. What runs while building is not counted: a target is named.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $2" cargo build --release --package tandem --target "$host" --target-dir "$target/$1"
    tandem=$target/$1/$host/release/tandem
}

echo "1 of 3: a build that counts"
build pgo-instrumented "-Cprofile-generate=$counts"

echo "2 of 3: its calls"
rm -rf "$counts"
export TANDEM="$tandem" GENERATOR="env LLVM_PROFILE_FILE=/dev/null $tandem" ROUNDS=1 OUT="$target/pgo-figures"
# Packets that the kernel would relay are to be seen, too.
TANDEM_MEDIA__KERNEL_RELAY=off scripts/figures.sh short trained
SECONDS_EACH=5 scripts/figures.sh record
"$tandem" demo >"$target/pgo-figures/demo.log" || { cat "$target/pgo-figures/demo.log" >&2; exit 1; }
"$profdata" merge --output "$counts/merged" "$counts"/*.profraw ||
    { echo "$profdata cannot read what $(rustc -V) counts: a newer llvm, or rustup component add llvm-tools" >&2; exit 2; }
# By its content, as cargo builds again what is given other flags, not what is given another file.
profile=$target/pgo-$(sha256sum "$counts/merged" | cut -c1-16).profdata
mv "$counts/merged" "$profile"

echo "3 of 3: the build"
# What hardly runs is split off from what does, within functions too, and lies apart.
split="-Cllvm-args=-enable-split-machine-functions -Clink-arg=-Wl,-z,keep-text-section-prefix"
build pgo-optimized "-Cprofile-use=$profile $split"
mkdir -p "$target/release"
install "$tandem" "$target/release/tandem"
echo "$target/release/tandem"
