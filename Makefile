# `make demo` and `make test` need nothing prepared but Rust, make, and Debian's apt as root or by sudo.

SECONDS ?= 60
FUZZ_TARGETS ?= sip phones identity sdp rtp webrtc codec markup texml swml pages

.PHONY: demo test check docs bench instructions bpf run release package fuzz peers cluster

# One real call through every part, as a timeline; and a call to a voice agent, if this machine has models for speech. The first build
# takes minutes; cargo shows its progress.
demo:
	@scripts/packages.sh demo
	@echo "building Tandem (the first time takes some minutes)"
	@cargo build --release
	@if ls "$${TANDEM_SPEECH_MODELS:-$${XDG_DATA_HOME:-$$HOME/.local/share}/tandem/speech}"/whisper-* \
	  /var/lib/tandem/speech/whisper-* 2>/dev/null | grep -q .; then \
	  cargo build --release --package tandem-speech-server; fi
	@"$${CARGO_TARGET_DIR:-target}/release/tandem" demo

# Every test, the providers' SDKs included.
test:
	@scripts/packages.sh test
	@scripts/test.sh
	@echo "make test: all tests passed"

# The checks that CI runs before the tests: formatting, lints, documentation, dependencies, mutated inputs for each parser, the built files of
# the web console, the generated pages and the links of the docs, and the blocks of the docs.
check:
	@scripts/packages.sh test
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo check --package tandem --no-default-features --quiet
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	@scripts/check-dependencies.sh
	FUZZ_SECONDS=10 cargo test --test mutations
	@scripts/console.sh check
	@scripts/docs.sh check
	@scripts/check-docs.py
	@echo "make check: all fine"

# The documentation as pages for a browser, in target/docs. The first time, this installs mdBook, which takes minutes.
docs:
	@cargo build --quiet
	@scripts/docs.sh check
	@scripts/docs.sh build

# What a frame of audio costs, in time.
bench:
	cargo bench --package tandem-media

# ... and in instructions, which a busy machine does not change: against benches/media/instructions.txt.
instructions:
	@scripts/packages.sh instructions
	@scripts/instructions.sh $(BENCHES)

# The program that relays RTP in the kernel, from its source; needs clang. Its result is committed: a test compares both.
bpf:
	cd media/kernel && clang -O2 -g0 -target bpf -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/$$(uname -m)-linux-gnu \
	  -c relay.bpf.c -o relay.bpf.o && sha256sum relay.bpf.c relay.bpf.o > relay.bpf.sha256

# The server in the foreground: make run ARGS="--config tandem.toml"
run:
	@scripts/packages.sh demo
	cargo run --release -- serve $(ARGS)

# The fastest build, optimized by what calls run through: for those who package it, or serve many calls. Half an hour.
release:
	@scripts/release.sh

# The packages of a release, in target/packages: Debian packages, tarball, SBOM, SHA256SUMS. 25 to 35 minutes with two cores.
package:
	@scripts/package.sh all

# Each parser against the fuzzer for SECONDS: make fuzz SECONDS=600 FUZZ_TARGETS=sip
# cargo-fuzz wants a nightly compiler for its flags; RUSTC_BOOTSTRAP lets the stable one take them. Needs g++.
fuzz:
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@set -e; for target in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/corpus/$$target; \
	  features=; case $$target in markup|texml|swml|pages) features="--features control" ;; esac; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run $$features $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(SECONDS) -timeout=5 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1; \
	done
	@echo "make fuzz: no findings"

# Real phones (baresip, Linphone, JsSIP) against the server, feature by feature; behind a NAT and behind Kamailio; while the
# server restarts; a browser behind a NAT. As root; takes half an hour.
peers:
	@scripts/packages.sh peers
	@cargo build --release --quiet
	@cd tests/peers/browser && npm ci --no-audit --no-fund --silent
	@set -e; binary="$$(realpath "$${CARGO_TARGET_DIR:-target}")/release/tandem"; \
	 for each in run nat edge outages; do tests/peers/$$each.py --tandem "$$binary"; done; \
	 scripts/test-sdk.sh install; .venv/bin/python tests/peers/browser_nat.py --tandem "$$binary"

# Several nodes, with PostgreSQL, NATS and an S3 server, behind Kamailio and HAProxy (packaging/cluster), in network namespaces. As root;
# takes minutes.
cluster:
	@scripts/packages.sh cluster
	@scripts/test-sdk.sh install
	@cargo build --quiet
	@.venv/bin/python -m pytest tests/cluster
