"""Stand-ins for the engines of a voice agent, on loopback, with the real protocols: a language model (OpenAI's chat completions, as
server-sent events) and engines for speech whose words a test can hear at the phone."""

import io
import json
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from .engines import HOST, _form
from .rtp import share

WORD = 0.12  # seconds that a word is heard
PITCHES = tuple(range(400, 3_400, 110))  # of the texts that are spoken, one after the other


class Fault:
    """What an engine does instead of answering: "hang", "drop", "garbage", a status such as 500, or a number of seconds it is late."""

    def __init__(self):
        self.kind = None
        self.over = threading.Event()

    def happens(self, handler):
        """Does it; whether there is nothing more to do."""
        kind = self.kind
        if kind is None:
            return False
        if isinstance(kind, float):
            self.over.wait(kind)
            return False
        if kind == "hang":
            self.over.wait(60)
        elif kind == "garbage":
            handler.answer(200, "text/html", b"<html>\n" * 200)
        elif isinstance(kind, int):
            handler.answer(kind, "application/json", b'{"error":{"message":"out of order"}}')
        handler.close_connection = True
        return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.server.engine.serve(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_GET(self):
        self.server.engine.list(self)

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def setup(self):
        super().setup()
        # Small pieces leave at once.
        self.request.setsockopt(6, 1, 1)

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """Connections that the other side drops are no faults."""


class Engine:
    """An HTTP server; `serve(handler, body)` answers."""

    def __init__(self, port=0):
        self.fault = Fault()
        self._server = _Server((HOST, port), _Handler)
        self._server.engine = self
        self.url = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def list(self, handler):
        """Answers a GET."""
        handler.answer(404, "application/json", b'{"error":{"message":"no such path"}}')

    def stop(self):
        """Ends it."""
        self.fault.over.set()
        self._server.shutdown()
        self._server.server_close()


class ChatModel(Engine):
    """`/v1/chat/completions` and `/v1/models`, with the models `names`. `answer(messages)` says what it answers: a text, or a list of texts, tool calls (name, arguments) and
    pauses in seconds. `asked` holds every request's body; `dropped` counts those that the client left before the end.
    `style` is a set of habits of other servers: "whole" (a tool call in one piece, without an index), "crlf", "comments", "thinks",
    "reasoning", "no-done"."""

    def __init__(self, port=0, names=("stand-in",)):
        self.answer, self.asked, self.dropped, self.style = lambda messages: "Yes.", [], 0, set()
        self.names = names
        super().__init__(port)

    def list(self, handler):
        models = [{"id": name, "object": "model"} for name in self.names]
        handler.answer(200, "application/json", json.dumps({"object": "list", "data": models}).encode())

    def serve(self, handler, body):
        body = json.loads(body)
        self.asked.append(body)
        missing = _unanswered(body["messages"])
        if missing:
            text = json.dumps({"error": {"message": f"no tool message for {missing}", "type": "invalid_request_error"}})
            return handler.answer(400, "application/json", text.encode())
        if self.fault.happens(handler):
            return None
        steps = self.answer(body["messages"])
        if not body.get("stream"):
            message = {"role": "assistant", "content": steps if isinstance(steps, str) else "".join(one for one in steps if isinstance(one, str))}
            whole = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            return handler.answer(200, "application/json", json.dumps(whole).encode())
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            self._write(handler, [steps] if isinstance(steps, (str, tuple)) else steps)
        except (BrokenPipeError, ConnectionResetError):
            self.dropped += 1
        return None

    def _write(self, handler, steps):
        end = "\r\n" if "crlf" in self.style else "\n"

        def line(text):
            handler.wfile.write(f"{text}{end}{end}".encode())

        def chunk(delta, reason=None):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            line("data: " + json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}))

        if "comments" in self.style:
            line(": ping")
            line('data: {"id":"chatcmpl-1","choices":[]}')
        chunk({"role": "assistant", "content": ""})
        if "reasoning" in self.style:
            chunk({"reasoning_content": "What does he want?"})
        if "thinks" in self.style:
            chunk({"content": "<think>What does"})
            chunk({"content": " he want?</think>"})
        calls = 0
        for step in steps:
            if isinstance(step, float):
                time.sleep(step)  # The delay of a slow model.
            elif isinstance(step, str):
                for word in step.split(" "):
                    chunk({"content": word if word == step.split(" ")[-1] else word + " "})
            else:
                name, arguments = step[0], json.dumps(step[1])
                call = {"id": f"call_{time.monotonic_ns()}", "type": "function"}
                if "whole" in self.style:
                    chunk({"tool_calls": [{**call, "function": {"name": name, "arguments": arguments}}]})
                else:
                    middle = len(arguments) // 2
                    chunk({"tool_calls": [{"index": calls, **call, "function": {"name": name, "arguments": ""}}]})
                    chunk({"tool_calls": [{"index": calls, "function": {"arguments": arguments[:middle]}}]})
                    chunk({"tool_calls": [{"index": calls, "function": {"arguments": arguments[middle:]}}]})
                calls += 1
        chunk({}, "tool_calls" if calls else "stop")
        if "no-done" not in self.style:
            line("data: [DONE]")


