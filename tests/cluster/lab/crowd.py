"""Many phones at one UDP socket: callers and callees whose every message has its time. SIPp ends a call that goes in another way than
its scenario says. Here a refused, lost or ended call is a result."""

import dataclasses
import math
import random
import re
import secrets
import select
import socket
import struct
import threading
import time

from .network import INSIDE
from .phone import Message

_FIRST, _LONGEST = 0.5, 4.0  # seconds between two transmissions (RFC 3261 §17.1.1.1: T1 and T2)
_PATIENCE = 10.0  # seconds for which a request is repeated without a response
_SDP = "v=0\r\no=crowd 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
_NUMBERS = iter(range(1_000_000, 9_999_999))


@dataclasses.dataclass
class Call:
    """A call. Times are time.time(). `caller` is the user of its From, different for each call of all crowds. `status` is the
    final status of the INVITE, 0 if there was none. `ended_by`: "us", "them", or "nobody" (our BYE had no response)."""

    kind: str
    number: str
    caller: str
    name: str  # the Call-ID
    is_incoming: bool = False
    invited: float = 0.0
    status: int | None = None
    decided: float | None = None  # when the final status came
    node: str | None = None  # the inside address of the node that answered
    ended: float | None = None
    ended_by: str | None = None
    byes: int = 0  # received, with repetitions
    hang_up_at: float | None = None
    speaks: bool = False
    _ours: str = ""  # our From of a request
    _theirs: str = ""  # our To of a request
    _target: str = ""
    _routes: list = dataclasses.field(default_factory=list)
    _cseq: int = 1
    _request: bytes | None = None  # what is repeated
    _next: float = 0.0
    _interval: float = _FIRST
    _since: float = 0.0
    _audio: tuple | None = None
    _kept: bytes | None = None  # the ACK of a 2xx, which a repeated 2xx needs again
    _to: tuple | None = None

    @property
    def is_up(self):
        return self.status == 200 and self.ended is None

    @property
    def seconds(self):
        """From the INVITE to its final response."""
        return self.decided and self.decided - self.invited


