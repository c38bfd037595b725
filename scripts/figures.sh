#!/bin/sh
# The figures of docs/performance.md that `tandem load` measures, again: starts a server of its own for each group, with a fresh
# database in a temporary folder, and puts the group's load on it.
#
#   scripts/figures.sh [GROUP...]        relay record play short fast search streams webrtc; without any, all of these
#   scripts/figures.sh curve             a bridged call's cost at 50 to 1,000 calls
#   scripts/figures.sh instructions      a short call's, as callgrind counts them: the same on a busy machine
#   scripts/figures.sh sipp              2,000 calls of 3 s by SIPp instead of by us; LOST=5 loses as many percent of the datagrams
#   scripts/figures.sh trained           some of each, no figures: what scripts/release.sh counts
#
#   TANDEM=target/release/tandem         the server, and the generator unless GENERATOR names another command
#   ROUNDS=3                             how often each is measured, in turns
#   NET=127.0.9                          loopback addresses .1 (server), .2 (callers), .3 (answerers, applications), .4 (callers with WebRTC) of it are used
#   OUT=figures                          where the JSON reports go, one a run
#   SECONDS_EACH=15                      how long what is held is held
#   CORES="0 1"                          the core of the server and that of the generator; without it the kernel chooses
#
# Loads are on this machine only, and bounded. Nothing else should run: each table's last line says what did.
set -eu
cd "$(dirname "$0")/.."

tandem=${TANDEM:-${CARGO_TARGET_DIR:-target}/release/tandem}
generator=${GENERATOR:-$tandem}
net=${NET:-127.0.9}
out=${OUT:-figures}
held=${SECONDS_EACH:-15}
[ -x "$tandem" ] || { echo "no $tandem: cargo build --release" >&2; exit 2; }
mkdir -p "$out"

folder=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
    server=
}
trap 'stop; rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

# A minute of noise to play: 8,000 samples of 16 bits a second.
{
    printf 'RIFF\244\244\016\000WAVEfmt \020\000\000\000\001\000\001\000\100\037\000\000\200\076\000\000\002\000\020\000data\200\244\016\000'
    head -c 959616 /dev/urandom
} >"$folder/noise.wav"

cat >"$folder/tandem.toml" <<EOF
data_dir = "$folder/data"
drain_timeout = 1
[sip]
listen = ["udp://$net.1:5060"]
[media]
listen = "$net.1"
[http]
listen = "$net.1:8080"
[database]
url = "sqlite:$folder/data/tandem.db"
[recordings]
url = "file:$folder/data/recordings"
[[accounts]]
name = "load"
twilio = { account_sid = "AC00000000000000000000000000000001", auth_token = "0123456789abcdef0123456789abcdef" }
[[trunks]]
name = "load"
account = "load"
uri = "sip:$net.3:5080"
inbound_from = ["$net.2/32", "$net.3/32"]
[[trunks]]
name = "web"
account = "load"
uri = "sip:$net.4:5080"
inbound_from = ["$net.4/32"]
codecs = ["opus", "PCMU"]
[[numbers]]
number = "1*"
account = "load"
bridge = "sip:{number}@$net.3:5080"
[[numbers]]
number = "3*"
account = "load"
bridge = "sip:{number}@$net.3:5080"
record = "dual"
[[numbers]]
number = "4*"
account = "load"
twiml = '<Response><Play loop="0">file://$folder/noise.wav</Play></Response>'
[[numbers]]
number = "7*"
account = "load"
provider = "twilio"
twiml = '<Response><Start><Stream url="ws://$net.3:7000/"/></Start><Pause length="3600"/></Response>'
EOF

core() {
    # shellcheck disable=SC2086 # words
    set -- $1 ${CORES:-}
    case $# in
        3) shift "$1"; echo "taskset -c $1" ;;
    esac
}

# start [COMMAND...]: the server, by that command.
start() {
    stop
    rm -rf "$folder/data"
    mkdir "$folder/data"
    # shellcheck disable=SC2046 # words
    $(core 1) "$@" "$tandem" serve --config "$folder/tandem.toml" >"$folder/log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        ! grep -q "HTTP on" "$folder/log" || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$folder/log" >&2
    exit 2
}

# load NAME ARGUMENT...: the table to the terminal, the report to a file.
load() {
    name=$1
    shift
    echo "$name (round $round): tandem load $*"
    # A call that failed is in the report, and no reason to stop.
    # shellcheck disable=SC2046 # words
    $(core 2) $generator load "$net.1:5060" --caller "$net.${caller:-2}:5070" --pid "$server" "$@" >"$out/$name-$round.json" || true
    sleep 2
}