class SpeechToText(Engine):
    """`/v1/audio/transcriptions`. `hears(samples)` says what the words of an utterance are."""

    def __init__(self):
        self.hears, self.asked = lambda samples: "Hello.", []
        super().__init__()

    def serve(self, handler, body):
        samples = _form(handler.headers["Content-Type"], body)["file"]
        self.asked.append(len(samples) / 8000)
        if not self.fault.happens(handler):
            text = json.dumps({"text": self.hears(samples)})
            handler.answer(200, "application/json", text.encode())


class TextToSpeech(Engine):
    """`/v1/audio/speech`: each text is a tone of its own, as long as it has words. `said` holds the texts."""

    def __init__(self):
        self.said = []
        super().__init__()

    def serve(self, handler, body):
        text = json.loads(body)["input"].strip()
        if self.fault.happens(handler):
            return
        if text not in self.said:
            self.said.append(text)
        samples = self.tone_of(text)
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, 24_000, len(samples), "NONE", ""))
            out.writeframes(samples.tobytes())
        handler.answer(200, "audio/wav", file.getvalue())

    def pitch(self, text):
        """The frequency of a text that it was asked to speak."""
        return PITCHES[self.said.index(text.strip()) % len(PITCHES)]

    def seconds_of(self, text):
        """How long a text is heard."""
        return WORD * max(len(text.split()), 2)

    def tone_of(self, text):
        """It, at 24,000 Hz."""
        times = np.arange(int(24_000 * self.seconds_of(text))) / 24_000
        return (9_000 * np.sin(2 * np.pi * self.pitch(text) * times)).astype("<i2")

    def wait_until_heard(self, rtp, text, seconds=10):
        """Until a phone has heard 100 ms of this text."""
        text = text.strip()

        def is_heard():
            return text in self.said and any(share(part, self.pitch(text)) > 0.9 for part in _parts(rtp.heard(16_000)))

        rtp.wait(f"{text!r}", is_heard, seconds)

    def heard(self, rtp, since=0):
        """The texts that a phone has heard 100 ms of, in order."""
        texts = []
        for part in _parts(rtp.heard()[since:]):
            found = [text for text in self.said if share(part, self.pitch(text)) > 0.9]
            if found and (not texts or texts[-1] != found[0]):
                texts.append(found[0])
        return texts


class Engines:
    """A model, ears and a voice."""

    def __init__(self):
        self.model, self.ears, self.voice = ChatModel(), SpeechToText(), TextToSpeech()

    def forget(self):
        """Back to how they began."""
        for one in (self.model, self.ears, self.voice):
            one.fault.kind = None
        self.model.asked.clear()
        self.ears.asked.clear()
        self.model.style, self.model.dropped = set(), 0

    @property
    def speech(self):
        """The table `[speech]` of a server that uses these ears and this voice."""
        return f'[speech]\ntts = "{self.voice.url}/v1/audio/speech"\nstt = "{self.ears.url}/v1/audio/transcriptions"\n'

    def stop(self):
        """Ends them."""
        for one in (self.model, self.ears, self.voice):
            one.stop()


def _parts(samples):
    return [samples[at : at + 800] for at in range(0, len(samples) - 799, 400)]


def _unanswered(messages):
    """The id of a tool call that no tool message follows before the next other one (which OpenAI's API refuses)."""
    open_calls = []
    for message in messages:
        if message["role"] == "tool":
            open_calls = [one for one in open_calls if one != message["tool_call_id"]]
        elif open_calls:
            return open_calls[0]
        open_calls += [call["id"] for call in message.get("tool_calls") or []]
    return open_calls[0] if open_calls else None
