#!/bin/sh
# The one list of system packages. Installs what is missing with Debian's apt (as root or by sudo); does nothing, without
# asking apt, when all is there.
#
#   scripts/packages.sh demo     to build, to run, and to make the demo's call
#   scripts/packages.sh test     all that the tests use besides
#   scripts/packages.sh instructions    to build, and to count instructions
#   scripts/packages.sh release  to build by what was counted in calls
#   scripts/packages.sh peers    all that the tests use, and the real phones of tests/peers
#   scripts/packages.sh cluster  all that the tests use, and the proxies of tests/cluster
set -eu

purpose=${1:-test}
missing=

# need PACKAGES TEST...: the packages are missing when the test fails
need() {
    packages=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $packages"
}

has() { command -v "$1"; }
c_compiler() { has cc && [ -e /usr/include/stdio.h ]; }
postgres() { has initdb || ls /usr/lib/postgresql/*/bin/initdb; }
certificates() { [ -e /etc/ssl/certs/ca-certificates.crt ]; }
php_curl() { command php -m | grep -qx curl; }
profdata() { ls "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata || ls /usr/bin/llvm-profdata-*; }
proxy() { has kamailio && ls /usr/lib/*/kamailio/modules/tls.so; }
front() { proxy && ls /usr/lib/*/kamailio/modules/websocket.so && ls /usr/lib/*/kamailio/modules/outbound.so; }
python() { has python3 && python3 -c 'import venv, ensurepip'; }

need "gcc libc6-dev" c_compiler             # bundled SQLite, aws-lc, LAME and libopus are C
need make has make                          # LAME's own build, and libopus's
need cmake has cmake                        # libopus's own build
need ca-certificates certificates           # to fetch crates
need espeak-ng has espeak-ng                # the embedded voice
if [ "$purpose" = instructions ]; then
    need valgrind has valgrind              # counts them
elif [ "$purpose" = release ]; then
    need llvm-19 profdata                   # puts together what was counted
elif [ "$purpose" != demo ]; then
    need sip-tester has sipp                # calls from outside
    need baresip-core has baresip           # another SIP phone
    need openssl has openssl                # reads certificates in the tests of signed numbers
    need postgresql postgres                # the store's second database; the tests start their own server
    need "python3 python3-venv" python      # providers' SDKs
    need chromium has chromium              # pages that are phones
    need coturn has turnserver              # a TURN server for these pages
    need nodejs has node
    need npm has npm
    need "php-cli php-curl" php_curl           # what its SDK is made on, by proxy
fi
if [ "$purpose" = peers ]; then
    need linphone-cli has linphonec         # a third SIP phone
    need "iproute2 nftables" has nft        # a NAT
    need conntrack has conntrack            # a NAT that forgets
    need "kamailio kamailio-tls-modules" proxy    # a proxy in front, by TLS
fi
if [ "$purpose" = cluster ]; then
    need "iproute2 nftables" has nft        # networks that can be cut
    need curl has curl
    need "kamailio kamailio-tls-modules kamailio-websocket-modules kamailio-outbound-modules" front    # SIP in front of the nodes
    need haproxy has haproxy                # HTTP in front of the nodes
fi

[ -n "$missing" ] || exit 0
echo "installing:$missing"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here; install these, or what your system calls them:$missing" >&2
    exit 2
fi
case $missing in *postgresql*)
    # Only the programs are wanted: no database cluster of the system's, no service.
    as_root mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.d/tandem.conf >/dev/null
    ;;
esac
export DEBIAN_FRONTEND=noninteractive
as_root apt-get update -qq || echo "apt-get update failed; going on with the package lists that are there" >&2
# shellcheck disable=SC2086 # one word a package
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
