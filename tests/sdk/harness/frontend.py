"""A page's WebSocket: remembers what it was told, and speaks."""

import base64
import contextlib
import struct
import threading
import time

import numpy
import websockets.sync.client

from .rtp import FRAME, LINEAR, pcmu, share, tone
from .socketapp import Socket
from .waiting import wait_for


class Frontend(Socket):
    """Connected to `url`. `protocol` is the subprotocol that was agreed to."""

    def __init__(self, url, protocols=None, **options):
        self._connected = websockets.sync.client.connect(url, subprotocols=protocols, compression=None, **options)
        connection = self._connected.__enter__()
        super().__init__(connection)
        self.protocol = connection.subprotocol
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()

    def end(self):
        """Closes it, if it is open."""
        self._connected.__exit__(None, None, None)
        self._thread.join(10)

    def hears(self, hertz, frames, seconds=10):
        """Waits until 100 ms of what it got are this tone. `frames()`: the payloads so far, base64."""

        def rings():
            octets = b"".join(base64.b64decode(one) for one in frames())
            samples = LINEAR[numpy.frombuffer(octets, dtype=numpy.uint8)]
            return any(share(samples[at : at + 800], hertz) > 0.9 for at in range(0, len(samples) - 799, 400))

        wait_for(f"{hertz} Hz at a page", rings, seconds)

    @contextlib.contextmanager
    def sounds(self, hertz, **more):
        """Says a tone, a whole RTP packet every 20 ms as the page of the dashboard does. `more`: members of each message."""
        over = threading.Event()
        octets = pcmu(tone(hertz, 1))

        def speak():
            sequence, due = 0, time.monotonic()
            while not over.is_set():
                at = sequence * FRAME % len(octets)
                head = struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, sequence * FRAME & 0xFFFF_FFFF, 7)
                payload = base64.b64encode(head + octets[at : at + FRAME]).decode()
                self.send(event="media", media={"payload": payload}, **more)
                sequence += 1
                due += FRAME / 8000
                time.sleep(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)
