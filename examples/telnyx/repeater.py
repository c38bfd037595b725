"""A voice bot over a stream: it repeats what is said to it. # ends the call.

STREAM                                where the WebSocket is reached, as wss://app.example/stream; the next port of this machine
TELNYX_API_KEY, TELNYX_PUBLIC_KEY     the account; that of desk.toml on this machine (local.py)
PORT                                  5000; the WebSocket is on the next one

What stands behind the semicolon is used when the variable is not set.
"""

import base64
import json
import os
import threading

import local
import websockets.sync.server

LOUD = 1_000  # mean level of a frame that is speech
SILENCE = 25  # quiet frames of 20 ms after which somebody has finished


def make(client, stream):
    """The application that has callers talk to the bot."""
    app, actions = local.Application(client), client.calls.actions

    @app.on("call.initiated")
    def arrived(call):
        actions.answer(
            call.call_control_id, stream_url=stream, stream_track="inbound_track", stream_bidirectional_mode="rtp",
            stream_bidirectional_codec="PCMU",
        )

    @app.on("call.dtmf.received")
    def pressed(call):
        if call.digit == "#":
            actions.hangup(call.call_control_id)

    return app


class Repeater:
    """One conversation. `said`: how many things were said; `repeated`: how many of them were heard again to their ends."""

    def __init__(self):
        self.format, self.said, self.repeated = None, 0, 0
        self.heard, self.quiet = bytearray(), 0

    def answers(self, message):
        """What is sent for a message of the server."""
        match message["event"]:
            case "start":
                self.format = message["start"]["media_format"]
            case "media":
                said = self.hear(base64.b64decode(message["media"]["payload"]))
                if said:
                    self.said += 1
                    yield {"event": "media", "media": {"payload": base64.b64encode(said).decode()}}
                    yield {"event": "mark", "mark": {"name": str(self.said)}}
            case "mark":
                self.repeated += 1

    def hear(self, octets):
        """All that was said, when this frame is the one by which it is over."""
        if level(octets) > LOUD:
            self.heard += octets
            self.quiet = 0
        elif self.heard:
            self.heard += octets
            self.quiet += 1
            if self.quiet >= SILENCE:
                said, self.heard = bytes(self.heard), bytearray()
                return said
        return None


def level(octets):
    """Mean level of G.711 µ-law audio."""
    return sum(abs(decode(octet)) for octet in octets) / max(len(octets), 1)


def decode(octet):
    """ITU-T G.711, µ-law."""
    octet = ~octet & 0xFF
    magnitude = (((octet & 0x0F) << 3) + 132 << (octet >> 4 & 7)) - 132
    return -magnitude if octet & 0x80 else magnitude


def serve(port, meet=lambda repeater: None):
    """A server of bots in a thread; `meet` is told of each. `.shutdown()` ends it."""

    def talk(socket):
        repeater = Repeater()
        meet(repeater)
        for text in socket:
            for answer in repeater.answers(json.loads(text)):
                socket.send(json.dumps(answer))

    server = websockets.sync.server.serve(talk, "127.0.0.1", port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "5000"))
    serve(port + 1)
    make(local.client(), os.environ.get("STREAM", f"ws://127.0.0.1:{port + 1}/stream")).run()
