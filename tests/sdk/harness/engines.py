"""Engines for speech on loopback: one that takes files and speaks over HTTP (as OpenAI's), one that listens over a WebSocket
(as Deepgram's). They know no words: they say what they are told to, when they hear somebody speak."""

import io
import json
import threading
import urllib.parse
import wave
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

HOST = "127.0.0.1"
KEY = "engine-key"
_LOUD = 300  # mean amplitude of somebody who speaks


class FileEngine:
    """`/v1/audio/transcriptions` and `/v1/audio/speech`. `words` are its answers in turn, the last one again and again;
    `asked` holds the fields of every form, `file` among them as samples, and `said` every text it was to speak."""

    def __init__(self):
        self.words, self.asked, self.said = ["something"], [], []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    return self._answer(401, "application/json", b'{"error":{"message":"no such key"}}')
                if self.path == "/v1/audio/speech":
                    engine.said.append(json.loads(body))
                    return self._answer(200, "audio/wav", _tone())
                fields = _form(self.headers["Content-Type"], body)
                engine.asked.append(fields)
                text = engine.words.pop(0) if len(engine.words) > 1 else engine.words[0]
                answer = {"text": text, "language": "english", "segments": [{"avg_logprob": -0.1}]}
                self._answer(200, "application/json", json.dumps(answer).encode())

            def _answer(self, status, kind, body):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


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


def _tone():
    """A second of 1,000 Hz, as a WAV file at 24,000 Hz."""
    samples = (8_000 * np.sin(2 * np.pi * 1_000 * np.arange(24_000) / 24_000)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 24_000, len(samples), "NONE", ""))
        out.writeframes(samples.tobytes())
    return file.getvalue()


def _linear(octets):
    """G.711 µ-law."""
    inverted = ~np.frombuffer(octets, dtype=np.uint8)
    magnitude = ((inverted & 0x0F).astype(int) << 3) + 132 << (inverted >> 4 & 7).astype(int)
    return np.where(inverted & 0x80, 132 - magnitude, magnitude - 132)
