"""SIP phones: SIPp with scenarios made of a few words."""

import contextlib
import itertools
import os
import random
import re
import socket
import subprocess
from pathlib import Path

from .waiting import wait_for

HOST = "127.0.0.1"

_SDP = """v=0
o=phone 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
"""


def play(pcap):
    """Sends the RTP of a pcap file (see audio.py) and goes on at once."""
    return f'<nop><action><exec play_pcap_audio="{pcap}"/></action></nop>'


def pause(milliseconds):
    """Waits."""
    return f'<pause milliseconds="{int(milliseconds)}"/>'


def until_told():
    """Waits for Phone.tell()."""
    return '<recv request="INFO"/>'


def caller(number, steps="", ends="bye", extra_headers="", reject=None):
    """Calls `number`, performs `steps`; then ends="bye": hangs up, ends="wait": waits for the other side to,
    ends="cancel": gives up as soon as it rings (and performs no steps). With reject=STATUS the call must be refused so."""
    user = f"sip:{number}@[remote_ip]:[remote_port]"
    head = (
        "From: <sip:+15550009999@[local_ip]:[local_port]>;tag=[call_number]\n"
        f"To: <{user}>[peer_tag_param]\nCall-ID: [call_id]\n"
    )
    invite = _message(f"INVITE {user} SIP/2.0", "[branch]", head, "1 INVITE", extra_headers, _SDP)
    plain_head = head.replace("[peer_tag_param]", "")
    if reject:
        invite_alone = invite.replace("[peer_tag_param]", "")
        # [branch-N] is the branch of N steps before: the ACK of a refusal has the INVITE's.
        ack = _message(f"ACK {user} SIP/2.0", "[branch-4]", head, "1 ACK")
        return _scenario(
            f'<send retrans="500">{_cdata(invite_alone)}</send>',
            '<recv response="100" optional="true"/><recv response="180" optional="true"/>',
            f'<recv response="{reject}"/><send>{_cdata(ack)}</send>',
        )
    invite = _message(f"INVITE {user} SIP/2.0", "[branch]", plain_head, "1 INVITE", extra_headers, _SDP)
    if ends == "cancel":
        cancel = _message(f"CANCEL {user} SIP/2.0", "[branch-4]", plain_head, "1 CANCEL")
        ack = _message(f"ACK {user} SIP/2.0", "[branch-7]", head, "1 ACK")
        return _scenario(
            f'<send retrans="500">{_cdata(invite)}</send>',
            '<recv response="100" optional="true"/><recv response="180"/>',
            pause(300),
            f'<send retrans="500">{_cdata(cancel)}</send><recv response="200"/>',
            f'<recv response="487"/><send>{_cdata(ack)}</send>',
        )
    return _scenario(
        f'<send retrans="500">{_cdata(invite)}</send>',
        '<recv response="100" optional="true"/><recv response="180" optional="true"/>',
        '<recv response="183" optional="true"/><recv response="200" rrs="true"/>',
        f"<send>{_cdata(_message('ACK [next_url] SIP/2.0', '[branch]', head, '1 ACK', '[routes]'))}</send>",
        steps,
        _ending(ends, _message("BYE [next_url] SIP/2.0", "[branch]", head, "2 BYE", "[routes]")),
    )


