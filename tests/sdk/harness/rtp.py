"""A phone's media side: RTP (RFC 3550) with PCMU and telephone events (RFC 4733), at the pace of the clock."""

import random
import socket
import struct
import threading
import time

import numpy

from .phone import HOST

PCMU, EVENTS = 0, 101
FRAME = 160  # samples: 20 ms at 8 kHz
KEYS = "0123456789*#ABCD"


def _linear(octet):
    octet = ~octet & 0xFF
    magnitude = (((octet & 0x0F) << 3) + 132 << (octet >> 4 & 7)) - 132
    return -magnitude if octet & 0x80 else magnitude


LINEAR = numpy.array([_linear(octet) for octet in range(256)], dtype=numpy.int32)


def pcmu(samples):
    """16-bit samples as G.711 µ-law octets: of the 256 values, the nearest."""
    order = numpy.argsort(LINEAR, kind="stable")
    levels = LINEAR[order]
    middles = (levels[1:] + levels[:-1]) / 2
    return order[numpy.searchsorted(middles, samples)].astype(numpy.uint8).tobytes()


def tone(hertz, seconds, amplitude=12_000):
    """A sine, as samples of 8 kHz."""
    return amplitude * numpy.sin(2 * numpy.pi * hertz / 8000 * numpy.arange(round(8000 * seconds)))


def share(samples, hertz):
    """How much of the samples' energy, 0 to 1, is a sine of this frequency."""
    samples = numpy.asarray(samples, dtype=float)
    total = float((samples**2).sum())
    wave = numpy.exp(-2j * numpy.pi * hertz / 8000 * numpy.arange(len(samples)))
    return 2 * abs(samples @ wave) ** 2 / (len(samples) * total) if total else 0.0


def is_tone(samples, hertz):
    """Whether at least half of the samples, taken by 50 ms, are this tone: this machine may be too busy to send in time."""
    parts = [samples[at : at + 400] for at in range(0, len(samples) - 399, 400)]
    return numpy.median([share(part, hertz) for part in parts]) > 0.95


class Rtp:
    """An RTP socket for a `Phone(media=...)`. Sends to whoever sent to it first, as a phone behind a NAT would be found."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self.address, self.port = self._socket.getsockname()
        self._ssrc, self._sequence, self._timestamp = (random.getrandbits(bits) for bits in (32, 15, 31))
        self._changed = threading.Condition()
        self._remote = None
        self._heard = bytearray()
        self._event = None
        self.keys = ""  # pressed at the other end
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def close(self):
        """Ends it."""
        # An empty packet wakes the thread, which closing alone would not.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (self.address, self.port))
        self._thread.join(5)
        self._socket.close()

    def heard(self, last=None):
        """The samples that came, or the last so many."""
        with self._changed:
            octets = bytes(self._heard if last is None else self._heard[-last:])
        return LINEAR[numpy.frombuffer(octets, dtype=numpy.uint8)]

    def wait(self, what, check, seconds=10):
        """The first true result of check(), tried whenever a packet has come."""
        result = None

        def done():
            nonlocal result
            result = check()
            return result

        with self._changed:
            if not self._changed.wait_for(done, seconds):
                raise AssertionError(f"waited {seconds:g} s for {what}; {len(self._heard)} samples, keys {self.keys!r}")
        return result

    def wait_for_tone(self, hertz, seconds=10, last=0.1):
        """Waits until 100 ms among the last so many seconds are this tone: a second where the tone may have ended already."""

        def rings():
            recent = LINEAR[numpy.frombuffer(bytes(self._heard[-round(8000 * last) :]), dtype=numpy.uint8)]
            return any(share(recent[at : at + 800], hertz) > 0.9 for at in range(0, len(recent) - 799, 400))

        self.wait(f"{hertz} Hz", rings, seconds)

    def wait_for_sound(self, seconds=10):
        """Waits until something else than silence has come."""
        start = len(self._heard)
        self.wait("sound", lambda: any(abs(LINEAR[octet]) > 1000 for octet in self._heard[start:]), seconds)

    def wait_for_more(self, seconds):
        """Waits until audio of so many seconds has come from now on."""
        until = len(self._heard) + round(8000 * seconds)
        self.wait(f"{seconds:g} s more of audio", lambda: len(self._heard) >= until, seconds + 10)

    def play(self, samples):
        """Says this."""
        octets = pcmu(samples)
        packets = [octets[at : at + FRAME] for at in range(0, len(octets), FRAME)]
        self._send([(PCMU, packet, at == 0, at * FRAME) for at, packet in enumerate(packets)])
        self._timestamp += FRAME * len(packets)

    def press(self, keys, milliseconds=100):
        """Presses keys: each an event of so long whose end is sent three times, then 40 ms of nothing."""
        for key in keys:
            steps = milliseconds // 20
            durations = [FRAME * step for step in range(1, steps)] + [FRAME * steps] * 3
            packets = []
            for at, duration in enumerate(durations):
                end = 0x80 if at >= steps - 1 else 0
                packets.append((EVENTS, struct.pack("!BBH", KEYS.index(key), end | 10, duration), at == 0, 0))
            self._send(packets + [None, None])
            self._timestamp += FRAME * (len(packets) + 2)

    def _send(self, packets):
        """One every 20 ms; None is a gap."""
        remote = self.wait("a first packet", lambda: self._remote)
        due = time.monotonic()
        for packet in packets:
            if packet:
                payload_type, payload, marker, offset = packet
                timestamp = (self._timestamp + offset) & 0xFFFF_FFFF
                second = (0x80 if marker else 0) | payload_type
                head = struct.pack("!BBHII", 0x80, second, self._sequence & 0xFFFF, timestamp, self._ssrc)
                self._sequence += 1
                self._socket.sendto(head + payload, remote)
            due += FRAME / 8000
            time.sleep(max(0.0, due - time.monotonic()))

    def _receive(self):
        while True:
            packet, remote = self._socket.recvfrom(2048)
            if not packet:
                return
            if len(packet) < 12:
                continue
            payload_type, timestamp, payload = packet[1] & 0x7F, packet[4:8], packet[12:]
            with self._changed:
                self._remote = remote
                if payload_type == PCMU:
                    self._heard += payload
                elif payload_type == EVENTS and payload and timestamp != self._event:
                    self._event = timestamp
                    self.keys += KEYS[payload[0] & 15]
                self._changed.notify_all()
