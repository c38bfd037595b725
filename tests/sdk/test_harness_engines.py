"""The stand-ins for engines: each speaks its protocol, and each fails as a test wants it to."""

import base64
import contextlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from websockets.sync.client import connect

from harness.audio import ulaw, wav
from harness.engines import KEY, FileEngine
from harness.faults import Fault
from harness.realtime import RealtimeModel, Tone
from harness.rtp import LINEAR
from harness.tones import Vocabulary, pitch, sine
from harness.waiting import wait_for

BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def start():
    """Starts an engine: start(RealtimeModel, Tone(700, 1))."""
    running = []

    def make(kind, *given, **named):
        running.append(kind(*given, **named))
        return running[-1]

    yield make
    for one in running:
        one.stop()


def test_words_are_recognised_from_their_tones_after_telephone_coding():
    vocabulary = Vocabulary()
    said = "Good morning, this is the reception. How can I help you this morning?"
    samples = vocabulary.speak(said, rate=8_000)
    wanted = "good morning this is the reception how can i help you this morning".split()
    assert vocabulary.heard(_through_a_telephone(samples)) == wanted
    # Quieter, later, and cut in the middle of the last word.
    quiet = np.concatenate([np.zeros(333), samples[: -int(0.14 * 8_000)] * 0.4])
    assert vocabulary.heard(_through_a_telephone(quiet)) == wanted[:-1]
    assert vocabulary.heard(np.zeros(8_000)) == []


def test_each_word_of_a_vocabulary_has_its_own_tone():
    vocabulary = Vocabulary()
    codes = [vocabulary.code(f"word{number}") for number in range(58)]
    assert len({hertz for hertz, _ in codes}) == 58 and vocabulary.code("word7") == codes[7]
    with pytest.raises(AssertionError):
        vocabulary.code("one too many")


def _through_a_telephone(samples):
    return LINEAR[np.frombuffer(ulaw(np.asarray(samples)), dtype=np.uint8)]


def speak(engine, text, **more):
    body = json.dumps({"model": "m", "voice": "v", "input": text, **more}).encode()
    request = urllib.request.Request(f"{engine.url}/v1/audio/speech", body, BEARER)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_an_engine_sends_its_speech_at_once_or_at_a_pace(start):
    engine = start(FileEngine, vocabulary=Vocabulary())
    kind, whole = speak(engine, "We open at nine.", response_format="wav")
    assert kind == "audio/wav" and whole[:4] == b"RIFF" and int.from_bytes(whole[4:8], "little") == len(whole) - 8
    kind, octets = speak(engine, "We open at nine.", response_format="pcm")
    assert kind == "audio/pcm" and octets == whole[44:]
    assert engine.vocabulary.heard(np.frombuffer(octets, dtype="<i2")[::3]) == "we open at nine".split()
    engine.pace = 0.01
    assert speak(engine, "We open at nine.", response_format="pcm")[1] == octets
    _, endless = speak(engine, "We open at nine.", response_format="wav")
    assert endless[4:8] == endless[40:44] == b"\xff" * 4 and endless[44:] == octets
    assert [one["input"] for one in engine.said] == ["We open at nine."] * 4


def transcribe(engine, samples):
    name = "b0undary"
    head = f'--{name}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    body = head + wav(samples) + f"\r\n--{name}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={name}"}
    request = urllib.request.Request(f"{engine.url}/v1/audio/transcriptions", body, BEARER | kind)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["text"]


def test_an_engine_recognises_words_by_the_tone_of_an_utterance(start):
    engine = start(FileEngine, hears={500: "yes", 800: "no"})
    heard = [transcribe(engine, sine(hertz, 0.5, 8_000)) for hertz in (500, 800, 505, 1_200)]
    assert heard == ["yes", "no", "yes", ""]
    engine.hears = lambda samples: f"{len(samples)} samples"
    assert transcribe(engine, sine(500, 0.5, 8_000)) == "4000 samples"
    engine.hears = None
    engine.words = ["first", "last"]
    assert [transcribe(engine, sine(500, 0.5, 8_000)) for _ in range(3)] == ["first", "last", "last"]
    assert len(engine.asked) == 8


