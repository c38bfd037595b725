"""Stand-ins for voices over a WebSocket. Their messages are those that the providers' own packages write and read (elevenlabs 2.78.0,
cartesia 4.2.0, deepgram-sdk 7.17.0). Each word is a tone of its own, as in `harness.tones`."""

import base64
import json
import threading
import urllib.parse

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from .audio import ulaw
from .faults import HOST
from .tones import Vocabulary

KEY = "key-of-a-voice"
VOICE = "a-voice"
# kind -> path, header field with the key, its value
KINDS = {
    "elevenlabs": (f"/v1/text-to-speech/{VOICE}/stream-input", "xi-api-key", KEY),
    "elevenlabs-multi": (f"/v1/text-to-speech/{VOICE}/multi-stream-input", "xi-api-key", KEY),
    "cartesia": ("/tts/websocket", "X-API-Key", KEY),
    "deepgram": ("/v1/speak", "Authorization", f"Token {KEY}"),
}
_QUERIES = {
    "elevenlabs": {"output_format": "ulaw_8000", "inactivity_timeout": "180", "model_id": "a-model"},
    "cartesia": {},
    "deepgram": {"encoding": "mulaw", "sample_rate": "8000", "model": VOICE},
}
_CHUNK = 334  # octets: base64 of each chunk ends with padding, and a chunk is no whole number of frames


class StreamedVoice:
    """The voice of one of KINDS. `said` holds the texts, `cancelled` those that the client gave up, `connections` how many there were.
    `pace` is how many seconds lie between two chunks of 42 ms. `fault` is what it does instead of speaking: "refuse" (an error message),
    "drop" (it closes the connection); or what it leaves out: "end" (the message after the last audio)."""

    def __init__(self, kind):
        self.kind, self.vocabulary = kind, Vocabulary()
        self.said, self.cancelled, self.wrong, self.connections = [], [], [], 0
        self.pace, self.fault = 0.0, None
        self._server = serve(self._converse, HOST, 0, process_request=self._admit)
        path = KINDS[kind][0].replace(VOICE, "{voice}")
        self.url = f"ws://{HOST}:{self._server.socket.getsockname()[1]}{path}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends it."""
        self._server.shutdown()

    def forget(self):
        """Back to how it began, with the same words."""
        self.said.clear()
        self.cancelled.clear()
        self.pace, self.fault, self.connections = 0.0, None, 0

    def _admit(self, connection, request):
        path, field, value = KINDS[self.kind]
        url = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if request.headers.get(field) != value:
            return connection.respond(401, "no such key\n")
        if url.path != path or query != _QUERIES[self.kind.split("-")[0]]:
            self.wrong.append(request.path)
            return connection.respond(400, "wrong path or query\n")
        return None

    def _converse(self, socket):
        self.connections += 1
        conversation = {
            "elevenlabs": _ElevenLabs, "elevenlabs-multi": _ElevenLabsMulti, "cartesia": _Cartesia, "deepgram": _Deepgram,
        }[self.kind](self, socket)
        try:
            for message in socket:
                try:
                    conversation.take(json.loads(message))
                except (AssertionError, KeyError, ValueError) as why:
                    self.wrong.append(f"{message}: {why!r}")
                    return socket.close(1008, "wrong message")
        except ConnectionClosed:
            pass
        finally:
            conversation.cancel_all()
        return None


class _Conversation:
    """One connection. A thread speaks each text."""

    def __init__(self, voice, socket):
        self._voice, self._socket = voice, socket
        self._speaking = {}  # context -> (thread, event that cancels)

    def speak(self, context, text):
        text = text.strip()
        assert text, "an empty text"
        self._voice.said.append(text)
        cancelled = threading.Event()
        thread = threading.Thread(target=self._speak, args=(context, text, cancelled), daemon=True)
        self._speaking[context] = thread, cancelled
        thread.start()

    def cancel(self, context):
        """Stops a text, and waits until nothing more of it is sent."""
        if context in self._speaking:
            thread, cancelled = self._speaking.pop(context)
            cancelled.set()
            thread.join(5)

    def cancel_all(self):
        """The client has gone."""
        for context in list(self._speaking):
            self.cancel(context)

    def _speak(self, context, text, cancelled):
        try:
            if self._voice.fault == "refuse":
                return self.refuse(context)
            if self._voice.fault == "drop":
                return self._socket.close(1011, "out of order")
            octets = ulaw(self._voice.vocabulary.speak(text, 8_000))
            for at in range(0, len(octets), _CHUNK):
                self.audio(context, octets[at : at + _CHUNK])
                if cancelled.wait(self._voice.pace):
                    self._voice.cancelled.append(text)
                    # What was on its way arrives all the same, but for an engine that confirms.
                    return None if self._voice.kind == "deepgram" else self.audio(context, octets[at + _CHUNK : at + 2 * _CHUNK])
            return self.close() if self._voice.fault == "end" else self.end(context)
        except ConnectionClosed:
            self._voice.cancelled.append(text)
            return None

    def send(self, **message):
        self._socket.send(json.dumps(message))

    def close(self):
        self._socket.close(1000)