def callee(steps="", ends="wait", ring_ms=0, reject=None, answer_headers=""):
    """Takes a call, performs `steps`, ends as a caller does; or refuses it with the reply reject="486 Busy Here"."""
    answer_headers = answer_headers.strip() + "\n" if answer_headers.strip() else ""
    same = "[last_Via:]\n[last_From:]\n{to}\n[last_Call-ID:]\n[last_CSeq:]\nContact: <sip:[local_ip]:[local_port]>\n"
    tagged = same.format(to="[last_To:];tag=callee[call_number]")

    def reply(status, body=""):
        type_ = answer_headers + "Content-Type: application/sdp\n" if body else ""
        return f"SIP/2.0 {status}\n[last_Record-route:]\n{tagged}{type_}Content-Length: [len]\n\n{body}"

    # A BYE of ours: the parties swap places.
    bye = (
        "BYE [next_url] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        "From: [$3];tag=callee[call_number]\nTo: [$2]\nCall-ID: [call_id]\nCSeq: 1 BYE\nMax-Forwards: 70\n"
        "[routes]\nContent-Length: 0\n\n"
    )
    remember = (
        '<action><ereg regexp=".*" search_in="hdr" header="From:" assign_to="2"/>'
        '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="3"/></action>'
    )
    reference = '<Reference variables="2,3"/>'
    start = f'<recv request="INVITE" rrs="true">{remember}</recv>'
    if reject:
        return _scenario(start, f'<send>{_cdata(reply(reject))}</send>', '<recv request="ACK"/>', reference)
    return _scenario(
        start,
        f"<send>{_cdata(reply('180 Ringing'))}</send>",
        pause(ring_ms) if ring_ms else "",
        f'<send retrans="500">{_cdata(reply("200 OK", _SDP))}</send>',
        '<recv request="ACK"/>',
        steps,
        _ending(ends, bye),
        reference,
    )


def is_referred(status):
    """Steps of callee(): takes a REFER, and tells that the call which it made for it got this status line."""
    accepted = (
        "SIP/2.0 202 Accepted\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
        "Contact: <sip:[local_ip]:[local_port]>\nContent-Length: 0\n\n"
    )
    notify = (
        "NOTIFY [next_url] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        "From: [$3];tag=callee[call_number]\nTo: [$2]\nCall-ID: [call_id]\nCSeq: 1 NOTIFY\nMax-Forwards: 70\n"
        "Contact: <sip:[local_ip]:[local_port]>\nEvent: refer\nSubscription-State: terminated;reason=noresource\n[routes]\n"
        f"Content-Type: message/sipfrag\nContent-Length: [len]\n\nSIP/2.0 {status}\n"
    )
    return (
        f'<recv request="REFER"/><send>{_cdata(accepted)}</send>'
        f'<send retrans="500">{_cdata(notify)}</send><recv response="200"/>'
    )


def ringing_callee(ring_ms=60_000):
    """Rings and never answers: waits for CANCEL."""
    head = "[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\nContent-Length: 0\n\n"
    tagged, plain = head.format(tag=";tag=callee[call_number]"), head.format(tag="")
    refused = (
        "SIP/2.0 487 Request Terminated\nVia: [$4]\n[last_From:]\n[last_To:];tag=callee[call_number]\n"
        "[last_Call-ID:]\nCSeq: 1 INVITE\nContent-Length: 0\n\n"
    )
    via = '<action><ereg regexp=".*" search_in="hdr" header="Via:" assign_to="4"/></action>'
    return _scenario(
        f'<recv request="INVITE">{via}</recv>',
        f"<send>{_cdata('SIP/2.0 180 Ringing' + chr(10) + tagged)}</send>",
        f'<recv request="CANCEL" timeout="{ring_ms}"/>',
        f"<send>{_cdata('SIP/2.0 200 OK' + chr(10) + plain)}</send>",
        f'<send retrans="500">{_cdata(refused)}</send>',
        '<recv request="ACK"/>',
    )


def registering(username, password, domain, reject=None):
    """Registers at `domain` with the digest that it is asked for. With reject=STATUS it must be refused so."""
    head = f"From: <sip:{username}@{domain}>;tag=[call_number]\nTo: <sip:{username}@{domain}>\nCall-ID: [call_id]\n"
    digest = f"[authentication username={username} password={password}]"
    register = f"REGISTER sip:{domain} SIP/2.0"
    return _scenario(
        f'<send retrans="500">{_cdata(_message(register, "[branch]", head, "1 REGISTER", "Expires: 300"))}</send>',
        '<recv response="100" optional="true"/><recv response="401" auth="true"/>',
        f'<send retrans="500">{_cdata(_message(register, "[branch]", head, "2 REGISTER", "Expires: 300" + chr(10) + digest))}</send>',
        f'<recv response="100" optional="true"/><recv response="{reject or 200}"/>',
    )


