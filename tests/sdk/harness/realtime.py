"""A stand-in for OpenAI's Realtime API over a WebSocket (`/v1/realtime?model=M`), scripted by a test. It hears by energy, tells
utterances apart by the frequency of a tone, and answers with tones faster than they last. Source of the names: the openai Python
packages 3.54.0 (GA) and 1.109.1 (beta)."""

import base64
import binascii
import contextlib
import itertools
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from .engines import KEY
from .faults import HOST, Fault
from .rtp import LINEAR, pcmu
from .tones import nearest, sine

_LOUD = 300  # mean amplitude of somebody who speaks
_ONSET = 3  # loud frames of 20 ms in a row that begin an utterance
_PIECE = 100  # milliseconds of an audio delta
_PREFIX = 300  # milliseconds in front of what was heard that belong to it (prefix_padding_ms)

# The beta's names of events, where GA has others.
BETA = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
_BETA_FORMATS = {"g711_ulaw": "audio/pcmu", "pcm16": "audio/pcm", "g711_alaw": "audio/pcma"}


@dataclass(frozen=True)
class Tone:
    """A step: audio of this frequency (Hz) and length (seconds), and the transcript of it."""

    hertz: float
    seconds: float
    text: str = ""


class RealtimeModel:
    """`answer` is one step or a list of steps, or a function of the `Session` that returns them: what each response consists of.
    Steps: a `Tone`; a number, seconds of waiting; `(name, arguments)`, a function call; `Fault.HANG`, `Fault.DROP` (of the socket),
    `Fault.GARBAGE` (a message that is no JSON); an exception, with which the response fails.

    `hears` is a dict from the frequency of a tone to words: the transcripts. `beta` uses the beta's names and flat session. `compat`
    refuses cancel, truncate and G.711, as some other servers do. `strange` sends an event of an unknown type before each response.
    `speed` is how much faster than real time audio comes; `onset` how many loud frames of 20 ms begin an utterance. `sessions` holds
    every connection."""

    def __init__(self, answer=Tone(1_000, 1, "Yes."), hears=None, beta=False, compat=False, strange=False, speed=10):
        self.answer, self.hears = answer, hears or {}
        self.beta, self.compat, self.strange, self.speed = beta, compat, strange, speed
        self.onset, self.sessions = _ONSET, []
        self.changed = threading.Condition()
        self._server = serve(self._serve, HOST, 0, process_request=self._admit, max_size=16 << 20, compression=None)
        self.url = f"ws://{HOST}:{self._server.socket.getsockname()[1]}/v1/realtime"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for_session(self, number=1, seconds=10):
        """The session of this number, from 1."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.sessions) >= number, seconds), f"{len(self.sessions)} sessions"
            return self.sessions[number - 1]

    def stop(self):
        """Ends it."""
        self._server.shutdown()

    def _admit(self, connection, request):
        path = urllib.parse.urlsplit(request.path)
        if path.path != "/v1/realtime":
            return connection.respond(404, "no such path\n")
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return connection.respond(401, "no such key\n")
        if not self.beta and "OpenAI-Beta" in request.headers:
            return connection.respond(400, "the beta is over\n")
        return None

    def _serve(self, socket):
        session = Session(self, socket)
        with self.changed:
            self.sessions.append(session)
            self.changed.notify_all()
        session.run()


class Session:
    """One connection. `events` is what the client said, each with "at": time.monotonic(); `sent` what it was told, in the same way;
    `audio` the samples it sent, 16 bit at `rate`; `config` the session's settings; `items` the conversation, a dict by id in order;
    `responses` every response; `truncated` and `deleted` what was cut; `closed` whether it is over."""

    def __init__(self, model, socket):
        self.model, self.socket = model, socket
        self.query = {
            name: values[0]
            for name, values in urllib.parse.parse_qs(urllib.parse.urlsplit(socket.request.path).query).items()
        }
        self.headers = socket.request.headers
        self.events, self.sent, self.responses = [], [], []
        self.items, self.truncated, self.deleted = {}, {}, []
        self.audio, self.closed = np.zeros(0, dtype=np.int16), False
        self.input_format = self.output_format = "audio/pcm"
        self.turn_detection = {"type": "server_vad"}
        self.config = self._first_config()
        self._numbers = itertools.count(1)
        self._vad = _Vad(model)
        self._buffered = np.zeros(0, dtype=np.int16)
        self._waiting = None  # the item that is being spoken
        self._active = None
        self._lock = threading.RLock()

    @property
    def rate(self):
        """Samples per second of what the client sends."""
        return _rate(self.input_format)

    def of(self, kind):
        """The events of this type that the client sent."""
        with self.model.changed:
            return [one for one in self.events if one.get("type") == kind]

    def told(self, kind):
        """The events of this type that the client was told."""
        with self.model.changed:
            return [one for one in self.sent if one["type"] == kind]

    def wait(self, kind, count=1, seconds=10):
        """The client's events of this type, as soon as there are so many."""
        return self._wait_for(lambda: self.of(kind), kind, count, seconds)

    def wait_told(self, kind, count=1, seconds=10):
        """The same of what the client was told."""
        return self._wait_for(lambda: self.told(kind), kind, count, seconds)

    def _wait_for(self, found, kind, count, seconds):
        with self.model.changed:
            if not self.model.changed.wait_for(lambda: len(found()) >= count, seconds):
                raise AssertionError(f"waited {seconds:g} s for {count} of {kind}; came: {[one['type'] for one in self.events]}")
            return found()

    def run(self):
        """Talks until the connection ends."""
        self.tell("session.created", session=self.config)
        # A client that leaves while it is told something is no fault here.
        with contextlib.suppress(ConnectionClosed):
            for text in self.socket:
                self._take(text)
        if self._active:
            self._active.cancel("client_gone")
        with self.model.changed:
            self.closed = True
            self.model.changed.notify_all()

    def tell(self, kind, **fields):
        """Sends an event, by the name that this protocol has for it."""
        kind = BETA.get(kind, kind) if self.model.beta else kind
        event = {"type": kind, "event_id": self.name("event"), **fields}
        with self.model.changed:
            self.sent.append(event | {"at": time.monotonic()})
            self.model.changed.notify_all()
        with contextlib.suppress(ConnectionClosed):
            self.socket.send(json.dumps(event))

    def name(self, kind):
        """A new id."""
        return f"{kind}_{next(self._numbers)}"

    def _take(self, text):
        try:
            event = json.loads(text)
            kind = event["type"]
        except (ValueError, KeyError, TypeError):
            return self._refuse({}, "invalid_json", "Could not parse the event")
        with self.model.changed:
            self.events.append(event | {"at": time.monotonic()})
            self.model.changed.notify_all()
        # Types that are not known are ignored.
        handle = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "conversation.item.retrieve": self._retrieve,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
        }.get(kind)
        if handle:
            with self._lock:
                handle(event)

    def _refuse(self, event, code, message, param=None):
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
        self.tell("error", error=error | {"event_id": event.get("event_id")})

    # The session.

    def _first_config(self):
        if self.model.beta:
            formats = {"input_audio_format": "pcm16", "output_audio_format": "pcm16"}
            return {"id": "sess_1", "model": self.query.get("model"), **formats, "turn_detection": self.turn_detection}
        audio = {
            "input": {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": self.turn_detection},
            "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin"},
        }
        return {"type": "realtime", "id": "sess_1", "model": self.query.get("model"), "audio": audio}

    def _update(self, event):
        wanted = event.get("session") or {}
        if not self.model.beta and wanted.get("type") != "realtime":
            return self._refuse(event, "missing_required_parameter", "Missing parameter", "session.type")
        nested = ("type", "audio", "output_modalities", "max_output_tokens")
        flat = ("input_audio_format", "output_audio_format", "modalities", "turn_detection", "voice", "temperature")
        unknown = [name for name in wanted if name in (nested if self.model.beta else flat)]
        if unknown:
            return self._refuse(event, "unknown_parameter", f"Unknown parameter: 'session.{unknown[0]}'", unknown[0])
        config = _merged(self.config, wanted)
        ears, voice, turns = self._formats(config)
        known = ["audio/pcm"] if self.model.compat else ["audio/pcm", "audio/pcmu"]
        if ears not in known or voice not in known:
            return self._refuse(event, "invalid_value", f"The formats are {known}", "session.audio")
        self.config, self.input_format, self.output_format, self.turn_detection = config, ears, voice, turns
        return self.tell("session.updated", session=self.config)

    def _formats(self, config):
        if self.model.beta:
            names = [_BETA_FORMATS.get(config[f"{side}_audio_format"]) for side in ("input", "output")]
            return (*names, config["turn_detection"])
        ears, voice = config["audio"]["input"], config["audio"]["output"]
        return ears["format"]["type"], voice["format"]["type"], ears["turn_detection"]

    # What the client says.

    def _append(self, event):
        try:
            octets = base64.b64decode(event.get("audio", ""), validate=True)
        except binascii.Error:
            return self._refuse(event, "invalid_value", "Invalid audio", "audio")
        samples = _decode(octets, self.input_format)
        self.audio = np.concatenate([self.audio, samples])
        self._buffered = np.concatenate([self._buffered, samples])
        if self.turn_detection:
            silence = self.turn_detection.get("silence_duration_ms", 500)
            for change, at in self._vad.hear(samples, self.rate, silence):
                self._started(at) if change == "started" else self._stopped(at)
        return None

    def _started(self, at):
        self._waiting = self.name("item")
        self.tell("input_audio_buffer.speech_started", audio_start_ms=max(at - _PREFIX, 0), item_id=self._waiting)
        if self._active and self.turn_detection.get("interrupt_response", True):
            self._active.cancel("turn_detected")

    def _stopped(self, at):
        self.tell("input_audio_buffer.speech_stopped", audio_end_ms=at, item_id=self._waiting)
        self._add_spoken(self._waiting)
        if self.turn_detection.get("create_response", True):
            self._respond({})

    def _commit(self, event):
        if len(self._buffered) < self.rate // 10:
            message = "Error committing input audio buffer: buffer too small."
            return self._refuse(event, "input_audio_buffer_commit_empty", message)
        return self._add_spoken(self._waiting or self.name("item"))

    def _clear(self, _):
        self._buffered, self._waiting = self._buffered[:0], None
        self._vad.forget()
        self.tell("input_audio_buffer.cleared")

    def _add_spoken(self, item_id):
        spoken, self._buffered, self._waiting = self._buffered, self._buffered[:0], None
        before = next(reversed(self.items), None)
        self.tell("input_audio_buffer.committed", item_id=item_id, previous_item_id=before)
        words = nearest(self.model.hears, spoken, self.rate)
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": content}
        self.add(item)
        self.finish(item)
        content[0]["transcript"] = words
        if self._transcribes():
            kind = "conversation.item.input_audio_transcription.completed"
            usage = {"type": "duration", "seconds": len(spoken) / self.rate}
            self.tell(kind, item_id=item_id, content_index=0, transcript=words, usage=usage)

    def _transcribes(self):
        if self.model.beta:
            return bool(self.config.get("input_audio_transcription"))
        return bool(self.config["audio"]["input"].get("transcription"))

    # The conversation.

    def add(self, item):
        """Puts an item at the end. (GA tells of it here and when it is complete, the beta only here.)"""
        before = next(reversed(self.items), None)
        self.items[item["id"]] = item
        kind = "conversation.item.created" if self.model.beta else "conversation.item.added"
        self.tell(kind, item=dict(item), previous_item_id=before)

    def finish(self, item):
        """An item is complete."""
        if not self.model.beta:
            self.tell("conversation.item.done", item=dict(item), previous_item_id=None)

    def _create_item(self, event):
        item = dict(event.get("item") or {})
        item.setdefault("id", self.name("item"))
        if item["id"] in self.items:
            return self._refuse(event, "item_create_duplicate_item_id", "There is an item with this id")
        kinds = ("message", "function_call", "function_call_output")
        if item.get("type") not in kinds:
            return self._refuse(event, "invalid_value", f"item.type is one of {kinds}", "item.type")
        if item["type"] == "function_call_output":
            calls = [one.get("call_id") for one in self.items.values() if one["type"] == "function_call"]
            if item.get("call_id") not in calls:
                return self._refuse(event, "invalid_tool_call_id", "No such call", "item.call_id")
        self.add(item)
        return self.finish(item)

    def _truncate(self, event):
        if self.model.compat:
            return self._refuse(event, "not_implemented", "Not implemented")
        item, wanted = self.items.get(event.get("item_id")), event.get("audio_end_ms")
        made = next((one.made[item["id"]] for one in self.responses if item and item["id"] in one.made), None)
        if made is None:
            return self._refuse(event, "item_truncate_invalid_item_id", "There is no such item with audio", "item_id")
        if not is_number(wanted) or wanted < 0 or wanted > made:
            message = f"Audio content of {made}ms is already shorter than {wanted}ms"
            return self._refuse(event, "invalid_value", message, "audio_end_ms")
        self.truncated[item["id"]] = wanted
        return self.tell("conversation.item.truncated", item_id=item["id"], content_index=0, audio_end_ms=wanted)

    def _delete(self, event):
        if event.get("item_id") not in self.items:
            return self._refuse(event, "item_delete_invalid_item_id", "There is no such item", "item_id")
        del self.items[event["item_id"]]
        self.deleted.append(event["item_id"])
        return self.tell("conversation.item.deleted", item_id=event["item_id"])

    def _retrieve(self, event):
        if event.get("item_id") not in self.items:
            return self._refuse(event, "item_retrieve_invalid_item_id", "There is no such item", "item_id")
        return self.tell("conversation.item.retrieved", item=self.items[event["item_id"]])

    # What it says.

    def _create_response(self, event):
        if self._active:
            message = "Conversation already has an active response"
            return self._refuse(event, "conversation_already_has_active_response", message)
        return self._respond(event.get("response") or {})

    def _cancel(self, event):
        if self.model.compat:
            return self._refuse(event, "not_implemented", "Not implemented")
        if not self._active or event.get("response_id", self._active.id) != self._active.id:
            return self._refuse(event, "response_cancel_not_active", "Cancellation failed: no active response found")
        return self._active.cancel("client_cancelled")

    def _respond(self, wanted):
        if self._active:
            return
        self._active = Response(self, wanted)
        self.responses.append(self._active)
        threading.Thread(target=self._active.run, daemon=True).start()

    def over(self, response):
        """A response has ended."""
        with self._lock:
            if self._active is response:
                self._active = None