class _ElevenLabs(_Conversation):
    def __init__(self, voice, socket):
        super().__init__(voice, socket)
        self._begun = False

    def take(self, message):
        assert set(message) <= {"text", "flush"}, "unknown members"
        if not self._begun:
            assert message == {"text": " "}, "the first text is a space"
            self._begun = True
        elif message["text"]:
            assert message["text"].endswith(" ") and message["flush"] is True, "a text ends with a space, and is flushed"
            self.speak(None, message["text"])

    def audio(self, context, octets):
        self.send(audio=base64.b64encode(octets).decode(), isFinal=None, normalizedAlignment=None, alignment=None, **self.of(context))

    def end(self, context):
        self.send(audio=None, isFinal=True, **self.of(context))
        if not self.of(context):
            self.close()

    def refuse(self, context):
        self.send(message="You have no credits left.", error="quota_exceeded", code=1008, **self.of(context))
        self._socket.close(1008, "quota_exceeded")

    def of(self, context):
        return {}


class _ElevenLabsMulti(_ElevenLabs):
    def __init__(self, voice, socket):
        super().__init__(voice, socket)
        self._open, self._closed = set(), set()

    def take(self, message):
        context = message["context_id"]
        assert set(message) <= {"text", "context_id", "flush", "close_context"}, "unknown members"
        if message.get("close_context"):
            if context in self._closed:
                self.cancel(context)
            self._closed.add(context)
        elif context not in self._open:
            assert message["text"] == " ", "the first text of a context is a space"
            assert len(self._open - self._closed) < 5, "more than 5 contexts"
            self._open.add(context)
        else:
            assert context not in self._closed and message["flush"] is True, "the context is open, and flushed"
            self.speak(context, message["text"])

    def of(self, context):
        return {"contextId": context}


class _Cartesia(_Conversation):
    def take(self, message):
        context = message["context_id"]
        if message.get("cancel"):
            assert set(message) == {"context_id", "cancel"}, "unknown members"
            return self.cancel(context)
        expected = {
            "context_id": context, "model_id": "a-model", "transcript": message["transcript"], "continue": False,
            "max_buffer_delay_ms": 0, "voice": {"mode": "id", "id": VOICE}, "language": "en",
            "output_format": {"container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8_000},
        }
        assert message == expected, "another request"
        return self.speak(context, message["transcript"])

    def audio(self, context, octets):
        data = base64.b64encode(octets).decode()
        self.send(type="chunk", context_id=context, data=data, done=False, status_code=206, step_time=1.5)

    def end(self, context):
        self.send(type="done", context_id=context, done=True, status_code=200)

    def refuse(self, context):
        self.send(
            type="error", context_id=context, done=True, status_code=402, error_code="quota_exceeded", title="No credits",
            message="You have no credits left.", request_id="r",
        )


class _Deepgram(_Conversation):
    def __init__(self, voice, socket):
        super().__init__(voice, socket)
        self._text, self._count = "", 0
        self.send(type="Metadata", request_id="r", model_name=VOICE, model_version="1", model_uuid="u")

    def take(self, message):
        kind = message["type"]
        if kind == "Speak":
            self._text += message["text"]
        elif kind == "Flush":
            assert self._text, "nothing to flush"
            self.speak(None, self._text)
            self._text = ""
        elif kind == "Clear":
            self.cancel(None)
            self._text = ""
            self.send(type="Cleared", sequence_id=self._count)
        else:
            raise AssertionError("an unknown type")

    def audio(self, _, octets):
        self._socket.send(bytes(octets))

    def end(self, _):
        self.send(type="Flushed", sequence_id=self._count)
        self._count += 1

    def refuse(self, _):
        self.send(type="Warning", code="NO_CREDITS", description="You have no credits left.")
        self._socket.close(1008, "You have no credits left.")
