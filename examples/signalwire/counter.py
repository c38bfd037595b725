"""A voice bot over a stream: it answers each thing that is said to it with as many beeps as things were said. # ends the call.

STREAM  where the WebSocket is reached, as wss://app.example/stream; the next port of this machine when not set
PORT    5000; the WebSocket is on the next one
"""

import base64
import json
import math
import os
import threading

import flask
import local
import websockets.sync.server
from signalwire.voice_response import Connect, VoiceResponse

LOUD = 1_000  # mean level of a frame that is speech
SILENCE = 40  # quiet frames of 20 ms after which somebody has finished
FRAME = 160


def make(stream):
    """The application that sends callers to the bot."""
    app = flask.Flask(__name__)

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        response.say("I count what you say.")
        connect = Connect()
        connect.stream(url=stream).parameter(name="caller", value=flask.request.form["From"])
        response.append(connect)
        response.say("Good bye.")
        response.hangup()
        return local.xml(response)

    return app


class Counter:
    """One conversation. `count`: things that were said; `played`: answers that were heard to their ends."""

    def __init__(self):
        self.parameters, self.count, self.played = {}, 0, 0
        self.speaking, self.quiet = False, 0

    def answers(self, message):
        """What is sent for a message of the server; None when the talk is over."""
        match message["event"]:
            case "start":
                self.parameters = message["start"]["customParameters"]
            case "media" if self.has_finished(base64.b64decode(message["media"]["payload"])):
                self.count += 1
                return [media(beeps(self.count)), {"event": "mark", "mark": {"name": str(self.count)}}]
            case "mark":
                self.played += 1
            case "dtmf" if message["dtmf"]["digit"] == "#":
                return None
            case "stop":
                return None
        return []

    def has_finished(self, octets):
        """Whether this frame is the one by which something that was said is over."""
        if level(octets) > LOUD:
            self.speaking, self.quiet = True, 0
            return False
        self.quiet += 1
        finished = self.speaking and self.quiet >= SILENCE
        self.speaking = self.speaking and not finished
        return finished


def media(octets):
    return {"event": "media", "media": {"payload": base64.b64encode(octets).decode()}}


def beeps(count):
    """That many beeps of 880 Hz, 0.3 s each, in G.711 µ-law."""
    beep = bytes(encode(6000 * math.sin(2 * math.pi * 880 * at / local.RATE)) for at in range(2_400))
    return (beep + b"\xff" * 800) * count


def level(octets):
    """Mean level of G.711 µ-law audio."""
    return sum(abs(decode(octet)) for octet in octets) / max(len(octets), 1)


def decode(octet):
    """ITU-T G.711, µ-law."""
    octet = ~octet & 0xFF
    magnitude = (((octet & 0x0F) << 3) + 132 << (octet >> 4 & 7)) - 132
    return -magnitude if octet & 0x80 else magnitude


LEVELS = {octet: decode(octet) for octet in range(256)}


def encode(sample):
    """The octet whose level is next to that of the sample."""
    return min(LEVELS, key=lambda octet: abs(LEVELS[octet] - sample))


def serve(port, meet=lambda counter: None):
    """A server of bots in a thread; `meet` is told of each. `.shutdown()` ends it."""

    def talk(socket):
        counter = Counter()
        meet(counter)
        for text in socket:
            answers = counter.answers(json.loads(text))
            if answers is None:
                return
            for answer in answers:
                socket.send(json.dumps(answer))

    server = websockets.sync.server.serve(talk, "127.0.0.1", port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "5000"))
    serve(port + 1)
    make(os.environ.get("STREAM", f"ws://127.0.0.1:{port + 1}/stream")).run(port=port)
