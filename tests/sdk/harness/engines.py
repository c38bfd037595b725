"""Engines for speech on loopback: one that takes files and speaks over HTTP (as OpenAI's), one that listens over a WebSocket
(as Deepgram's). They know no words: they say what they are told to, when they hear somebody speak or a tone."""

import io
import json
import threading
import urllib.parse
import wave
from email.parser import BytesParser
from email.policy import HTTP

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from .faults import HOST, Engine, Gone
from .tones import nearest, sine

KEY = "engine-key"
_CHUNK = 4_800  # octets: 100 ms at 24,000 Hz
_LOUD = 300  # mean amplitude of somebody who speaks


class FileEngine(Engine):
    """`/v1/audio/transcriptions` and `/v1/audio/speech`.

    Ears: `words` are its answers in turn, the last one again and again. With `hears`, words follow from the sound instead: a dict
    from the frequency of a tone to words, or a function of the samples (8 kHz). `asked` holds the fields of every form, `file` among
    them as samples.

    Voice: a second of 1,000 Hz. With `vocabulary`, each word is a tone of its own (`harness.tones`), which
    `engine.vocabulary.heard(rtp.heard())` reads at the phone. `pace` is how many seconds lie between two chunks of 100 ms of sound;
    None sends it whole. `said` holds every request.

    `deaf` and `mute` are what it does instead: a `Fault` or an HTTP status; `slow_ears` and `slow_voice` are seconds before the first
    octet. `dropped` counts answers that the client left before their end."""

    def __init__(self, hears=None, vocabulary=None, pace=None):
        self.words, self.hears, self.vocabulary, self.pace = ["something"], hears, vocabulary, pace
        self.asked, self.said, self.dropped = [], [], 0
        self.deaf = self.mute = None
        self.slow_ears = self.slow_voice = 0.0
        super().__init__()

    def serve(self, handler, body):
        try:
            if handler.headers["Authorization"] != f"Bearer {KEY}":
                handler.answer(401, "application/json", b'{"error":{"message":"no such key"}}')
            elif handler.path == "/v1/audio/speech":
                self._speak(handler, json.loads(body))
            else:
                self._transcribe(handler, _form(handler.headers["Content-Type"], body))
        except (Gone, BrokenPipeError, ConnectionResetError):
            self.dropped += 1
            raise

    def _transcribe(self, handler, fields):
        self.asked.append(fields)
        handler.look(self.slow_ears)
        if self.deaf:
            handler.suffer(self.deaf)
        text = self._words_of(fields["file"])
        answer = {"text": text, "language": "english", "segments": [{"avg_logprob": -0.1}]}
        if fields.get("response_format") == "verbose_json":
            answer |= {"task": "transcribe", "duration": len(fields["file"]) / 8000}
        handler.answer(200, "application/json", json.dumps(answer).encode())

    def _words_of(self, samples):
        if callable(self.hears):
            return self.hears(samples)
        if self.hears is not None:
            return nearest(self.hears, samples)
        return self.words.pop(0) if len(self.words) > 1 else self.words[0]

    def _speak(self, handler, request):
        self.said.append(request)
        handler.look(self.slow_voice)
        if self.mute:
            handler.suffer(self.mute)
        samples = self.vocabulary.speak(request["input"]) if self.vocabulary else sine(1_000, 1, amplitude=8_000)
        if request.get("response_format") == "pcm":
            kind, octets = "audio/pcm", samples.tobytes()
        elif self.pace is None:
            kind, octets = "audio/wav", _wav(samples)
        else:
            kind, octets = "audio/wav", _endless(samples)
        if self.pace is None:
            return handler.answer(200, kind, octets)
        handler.begin(kind)
        for at in range(0, len(octets), _CHUNK):
            handler.look(self.pace if at else 0)
            handler.send(octets[at : at + _CHUNK])
        return handler.end()


class LiveEngine:
    """`/v1/listen`. Of each session: while somebody speaks it says the next words of an utterance, one more every 200 ms; when
    they pause, all of them for good. `sessions` holds the query of each."""

    def __init__(self, words=("I", "want", "to", "pay", "my", "bill")):
        self.words, self.sessions = words, []
        self._server = serve(self._listen, HOST, 0, process_request=self._admit)
        self.url = f"ws://{HOST}:{self._server.socket.getsockname()[1]}/v1/listen"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends it."""
        self._server.shutdown()

    def _admit(self, connection, request):
        if request.headers.get("Authorization") != f"Token {KEY}":
            return connection.respond(401, "no such key\n")
        return None

    def _listen(self, socket):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(socket.request.path).query)
        self.sessions.append(query)
        spoken, silent, told = 0, 0, 0
        try:
            for message in socket:
                if isinstance(message, str):
                    if json.loads(message)["type"] == "CloseStream":
                        if spoken:
                            socket.send(self._result(len(self.words), True))
                        return
                    continue
                loud = np.abs(_linear(message)).mean() > _LOUD
                spoken, silent = (spoken + loud, 0) if loud else (spoken, silent + 1)
                if loud and spoken % 10 == 0 and told < len(self.words) - 1:
                    told += 1
                    socket.send(self._result(told, False))
                if spoken and silent == 25:
                    socket.send(self._result(len(self.words), True))
                    spoken = told = 0
        except ConnectionClosed:
            pass

    def _result(self, count, final):
        best = {"transcript": " ".join(self.words[:count]), "confidence": 0.9 if final else 0.5, "words": []}
        return json.dumps(
            {"type": "Results", "is_final": final, "speech_final": final, "channel": {"alternatives": [best]}}
        )


def _form(content_type, body):
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    fields = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        name = part.get_param("name", header="content-disposition")
        octets = part.get_payload(decode=True)
        if name != "file":
            fields[name] = octets.decode()
            continue
        with wave.open(io.BytesIO(octets)) as file:
            fields["file"] = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            assert file.getframerate() == 8000 and file.getnchannels() == 1
    return fields


def _wav(samples):
    """A WAV file at 24,000 Hz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 24_000, len(samples), "NONE", ""))
        out.writeframes(samples.tobytes())
    return file.getvalue()


def _endless(samples):
    """The same as somebody sends it who does not know its length yet: the length of file and data is 0xFFFFFFFF."""
    whole = _wav(samples)
    unknown = b"\xff" * 4
    return whole[:4] + unknown + whole[8:40] + unknown + whole[44:]


def _linear(octets):
    """G.711 µ-law."""
    inverted = ~np.frombuffer(octets, dtype=np.uint8)
    magnitude = ((inverted & 0x0F).astype(int) << 3) + 132 << (inverted >> 4 & 7).astype(int)
    return np.where(inverted & 0x80, 132 - magnitude, magnitude - 132)