class Crowd:
    """`call` makes calls to `target`. Calls that come are answered, and last until the other side hangs up."""

    def __init__(self, hub, address, target=None, port=5060, hertz=700, pulse=None):
        """`target`: (host, port). `hertz`: what the calls say that speak. `pulse`: all calls send a packet each `pulse` seconds, which
        is enough for a server that misses audio."""
        hub.add("10.77.0" if address.startswith(f"{INSIDE}.") else "10.78.0", address)
        self.address, self.target, self.calls, self._pulse = address, target, [], pulse
        self._by_name, self._lock, self._over = {}, threading.RLock(), threading.Event()
        self._socket, self._rtp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((address, port))
        self.port = self._socket.getsockname()[1]
        self._rtp.bind((address, 0))
        self._sdp = _SDP.format(address, self._rtp.getsockname()[1])
        self._sound = bytes(_pcmu(12_000 * math.sin(2 * math.pi * hertz / 8000 * at)) for at in range(8000))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve, self._speak)]
        for thread in self._threads:
            thread.start()

    def call(self, number, kind="", seconds=None, speaks=False, target=None):
        """Starts a call, and returns it at once. Hangs up `seconds` after the answer; without: never."""
        target = target or self.target
        caller = f"+1555{next(_NUMBERS)}"
        call = Call(kind, number, caller, f"{secrets.token_hex(8)}@{self.address}", speaks=speaks, hang_up_at=seconds)
        call._target, call._to = f"sip:{number}@{target[0]}:{target[1]}", target
        call._ours = f"<sip:{caller}@{self.address}>;tag={secrets.token_hex(6)}"
        call._theirs = f"<{call._target}>"
        with self._lock:
            self.calls.append(call)
            self._by_name[call.name] = call
            call.invited = time.time()
            self._start(call, self._compose(call, "INVITE", 1, self._sdp))
        return call

    def hang_up(self, call):
        """Sends BYE."""
        with self._lock:
            if call.is_up and call.ended_by is None:
                call._cseq += 1
                call.ended_by = "us"
                self._start(call, self._compose(call, "BYE", call._cseq))

    def close(self):
        """Ends it at once."""
        self._over.set()
        for thread in self._threads:
            thread.join(5)
        self._socket.close()
        self._rtp.close()

    def _compose(self, call, method, cseq, body="", branch=None):
        lines = [
            f"{method} {call._target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address}:{self.port};branch={branch or 'z9hG4bK' + secrets.token_hex(8)};rport",
            "Max-Forwards: 70",
            *(f"Route: {route}" for route in call._routes),
            f"From: {call._ours}",
            f"To: {call._theirs}",
            f"Call-ID: {call.name}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:crowd@{self.address}:{self.port}>",
            *(["Content-Type: application/sdp"] if body else []),
        ]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()

    def _start(self, call, octets):
        """Sends, and repeats until `_request` is None."""
        call._request, call._interval, call._since = octets, _FIRST, time.time()
        call._next = call._since + _FIRST
        self._send(octets, call._to)

    def _send(self, octets, to):
        try:
            self._socket.sendto(octets, to)
        except OSError:
            pass  # The network of a dead peer may refuse. The timers decide.

    def _serve(self):
        while not self._over.is_set():
            if select.select([self._socket], [], [], 0.05)[0]:
                try:
                    octets, sender = self._socket.recvfrom(65536)
                except OSError:
                    continue  # an ICMP error
                if octets.strip():
                    with self._lock:
                        self._handle(Message(octets), sender)
            with self._lock:
                self._tick(time.time())

    def _tick(self, now):
        for call in list(self._by_name.values()):
            if call._request and now >= call._next:
                if now - call._since > _PATIENCE:
                    self._give_up(call, now)
                    continue
                self._send(call._request, call._to)
                call._interval = min(2 * call._interval, _LONGEST)
                call._next = now + call._interval
            if call.is_up and call.ended_by is None and call.hang_up_at and now - call.decided > call.hang_up_at:
                self.hang_up(call)

    def _give_up(self, call, now):
        call._request = None
        if call.status is None:
            call.status, call.decided = 0, now
        else:
            call.ended, call.ended_by = now, "nobody"

    def _handle(self, message, sender):
        call = self._by_name.get(message["Call-ID"])
        if message.status is not None:
            if call:
                self._handle_response(call, message)
        elif message.method == "INVITE" and call is None:
            self._take(message, sender)
        elif message.method == "ACK":
            if call and call.is_incoming:
                call._request = None
        elif message.method == "BYE":
            self._answer(message, sender, "200 OK" if call else "481 Call/Transaction Does Not Exist")
            if call:
                call.byes += 1
                call._request = None
                if call.ended is None:
                    call.ended, call.ended_by = time.time(), "them"
        elif message.method == "CANCEL":
            self._answer(message, sender, "200 OK")
        else:
            self._answer(message, sender, "200 OK", self._sdp if message.body else "")

    def _handle_response(self, call, message):
        if message.method == "BYE":
            if message.status >= 200 and call.ended is None:
                call._request, call.ended = None, time.time()
            return
        if message.method != "INVITE":
            return
        if message.status < 200:
            if call.status is None and call._request:
                call._request = None  # A provisional response ends the repetitions.
            return
        if message.status < 300:
            if call._kept is None:
                call.status, call.decided, call._request = message.status, time.time(), None
                call._theirs = message["To"]
                call._target = re.search(r"<([^>]+)>", message["Contact"])[1]
                found = re.search(rf"{re.escape(INSIDE)}\.\d+", message["Contact"])
                call.node = found and found[0]
                call._routes = [one.strip() for line in message.all("Record-Route") for one in line.split(",")][::-1]
                call._to = _hop(call._routes[0] if call._routes else call._target)
                call._audio = _audio(message.body)
                call._kept = self._compose(call, "ACK", 1)
            self._send(call._kept, call._to)
            return
        if call.status is None:
            call.status, call.decided, call._request = message.status, time.time(), None
        branch = re.search(r"branch=([^;\s,]+)", message["Via"])[1]
        plain, call._theirs = call._theirs, message["To"]
        self._send(self._compose(call, "ACK", 1, branch=branch), call._to)
        call._theirs = plain

    def _take(self, invite, sender):
        """Answers a call."""
        user = lambda value: (re.search(r"sips?:([^@;>]+)@", value) or ["", ""])[1]
        call = Call("incoming", user(invite["To"]), user(invite["From"]), invite["Call-ID"], is_incoming=True, invited=time.time())
        tag = f";tag={secrets.token_hex(6)}"
        call._ours, call._theirs, call._cseq = invite["To"] + tag, invite["From"], random.randint(1, 1000)
        call._target = re.search(r"<([^>]+)>", invite["Contact"])[1]
        call._routes = [one.strip() for line in invite.all("Record-Route") for one in line.split(",")]
        call.status, call.decided = 200, time.time()
        found = re.search(rf"{re.escape(INSIDE)}\.\d+", invite["Contact"])
        call.node, call._audio = found and found[0], _audio(invite.body)
        self.calls.append(call)
        self._by_name[call.name] = call
        call._to = sender
        self._answer(invite, sender, "180 Ringing", tag=tag)
        self._start(call, self._response(invite, "200 OK", self._sdp, tag))

    def _answer(self, request, sender, status, body="", tag=""):
        self._send(self._response(request, status, body, tag), sender)

    def _response(self, request, status, body="", tag=""):
        same = [f"{name}: {value}" for name in ("Via", "From", "Call-ID", "CSeq", "Record-Route") for value in request.all(name)]
        lines = [f"SIP/2.0 {status}", *same, f"To: {request['To']}{tag}", f"Contact: <sip:crowd@{self.address}:{self.port}>"]
        lines += ["Content-Type: application/sdp"] if body else []
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()

    def _speak(self):
        """RTP for the calls that speak: 20 ms of the tone to each, at the pace of the clock."""
        at, ssrc, due, step = random.getrandbits(15), random.getrandbits(32), time.monotonic(), self._pulse or 0.02
        while not self._over.is_set():
            due = max(due + step, time.monotonic() - 10 * step)
            time.sleep(max(0.0, due - time.monotonic()))
            at += 1
            start = at * 160 % 8000
            packet = struct.pack("!BBHII", 0x80, 0, at & 0xFFFF, at * 160 & 0xFFFF_FFFF, ssrc) + self._sound[start : start + 160]
            with self._lock:
                places = [call._audio for call in self._by_name.values() if (call.speaks or self._pulse) and call.is_up and call._audio]
            for place in places:
                try:
                    self._rtp.sendto(packet, place)
                except OSError:
                    pass  # The port of a dead node.


def _hop(uri):
    """Where a request with this URI or this Route goes."""
    host, port = re.search(r"sips?:(?:[^@>;]+@)?([\d.]+)(?::(\d+))?", uri).groups()
    return host, int(port or 5060)


def _audio(sdp):
    address, port = re.search(r"(?m)^c=IN IP4 (\S+)", sdp), re.search(r"(?m)^m=audio (\d+)", sdp)
    return (address[1], int(port[1])) if address and port else None


def _pcmu(sample):
    """G.711 µ-law."""
    sign, sample = (0x80, -sample) if sample < 0 else (0, sample)
    sample = min(int(sample), 32_635) + 132
    exponent = max(sample.bit_length() - 8, 0)
    return ~(sign | exponent << 4 | sample >> exponent + 3 & 0x0F) & 0xFF