def test_recognition_and_synthesis_of_an_engine_fail_separately(start):
    engine = start(FileEngine)
    engine.deaf, engine.mute = 500, Fault.DROP
    with pytest.raises(urllib.error.HTTPError) as refused:
        transcribe(engine, sine(500, 0.5, 8_000))
    assert refused.value.code == 500
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        speak(engine, "Hello")
    engine.deaf, engine.mute, engine.slow_ears = None, Fault.GARBAGE, 0.2
    began = time.monotonic()
    assert transcribe(engine, sine(500, 0.5, 8_000)) == "something" and time.monotonic() - began >= 0.2
    assert b"<html>" in speak(engine, "Hello")[1]
    engine.mute = Fault.HANG
    line = http.client.HTTPConnection(urllib.parse.urlsplit(engine.url).netloc, timeout=10)
    line.request("POST", "/v1/audio/speech", json.dumps({"input": "Hello"}), BEARER)
    wait_for("the request", lambda: len(engine.said) == 3)
    line.close()
    wait_for("a client that left", lambda: engine.dropped == 1)


class Talker:
    """A client of the Realtime API."""

    def __init__(self, model):
        headers = BEARER | ({"OpenAI-Beta": "realtime=v1"} if model.beta else {})
        self._context = contextlib.ExitStack()
        connection = connect(f"{model.url}?model=m", additional_headers=headers, compression=None)
        self._socket = self._context.enter_context(connection)
        self.events = []
        self.until("session.created")

    def close(self):
        self._context.close()

    def send(self, kind, **fields):
        self._socket.send(json.dumps({"type": kind, **fields}))

    def until(self, kind):
        """The next event of this type."""
        while True:
            self.events.append(json.loads(self._socket.recv(timeout=10)))
            if self.events[-1]["type"] == kind:
                return self.events[-1]

    def play(self, samples, octets_of=ulaw):
        """Says this in pieces of 20 ms."""
        size = 160 if octets_of is ulaw else 480
        for at in range(0, len(samples), size):
            octets = octets_of(samples[at : at + size])
            self.send("input_audio_buffer.append", audio=base64.b64encode(octets).decode())

    def kinds(self):
        return [event["type"] for event in self.events]

    def audio(self, kind="response.output_audio.delta"):
        return b"".join(base64.b64decode(one["delta"]) for one in self.events if one["type"] == kind)


PCMU = {"format": {"type": "audio/pcmu"}}
SILENCE = np.zeros(8_000)


@pytest.fixture
def talk():
    """Opens connections: talk(model)."""
    opened = []

    def to(model):
        opened.append(Talker(model))
        return opened[-1]

    yield to
    for one in opened:
        one.close()


def configured(talker, **of_input):
    audio = {"input": PCMU | {"transcription": {"model": "t"}} | of_input, "output": PCMU}
    talker.send("session.update", session={"type": "realtime", "audio": audio, "instructions": "Be kind."})
    session = talker.until("session.updated")["session"]
    assert session["audio"]["input"]["format"] == PCMU["format"] == session["audio"]["output"]["format"]
    return talker


def test_a_realtime_model_detects_turns_by_energy(start, talk):
    model = start(RealtimeModel, Tone(700, 3, "Yes, please."), hears={500: "hello"}, strange=True)
    talker = configured(talk(model))
    talker.play(np.concatenate([SILENCE[:4_000], sine(500, 0.6, 8_000), SILENCE]))
    began = time.monotonic()
    talker.until("response.done")
    assert time.monotonic() - began < 2  # faster than it lasts
    kinds = talker.kinds()
    ladder = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_item.done",
        "response.done",
    ]
    assert [kinds.index(kind) for kind in ladder] == sorted(kinds.index(kind) for kind in ladder)
    assert "response.of_a_later_version" in kinds
    events = {event["type"]: event for event in talker.events}
    # 300 ms before the onset, and 500 ms of silence after the end.
    assert events["input_audio_buffer.speech_started"]["audio_start_ms"] == 200
    assert events["input_audio_buffer.speech_stopped"]["audio_end_ms"] == 1_600
    assert events["conversation.item.input_audio_transcription.completed"]["transcript"] == "hello"
    audio = talker.audio()
    assert len(audio) == 24_000 and abs(pitch(LINEAR[np.frombuffer(audio, dtype=np.uint8)]) - 700) < 10
    session = model.wait_for_session()
    assert session.query == {"model": "m"} and session.config["instructions"] == "Be kind."
    assert len(session.audio) == 4_000 + 4_800 + 8_000 and session.responses[0].status == "completed"


