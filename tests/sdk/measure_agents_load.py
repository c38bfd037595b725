"""Many agents at once, the server on one core and everything else on the others. Run by hand:

    TANDEM_PROFILE=release .venv/bin/python tests/sdk/measure_agents_load.py [AGENTS] [SECONDS]

Each phone asks a question of 1 s every 6 s, and hears the answer. Engines take no time. Printed: the server's processor time for each
agent, how late packets came at the phones, packets that were lost, questions without an answer, and what `/metrics` says was dropped.
"""

import os
import random
import re
import select
import socket
import struct
import sys
import tempfile
import threading
import time
import urllib.request

from harness.audio import chatter
from harness.models import ChatModel, SpeechToText, TextToSpeech
from harness.rtp import LINEAR, pcmu
from harness.server import Tandem

HOST, FRAME, EVERY = "127.0.0.1", 160, 6.0
LOUD = bytes(octet for octet in range(256) if abs(int(LINEAR[octet])) > 1000)


class Call:
    """A phone that has called. `gaps` holds the seconds between two packets, where there were more than 40 ms."""

    def __init__(self, number, sip, server):
        self.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rtp.bind((HOST, 0))
        self.rtp.setblocking(False)
        self.number, self.sip, self.server = number, sip, server
        self.remote = self.tag = None
        self.sequence = self.packets = self.lost = 0
        self.last = self.last_sequence = None
        self.gaps, self.questions, self.answers, self.waits = [], 0, 0, False
        self.at = random.uniform(0, EVERY)

    def head(self, method, sequence):
        to = f";tag={self.tag}" if self.tag else ""
        host, port = self.sip.getsockname()
        return (
            f"{method} sip:700@{self.server} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{self.number}{method}\r\n"
            f"From: <sip:phone@{host}:{port}>;tag=p{self.number}\r\nTo: <sip:700@{self.server}>{to}\r\nCall-ID: load-{self.number}\r\n"
            f"CSeq: {sequence} {method}\r\nContact: <sip:phone@{host}:{port}>\r\nMax-Forwards: 70\r\n"
        )

    def invite(self):
        host, port = self.rtp.getsockname()
        body = f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        self.send(self.head("INVITE", 1) + f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}")

    def answered(self, text):
        self.tag = re.search(r"\r\nTo:.*;tag=([^\s;]+)", text)[1]
        self.remote = (HOST, int(re.search(r"m=audio (\d+)", text)[1]))
        self.send(self.head("ACK", 1) + "Content-Length: 0\r\n\r\n")

    def send(self, text):
        host, port = self.server.split(":")
        self.sip.sendto(text.encode(), (host, int(port)))

    def speak(self, payload):
        head = struct.pack("!BBHII", 0x80, 0, self.sequence & 0xFFFF, self.sequence * FRAME & 0xFFFF_FFFF, self.number)
        self.sequence += 1
        self.rtp.sendto(head + payload, self.remote)

    def hear(self, packet, now, speaks):
        sequence = packet[2] << 8 | packet[3]
        if self.last is not None:
            if now - self.last > 0.04:
                self.gaps.append(now - self.last)
            self.lost += max(0, ((sequence - self.last_sequence) & 0xFFFF) - 1)
        self.last, self.last_sequence = now, sequence
        self.packets += 1
        if self.waits and not speaks and packet[12:].translate(None, LOUD) != packet[12:]:
            self.waits, self.answers = False, self.answers + 1


def metric(server, name):
    with urllib.request.urlopen(server.http + "/metrics", timeout=5) as answer:
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", answer.read().decode(), re.M)
    return sum(map(float, found))


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    model, ears, voice = ChatModel(), SpeechToText(), TextToSpeech()
    ears.hears = lambda samples: "What are your hours?"
    # No text twice: each is spoken by the engine.
    model.answer = lambda messages: f"We open at nine, number {random.randrange(10**9)}."
    voice.pitch = lambda text: 700
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    server = Tandem(tempfile.mkdtemp(), f"""
[speech]
tts = "{voice.url}/v1/audio/speech"
stt = "{ears.url}/v1/audio/transcriptions"
[[numbers]]
number = "700"
account = "acme"
agent = "a"
[[agents]]
name = "a"
prompt = "p"
silence_seconds = 60
model = {{ url = "{model.url}/v1" }}
""")
    for thread in threading.enumerate():
        os.sched_setaffinity(thread.native_id, cores[1:] or cores)
    sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sip.bind((HOST, 0))
    calls = [Call(number, sip, server.sip) for number in range(count)]
    by_name = {f"load-{one.number}": one for one in calls}
    poll = select.epoll()
    poll.register(sip, select.EPOLLIN)
    by_socket = {one.rtp.fileno(): one for one in calls}
    for one in calls:
        poll.register(one.rtp, select.EPOLLIN)
    question = pcmu(chatter(1.0))
    frames = [question[at : at + FRAME] for at in range(0, len(question), FRAME)]
    silence = b"\xff" * FRAME
    waiting, began = list(calls), time.monotonic()
    due, ends, used, before = began, None, 0, {}
    names = ("tandem_rtp_packets_dropped_total", "tandem_stream_overflows_total", "tandem_database_writes_lost_total")
    ticks = os.sysconf("SC_CLK_TCK")

    def processor():
        fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    try:
        while ends is None or time.monotonic() < ends:
            now = time.monotonic()
            if waiting and ends is None:
                for _ in range(2):
                    if waiting:
                        waiting.pop().invite()
            elif ends is None and all(one.remote for one in calls) and now > began + 8:
                ends, used = now + seconds, processor()
                before = {name: metric(server, name) for name in names}
                for one in calls:
                    one.gaps, one.lost, one.packets, one.questions, one.answers, one.waits = [], 0, 0, 0, 0, False
            for one in calls:
                if not one.remote:
                    continue
                place = int(((now - began + one.at) % EVERY) * 50)
                if place == len(frames) and ends and ends - now > 5:
                    one.questions, one.waits = one.questions + 1, True
                one.speak(frames[place] if place < len(frames) else silence)
            due += 0.02
            while (left := due - time.monotonic()) > 0:
                for number, _ in poll.poll(left):
                    one = by_socket.get(number)
                    if one is None:
                        text = sip.recv(4096).decode(errors="replace")
                        called = by_name.get((re.search(r"Call-ID: (\S+)", text) or [None, ""])[1])
                        if called and text.startswith("SIP/2.0 200") and "INVITE" in text and not called.remote:
                            called.answered(text)
                        continue
                    now = time.monotonic()
                    place = int(((now - began + one.at) % EVERY) * 50)
                    one.hear(one.rtp.recv(2048), now, place < len(frames))
        used = processor() - used
        after = {name: metric(server, name) - before[name] for name in names}
    finally:
        server.end()
        server.process.wait()
    gaps = sorted(gap for one in calls for gap in one.gaps)
    packets = sum(one.packets for one in calls)
    print(f"{count} agents for {seconds} s: {100 * used / seconds:.0f} % of a core, {1000 * used / seconds / count:.2f} ms of it a second "
          f"and agent; {packets} packets, {sum(one.lost for one in calls)} lost, {len(gaps)} of them came more than 40 ms after the one "
          f"before (most {1000 * gaps[-1] if gaps else 0:.0f} ms); {sum(one.answers for one in calls)} of "
          f"{sum(one.questions for one in calls)} questions answered; {after}")
    os._exit(0)


if __name__ == "__main__":
    main()