def refer(number, domain, username, to, status):
    """A step of domain_caller() with these: asks for a transfer to `to`, which must be answered with `status`."""
    head = f"From: <sip:{username}@{domain}>;tag=[call_number]\nTo: <sip:{number}@{domain}>[peer_tag_param]\nCall-ID: [call_id]\n"
    message = _message("REFER [next_url] SIP/2.0", "[branch]", head, "3 REFER", f"Refer-To: <{to}>\n[routes]")
    return f'<send retrans="500">{_cdata(message)}</send><recv response="{status}"/>'


def domain_caller(number, domain, username=None, password=None, steps="", ends="bye", reject=None):
    """Calls `number` at `domain`, with the digest that it is asked for, or (without a username) without being asked; ends
    as a caller does. With reject=STATUS the call must be refused so."""
    user = f"sip:{number}@{domain}"
    head = f"From: <sip:{username or '+15550009999'}@{domain}>;tag=[call_number]\nTo: <{user}>{{tag}}\nCall-ID: [call_id]\n"
    plain, tagged = head.format(tag=""), head.format(tag="[peer_tag_param]")
    start, cseq, steps_before = f"INVITE {user} SIP/2.0", 1, []
    if username:
        ack = _message(f"ACK {user} SIP/2.0", "[branch-3]", tagged, "1 ACK")
        steps_before = [
            f'<send retrans="500">{_cdata(_message(start, "[branch]", plain, "1 INVITE", "", _SDP))}</send>',
            '<recv response="100" optional="true"/><recv response="401" auth="true"/>',
            f"<send>{_cdata(ack)}</send>",
        ]
        cseq = 2
    digest = f"[authentication username={username} password={password}]" if username else ""
    invite = _message(start, "[branch]", plain, f"{cseq} INVITE", digest, _SDP)
    steps_before.append(f'<send retrans="500">{_cdata(invite)}</send>')
    if reject:
        ack = _message(f"ACK {user} SIP/2.0", "[branch-4]", tagged, f"{cseq} ACK")
        return _scenario(
            *steps_before,
            '<recv response="100" optional="true"/><recv response="180" optional="true"/>',
            f'<recv response="{reject}"/><send>{_cdata(ack)}</send>',
        )
    ack = _message("ACK [next_url] SIP/2.0", "[branch]", tagged, f"{cseq} ACK", "[routes]")
    return _scenario(
        *steps_before,
        '<recv response="100" optional="true"/><recv response="180" optional="true"/>',
        '<recv response="183" optional="true"/><recv response="200" rrs="true"/>',
        f"<send>{_cdata(ack)}</send>",
        steps,
        _ending(ends, _message("BYE [next_url] SIP/2.0", "[branch]", tagged, f"{cseq + 2} BYE", "[routes]")),
    )


