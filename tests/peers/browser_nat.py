#!/usr/bin/env python3
"""A browser behind a NAT: Chromium with JsSIP, heard and hearing, when the NAT, its firewall or the network changes. Needs root, ip,
nft, conntrack, chromium, turnserver, and the libraries of tests/sdk (scripts/test-sdk.sh install).

    bob's browser, the server, coturn, 203.0.113.x  ──  a NAT  ──  alice's browser, 192.168.16.11
                                                     ──  a second NAT (a phone's network)  ──  192.168.17.11

All live in network namespaces of their own, which are removed at the end. Each page speaks a tone of its own. Each case is a call in
each direction: in a call of alice her browser decides about the way of the media, in a call to alice the server does.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import traceback

from nat import inside, ip
from server import ACCOUNT, Server

SDK = pathlib.Path(__file__).resolve().parent.parent / "sdk"
sys.path.append(str(SDK))

from browser_pages import restart_ice, talk  # noqa: E402
from harness.browser import DOMAIN, Browser, WebPhone, is_tone  # noqa: E402
from harness.turn import Turn  # noqa: E402
from harness.waiting import wait_for  # noqa: E402

INTERNET, HOME = "tandem-internet", "tandem-laptop"
# Chromium lets no page of the Internet call a private address without a permission ("local network access").
SERVER, TURN = "203.0.113.1", "203.0.113.3"
ICE_PORT = 3479  # of the server, for all browsers
# Each way from alice into the Internet: the namespace of its NAT, the network of its provider and its own, and the metric of its route.
WIFI = ("tandem-wifi", "203.0.113", "192.168.16", 100)
MOBILE = ("tandem-mobile", "198.51.100", "192.168.17", 600)
NAMESPACES = (INTERNET, HOME, WIFI[0], MOBILE[0])
SOON, LATE = 12, 60  # seconds in which sound must be back; until a wait fails
# What the firewall of a network does not let through.
OPEN = ""
NO_UDP_TO_THE_SERVER = f"ip daddr {SERVER} meta l4proto udp drop"
NO_ICE_TCP = f"ip daddr {SERVER} tcp dport {ICE_PORT} drop"
NO_MEDIA = f"{NO_UDP_TO_THE_SERVER}\n {NO_ICE_TCP}"
NO_UDP = "meta l4proto udp drop"
ONLY_TURN_BY_TCP = f"{NO_UDP}\n {NO_ICE_TCP}"


class Uplink:
    """A way from alice's browser into the Internet, with a NAT."""

    def __init__(self, namespace, public, private, metric):
        self.namespace, self.metric, self.link = namespace, metric, namespace.removeprefix("tandem-")
        self.own, self.router = f"{private}.11", f"{private}.1"
        self.outside, self.provider = f"{public}.2", f"{public}.1"

    def build(self):
        ip("netns", "add", self.namespace)
        ip("link", "add", self.link, "netns", HOME, "type", "veth", "peer", "name", "inner", "netns", self.namespace)
        ip("link", "add", self.link, "netns", INTERNET, "type", "veth", "peer", "name", "outer", "netns", self.namespace)
        for namespace, device, address in (
            (INTERNET, self.link, self.provider),
            (self.namespace, "outer", self.outside),
            (self.namespace, "inner", self.router),
        ):
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", self.namespace, "route", "add", "default", "via", self.provider)
        inside(self.namespace, "sysctl", "-w", "net.ipv4.ip_forward=1")
        self.permit(OPEN)

    def permit(self, firewall):
        """The NAT, and the rule of its firewall. A mapping has a random port, and takes packets of one far end only."""
        nat = 'type nat hook postrouting priority 100\n oifname "outer" masquerade random'
        chains = ("nat", nat), ("filter", f"type filter hook forward priority 0\n {firewall}")
        rules = "flush ruleset\n" + "".join(f"table ip {name} {{\n chain one {{\n {text}\n }}\n}}\n" for name, text in chains)
        inside(self.namespace, "nft", "-f", "-", text=rules)
        self.forget("tcp")
        self.forget("udp")

    def forget(self, protocol):
        """The NAT loses its mappings: the next packet of the browser gets another port."""
        words = ["ip", "netns", "exec", self.namespace, "conntrack", "-D", "-p", protocol]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def up(self):
        """The browser's computer has an address in this network."""
        ip("-n", HOME, "addr", "replace", f"{self.own}/24", "dev", self.link)
        ip("-n", HOME, "link", "set", self.link, "up")
        ip("-n", HOME, "route", "replace", "default", "via", self.router, "metric", str(self.metric))
        # What has the address of this network goes this way, as on a phone. A computer with Linux does so with such rules only.
        ip("-n", HOME, "route", "replace", "default", "via", self.router, "table", str(self.metric))
        ip("-n", HOME, "rule", "add", "from", self.own, "lookup", str(self.metric))

    def packets(self):
        """How many packets the browser's computer has received and sent here."""
        said = subprocess.run(["ip", "-n", HOME, "-s", "-j", "link", "show", self.link], check=True, capture_output=True).stdout
        counts = json.loads(said)[0]["stats64"]
        return [counts[way]["packets"] for way in ("rx", "tx")]

    def down(self):
        """The computer leaves this network, and has no address there any more."""
        subprocess.run(["ip", "-n", HOME, "rule", "del", "from", self.own], stderr=subprocess.DEVNULL)
        ip("-n", HOME, "addr", "flush", "dev", self.link)
        ip("-n", HOME, "link", "set", self.link, "down")


