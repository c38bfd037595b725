"""A page in a call while strangers send STUN, DTLS and RTP to the call's port at the server: nothing gets in, each datagram is
counted, and the sound is unharmed."""

import hashlib
import hmac
import os
import re
import socket
import struct
import zlib

import pytest
import requests

from browser_pages import *  # noqa: F403
from harness.phone import HOST
from harness.waiting import wait_for

COOKIE = 0x2112A442  # RFC 8489 §5
BURSTS, ROUNDS = 40, 10


@pytest.fixture(scope="module")
def library():
    return "sipjs"


@pytest.fixture(scope="module")
def proxy():
    """None: the page names the server."""


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def check(user, password):
    """A connectivity check with the right to nominate (RFC 8445 §7.1), for an agent with this user name and password."""
    attributes = attribute(0x0006, f"{user}:evil".encode()) + attribute(0x0024, struct.pack("!I", 0x7FFFFFFF))
    attributes += attribute(0x802A, os.urandom(8)) + attribute(0x0025, b"")
    identity = os.urandom(12)

    def head(more):
        return struct.pack("!HHI", 0x0001, len(attributes) + more, COOKIE) + identity

    key = hmac.new(password.encode(), head(24) + attributes, hashlib.sha1).digest()
    attributes += attribute(0x0008, key)
    return head(8) + attributes + attribute(0x8028, struct.pack("!I", zlib.crc32(head(8) + attributes) ^ 0x5354554E))


def client_hello():
    """A record of DTLS 1.2 with the beginning of a handshake."""
    body = b"\xfe\xfd" + os.urandom(32) + b"\0\0" + b"\0\x02\xc0\x2b" + b"\x01\0"
    handshake = b"\x01" + len(body).to_bytes(3) + b"\0\0\0\0\0" + len(body).to_bytes(3) + body
    return b"\x16\xfe\xfd\0\0" + os.urandom(6) + struct.pack("!H", len(handshake)) + handshake


def refused(server, protocol):
    """The number of datagrams that the server has refused in ended legs."""
    text = requests.get(server.http + "/metrics", timeout=5).text
    return int(re.search(rf"^tandem_{protocol}_refused_total (\d+)", text, re.MULTILINE)[1])


def test_a_flood_of_forged_packets_changes_nothing_in_a_live_call(server, tab):
    alice = tab().register()
    alice.call("702")
    alice.hears(alice.hertz)
    theirs, before = alice.do("theirs"), alice.facts()
    port = int(re.search(r"^a=candidate:\S+ 1 udp \d+ \S+ (\d+)", theirs, re.MULTILINE | re.IGNORECASE)[1])
    user = re.search("a=ice-ufrag:(\\S+)", theirs)[1]
    forged = {
        "a check with a wrong password": lambda: check(user, "0" * 24),
        "a check for another agent": lambda: check("stranger", "0" * 24),
        "a malformed check": lambda: check(user, "0" * 24)[:30],
        "a handshake": client_hello,
        "the end of the DTLS association": lambda: b"\x15\xfe\xfd" + bytes(8) + b"\0\x02\x01\0",
        "RTP": lambda: b"\x80\x6f" + os.urandom(170),
        "RTCP": lambda: b"\x81\xcb" + os.urandom(30),
        "nothing known": lambda: os.urandom(200),
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((HOST, 0))
        for _ in range(BURSTS):
            for _ in range(ROUNDS):
                for make in forged.values():
                    stranger.sendto(make(), (HOST, port))
            # The page hears on during the flood. The kernel drops what a socket cannot hold, so the bursts are short.
            received = alice.facts()["received"]
            wait_for("sound", lambda: alice.facts()["received"] > received)
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.recv(2048)
    for _ in range(5):
        alice.hears(alice.hertz)
    after = alice.facts()
    assert (after["ice"], after["dtls"]) == ("connected", "connected")
    # Both directions go on: the server plays back what it hears.
    assert after["sent"] > before["sent"] and after["received"] > before["received"]
    alice.hang_up()
    # Of the eight kinds, two are media, and the last one can be anything. The kernel may drop some of a burst.
    sent = BURSTS * ROUNDS
    wait_for("the count of STUN and DTLS", lambda: refused(server, "webrtc") > 4 * sent)
    wait_for("the count of media", lambda: refused(server, "srtp") > 1.5 * sent)
