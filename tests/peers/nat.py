#!/usr/bin/env python3
"""A phone behind a NAT that forgets after eight seconds: kept registered, called, and heard. Needs root, ip and nft.

    bob (public) and the server, 10.16.0.x  ──  a NAT  ──  alice, 192.168.16.11

The three live in network namespaces of their own, which are removed at the end.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

import baresip
import linphone
from phone import Failed, wait
from server import Server

PUBLIC, NAT, HOME = "tandem-public", "tandem-nat", "tandem-home"
FORGETS, REMINDED = 8, 5  # seconds
SERVER, BOB, ALICE = "10.16.0.1", "10.16.0.12", "192.168.16.11"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def inside(namespace, *words, text=None):
    subprocess.run(["ip", "netns", "exec", namespace, *words], check=True, input=text, text=True, stdout=subprocess.DEVNULL)


def build():
    for namespace in (PUBLIC, NAT, HOME):
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
    for outer, mine, theirs in ((PUBLIC, "public0", "public1"), (HOME, "home0", "home1")):
        ip("link", "add", mine, "netns", outer, "type", "veth", "peer", "name", theirs, "netns", NAT)
    addresses = [(PUBLIC, "public0", SERVER), (PUBLIC, "public0", BOB), (NAT, "public1", "10.16.0.2")]
    addresses += [(NAT, "home1", "192.168.16.1"), (HOME, "home0", ALICE)]
    for namespace, device, address in addresses:
        ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
        ip("-n", namespace, "link", "set", device, "up")
    ip("-n", HOME, "route", "add", "default", "via", "192.168.16.1")
    inside(NAT, "sysctl", "-w", "net.ipv4.ip_forward=1")
    rules = 'table ip nat {\n chain out {\n type nat hook postrouting priority 100\n oifname "public1" masquerade random\n }\n}\n'
    inside(NAT, "nft", "-f", "-", text=rules)
    for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        inside(NAT, "sysctl", "-w", f"net.netfilter.{name}={FORGETS}")


def remove():
    for namespace in (PUBLIC, NAT, HOME):
        subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)


def talk(caller, callee):
    for phone in (caller, callee):
        phone.mark()
    caller.dial(callee.user)
    wait(f"{callee.user} does not ring", callee.incoming)
    callee.answer()
    wait(f"{caller.user} is not connected", caller.established)
    caller.hears(callee)
    callee.hears(caller)


def is_kept(alice, bob):
    time.sleep(3 * FORGETS)  # The NAT removes bindings without packets in this time.
    talk(bob, alice)
    bob.hangup()
    wait("its call does not end", alice.ended)
    talk(alice, bob)
    # The audio of a call keeps the binding of the NAT, so the call must last longer than the NAT's timeout.
    time.sleep(2 * FORGETS)
    alice.hears(bob)
    bob.hears(alice)
    alice.hangup()
    wait("bob's call does not end", bob.ended)


def is_forgotten(alice, bob):
    time.sleep(3 * FORGETS)  # The NAT removes bindings without packets in this time.
    alice.mark()
    bob.mark()
    bob.dial("alice")
    time.sleep(5)  # The phone would ring within this time.
    if alice.incoming():
        raise Failed("it rings all the same: the NAT does not forget")


def run(args, kind, transport, keeps):
    folder = pathlib.Path(args.folder) / f"{kind.kind}-{transport}-{'kept' if keeps else 'not-kept'}"
    folder.mkdir(parents=True)
    keep_alive = f'"crlf"\nkeep_alive_seconds = {REMINDED}' if keeps else '"off"'
    more = f'[sip.registrar]\nkeep_alive = {keep_alive}\n'
    server = Server(args.tandem, folder, SERVER, more)
    alice = kind("alice", ALICE, server, folder, transport, False, 500, 12000)
    alice.namespace = HOME
    bob = baresip.Baresip("bob", BOB, server, folder, "udp", False, 800, 14000)
    started = []
    try:
        server.start()
        for phone in (alice, bob):
            phone.start()
            started.append(phone)
        for phone in (alice, bob):
            wait(f"{phone.user} does not register", phone.registered)
        (is_kept if keeps else is_forgotten)(alice, bob)
        return "seen"
    except Failed as why:
        return f"FAILED {why}"
    finally:
        for phone in started:
            phone.stop()
        server.close()


def main():
    target = pathlib.Path(__file__).resolve().parent.parent.parent / "target"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(target / "release/tandem"), help="the binary")
    parser.add_argument("--folder", default="/tmp/tandem-nat", help="emptied first")
    parser.add_argument("--built", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.built:
        shutil.rmtree(args.folder, ignore_errors=True)
        remove()
        try:
            build()
            again = [sys.executable, __file__, "--built", "--tandem", args.tandem, "--folder", args.folder]
            return subprocess.run(["ip", "netns", "exec", PUBLIC, *again], env=os.environ).returncode
        finally:
            remove()
    cases = [
        ("kept by empty lines", linphone.Linphone, "udp", True),
        ("kept by empty lines", baresip.Baresip, "udp", True),
        ("kept by empty lines", linphone.Linphone, "tcp", True),
        ("forgotten without", linphone.Linphone, "udp", False),
    ]
    print("| behind a NAT | phone | |\n|---|---|---|")
    results = []
    for name, kind, transport, keeps in cases:
        results.append(run(args, kind, transport, keeps))
        print(f"| {name} | {kind.kind} {transport} | {results[-1]} |", flush=True)
    return any(result.startswith("FAILED") for result in results)


if __name__ == "__main__":
    sys.exit(main())