class Response:
    """One response. `wanted` is what `response.create` asked for; `status` as the protocol has it; `made` the milliseconds of audio of
    each item that were sent; `reason` why it was cancelled."""

    def __init__(self, session, wanted):
        self.session, self.wanted = session, wanted
        self.id, self.status, self.reason = session.name("resp"), "in_progress", None
        self.made, self.output = {}, []
        self._over = threading.Event()

    def cancel(self, reason):
        """Ends it before its end."""
        self.reason = self.reason or reason
        self._over.set()

    def run(self):
        """Sends it."""
        session, model = self.session, self.session.model
        if model.strange:
            session.tell("response.of_a_later_version", anything=1)
        session.tell("response.created", response=self._body())
        failure = None
        try:
            answer = model.answer(session) if callable(model.answer) else model.answer
            for step in answer if isinstance(answer, list) else [answer]:
                if isinstance(step, Exception):
                    failure = step
                elif not self._over.is_set():
                    self._step(step)
        finally:
            self.status = "failed" if failure else "cancelled" if self._over.is_set() else "completed"
            session.over(self)
            details = {"type": self.status, "reason": self.reason} if self.reason else None
            if failure:
                details = {"type": "failed", "error": {"type": "server_error", "message": str(failure)}}
            session.tell("response.done", response=self._body() | {"status_details": details})
            limit = {"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 1.5}
            session.tell("rate_limits.updated", rate_limits=[limit])

    def _body(self):
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        body = {"object": "realtime.response", "id": self.id, "status": self.status, "output": self.output}
        return body | {"usage": None if self.status == "in_progress" else usage}

    def _step(self, step):
        if is_number(step):
            self._over.wait(step)
        elif isinstance(step, Tone):
            self._speak(step)
        elif isinstance(step, tuple):
            self._call(*step)
        elif step is Fault.HANG:
            self._over.wait(60)
        elif step is Fault.DROP:
            self.session.socket.socket.close()
        elif step is Fault.GARBAGE:
            self.session.socket.send("{]")
        else:
            raise TypeError(f"not a step here: {step!r}")

    def _begin(self, item):
        at = {"response_id": self.id, "output_index": len(self.output)}
        self.output.append(item)
        self.session.tell("response.output_item.added", **at, item=dict(item))
        self.session.add(item)
        return at

    def _end(self, item, at):
        item["status"] = "incomplete" if self._over.is_set() else "completed"
        self.session.tell("response.output_item.done", **at, item=dict(item))
        self.session.finish(item)

    def _speak(self, tone):
        session = self.session
        kind = "audio" if session.model.beta else "output_audio"
        part = {"type": kind, "transcript": ""}
        item = {"id": session.name("item"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        at = self._begin(item)
        self.made[item["id"]] = 0
        at_part = at | {"item_id": item["id"], "content_index": 0}
        session.tell("response.content_part.added", **at_part, part=dict(part))
        # The transcript runs ahead of the audio.
        for word in tone.text.split():
            session.tell("response.output_audio_transcript.delta", **at_part, delta=word + " ")
        rate = _rate(session.output_format)
        samples = sine(tone.hertz, tone.seconds, rate)
        size = rate * _PIECE // 1000
        for start in range(0, len(samples), size):
            if self._over.is_set():
                break
            piece = samples[start : start + size]
            # First counted, then sent: the client may name at once what it has.
            self.made[item["id"]] += len(piece) * 1000 // rate
            audio = base64.b64encode(_encode(piece, session.output_format)).decode()
            session.tell("response.output_audio.delta", **at_part, delta=audio)
            self._over.wait(_PIECE / 1000 / session.model.speed)
        part["transcript"] = tone.text
        item["content"] = [part]
        session.tell("response.output_audio.done", **at_part)
        session.tell("response.output_audio_transcript.done", **at_part, transcript=tone.text)
        session.tell("response.content_part.done", **at_part, part=part)
        self._end(item, at)

    def _call(self, name, arguments):
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
        session = self.session
        call = {"type": "function_call", "call_id": session.name("call"), "name": name, "arguments": ""}
        item = {"id": session.name("item"), "status": "in_progress", **call}
        at = self._begin(item)
        at_call = at | {"item_id": item["id"], "call_id": call["call_id"]}
        middle = len(arguments) // 2
        for piece in (arguments[:middle], arguments[middle:]):
            session.tell("response.function_call_arguments.delta", **at_call, delta=piece)
        item["arguments"] = arguments
        named = {} if session.model.beta else {"name": name}
        session.tell("response.function_call_arguments.done", **at_call, arguments=arguments, **named)
        self._end(item, at)


class _Vad:
    """Tells when somebody speaks, by energy."""

    def __init__(self, model):
        self._model, self._rest = model, np.zeros(0, dtype=np.int16)
        self._now = self._loud = self._quiet = 0
        self._speaks = False

    def forget(self):
        """Nobody speaks."""
        self._loud, self._speaks = 0, False

    def hear(self, samples, rate, silence):
        """What changed: ("started" or "stopped", milliseconds of all audio so far)."""
        size = rate // 50
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // size * size
        self._rest = samples[whole:]
        changes = []
        for frame in samples[:whole].reshape(-1, size).astype(int):
            self._now += 20
            loud = np.abs(frame).mean() > _LOUD
            self._loud, self._quiet = (self._loud + 1, 0) if loud else (0, self._quiet + 20)
            if not self._speaks and self._loud == self._model.onset:
                self._speaks = True
                changes.append(("started", self._now - 20 * self._model.onset))
            elif self._speaks and self._quiet >= silence:
                self._speaks = False
                changes.append(("stopped", self._now))
        return changes


def is_number(step):
    return isinstance(step, (int, float)) and not isinstance(step, bool)


def _merged(old, new):
    """`old` with what is in `new`; of dicts only the fields that are there, but a format is one thing."""
    merged = dict(old)
    for name, value in new.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict) and name != "format"
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _rate(format_name):
    return 24_000 if format_name == "audio/pcm" else 8_000


def _decode(octets, format_name):
    if format_name == "audio/pcmu":
        return LINEAR[np.frombuffer(octets, dtype=np.uint8)].astype(np.int16)
    return np.frombuffer(octets[: len(octets) // 2 * 2], dtype="<i2")


def _encode(samples, format_name):
    return pcmu(samples) if format_name == "audio/pcmu" else samples.tobytes()
