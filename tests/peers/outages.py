#!/usr/bin/env python3
"""The server ends and comes back while phones are registered; connections are cut. Who can be called, and how soon?

    tests/peers/outages.py [--tandem BINARY]

As root: it runs in a network namespace of its own, so that cutting connections harms nobody else.
"""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import baresip
import jssip
import linphone
from phone import Failed, wait
from server import Server

PHONES = {
    "baresip udp": (baresip.Baresip, "udp"),
    "baresip tcp": (baresip.Baresip, "tcp"),
    "linphone udp": (linphone.Linphone, "udp"),
    "linphone tcp": (linphone.Linphone, "tcp"),
    "linphone tls": (linphone.Linphone, "tls"),
    "jssip websocket": (jssip.Jssip, "ws"),
}
LONGEST = 120  # seconds: two refreshes of a registration


def talk(caller, callee):
    for phone in (caller, callee):
        phone.mark()
    caller.dial(callee.user)
    wait(f"{callee.user} does not ring", callee.incoming, 3)
    callee.answer()
    wait(f"{caller.user} is not connected", caller.established)
    caller.hears(callee)
    callee.hears(caller)
    caller.hangup()
    wait(f"{callee.user}'s call does not end", callee.ended)


def soon(caller, callee):
    """Seconds until a call gets through."""
    begun = time.monotonic()
    while True:
        try:
            talk(caller, callee)
            return time.monotonic() - begun
        except Failed as why:
            if time.monotonic() - begun > LONGEST:
                raise Failed(f"not within {LONGEST} s: {why}") from why
            for phone in (caller, callee):
                phone.hang_up_all()
            time.sleep(1)  # The pause before the next attempt.


def cut(_server, _phone):
    """For three seconds whoever says anything on a connection has it reset, as by a NAT that has forgotten it."""
    rules = "table ip cut {\n chain in {\n type filter hook input priority 0\n tcp dport { 5060, 5061, 8080 } reject with tcp reset\n }\n}\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    time.sleep(3)  # The duration of the outage.
    subprocess.run(["nft", "delete", "table", "ip", "cut"], check=True)


def restart(how):
    def outage(server, _phone):
        server.stop(how)
        server.start()

    return outage


OUTAGES = {
    "SIGTERM and start": restart(signal.SIGTERM),
    "SIGKILL and start": restart(signal.SIGKILL),
    "connections cut": cut,
}


def run(args, name):
    kind, transport = PHONES[name]
    folder = pathlib.Path(args.folder) / name.replace(" ", "-")
    folder.mkdir(parents=True)
    server = Server(args.tandem, folder, f"{args.network}.1")
    alice = kind("alice", f"{args.network}.11", server, folder, transport, False, 500, 12000)
    bob = baresip.Baresip("bob", f"{args.network}.12", server, folder, "udp", False, 800, 14000)
    results, started = {}, []
    try:
        server.start()
        for phone in (alice, bob):
            phone.start()
            started.append(phone)
        for phone in (alice, bob):
            wait(f"{phone.user} does not register", phone.registered)
        talk(bob, alice)
        for what, outage in OUTAGES.items():
            if transport == "udp" and what == "connections cut":
                continue
            try:
                outage(server, alice)
                called = soon(bob, alice)
                talk(alice, bob)
                results[what] = f"called and heard after {called:.0f} s"
            except Failed as why:
                results[what] = f"FAILED {why}"
            print(f"  {name}: {what}: {results[what]}", file=sys.stderr, flush=True)
    except Failed as why:
        results["SIGTERM and start"] = f"FAILED {why}"
    finally:
        for phone in started:
            phone.stop()
        server.close()
    return results


def main():
    target = pathlib.Path(__file__).resolve().parent.parent.parent / "target"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(target / "release/tandem"), help="the binary")
    parser.add_argument("--network", default="127.0.16", help="the first three numbers of the addresses to use")
    parser.add_argument("--folder", default="/tmp/tandem-outages", help="emptied first")
    parser.add_argument("--phones", default=",".join(PHONES), help="some of them: %(default)s")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        return subprocess.run(["unshare", "--net", sys.executable, __file__, "--inside", *sys.argv[1:]]).returncode
    # Linphone does nothing on a machine that has no network but loopback.
    for words in ("link set lo up", "link add outside type veth peer name beyond", "addr add 192.0.2.1/24 dev outside", "link set outside up", "link set beyond up",
                  "route add default dev outside"):
        subprocess.run(["ip", *words.split()], check=True)
    shutil.rmtree(args.folder, ignore_errors=True)
    columns = {name: run(args, name) for name in args.phones.split(",")}
    print("| outage | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for what in OUTAGES:
        print(f"| {what} | " + " | ".join(column.get(what, "") for column in columns.values()) + " |")
    return any(result.startswith("FAILED") for column in columns.values() for result in column.values())


if __name__ == "__main__":
    sys.exit(main())