# The first calls are not like the later ones: they are not counted.
instructions() {
    start valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$folder/counted"
    calls="--answerer $net.3:5080 --cps 10 --ring 200 --hold 200"
    # shellcheck disable=SC2086 # words
    {
        load instructions-warm $calls --seconds 5
        callgrind_control -i on "$server" >/dev/null
        load instructions $calls --seconds 10
        callgrind_control -i off "$server" >/dev/null
    } 2>/dev/null
    stop
    awk '/^(totals|summary):/ { total = $2 } END { printf "%.0f instructions a call, of 100\n", total / 100 }' "$folder/counted"
}

by_sipp() {
    start
    lost=${LOST:+-lost $LOST}
    # shellcheck disable=SC2086 # words
    {
        sipp -sn uas -i "$net.3" -p 5080 -nostdin -bg $lost >"$folder/uas" 2>&1 || true
        sipp "$net.1:5060" -sn uac -s 10000001 -i "$net.2" -p 5070 -r 50 -m 2000 -d 3000 -nostdin -timeout 120s $lost \
            -trace_stat -stf "$folder/sipp.csv" >"$folder/uac" 2>&1 || true
    }
    grep -E "Successful call|Failed call" "$folder/uac" | tail -2
    # Two lines of counts and repartitions: what was heard how soon.
    awk -F ';' 'NR == 1 { for (i = 1; i <= NF; i++) name[i] = $i }
        END { for (i = 1; i <= NF; i++) if (name[i] ~ /^ResponseTimeRepartition.*_</ && $i != "") print name[i], $i }' "$folder/sipp.csv"
    grep VmRSS "/proc/$server/status"
    kill "$(sed -n 's/.*PID=\[\([0-9]*\)\].*/\1/p' "$folder/uas")" 2>/dev/null || true
}

group() {
    case $1 in
        instructions) instructions; return ;;
        sipp) by_sipp; stop; return ;;
    esac
    start
    case $1 in
        relay) load relay --answerer "$net.3:5080" --calls 200,400 --cps 40 --seconds "$held" --media ;;
        curve) load curve --answerer "$net.3:5080" --calls 50,100,200,400,700,1000 --cps 50 --seconds "$held" --media ;;
        record) load record --answerer "$net.3:5080" --number 3 --calls 200 --cps 40 --seconds "$held" --media ;;
        play) load play --number 4 --no-answerer --calls 200 --cps 40 --seconds "$held" --media ;;
        short) load short --answerer "$net.3:5080" --cps 50 --seconds 10 --ring 200 --hold 200 ;;
        fast)
            load fast-900 --answerer "$net.3:5080" --cps 900 --seconds 15 --ring 200 --hold 200
            start
            load fast-1500 --answerer "$net.3:5080" --cps 1500 --seconds 36 --ring 200 --hold 200
            ;;
        search) load search --answerer "$net.3:5080" --cps 600 --seconds 5 --search ;;
        streams) load streams --number 7 --no-answerer --media --sink "$net.3:7000" --calls 500 --cps 50 --seconds 10 ;;
        webrtc)
            caller=4
            load webrtc-pcmu --answerer "$net.3:5080" --webrtc pcmu --media --calls 50,100,200,400 --cps 20 --seconds "$held"
            start
            load webrtc-opus --answerer "$net.3:5080" --webrtc opus --media --calls 25,50,100,200 --cps 20 --seconds "$held"
            start
            load webrtc-short --answerer "$net.3:5080" --webrtc pcmu --media --cps 20 --hold 500 --seconds 20
            caller=2
            ;;
        # Mostly short calls: in others the same few lines are run again and again.
        trained)
            load short-300 --answerer "$net.3:5080" --cps 300 --seconds 12 --ring 200 --hold 200
            load relay-100 --answerer "$net.3:5080" --calls 100 --cps 40 --seconds 5 --media
            load record-100 --answerer "$net.3:5080" --number 3 --calls 100 --cps 40 --seconds 5 --media
            load play-100 --number 4 --no-answerer --calls 100 --cps 40 --seconds 5 --media
            load streams-50 --number 7 --no-answerer --media --sink "$net.3:7000" --calls 50 --cps 25 --seconds 5
            ;;
        *) echo "no group $1" >&2; exit 2 ;;
    esac
    stop
}

for round in $(seq "${ROUNDS:-3}"); do
    for group in ${*:-relay record play short fast search streams webrtc}; do
        group "$group"
    done
done
echo "reports: $out"