def build(uplinks):
    for namespace in (INTERNET, HOME):
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
    for uplink in uplinks:
        uplink.build()
    ip("-n", INTERNET, "addr", "add", f"{TURN}/24", "dev", uplinks[0].link)


def remove():
    """Removes the namespaces, and ends what a case that was interrupted has left in them."""
    for namespace in NAMESPACES:
        left = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout
        for process in left.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)


class Parties:
    """The pages of a case. Alice is behind the NAT, bob is beside the server."""

    def __init__(self, stage, microphone):
        self.stage, self.microphone, self.gaps = stage, microphone, ""
        self.contexts = stage.homes.context(microphone=microphone), stage.publics.context()
        self.alice, self.bob = (
            WebPhone(context, url, stage, f"user{next(stage.users)}", hertz)
            for context, url, hertz in zip(self.contexts, (stage.home_url, stage.public_url), (660, 950), strict=True)
        )

    def close(self):
        for context in self.contexts:
            context.close()

    def register(self, **settings):
        self.alice.register(**settings)
        self.bob.register()

    def connect(self, calls):
        """One of them calls the other, and they hear each other."""
        one, other = (self.alice, self.bob) if calls == "alice" else (self.bob, self.alice)
        one.do("call", other.user)
        other.wait("incoming", seconds=LATE)
        other.do("answer")
        other.wait("answered", seconds=LATE)
        one.wait("answered", seconds=LATE)
        talk(self.alice, self.bob)

    def talk_again(self):
        """Soon both hear each other by packets that have come after now, and the call has not ended."""
        began, took = time.monotonic(), {}
        pages = {"alice": (self.alice, self.bob.hertz), "bob": (self.bob, self.alice.hertz)}
        before = {name: page.facts()["received"] for name, (page, _) in pages.items()}

        def hear():
            for name, (page, hertz) in pages.items():
                # 25 packets are half a second: nothing of what the page hears then came before.
                if name not in took and page.facts()["received"] > before[name] + 25 and is_tone(page.do("hears"), hertz):
                    took[name] = time.monotonic() - began
            return len(took) == len(pages)

        try:
            wait_for("both to hear each other again", hear, LATE)
        except AssertionError as error:
            raise AssertionError(f"{error}; facts of alice: {self.alice.facts()}; of bob: {self.bob.facts()}") from None
        assert not self.alice.has("ended") and not self.bob.has("ended")
        self.gaps = "; heard again after " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
        assert max(took.values()) < SOON, self.gaps

    def hang_up(self, by):
        one, other = (self.alice, self.bob) if by == "alice" else (self.bob, self.alice)
        one.hang_up()
        other.wait("ended")

    def goes_by(self, candidate, relay=None, protocol="udp"):
        facts = self.alice.facts()
        found = facts["candidate"], facts.get("relay"), facts["protocol"], facts["named"]
        assert found == (candidate, relay, protocol, not self.microphone), facts


def host_candidates_are_enough(all, calls):
    """The server has no candidate of alice that it can reach, and finds her by her checks."""
    all.register()
    all.connect(calls)
    all.goes_by("prflx")
    all.hang_up("bob" if calls == "alice" else "alice")


def udp_to_the_server_is_blocked(all, calls):
    all.stage.wifi.permit(NO_MEDIA)
    all.register(iceServers=all.stage.ice_servers())
    all.connect(calls)
    all.goes_by("relay", "udp")
    all.hang_up("alice")


