"""A session recording server (SIPREC, RFC 7866): takes calls over UDP, hears each of their streams, and keeps what it was told."""

import email
import random
import re
import socket
import threading
import xml.etree.ElementTree as ElementTree

from .phone import HOST
from .rtp import Rtp

NS = {"rs": "urn:ietf:params:xml:ns:recording:1", "own": "urn:tandem:siprec:1"}


class Message:
    """A SIP message: its start line, header fields by lower-case name, and body."""

    def __init__(self, octets):
        head, _, self.body = octets.partition(b"\r\n\r\n")
        self.start, *lines = head.decode().split("\r\n")
        self.fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.fields.setdefault(name.strip().lower(), []).append(value.strip())

    def __getitem__(self, name):
        return self.fields[name.lower()][0]

    @property
    def method(self):
        return self.start.split(" ")[0]

    def parts(self):
        """The parts of a multipart body: (Content-Type, Content-Disposition, content)."""
        whole = b"Content-Type: " + self["Content-Type"].encode() + b"\r\n\r\n" + self.body
        message = email.message_from_bytes(whole)
        assert message.is_multipart(), self["Content-Type"]
        return [
            (part.get_content_type(), part["Content-Disposition"], part.get_payload(decode=True).decode())
            for part in message.get_payload()
        ]

    def sdp(self):
        """What it offers or answers."""
        if self["Content-Type"] == "application/sdp":
            return self.body.decode()
        return self.parts()[0][2]

    def metadata(self):
        """What it says of the recorded session, as XML."""
        return ElementTree.fromstring(self.parts()[1][2])


def _sockets():
    """One for UDP, and one that keeps its port from others who would take TCP there: what is too long for a datagram tries that
    first (RFC 3261 §18.1.1), and has to be refused."""
    while True:
        udp, tcp = (socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        udp.bind((HOST, 0))
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp


class Recorder:
    """`refuses`: a status line that INVITEs get; `silent`: they get nothing; `says` is the direction of its answers."""

    def __init__(self, refuses=None, silent=False, says="recvonly"):
        self.refuses, self.silent, self.says = refuses, silent, says
        self._socket, self._reserved = _sockets()
        self.port = self._socket.getsockname()[1]
        self.uri = f"sip:srs@{HOST}:{self.port};transport=udp"
        self._changed = threading.Condition()
        self.requests = []  # new ones, in order; ACKs and repetitions are not among them
        self.responses = []
        self.streams = {}  # Rtp by label
        self._answers = {}
        self._remote = None
        self._sent = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self):
        """Ends it."""
        self._socket.sendto(b"", (HOST, self.port))
        self._thread.join(5)
        self._socket.close()
        self._reserved.close()
        for one in self.streams.values():
            one.close()

    def wait(self, method, count=1, seconds=10):
        """The count-th request of this method, and all before it."""
        found = []

        def enough():
            found[:] = [one for one in self.requests if one.method == method]
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(enough, seconds):
                seen = [one.start for one in self.requests]
                raise AssertionError(f"waited {seconds:g} s for {count} of {method}; came: {seen}")
        return found

    def hangs_up(self):
        """BYE."""
        self._request("BYE")

    def offers(self, direction):
        """Re-INVITE: both streams in this direction."""
        self.says = direction
        self._request("INVITE", self._description(self.requests[0].sdp()))

    def _request(self, method, sdp=""):
        self._sent += 1
        invite = self.requests[0]
        contact = re.search(r"<([^>]+)>", invite["Contact"])[1]
        type_ = "Content-Type: application/sdp\r\n" if sdp else ""
        self._send(
            f"{method} {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{self.port};branch=z9hG4bK{random.getrandbits(60):x}\r\n"
            f"From: {invite['To']};tag=srs\r\nTo: {invite['From']}\r\nCall-ID: {invite['Call-ID']}\r\nCSeq: {self._sent} {method}\r\n"
            f"Contact: <sip:srs@{HOST}:{self.port}>;+sip.srs\r\nMax-Forwards: 70\r\n{type_}Content-Length: {len(sdp)}\r\n\r\n{sdp}"
        )

    def _serve(self):
        while True:
            octets, remote = self._socket.recvfrom(65_535)
            if not octets:
                return
            if not octets.strip():
                continue
            self._remote = remote
            message = Message(octets)
            if message.start.startswith("SIP/2.0"):
                self._acknowledge(message)
            elif message.method != "ACK":
                self._take(message)

    def _take(self, request):
        key = (request["CSeq"], request["Via"])
        if key not in self._answers:
            self._answers[key] = None if self.silent and request.method == "INVITE" else self._answer(request)
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
        if self._answers[key]:
            self._send(self._answers[key])

    def _answer(self, request):
        refuses = self.refuses if request.method == "INVITE" else None
        sdp = self._description(request.sdp()) if request.method == "INVITE" and not refuses else ""
        same = "".join(f"{name}: {request[name]}\r\n" for name in ("Via", "From", "Call-ID", "CSeq"))
        tag = "" if ";tag=" in request["To"] else ";tag=srs"
        type_ = "Content-Type: application/sdp\r\n" if sdp else ""
        return (
            f"SIP/2.0 {refuses or '200 OK'}\r\n{same}To: {request['To']}{tag}\r\n"
            f"Contact: <sip:srs@{HOST}:{self.port}>;+sip.srs\r\n{type_}Content-Length: {len(sdp)}\r\n\r\n{sdp}"
        )

    def _description(self, offer):
        labels = re.findall(r"a=label:(\S+)", offer)
        lines = ["v=0", f"o=srs 1 1 IN IP4 {HOST}", "s=-", f"c=IN IP4 {HOST}", "t=0 0"]
        for label in labels:
            stream = self.streams.setdefault(label, Rtp())
            lines += [f"m=audio {stream.port} RTP/AVP 0", f"a={self.says}", f"a=label:{label}"]
        return "\r\n".join(lines) + "\r\n"

    def _acknowledge(self, response):
        with self._changed:
            self.responses.append(response)
            self._changed.notify_all()
        if response["CSeq"].endswith("INVITE") and not response.start.startswith("SIP/2.0 1"):
            contact = re.search(r"<([^>]+)>", response["Contact"])[1]
            self._send(
                f"ACK {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{self.port};branch=z9hG4bK{random.getrandbits(60):x}\r\n"
                f"From: {response['From']}\r\nTo: {response['To']}\r\nCall-ID: {response['Call-ID']}\r\n"
                f"CSeq: {response['CSeq'].split()[0]} ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            )

    def _send(self, message):
        self._socket.sendto(message.encode(), self._remote)
