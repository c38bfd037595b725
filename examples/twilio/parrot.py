"""A voice bot that repeats what is said to it, and stops talking when it is talked to.

STREAM    where the WebSocket is reached, as wss://app.example/stream; the next port of this machine when not set
GREETING  a WAV file (8 kHz, 16 bit, one channel) that it begins with; three tones when not set
PORT      5000; the WebSocket is on the next one
"""

import base64
import bisect
import io
import json
import os
import threading
import wave

import flask
import local
import websockets.sync.server
from twilio.twiml.voice_response import Connect, VoiceResponse

CHUNK = 160  # octets of G.711 in 20 ms
LOUD = 1_000  # mean level of a frame that is speech
SILENCE = 25  # quiet frames after which somebody has finished: half a second


def make(stream):
    """The application that sends callers to the bot."""
    app = flask.Flask(__name__)

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        connect = Connect(action="/bye")
        connect.stream(url=stream).parameter(name="caller", value=flask.request.form["From"])
        response.append(connect)
        return str(response), {"Content-Type": "text/xml"}

    @app.post("/bye")
    def bye():
        response = VoiceResponse()
        response.say("Good bye.")
        response.hangup()
        return str(response), {"Content-Type": "text/xml"}

    return app


class Bot:
    """One conversation. `said`: marks that were reached; `interrupted`: how often it was talked into."""

    def __init__(self, socket, greeting):
        self.socket, self.greeting = socket, greeting
        self.stream, self.talking = None, set()
        self.heard, self.quiet, self.interrupted, self.echoes, self.said = bytearray(), 0, 0, 0, []

    def run(self):
        """Until the call or the caller's patience is over."""
        for text in self.socket:
            message = json.loads(text)
            match message["event"]:
                case "start":
                    self.stream = message["start"]["streamSid"]
                    self.say("greeting", self.greeting)
                case "media":
                    self.hear(base64.b64decode(message["media"]["payload"]))
                case "mark":
                    self.said.append(message["mark"]["name"])
                    self.talking.discard(message["mark"]["name"])
                case "dtmf" if message["dtmf"]["digit"] == "#":
                    return
                case "stop":
                    return

    def hear(self, octets):
        """A frame of the caller's."""
        speaks = level(octets) > LOUD
        if speaks:
            if self.talking:
                # What is not yet heard is dropped; its marks come back at once.
                self.send({"event": "clear"})
                self.interrupted += 1
                self.talking.clear()
            self.quiet = 0
        elif self.heard:
            self.quiet += 1
        if speaks or self.heard:
            self.heard += octets
        if self.quiet >= SILENCE:
            said, self.heard, self.quiet = bytes(self.heard), bytearray(), 0
            self.echoes += 1
            self.say(f"echo {self.echoes}", said)

    def say(self, name, octets):
        """All of it at once: it is played at its pace, and can be cleared."""
        for at in range(0, len(octets), CHUNK * 50):
            payload = base64.b64encode(octets[at : at + CHUNK * 50]).decode()
            self.send({"event": "media", "media": {"payload": payload}})
        self.send({"event": "mark", "mark": {"name": name}})
        self.talking.add(name)

    def send(self, message):
        self.socket.send(json.dumps({"streamSid": self.stream} | message))


def level(octets):
    """Mean level of G.711 µ-law audio."""
    return sum(LEVELS[octet] for octet in octets) / max(len(octets), 1)


def _level(octet):
    octet = ~octet & 0x7F
    return (((octet & 0x0F) << 3) + 132 << (octet >> 4)) - 132


LEVELS = [_level(octet) for octet in range(256)]


def serve(port, greeting, meet=lambda bot: None):
    """A server of bots in a thread; `meet` is told of each. `.shutdown()` ends it."""

    def talk(socket):
        bot = Bot(socket, greeting)
        meet(bot)
        bot.run()

    server = websockets.sync.server.serve(talk, "127.0.0.1", port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def read(path):
    """A WAV file, or its path, as G.711 µ-law."""
    with wave.open(path) as file:
        form = file.getframerate(), file.getnchannels(), file.getsampwidth()
        if form != (8000, 1, 2):
            raise SystemExit(f"{path}: 8000 Hz, 1 channel, 2 octets a sample, not {form}; sox FILE -r 8000 -c 1 -b 16 OUT.wav")
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    magnitudes = sorted((value, octet) for octet, value in enumerate(LEVELS) if octet >= 0x80)
    def encode(sample):
        at = bisect.bisect_left(magnitudes, (abs(sample), 0))
        octet = magnitudes[min(at, len(magnitudes) - 1)][1]
        return octet if sample >= 0 else octet & 0x7F

    return bytes(encode(sample) for sample in samples)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "5000"))
    greeting = os.environ.get("GREETING") or io.BytesIO(local.tones((523, 0.4), (659, 0.4), (784, 0.6)))
    serve(port + 1, read(greeting))
    make(os.environ.get("STREAM", f"ws://127.0.0.1:{port + 1}/stream")).run(port=port)