class Phone:
    """A SIPp process. As a callee `uri` is where it is called."""

    def __init__(self, directory, scenario, target=None, calls=1, seconds=40, media=None, transport="udp", port=None):
        """With a target ("HOST:PORT") it calls, one call after the other; without one it waits for calls. Its SDP names
        `media` (an Rtp) for audio, or else SIPp's own sockets."""
        if media:
            scenario = scenario.replace("[media_ip]", media.address).replace("[media_port]", str(media.port))
        self.port, media = port or free_port(), free_port()
        self.uri = f"sip:phone@{HOST}:{self.port}"
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / "scenario.xml"
        file.write_text(scenario)
        command = ["sipp"] + ([target] if target else []) + ["-sf", str(file), "-i", HOST, "-p", str(self.port)]
        command += ["-mi", HOST, "-mp", str(media), "-m", str(calls), "-l", str(calls) if not target else "1"]
        command += ["-nostdin", "-timeout", str(seconds), "-timeout_error", "-trace_err", "-trace_msg"]
        command += ["-t", {"udp": "u1", "tcp": "t1"}[transport]]
        command += ["-error_file", "errors.log", "-message_file", "messages.log", "-nd"]
        # Playing a capture takes a raw socket.
        command = command if os.geteuid() == 0 else ["sudo", "-n", *command]
        self._out = (self._directory / "out.log").open("wb")
        self.process = subprocess.Popen(
            command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out
        )
        if not target:
            bound = f"/proc/net/{transport}"
            wait_for("the phone's socket", lambda: self.process.poll() is not None or _is_bound(bound, self.port))

    def messages(self):
        """The SIP messages of its calls."""
        file = self._directory / "messages.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def tell(self):
        """Lets its call go on after until_told(): an INFO that nobody but the phone sees."""
        (call_id,) = wait_for("the phone's call", lambda: set(re.findall(r"\nCall-ID: (\S+)", self.messages())))
        info = (
            f"INFO sip:phone@{HOST} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:9;branch=z9hG4bKtell\r\nFrom: <sip:test@{HOST}>;tag=1"
            f"\r\nTo: <sip:phone@{HOST}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INFO\r\nContent-Length: 0\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(info.encode(), (HOST, self.port))

    def hang_up(self):
        """Has its call, which waits at until_told(), end by itself."""
        self.tell()
        self.finish()

    def finish(self, seconds=40):
        """Waits for the end of its calls, each of which must have gone as the scenario says."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = "none: still running"
        if code != 0:
            self.stop()
            errors = self._directory / "errors.log"
            shown = errors.read_text(errors="replace") if errors.exists() else ""
            raise AssertionError(f"SIPp ended with {code}\n{shown}\n{self.messages()[-6000:]}")

    def stop(self):
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._out.close()


def _message(start, branch, head, cseq, extra="", body=""):
    extra = extra.strip() + "\n" if extra.strip() else ""
    type_ = "Content-Type: application/sdp\n" if body else ""
    return (
        f"{start}\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}\n{head}CSeq: {cseq}\n"
        f"Contact: <sip:phone@[local_ip]:[local_port]>\nMax-Forwards: 70\n{extra}{type_}Content-Length: [len]\n\n{body}"
    )


def _ending(ends, bye):
    if ends == "bye":
        return f'<send retrans="500">{_cdata(bye)}</send><recv response="200"/>'
    assert ends == "wait"
    ok = (
        "SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n"
        "Contact: <sip:[local_ip]:[local_port]>\nContent-Length: 0\n\n"
    )
    return f'<recv request="BYE"/><send>{_cdata(ok)}</send>'


def _cdata(message):
    lines = "\n".join(line for line in re.split(r"\r?\n", message))
    return f"<![CDATA[\n{lines}\n]]>"


def _scenario(*steps):
    return '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="phone">\n' + '\n'.join(steps) + '\n</scenario>\n'


# Each is given away once before any is given away again: a phone takes its ports a while after it was told them, and one
# of them twice (for SIP and for RTP, say) would be a port already in use.
# Workers that run side by side have ports of their own.
_WORKER, _WORKERS = os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:], int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
_OWN = range(10_000 + 4 * int(_WORKER), 13_996, 4 * _WORKERS)
_PORTS = itertools.cycle(random.sample(_OWN, len(_OWN)))


def free_port():
    """The first of four free UDP and TCP ports, an even one: SIPp takes them for RTP and RTCP of audio and of video. The system
    does not give away these ports by itself, and the test servers use the ports above them (server.BASE). So no other
    process takes them meanwhile."""
    for port in itertools.islice(_PORTS, len(_OWN)):
        with contextlib.ExitStack() as bound:
            try:
                for one, kind in itertools.product(range(port, port + 4), (socket.SOCK_DGRAM, socket.SOCK_STREAM)):
                    bound.enter_context(socket.socket(socket.AF_INET, kind)).bind((HOST, one))
            except OSError:
                continue
        return port
    raise AssertionError("no four free ports from 10000 to 13999")


def _is_bound(table, port):
    """Whether a socket of this machine has the port: its line's second column ends with it."""
    rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") for row in rows)
