"""A phone with one flow to the proxy: it registers, takes calls and makes calls, by UDP, TCP, TLS, or WebSocket. Small enough that a
test sees every message. Real phones are in tests/peers."""

import contextlib
import hashlib
import itertools
import re
import secrets
import socket
import ssl
import time

from websockets.sync.client import connect

from .proxies import PROXY

PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8088, "wss": 8089}
_NUMBERS = itertools.count(1)
SDP = "v=0\r\no=phone 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"


class Message:
    """A SIP message. `start` is its first line; `message["Via"]` is the first value of a header field, or None."""

    def __init__(self, octets):
        head, _, self.body = octets.decode().partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def __getitem__(self, name):
        return next(iter(self.all(name)), None)

    def all(self, name):
        """The values of a header field, each line one."""
        return [value for key, value in self.fields if key == name.lower()]

    @property
    def status(self):
        """The status of a response, or None for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0 ") else None

    @property
    def method(self):
        """The method of a request, or of the request of a response."""
        return self["CSeq"].split()[1]

    def __str__(self):
        return "\n".join([self.start, *(f"{name}: {value}" for name, value in self.fields), "", self.body])


class Phone:
    """A phone of `user` at `address`, an address of the hub. `messages` has all that it has received."""

    def __init__(self, address, user, password, transport="udp", trust=None, proxy=PROXY):
        """`trust`: the certificate of the proxy, for tls and wss."""
        self.address, self.user, self.password, self.transport, self.proxy = address, user, password, transport, proxy
        self.messages, self._pending, self._buffer = [], [], b""
        self._calls, self._cseq = secrets.token_hex(8), itertools.count(1)
        tls = ssl.create_default_context(cafile=trust) if transport in ("tls", "wss") else None
        target = (proxy, PORTS[transport])
        if transport == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((address, 0))
            self._socket.connect(target)
        else:
            self._socket = socket.create_connection(target, timeout=10, source_address=(address, 0))
        self.port = self._socket.getsockname()[1]
        self._web, self._open = None, contextlib.ExitStack()
        if transport in ("ws", "wss"):
            url = f"{transport}://{proxy}:{target[1]}"
            more = {"ssl": tls, "server_hostname": proxy} if tls else {}
            self._web = self._open.enter_context(connect(url, sock=self._socket, subprotocols=["sip"], proxy=None, **more))
        elif tls:
            self._socket = tls.wrap_socket(self._socket, server_hostname=proxy)
        # A browser does not know its address (RFC 7118 §5.1).
        self.host = f"{secrets.token_hex(6)}.invalid" if self._web else f"{address}:{self.port}"
        parameter = {"udp": "", "wss": ";transport=ws"}.get(transport, f";transport={transport}")
        self.contact = f"<sip:{user}@{self.host}{parameter}>"

    def send(self, start, *fields, body=""):
        """Sends a message with these header fields."""
        text = "\r\n".join([start, *(field for field in fields if field), f"Content-Length: {len(body)}", "", body])
        if self._web:
            self._web.send(text)
        else:
            self._socket.sendall(text.encode())

    def request(self, method, uri, call_id, to=None, *fields, body="", cseq=None, routes=()):
        """Sends a request, and returns its branch."""
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        name = {"udp": "UDP", "tcp": "TCP", "tls": "TLS"}.get(self.transport, self.transport.upper())
        kind = "Content-Type: application/sdp" if body else ""
        self.send(
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{name} {self.host};branch={branch};rport",
            "Max-Forwards: 70",
            *(f"Route: {route}" for route in routes),
            f"From: <sip:{self.user}@{self.proxy}>;tag=from{call_id}",
            f"To: {to or f'<{uri}>'}",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq or next(self._cseq)} {method}",
            f"Contact: {self.contact}",
            *fields,
            kind,
            body=body,
        )
        return branch

    def reply(self, request, status, *fields, body=""):
        """Answers a request."""
        same = [f"{name}: {value}" for name in ("Via", "From", "Call-ID", "CSeq", "Record-Route") for value in request.all(name)]
        to = request["To"] + ("" if "tag=" in request["To"] else f";tag=to{self._calls}")
        kind = "Content-Type: application/sdp" if body else ""
        self.send(f"SIP/2.0 {status}", *same, f"To: {to}", f"Contact: {self.contact}", *fields, kind, body=body)

    def wait(self, what, wanted, seconds=10):
        """The next message for which `wanted(message)` is true. Other messages wait for other calls of this function."""
        deadline = time.monotonic() + seconds
        while True:
            for message in self._pending:
                if wanted(message):
                    self._pending.remove(message)
                    return message
            left = deadline - time.monotonic()
            assert left > 0, f"waited {seconds} s for {what}; received:\n" + "\n\n".join(map(str, self.messages))
            if message := self._receive(left):
                self.messages.append(message)
                self._pending.append(message)

    def wait_request(self, method, seconds=10):
        """The next request with this method."""
        return self.wait(method, lambda one: one.status is None and one.method == method, seconds)

    def wait_final(self, method, call_id, seconds=10):
        """The final response to the request of this call with this method."""
        final = lambda one: (one.status or 0) >= 200 and one.method == method and one["Call-ID"] == call_id
        return self.wait(f"the response to {method}", final, seconds)

    def register(self, *fields):
        """Registers, with the digest that is asked for. Returns the 200."""
        uri, call_id = f"sip:{self.proxy}", f"register-{self._calls}"
        aor = f"<sip:{self.user}@{self.proxy}>"
        self.request("REGISTER", uri, call_id, aor, "Expires: 300", *fields)
        answer = self.wait_final("REGISTER", call_id)
        assert answer.status == 401, answer
        self.request("REGISTER", uri, call_id, aor, "Expires: 300", *fields, self._digest(answer, "REGISTER", uri))
        answer = self.wait_final("REGISTER", call_id)
        assert answer.status == 200, answer
        return answer

    def call(self, number, *fields):
        """Calls a number with the digest that is asked for, and acknowledges the final response. Returns this response."""
        uri, call_id = f"sip:{number}@{self.proxy}", f"call{next(_NUMBERS)}-{self._calls}"
        digest = ""
        while True:
            cseq = next(self._cseq)
            self.request("INVITE", uri, call_id, None, *fields, digest, body=SDP.format(address=self.address), cseq=cseq)
            answer = self.wait_final("INVITE", call_id, 20)
            self._acknowledge(answer, uri, cseq)
            if answer.status != 401 or digest:
                return answer
            digest = self._digest(answer, "INVITE", uri)

    def hang_up(self, answer):
        """Sends BYE within the dialog of this 200, and returns the final response."""
        call_id = answer["Call-ID"]
        self.request("BYE", _target(answer), call_id, answer["To"], routes=_routes(answer))
        return self.wait_final("BYE", call_id)

    def close(self):
        """Closes the flow."""
        self._open.close()
        self._socket.close()

    def _acknowledge(self, answer, uri, cseq):
        """Acknowledges a 2xx along the route of the dialog, everything else at the next hop."""
        if answer.status < 300:
            self.request("ACK", _target(answer), answer["Call-ID"], answer["To"], cseq=cseq, routes=_routes(answer))
            return
        via = answer.all("Via")[0]
        fields = [f"Via: {via}", "Max-Forwards: 70", *(f"{name}: {answer[name]}" for name in ("From", "To", "Call-ID"))]
        self.send(f"ACK {uri} SIP/2.0", *fields, f"CSeq: {cseq} ACK")

    def _digest(self, challenge, method, uri):
        """The Authorization for a challenge (RFC 7616 with MD5)."""
        given = dict(re.findall(r'(\w+)="?([^",]+)', challenge["WWW-Authenticate"]))
        md5 = lambda *parts: hashlib.md5(":".join(parts).encode()).hexdigest()
        ours = md5(self.user, given["realm"], self.password)
        fields = {"username": self.user, "realm": given["realm"], "nonce": given["nonce"], "uri": uri}
        more = ""
        if "qop" in given:
            fields["response"] = md5(ours, given["nonce"], "00000001", "phone", "auth", md5(method, uri))
            more = ', qop=auth, nc=00000001, cnonce="phone"'
        else:
            fields["response"] = md5(ours, given["nonce"], md5(method, uri))
        return "Authorization: Digest " + ", ".join(f'{name}="{value}"' for name, value in fields.items()) + more

    def _receive(self, seconds):
        """The next message, or None if none comes in this time."""
        try:
            if self._web:
                data = self._web.recv(timeout=seconds)
                return Message(data.encode() if isinstance(data, str) else data)
            self._socket.settimeout(seconds)
            while True:
                if message := self._take():
                    return message
                more = self._socket.recv(65536)
                assert more, "the proxy has closed the connection"
                self._buffer += more
        except TimeoutError:
            return None

    def _take(self):
        """The first whole message of the buffer."""
        self._buffer = self._buffer.lstrip(b"\r\n")
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = re.search(rb"(?im)^(?:Content-Length|l): *(\d+)", self._buffer[:end])
        end += 4 + int(length[1] if length else 0)
        if len(self._buffer) < end:
            return None
        message, self._buffer = self._buffer[:end], self._buffer[end:]
        return Message(message)


def _target(answer):
    return re.search(r"<([^>]+)>", answer["Contact"])[1]


def _routes(answer):
    """The Route of the caller: the Record-Route from the bottom (RFC 3261 §12.1.2)."""
    values = [one.strip() for line in answer.all("Record-Route") for one in line.split(",")]
    return values[::-1]