def test_an_interrupted_realtime_model_truncates_its_text(start, talk):
    model = start(RealtimeModel, Tone(700, 20), speed=2)
    talker = configured(talk(model))
    talker.send("response.create")
    item = talker.until("response.output_item.added")["item"]["id"]
    talker.until("response.output_audio.delta")
    talker.send("response.create")
    assert talker.until("error")["error"]["code"] == "conversation_already_has_active_response"
    talker.play(sine(500, 0.2, 8_000))
    done = talker.until("response.done")["response"]
    assert done["status"] == "cancelled" and done["status_details"]["reason"] == "turn_detected"
    received = len(talker.audio()) // 8
    talker.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=received + 1)
    assert "shorter" in talker.until("error")["error"]["message"]
    talker.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=received)
    assert talker.until("conversation.item.truncated")["audio_end_ms"] == received
    talker.send("response.cancel", event_id="mine")
    error = talker.until("error")["error"]
    assert error["code"] == "response_cancel_not_active" and error["event_id"] == "mine"
    assert model.sessions[0].truncated == {item: received}


def test_a_realtime_model_leaves_turns_to_the_client_and_calls_functions(start, talk):
    def answer(session):
        outputs = [one for one in session.items.values() if one["type"] == "function_call_output"]
        return Tone(900, 0.1, outputs[0]["output"]) if outputs else ("look", {"number": 7})

    model = start(RealtimeModel, answer)
    talker = configured(talk(model), turn_detection=None)
    talker.send("input_audio_buffer.commit")
    assert talker.until("error")["error"]["code"] == "input_audio_buffer_commit_empty"
    talker.play(sine(500, 0.5, 8_000))
    talker.send("input_audio_buffer.commit")
    talker.until("input_audio_buffer.committed")
    talker.send("a.type.of.a.later.version")
    talker.send("response.create", response={"instructions": "Say it."})
    done = talker.until("response.function_call_arguments.done")
    assert done["name"] == "look" and json.loads(done["arguments"]) == {"number": 7}
    (call,) = talker.until("response.done")["response"]["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "It is ready."}
    talker.send("conversation.item.create", item=output | {"call_id": "call_of_nobody"})
    assert talker.until("error")["error"]["code"] == "invalid_tool_call_id"
    talker.send("conversation.item.create", item=output)
    talker.send("response.create")
    assert talker.until("response.output_audio_transcript.done")["transcript"] == "It is ready."
    assert talker.until("response.done")["response"]["status"] == "completed"
    assert "input_audio_buffer.speech_started" not in talker.kinds()
    assert model.sessions[0].responses[0].wanted == {"instructions": "Say it."}


def test_a_realtime_model_supports_the_beta_protocol_and_refuses_invalid_messages(start, talk):
    model = start(RealtimeModel, Tone(700, 0.2, "Yes"), beta=True, compat=True)
    talker = talk(model)
    talker.send("session.update", session={"input_audio_format": "g711_ulaw"})
    assert "formats" in talker.until("error")["error"]["message"]
    talker.send("session.update", session={"type": "realtime", "audio": {}})
    assert talker.until("error")["error"]["code"] == "unknown_parameter"
    talker.send("session.update", session={"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}})
    talker.until("session.updated")
    loud = np.concatenate([sine(500, 0.4), np.zeros(12_000)]).astype("<i2")
    talker.play(loud, octets_of=lambda samples: samples.tobytes())
    talker.until("response.done")
    kinds = talker.kinds()
    assert "conversation.item.created" in kinds and "conversation.item.added" not in kinds
    assert len(talker.audio("response.audio.delta")) == 2 * 4_800
    for kind in ("response.cancel", "conversation.item.truncate"):
        talker.send(kind)
        assert talker.until("error")["error"]["code"] == "not_implemented"


def test_a_realtime_model_simulates_each_failure(start, talk):
    model = start(RealtimeModel, RuntimeError("out of order"))
    talker = configured(talk(model))
    talker.send("response.create")
    done = talker.until("response.done")["response"]
    assert done["status"] == "failed" and done["status_details"]["error"]["message"] == "out of order"
    model.answer = Fault.HANG
    talker.send("response.create")
    talker.until("response.created")
    talker.send("response.cancel")
    assert talker.until("response.done")["response"]["status_details"]["reason"] == "client_cancelled"
    model.answer = Fault.GARBAGE
    talker.send("response.create")
    with pytest.raises(ValueError):
        talker.until("response.done")
    talker.until("response.done")
    model.answer = Fault.DROP
    talker.send("response.create")
    with pytest.raises(Exception, match="close frame"):
        talker.until("response.done")
    session = model.sessions[0]
    wait_for("the end of the session", lambda: session.closed)
