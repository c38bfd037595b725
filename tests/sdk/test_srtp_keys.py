"""Keys of SRTP in SDP (RFC 4568), seen by a far end that moves its media in its answer to the server's offer."""

import re
import socket

import pytest

from harness import resources
from harness.phone import free_port

NUMBER = "+15551232001"
THEIRS = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"


@pytest.fixture(scope="module")
def server(start_tandem):
    waits = "<Response><Gather timeout='60'/></Response>"
    return start_tandem(
        resources.carrier(free_port(), srtp="required")
        + resources.table("numbers", number=NUMBER, account="acme", provider="twilio", twiml=waits)
    )


class FarEnd:
    """One call over a UDP socket, message by message."""

    def __init__(self, server):
        host, port = server.sip.split(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect((host, int(port)))
        self.socket.settimeout(10)
        self.port = self.socket.getsockname()[1]
        self.target = f"sip:{NUMBER}@{server.sip}"
        self.to = f"<{self.target}>"

    def request(self, method, cseq, body=""):
        branch = f"z9hG4bK{method}{cseq}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        self.socket.send(
            f"{method} {self.target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:them@127.0.0.1>;tag=them\r\nTo: {self.to}\r\nCall-ID: keys-{self.port}\r\nCSeq: {cseq} {method}\r\n"
            f"Contact: <sip:them@127.0.0.1:{self.port}>\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def message(self, start):
        """The next message that begins so; provisional responses are passed over."""
        while True:
            text = self.socket.recv(65_535).decode()
            if not re.match(r"SIP/2.0 1\d\d", text):
                assert text.startswith(start), text
                return text

    def sdp(self, host):
        return (
            f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 41000 RTP/SAVP 0\r\n"
            f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}\r\na=rtpmap:0 PCMU/8000\r\n"
        )


def key(message):
    """The server's key of the suite that these tests use."""
    return re.search(r"a=crypto:\d+ AES_CM_128_HMAC_SHA1_80 inline:(\S+)", message)[1]


@pytest.mark.parametrize("moves", [True, False])
def test_a_far_end_with_a_new_address_gets_one_offer_with_a_new_srtp_key(server, moves):
    end = FarEnd(server)
    end.request("INVITE", 1, end.sdp("127.0.0.1"))
    answer = end.message("SIP/2.0 200")
    end.to = re.search(r"^To: (.*?)\r$", answer, re.M)[1]
    end.target = re.search(r"^Contact: <(.*?)>", answer, re.M)[1]
    end.request("ACK", 1)
    first = key(answer)
    # A re-INVITE without an offer asks the server for one; the answer is in the ACK.
    end.request("INVITE", 2)
    assert key(end.message("SIP/2.0 200")) == first
    moved = end.sdp("127.0.0.2" if moves else "127.0.0.1")
    end.request("ACK", 2, moved)
    if moves:
        offer = end.message("INVITE")
        assert key(offer) != first
        fields = re.findall(r"^(?:Via|From|To|Call-ID|CSeq): .*\r\n", offer, re.M)
        end.socket.send(
            f"SIP/2.0 200 OK\r\n{''.join(fields)}Contact: <sip:them@127.0.0.1:{end.port}>\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(moved)}\r\n\r\n{moved}".encode()
        )
        end.message("ACK")
    # Nothing more is offered: the next message is the answer to the BYE.
    end.request("BYE", 3)
    end.message("SIP/2.0 200")