def all_udp_is_blocked(all, calls):
    """A page that waits for all candidates waits 40 s here, until Chromium gives up the UDP port of coturn."""
    all.stage.wifi.permit(ONLY_TURN_BY_TCP)
    all.register(iceServers=all.stage.ice_servers(), waitsForCandidates=False)
    all.connect(calls)
    all.goes_by("relay", "tcp")
    all.hang_up("alice")


def the_server_has_a_tcp_port(all, calls):
    """No TURN server is needed."""
    all.stage.wifi.permit(NO_UDP)
    all.register()
    all.connect(calls)
    all.goes_by("prflx", protocol="tcp")
    all.hang_up("alice")


def comes_back(all):
    """Alice's page opens a new socket: its old one is dead, and only the page knows."""
    all.alice.do("reconnect")
    all.alice.wait("registered", seconds=LATE)


def leaves_a_network(all):
    """Alice's computer has no network, and both hear nothing."""
    all.stage.wifi.down()
    all.alice.hears_nothing()
    all.bob.hears_nothing()


def changes_the_network_and_restarts_ice(all):
    """Alice's computer has another network, and both hear each other again."""
    leaves_a_network(all)
    all.stage.mobile.up()
    all.alice.wait("online", seconds=LATE)
    comes_back(all)
    restart_ice(all.alice)
    all.talk_again()


def the_computer_has_another_network_and_the_page_restarts_ice(all, calls):
    all.register()
    all.connect(calls)
    changes_the_network_and_restarts_ice(all)
    all.hang_up("bob")


def in_use(*uplinks):
    """The network that both ways of the media go through."""

    def find():
        before = [uplink.packets() for uplink in uplinks]

        def more():
            return [[now - then for now, then in zip(uplink.packets(), old)] for uplink, old in zip(uplinks, before)]

        # 50 packets of a side are a second.
        wait_for("the media", lambda: any(sum(counts) > 50 for counts in zip(*more())))
        one, other = more()
        if min(one) > 25 > max(other):
            return uplinks[0]
        return uplinks[1] if min(other) > 25 > max(one) else None

    return wait_for("both ways through one network", find, LATE)


def the_network_in_use_goes_and_another_one_is_there(all, calls):
    """The browser has candidates of both networks. Nobody restarts ICE."""
    all.stage.mobile.up()
    all.register()
    all.connect(calls)
    in_use(all.stage.wifi, all.stage.mobile).down()
    all.talk_again()
    comes_back(all)
    all.hang_up("bob")


def the_page_has_no_permission_and_another_network(all, calls):
    """A page without the permission for a microphone has one socket for all networks. Nobody restarts ICE."""
    all.register()
    all.connect(calls)
    all.goes_by("prflx")
    leaves_a_network(all)
    all.stage.mobile.up()
    all.talk_again()
    comes_back(all)
    all.hang_up("bob")


def the_nat_forgets_the_way_to_coturn(all, calls):
    """coturn knows the browser by its address, so its relay by UDP is lost. The browser has one by TCP, too."""
    all.stage.wifi.permit(NO_MEDIA)
    all.register(iceServers=all.stage.ice_servers())
    all.connect(calls)
    all.goes_by("relay", "udp")
    all.stage.wifi.forget("udp")
    all.talk_again()
    all.goes_by("relay", "tcp")
    all.hang_up("bob")


def the_computer_has_another_network_without_udp(all, calls):
    """From host candidates to coturn by TCP."""
    all.stage.mobile.permit(ONLY_TURN_BY_TCP)
    all.register(iceServers=all.stage.ice_servers(), waitsForCandidates=False)
    all.connect(calls)
    all.goes_by("prflx")
    changes_the_network_and_restarts_ice(all)
    all.goes_by("relay", "tcp")
    all.hang_up("bob")


def the_nat_has_another_port(all, calls):
    all.register()
    all.connect(calls)
    all.stage.wifi.forget("udp")
    all.talk_again()
    all.hang_up("alice")


CASES = [
    ("host candidates are enough", host_candidates_are_enough, {}),
    ("host candidates with names are enough", host_candidates_are_enough, {"microphone": False}),
    ("UDP to the server is blocked, coturn by UDP", udp_to_the_server_is_blocked, {}),
    ("all UDP is blocked, coturn by TCP", all_udp_is_blocked, {}),
    ("all UDP is blocked, the server's TCP port", the_server_has_a_tcp_port, {}),
    ("the NAT has another port", the_nat_has_another_port, {}),
    ("another network, the page restarts ICE", the_computer_has_another_network_and_the_page_restarts_ice, {}),
    ("another network without UDP, the page restarts ICE", the_computer_has_another_network_without_udp, {}),
    ("the NAT forgets the way to coturn", the_nat_forgets_the_way_to_coturn, {}),
    ("two networks, the one in use goes", the_network_in_use_goes_and_another_one_is_there, {}),
    ("another network, names instead of candidates", the_page_has_no_permission_and_another_network, {"microphone": False}),
]


class Stage:
    """The server, coturn and both browsers."""

    def __init__(self, args, uplinks):
        self.wifi, self.mobile = uplinks
        self.args, self.users = args, itertools.count()
        folder = pathlib.Path(args.folder)
        parts = [folder / name for name in ("turn", "alice", "bob")]
        for part in parts:
            part.mkdir(parents=True)
        with contextlib.ExitStack() as begun:
            turn = Turn(parts[0], TURN)
            begun.callback(turn.stop)
            more = f'[sip.registrar]\ndomains = ["{DOMAIN}"]\n[ice]\nturn = {json.dumps(turn.urls)}\nturn_secret = "{turn.secret}"\n'
            more += "".join(
                f'[[endpoints]]\naccount = "peers"\nusername = "user{count}"\npassword = "of-user{count}"\n' for count in range(60)
            )
            media = f"ice_tcp_port = {ICE_PORT}\n" + f"ice_udp_port = {ICE_PORT}\n" * args.shared_port
            self.server = Server(args.tandem, folder, SERVER, more, media=media)
            begun.callback(self.server.close)
            self.server.start()
            self.http = f"http://{SERVER}:8080"
            self.publics = Browser(parts[2], namespace=INTERNET)
            begun.callback(self.publics.stop)
            self.homes = Browser(parts[1], namespace=HOME, beside=self.publics)
            begun.callback(self.homes.stop)
            script = SDK / "pages" / "jssip.js"
            self.public_url, self.home_url = self.publics.serve("phone", script), self.homes.serve("phone", script)
            self.close = begun.pop_all().close

    def ice_servers(self):
        """The TURN servers with temporary credentials, as the backend of an application gets them."""
        return self.server.ask(f"/2010-04-01/Accounts/{ACCOUNT}/Tokens.json", b"")["ice_servers"]

    def run(self, name, case, calls, microphone=True):
        for uplink in (self.wifi, self.mobile):
            uplink.permit(OPEN)
            uplink.down()
        self.wifi.up()
        all = Parties(self, microphone)
        began = time.monotonic()
        try:
            case(all, calls)
            return f"seen in {time.monotonic() - began:.1f} s{all.gaps}"
        except Exception as why:
            traceback.print_exc()
            print(self.server.timeline(), file=sys.stderr)
            return f"FAILED {why}".splitlines()[0][:200]
        finally:
            all.close()


def main():
    target = pathlib.Path(__file__).resolve().parent.parent.parent / "target"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(target / "release/tandem"), help="the binary")
    parser.add_argument("--folder", default="/tmp/tandem-browser-nat", help="emptied first")
    parser.add_argument("--cases", help="only those with this text in the name")
    parser.add_argument("--shared-port", action="store_true", help="the server has one UDP port for all browsers")
    parser.add_argument("--built", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # As an interrupt from the keyboard, it removes what is there.
    uplinks = Uplink(*WIFI), Uplink(*MOBILE)
    if not args.built:
        shutil.rmtree(args.folder, ignore_errors=True)
        remove()
        try:
            build(uplinks)
            again = ["ip", "netns", "exec", INTERNET, sys.executable, __file__, "--built", *sys.argv[1:]]
            return subprocess.run(again, env=os.environ).returncode
        finally:
            remove()
    stage = Stage(args, uplinks)
    results = []
    try:
        print("| a browser behind a NAT | call of | |\n|---|---|---|", flush=True)
        for name, case, options in CASES:
            if args.cases and args.cases not in name:
                continue
            for calls in ("alice", "bob"):
                results.append(stage.run(name, case, calls, **options))
                print(f"| {name} | {calls} | {results[-1]} |", flush=True)
    finally:
        stage.close()
    return any(result.startswith("FAILED") for result in results)


if __name__ == "__main__":
    sys.exit(main())
