"""Calls driven by commands of telnyx-python, unmodified but for TELNYX_BASE_URL; every webhook is verified by the SDK."""

import base64
import contextlib
import io
import itertools
import json
import queue
import re
import threading
import urllib.error
import urllib.request
import uuid
import wave

import numpy
import pytest
import telnyx
import websockets.sync.server

from harness.party import Party
from harness.phone import callee, caller, pause, ringing_callee, until_told
from harness.rtp import is_tone, pcmu, share, tone
from harness.server import API_KEY
from harness.telnyx_app import CONNECTION, NUMBER, serve, state
from harness.waiting import wait_for

CALLER = "+15550009999"  # who harness.phone.caller says it is


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp)


@pytest.fixture
def app(server):
    app = server.telnyx_app
    yield app
    assert not app.refused


class Caller:
    """Somebody who has called: `leg` is the call_control_id."""

    _numbers = itertools.count(1)

    def __init__(self, app, phone, rtp, server, scenario):
        # Its name tells its call from a late one of a test before.
        name = f"caller {next(self._numbers)}"
        scenario = scenario.replace("From: <sip:", f'From: "{name}" <sip:')
        self.rtp = rtp()
        self.phone = phone(scenario, target=server.sip, media=self.rtp)
        self.initiated = app.wait("call.initiated", caller_id_name=name)
        self.leg = self.initiated["call_control_id"]


@pytest.fixture
def calls_in(app, phone, rtp, server):
    """A phone calls in and, unless answered=False, is answered."""

    def start(answered=True, scenario=None):
        one = Caller(app, phone, rtp, server, scenario or caller(NUMBER, ends="wait"))
        if answered:
            app.actions.answer(one.leg)
            app.wait("call.answered", one.leg)
        return one

    return start


@pytest.fixture
def answers(phone, rtp):
    """A phone that answers."""
    return lambda **how: Party(phone, rtp, callee(**how))


class Bot:
    """An application behind a WebSocket, at `url`, that speaks when it is told to."""

    def __init__(self, server):
        self.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/bot"
        self.sockets, self.frames = queue.Queue(), queue.Queue()

    def serve(self, socket):
        self.sockets.put(socket)
        for message in socket:
            self.frames.put(json.loads(message))
        self.frames.put({"event": "over"})

    def connected(self):
        """Its only connection."""
        self.socket = self.sockets.get(timeout=10)

    def say(self, payload):
        self.socket.send(json.dumps({"event": "media", "media": {"payload": base64.b64encode(payload).decode()}}))

    def mark(self, name):
        self.socket.send(json.dumps({"event": "mark", "mark": {"name": name}}))

    def told(self, event):
        """The next frame of this event."""
        return next(frame for frame in iter(lambda: self.frames.get(timeout=10), None) if frame["event"] == event)


@contextlib.contextmanager
def listening_bot():
    with websockets.sync.server.serve(lambda socket: bot.serve(socket), "127.0.0.1", 0) as server:
        bot = Bot(server)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield bot
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture
def bridged(app, calls_in, answers):
    """Somebody who has called and somebody who was called, joined."""

    def start(a=None):
        a, b = a or calls_in(), answers()
        b.leg = dial(app, b.uri, link_to=a.leg, bridge_intent=True, bridge_on_answer=True).call_control_id
        for leg in (a.leg, b.leg):
            app.wait("call.bridged", leg)
        return a, b

    return start


@pytest.fixture
def rings(phone, rtp):
    """A phone that rings and never answers."""
    return lambda: Party(phone, rtp, ringing_callee())


def dial(app, to, **parameters):
    return app.client.calls.dial(connection_id=CONNECTION, to=to, from_=NUMBER, **parameters).data


def hang_up(app, *callers):
    """Ends these calls, and waits until they have ended well."""
    for one in callers:
        app.actions.hangup(one.leg)
    for one in callers:
        app.wait("call.hangup", one.leg)
        one.phone.finish()


def refused(call, *arguments, **parameters):
    """The error of a request that is refused: (status, body's only error)."""
    with pytest.raises(telnyx.APIStatusError) as error:
        call(*arguments, **parameters)
    (only,) = error.value.body["errors"]
    return error.value.status_code, only


def wav(url):
    """The channels of a WAV behind a URL, as arrays."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(answer.read())) as file:
            assert (file.getframerate(), file.getsampwidth()) == (8000, 2)
            samples = numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            return samples.reshape(-1, file.getnchannels()).T


def wav_file(samples):
    """A WAV file of these samples, as a response of the web application."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(numpy.asarray(samples, dtype="<i2").tobytes())
    return file.getvalue(), 200, {"content-type": "audio/wav"}


# ----- the whole way ----------------------------------------------------------------------------------------------------


def test_commands_answer_gather_bridge_record_and_hang_up_a_call(app, calls_in, answers):
    actions = app.actions
    headers = "X-Colour: green\nUser-to-User: 3132;encoding=hex"
    a = calls_in(answered=False, scenario=caller(NUMBER, ends="wait", extra_headers=headers))
    answer = actions.answer(a.leg, client_state=state("one"))
    assert (answer.data.result, answer.data.recording_id) == ("ok", None)
    app.wait("call.answered", a.leg)

    actions.gather_using_speak(a.leg, payload="Please enter your number.", voice="female", maximum_digits=4)
    a.rtp.wait_for_sound()
    a.rtp.press("12#")  # the terminator ends it before there are four
    gathered = app.wait("call.gather.ended", a.leg)
    assert (gathered["digits"], gathered["status"]) == ("12", "valid")

    b = answers()
    dialled = dial(app, b.uri, link_to=a.leg, client_state=state("two"), timeout_secs=20)
    assert not dialled.is_alive and dialled.record_type == "call"
    assert dialled.call_session_id == a.initiated["call_session_id"]
    b.leg = dialled.call_control_id
    app.wait("call.answered", b.leg)
    actions.bridge(a.leg, call_control_id_to_bridge_with=b.leg)
    for leg in (a.leg, b.leg):
        app.wait("call.bridged", leg)

    actions.start_recording(a.leg, format="wav", channels="dual")
    speaking = threading.Thread(target=a.rtp.play, args=(tone(440, 1.0),))
    speaking.start()
    b.rtp.play(tone(1000, 1.0))
    speaking.join()
    assert is_tone(a.rtp.heard(4000), 1000) and is_tone(b.rtp.heard(4000), 440)
    actions.stop_recording(a.leg)
    saved = app.wait("call.recording.saved", a.leg)

    hang_up(app, a)
    app.wait("call.hangup", b.leg)
    b.phone.finish()

    assert app.told(a.leg) == [
        "call.initiated",
        "call.answered",
        *["call.dtmf.received"] * 3,
        "call.gather.ended",
        "call.bridged",
        "call.recording.saved",
        "call.hangup",
    ]
    assert app.told(b.leg) == ["call.initiated", "call.answered", "call.bridged", "call.hangup"]

    left, right = wav(saved["recording_urls"]["wav"])
    assert saved["channels"] == "dual" and saved["format"] == "wav"
    assert is_tone(left[2400:6400], 440) and is_tone(right[2400:6400], 1000)
    recording = app.client.recordings.retrieve(saved["recording_id"]).data
    assert recording.duration_millis == len(left) // 8
    assert recording.call_control_id == a.leg and recording.download_urls.wav == saved["recording_urls"]["wav"]


def test_webhook_payloads_have_the_documented_fields(app, calls_in, answers):
    headers = "X-Colour: green\nUser-to-User: 3132;encoding=hex"
    a = calls_in(answered=False, scenario=caller(NUMBER, ends="wait", extra_headers=headers))
    app.actions.answer(a.leg, client_state=state("one"))
    app.wait("call.answered", a.leg)
    hang_up(app, a)

    data = app.events(a.leg)
    common = {"call_control_id", "call_leg_id", "call_session_id", "client_state", "connection_id", "from", "to"}
    common |= {"custom_headers", "sip_headers", "start_time", "state", "tags"}
    more = {
        "call.initiated": {
            *("direction", "caller_id_name", "offered_codecs", "connection_codecs"),
            *("shaken_stir_attestation", "shaken_stir_validated", "call_screening_result"),
        },
        "call.answered": set(),
        "call.hangup": {"hangup_cause", "hangup_source", "sip_hangup_cause", "call_quality_stats", "duration_seconds"},
    }
    assert [event["event_type"] for event in data] == list(more)
    for event in data:
        payload = event["payload"]
        assert event["record_type"] == "event"
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event["id"])
        for time in (event["occurred_at"], payload["start_time"]):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time)
        assert payload.keys() == common | more[event["event_type"]]
        assert (payload["from"], payload["to"], payload["connection_id"]) == (CALLER, NUMBER, CONNECTION)
        assert payload["custom_headers"] == [{"name": "X-Colour", "value": "green"}]
        assert payload["sip_headers"] == [{"name": "User-to-User", "value": "3132;encoding=hex"}]
        assert re.fullmatch(r"v3:[A-Za-z0-9_-]{54}", payload["call_control_id"])
        for id in ("call_leg_id", "call_session_id"):
            assert uuid.UUID(payload[id]).version == 1, (id, payload[id])
    first, answered, last = (event["payload"] for event in data)
    assert (first["direction"], first["state"], first["client_state"]) == ("incoming", "parked", None)
    assert first["offered_codecs"] == "PCMU"
    assert (answered["state"], answered["client_state"]) == ("answered", state("one"))
    assert (last["state"], last["client_state"]) == ("hangup", state("one"))
    assert (last["hangup_cause"], last["hangup_source"], last["sip_hangup_cause"]) == ("normal_clearing", "callee", "200")


# ----- audio ------------------------------------------------------------------------------------------------------------


def test_speech_and_files_play_in_order_and_can_be_stopped(app, calls_in, module_webapp):
    module_webapp.on("/short.wav", wav_file(tone(700, 0.4)))
    module_webapp.on("/long.wav", wav_file(tone(1100, 20)))
    url = module_webapp.url
    actions = app.actions
    a = calls_in()
    actions.speak(a.leg, payload="One.", voice="AWS.Polly.Joanna-Neural")
    actions.start_playback(a.leg, audio_url=f"{url}/short.wav", loop=2)
    actions.start_playback(a.leg, audio_url=f"{url}/long.wav")
    actions.start_playback(a.leg, audio_url=f"{url}/nowhere.wav")
    a.rtp.wait_for_sound()
    a.rtp.wait_for_tone(700)
    a.rtp.wait_for_tone(1100)
    actions.stop_playback(a.leg, stop="current")
    failed = app.wait("call.playback.ended", a.leg, media_url=f"{url}/nowhere.wav")
    assert failed["status"] == "file_not_found"
    actions.start_playback(a.leg, audio_url=f"{url}/long.wav", client_state=state("again"))
    actions.speak(a.leg, payload="Never heard.", voice="female")
    app.wait("call.playback.started", a.leg, client_state=state("again"))
    actions.stop_playback(a.leg)
    app.wait("call.playback.ended", a.leg, client_state=state("again"))
    actions.speak(a.leg, payload="This will be cut by the end of the call, because it is rather long.", voice="male")
    app.wait("call.speak.started", a.leg, count=2)
    hang_up(app, a)

    told = [(event["event_type"], event["payload"]) for event in app.events(a.leg)[2:-1]]
    assert [(kind, payload.get("media_url", "")[len(url) :], payload.get("status")) for kind, payload in told] == [
        ("call.speak.started", "", None),
        ("call.speak.ended", "", "completed"),
        ("call.playback.started", "/short.wav", None),
        ("call.playback.ended", "/short.wav", "completed"),
        ("call.playback.started", "/long.wav", None),
        ("call.playback.ended", "/long.wav", "cancelled"),
        ("call.playback.started", "/nowhere.wav", None),
        ("call.playback.ended", "/nowhere.wav", "file_not_found"),
        ("call.playback.started", "/long.wav", None),
        ("call.playback.ended", "/long.wav", "cancelled"),
        ("call.speak.started", "", None),
        ("call.speak.ended", "", "call_hangup"),
    ]
    common = {"call_control_id", "call_leg_id", "call_session_id", "client_state", "connection_id"}
    for kind, payload in told:
        file = {"media_url", "overlay"} | ({"status", "status_detail"} if kind.endswith("ended") else set())
        speech = {"status"} if kind.endswith("ended") else set()
        assert payload.keys() == common | (speech if "speak" in kind else file)


def test_an_answer_command_records_and_streams(app, calls_in):
    frames, connected = [], threading.Event()

    def talk(socket):
        connected.set()
        headers = socket.request.headers
        frames.append({"user_agent": headers["User-Agent"], "token": headers["x-telnyx-streaming-auth-token"]})
        for message in socket:
            frames.append(json.loads(message))

    with websockets.sync.server.serve(talk, "127.0.0.1", 0) as streams:
        serving = threading.Thread(target=streams.serve_forever)
        serving.start()
        url = f"ws://127.0.0.1:{streams.socket.getsockname()[1]}/audio?of=call"
        a = calls_in(answered=False)
        answer = app.actions.answer(
            a.leg,
            record="record-from-answer",
            record_channels="single",
            record_format="wav",
            stream_url=url,
            stream_track="both_tracks",
            client_state=state("stream"),
            extra_body={"stream_auth_token": "secret"},  # the SDK does not know that an answer takes it
        )
        started = app.wait("streaming.started", a.leg)
        assert refused(app.actions.start_streaming, a.leg, stream_url=url)[1]["code"] == "90045"
        a.rtp.play(tone(600, 0.5))
        app.actions.send_dtmf(a.leg, digits="7")
        a.rtp.press("5")
        app.wait("call.dtmf.received", a.leg, digit="5")
        app.actions.stop_streaming(a.leg)
        app.wait("streaming.stopped", a.leg)
        hang_up(app, a)
        saved = app.wait("call.recording.saved", a.leg)
        streams.shutdown()
        serving.join()

    told = app.told(a.leg)
    assert told[:3] == ["call.initiated", "call.answered", "streaming.started"]
    assert told[-3:] == ["streaming.stopped", "call.hangup", "call.recording.saved"]
    answered = app.wait("call.answered", a.leg)
    assert (answered["stream_url"], answered["stream_track"]) == (url, "both_tracks")
    assert started["stream_url"] == url and started["client_state"] == state("stream")
    assert saved["recording_id"] == answer.data.recording_id
    (mono,) = wav(saved["public_recording_urls"]["wav"])
    assert saved["channels"] == "single" and max(share(mono[at : at + 1600], 600) for at in range(0, 8000, 400)) > 0.9

    opened, first, second, *rest = frames
    assert "telnyx" in opened["user_agent"].lower() and opened["token"] == "secret"
    assert first["event"] == "connected" and second["event"] == "start"
    start = second["start"]
    assert (start["call_control_id"], start["client_state"]) == (a.leg, state("stream"))
    assert start["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    media = [frame["media"] for frame in rest if frame["event"] == "media"]
    assert {one["track"] for one in media} == {"inbound", "outbound"}
    assert {len(base64.b64decode(one["payload"])) for one in media} == {160}
    assert [frame["dtmf"]["digit"] for frame in rest if frame["event"] == "dtmf"] == ["5"]
    numbers = [int(frame["sequence_number"]) for frame in frames if "sequence_number" in frame]
    assert numbers == list(range(1, len(numbers) + 1))
    assert rest[-1]["event"] == "stop"


@pytest.mark.parametrize(("first", "calls"), [(False, 1), (True, 2)])
def test_the_stream_of_a_dial_connects_while_the_phone_rings(app, first, calls):
    """The phone is a number of the server itself, which rings until the application answers for it."""
    with listening_bot() as bot:
        more = {"stream_establish_before_call_originate": first}
        a = dial(app, NUMBER, stream_url=bot.url, stream_bidirectional_mode="rtp", extra_body=more).call_control_id
        bot.told("connected")
        ringing = app.wait("call.initiated", count=calls, **{"direction": "incoming", "from": NUMBER})
        assert bot.frames.empty() and "streaming.started" not in app.told(a)
        app.actions.answer(ringing["call_control_id"])
        start = bot.told("start")["start"]
        assert start["call_control_id"] == a and start["media_format"]["encoding"] == "PCMU"
        app.wait("streaming.started", a)
        bot.told("media")
        told = app.told(a)
        assert told.index("call.answered") < told.index("streaming.started")
        app.actions.hangup(a)
        bot.told("over")
        app.wait("call.hangup", ringing["call_control_id"])


def test_the_stream_of_an_unanswered_dial_closes_and_a_failed_stream_does_not_delay_the_dial(app, rings):
    with listening_bot() as bot:
        b = rings()
        leg = dial(app, b.uri, stream_url=bot.url, timeout_secs=5).call_control_id
        bot.told("connected")
        bot.told("over")
        assert app.wait("call.hangup", leg)["hangup_cause"] == "timeout"
        b.phone.finish()
    b = rings()
    first = {"stream_establish_before_call_originate": True}
    leg = dial(app, b.uri, stream_url="ws://127.0.0.1:9/nobody", timeout_secs=5, extra_body=first).call_control_id
    app.wait("streaming.failed", leg)
    assert app.wait("call.hangup", leg)["hangup_cause"] == "timeout"
    b.phone.finish()


def test_a_stream_that_cannot_connect_fails_and_the_call_continues(app, calls_in):
    a = calls_in()
    app.actions.start_streaming(a.leg, stream_url="ws://127.0.0.1:9/nobody")
    failed = app.wait("streaming.failed", a.leg)
    assert failed["failure_reason"] == "connection_failed" and failed["stream_type"] == "websocket"
    assert failed["stream_params"] == {"stream_url": "ws://127.0.0.1:9/nobody", "track": "inbound_track"}
    app.actions.speak(a.leg, payload="Hello.", voice="female")
    app.wait("call.speak.ended", a.leg, status="completed")
    hang_up(app, a)


# ----- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_gathered_during_audio_and_until_they_are_valid(app, calls_in, module_webapp):
    module_webapp.on("/which.wav", wav_file(tone(900, 5)))
    module_webapp.on("/wrong.wav", wav_file(tone(500, 5)))
    actions = app.actions
    a = calls_in()
    actions.gather(a.leg, maximum_digits=2, gather_id="menu")
    a.rtp.press("45")
    ended = app.wait("call.gather.ended", a.leg)
    assert (ended["digits"], ended["status"], ended["gather_id"]) == ("45", "valid", "menu")

    actions.gather_using_audio(
        a.leg,
        audio_url=f"{module_webapp.url}/which.wav",
        invalid_audio_url=f"{module_webapp.url}/wrong.wav",
        valid_digits="12",
        maximum_digits=1,
        maximum_tries=2,
        client_state=state("which"),
    )
    a.rtp.wait_for_tone(900)
    a.rtp.press("9")
    a.rtp.wait_for_tone(500)
    a.rtp.press("2")
    ended = app.wait("call.gather.ended", a.leg, count=2)
    assert (ended["digits"], ended["status"], ended["client_state"]) == ("2", "valid", state("which"))

    actions.gather(a.leg, initial_timeout_millis=100)
    assert app.wait("call.gather.ended", a.leg, count=3)["status"] == "timeout"
    actions.gather_using_speak(a.leg, payload="A question nobody answers.", voice="female")
    actions.stop_gather(a.leg)
    assert app.wait("call.gather.ended", a.leg, count=4)["status"] == "cancelled"
    actions.gather(a.leg)
    hang_up(app, a)
    assert app.wait("call.gather.ended", a.leg, count=5)["status"] == "call_hangup"

    assert app.told(a.leg)[2:] == [
        *["call.dtmf.received"] * 2,
        "call.gather.ended",
        "call.playback.started",
        "call.dtmf.received",
        "call.playback.ended",
        "call.playback.started",
        "call.dtmf.received",
        "call.playback.ended",
        *["call.gather.ended"] * 4,
        "call.hangup",
    ]


def test_digits_are_sent_to_both_legs(app, calls_in, answers):
    a, b = calls_in(), answers()
    b.leg = dial(app, b.uri, send_digits_on_answer="1w2").call_control_id
    app.wait("call.answered", b.leg)
    b.rtp.wait("the digits on answer", lambda: b.rtp.keys == "12")
    app.actions.bridge(a.leg, call_control_id_to_bridge_with=b.leg)
    app.wait("call.bridged", b.leg)
    app.actions.send_dtmf(b.leg, digits="34*#", duration_millis=100)
    app.actions.send_dtmf(a.leg, digits="AD")
    b.rtp.wait("the digits", lambda: b.rtp.keys == "1234*#")
    a.rtp.wait("the digits", lambda: a.rtp.keys == "AD")
    # While they are being sent nothing else passes: they are over when the caller is heard again.
    a.rtp.play(tone(440, 2))
    b.rtp.wait_for_tone(440, last=3)
    a.rtp.press("8")
    app.wait("call.dtmf.received", a.leg, digit="8")
    b.rtp.wait("the pressed key", lambda: b.rtp.keys == "1234*#8")
    hang_up(app, a)
    app.wait("call.hangup", b.leg)
    b.phone.finish()


# ----- legs -------------------------------------------------------------------------------------------------------------


def test_a_transfer_bridges_the_leg_that_answers(app, calls_in, answers):
    a, b = calls_in(), answers(ring_ms=1500)
    app.actions.transfer(a.leg, to=b.uri, target_leg_client_state=state("target"), client_state=state("caller"))
    b.leg = app.wait("call.initiated", client_state=state("target"))["call_control_id"]
    app.actions.speak(a.leg, payload="Please hold.", voice="female")
    app.wait("call.speak.ended", a.leg)
    assert "call.answered" not in app.told(b.leg), "what is said while it rings does not wait for the answer"
    for leg in (a.leg, b.leg):
        app.wait("call.bridged", leg)
    a.rtp.play(tone(440, 0.4))
    b.rtp.wait_for_tone(440, last=3)
    hang_up(app, a)
    b.phone.finish()
    app.wait("call.hangup", b.leg)

    assert app.told(b.leg) == ["call.initiated", "call.answered", "call.bridged", "call.hangup"]
    tail = ["call.speak.started", "call.speak.ended", "call.bridged", "call.hangup"]
    assert app.told(a.leg) == ["call.initiated", "call.answered", *tail]
    initiated = app.events(b.leg)[0]["payload"]
    assert (initiated["direction"], initiated["state"], initiated["from"]) == ("outgoing", "bridging", NUMBER)
    assert (initiated["caller_id_name"], initiated["offered_codecs"]) == (NUMBER, "PCMU,PCMA")
    assert initiated["call_session_id"] == a.initiated["call_session_id"]


def test_a_leg_survives_a_failed_transfer_and_with_parking_a_completed_one(app, calls_in, answers):
    a = calls_in()
    busy = answers(reject="486 Busy Here")
    app.actions.transfer(a.leg, to=busy.uri, target_leg_client_state=state("busy"))
    hangup = app.wait("call.hangup", client_state=state("busy"))
    assert (hangup["hangup_cause"], hangup["sip_hangup_cause"], hangup["hangup_source"]) == ("user_busy", "486", "callee")
    busy.phone.finish()

    b = answers(steps=pause(300), ends="bye")
    app.actions.transfer(
        a.leg, to=b.uri, target_leg_client_state=state("parked"), extra_body={"park_after_unbridge": "self"}
    )
    hangup = app.wait("call.hangup", client_state=state("parked"))
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "callee")
    b.phone.finish()
    app.actions.speak(a.leg, payload="Still here.", voice="female")
    app.wait("call.speak.ended", a.leg, status="completed")
    hang_up(app, a)


def test_a_dialled_call_reports_its_hangup_cause(app, answers, phone, rtp):
    def outcome(callee, **parameters):
        leg = dial(app, callee.uri, **parameters).call_control_id
        hangup = app.wait("call.hangup", leg)
        callee.phone.finish()
        return hangup["hangup_cause"], hangup["hangup_source"], hangup["sip_hangup_cause"]

    assert outcome(answers(ends="bye")) == ("normal_clearing", "callee", "200")
    assert outcome(answers(reject="486 Busy Here")) == ("user_busy", "callee", "486")
    assert outcome(answers(reject="603 Decline")) == ("call_rejected", "callee", "603")
    assert outcome(answers(reject="404 Not Found")) == ("not_found", "callee", "404")
    assert outcome(answers(reject="480 Temporarily Unavailable")) == ("no_answer", "callee", "480")

    unanswered = Party(phone, rtp, ringing_callee())
    assert outcome(unanswered, timeout_secs=5)[:2] == ("timeout", "unknown")

    given_up = Party(phone, rtp, ringing_callee())
    leg = dial(app, given_up.uri).call_control_id
    wait_for("the call to ring", lambda: app.client.calls.retrieve_status(leg).data.to_dict()["status"] == "ringing")
    assert refused(app.actions.speak, leg, payload="Hello.", voice="female")[1]["code"] == "90034"
    app.actions.hangup(leg)
    hangup = app.wait("call.hangup", leg)
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("originator_cancel", "caller")
    given_up.phone.finish()
    ended = app.client.calls.retrieve_status(leg).data
    assert not ended.is_alive and ended.end_time


def test_a_dialled_call_is_recorded_from_its_answer_with_the_returned_recording_id(app, answers):
    b = answers(steps=pause(400), ends="bye")
    headers = [{"name": "X-Order", "value": "42"}]
    dialled = dial(app, b.uri, record="record-from-answer", custom_headers=headers, from_display_name="Shop")
    saved = app.wait("call.recording.saved", dialled.call_control_id)
    assert saved["recording_id"] == dialled.recording_id
    assert list(saved["recording_urls"]) == ["mp3"]
    with urllib.request.urlopen(saved["recording_urls"]["mp3"], timeout=10) as answer:
        assert answer.headers["content-type"] == "audio/mpeg" and len(answer.read()) > 1000
    b.phone.finish()
    invite = b.phone.messages()
    assert "X-Order: 42" in invite and '"Shop" <sip:+15551230001@' in invite


def test_a_dial_with_bridge_on_answer_bridges_its_leg(app, calls_in, answers):
    a, b = calls_in(), answers()
    b.leg = dial(app, b.uri, link_to=a.leg, bridge_intent=True, bridge_on_answer=True).call_control_id
    for leg in (a.leg, b.leg):
        app.wait("call.bridged", leg)
    app.actions.hangup(b.leg)
    for one in (a, b):
        app.wait("call.hangup", one.leg)
        one.phone.finish()


def test_two_callers_are_bridged_parked_and_bridged_with_others(app, calls_in):
    a, b, c = calls_in(), calls_in(), calls_in()
    park = {"park_after_unbridge": "self"}
    app.actions.bridge(a.leg, call_control_id_to_bridge_with=b.leg, **park)
    for one in (a, b):
        app.wait("call.bridged", one.leg)
    hang_up(app, b)
    app.actions.speak(a.leg, payload="Alone.", voice="female")
    app.wait("call.speak.ended", a.leg, status="completed")
    app.actions.bridge(c.leg, call_control_id_to_bridge_with=a.leg)
    app.wait("call.bridged", a.leg, count=2)
    c.rtp.play(tone(800, 0.3))
    a.rtp.wait_for_tone(800, last=3)
    hang_up(app, a)
    app.wait("call.hangup", c.leg)
    c.phone.finish()
    assert len({one.initiated["call_session_id"] for one in (a, b, c)}) == 3
    assert app.told(a.leg)[2:] == [
        "call.bridged",
        "call.speak.started",
        "call.speak.ended",
        "call.bridged",
        "call.hangup",
    ]


def test_a_call_is_rejected_by_command_or_cancelled_by_its_caller(app, calls_in):
    for cause, status, said in [("USER_BUSY", "486", "user_busy"), ("CALL_REJECTED", "603", "call_rejected")]:
        a = calls_in(answered=False, scenario=caller(NUMBER, reject=status))
        app.actions.reject(a.leg, cause=cause)
        hangup = app.wait("call.hangup", a.leg)
        assert (hangup["hangup_cause"], hangup["sip_hangup_cause"], hangup["hangup_source"]) == (said, status, "callee")
        a.phone.finish()
    a = calls_in(scenario=caller(NUMBER, steps=pause(100), ends="bye"))
    hangup = app.wait("call.hangup", a.leg)
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "caller")
    a.phone.finish()


# ----- the API's manners --------------------------------------------------------------------------------------------------


def test_a_repeated_command_id_executes_once(app, calls_in, answers):
    a, b = calls_in(), answers(steps=pause(100), ends="bye")
    for _ in range(2):
        assert app.actions.speak(a.leg, payload="Once.", voice="female", command_id="speak-1").data.result == "ok"
    app.actions.speak(a.leg, payload="Twice.", voice="female", command_id="speak-2")
    app.wait("call.speak.ended", a.leg, count=2)
    first, second = (dial(app, b.uri, command_id="dial-1") for _ in range(2))
    assert first.to_dict() == second.to_dict()
    app.wait("call.hangup", first.call_control_id)
    b.phone.finish()
    assert b.phone.messages().count("\nINVITE sip:") == 1
    hang_up(app, a)
    assert app.told(a.leg).count("call.speak.started") == 2


def test_every_command_may_set_the_client_state_of_its_leg(app, calls_in):
    actions = app.actions
    a = calls_in(answered=False)
    actions.update_client_state(a.leg, client_state=state("1"))
    actions.answer(a.leg)
    app.wait("call.answered", a.leg, client_state=state("1"))
    actions.speak(a.leg, payload="Two.", voice="female", client_state=state("2"))
    app.wait("call.speak.ended", a.leg, client_state=state("2"))
    actions.stop_recording(a.leg, client_state=state("3"))  # there is none: nothing to do, and yet
    assert app.client.calls.retrieve_status(a.leg).data.client_state == state("3")
    assert refused(actions.speak, a.leg, payload="", voice="female", client_state=state("4"))[1]["code"] == "10004"
    assert app.client.calls.retrieve_status(a.leg).data.client_state == state("3")
    actions.hangup(a.leg, client_state=state("5"))
    app.wait("call.hangup", a.leg, client_state=state("5"))
    a.phone.finish()


def test_a_call_ends_its_recordings_and_streams_before_its_hangup_event(app, calls_in):
    with websockets.sync.server.serve(lambda socket: [*socket], "127.0.0.1", 0) as streams:
        serving = threading.Thread(target=streams.serve_forever)
        serving.start()
        a = calls_in(scenario=caller(NUMBER, steps=until_told(), ends="bye"))
        app.actions.start_recording(a.leg, format="mp3", channels="dual")
        app.actions.start_streaming(a.leg, stream_url=f"ws://127.0.0.1:{streams.socket.getsockname()[1]}/")
        app.wait("streaming.started", a.leg)
        app.actions.speak(a.leg, payload="The caller hangs up. " * 20, voice="female")
        app.wait("call.speak.started", a.leg)
        app.actions.gather(a.leg)
        a.phone.tell()
        app.wait("call.recording.saved", a.leg)
        a.phone.finish()
        streams.shutdown()
        serving.join()
    ends = ["call.gather.ended", "call.speak.ended", "streaming.stopped", "call.hangup", "call.recording.saved"]
    told = [(event["event_type"], event["payload"].get("status")) for event in app.events(a.leg)]
    assert [kind for kind, _ in told][-5:] == ends
    assert [status for _, status in told][-5:-3] == ["call_hangup", "call_hangup"]


def test_a_failed_webhook_is_retried_before_the_next_one(app, calls_in, module_webapp):
    answers = iter([("", 500), ("", 204), ("", 204)])
    module_webapp.on("/later", lambda: next(answers))
    a = calls_in(answered=False)
    app.actions.answer(a.leg, webhook_url=module_webapp.url + "/later")
    app.actions.hangup(a.leg)
    first, again, hangup = module_webapp.wait("/later", count=3)
    a.phone.finish()
    seen = [app.client.webhooks.unwrap(one.body.decode(), headers=one.headers).data for one in (first, again, hangup)]
    assert [one.event_type for one in seen] == ["call.answered", "call.answered", "call.hangup"]
    assert seen[0].id == seen[1].id != seen[2].id
    assert [json.loads(one.body)["meta"]["attempt"] for one in (first, again, hangup)] == [1, 2, 1]


def test_webhooks_of_a_call_can_go_elsewhere(app, calls_in, module_webapp):
    module_webapp.on("/elsewhere")
    a = calls_in(answered=False)
    app.actions.answer(a.leg, webhook_url=module_webapp.url + "/elsewhere", webhook_url_method="POST")
    answered, *_ = module_webapp.wait("/elsewhere")
    app.actions.hangup(a.leg)
    _, hangup = module_webapp.wait("/elsewhere", count=2)
    a.phone.finish()
    for request, name in [(answered, "call.answered"), (hangup, "call.hangup")]:
        event = app.client.webhooks.unwrap(request.body.decode(), headers=request.headers)
        assert event.data.event_type == name
        meta = json.loads(request.body)["meta"]
        assert meta == {"attempt": 1, "delivered_to": module_webapp.url + "/elsewhere"}
    with pytest.raises(ValueError, match="signature"):
        app.client.webhooks.unwrap(hangup.body.decode() + " ", headers=hangup.headers)
    assert app.told(a.leg) == ["call.initiated"]


def test_single_webhooks_of_a_call_can_go_elsewhere(app, answers, module_webapp):
    module_webapp.on("/ends")
    b = answers()
    urls = {"call.hangup": module_webapp.url + "/ends"}
    leg = dial(app, b.uri, webhook_urls=urls, webhook_urls_method="POST").call_control_id
    app.wait("call.answered", leg)
    app.actions.hangup(leg)
    (hangup,) = module_webapp.wait("/ends")
    b.phone.finish()
    event = app.client.webhooks.unwrap(hangup.body.decode(), headers=hangup.headers)
    assert (event.data.event_type, event.data.payload.call_control_id) == ("call.hangup", leg)
    assert json.loads(hangup.body)["meta"] == {"attempt": 1, "delivered_to": urls["call.hangup"]}
    assert app.told(leg) == ["call.initiated", "call.answered"]


def test_several_targets_ring_and_the_first_answer_wins(app, answers, rings):
    waiting = [rings(), rings()]
    b = answers(ring_ms=300)
    named = dial(app, [waiting[0].uri, b.uri, waiting[1].uri], client_state=state("race"))
    answered = app.wait("call.answered", client_state=state("race"))
    assert (answered["to"], answered["call_session_id"]) == (b.uri, named.call_session_id)
    for one in waiting:
        end = app.wait("call.hangup", to=one.uri)
        assert (end["hangup_cause"], end["sip_hangup_cause"]) == ("originator_cancel", "487")
        one.phone.finish()
    assert named.call_control_id == app.wait("call.initiated", to=waiting[0].uri)["call_control_id"]
    app.actions.hangup(answered["call_control_id"])
    app.wait("call.hangup", answered["call_control_id"])
    b.phone.finish()


def test_audio_is_heard_when_a_dialled_or_transferred_leg_answers(app, calls_in, answers, module_webapp):
    module_webapp.on("/hello.wav", wav_file(tone(700, 0.5)))
    hello = module_webapp.url + "/hello.wav"
    b = answers()
    b.leg = dial(app, b.uri, audio_url=hello).call_control_id
    b.rtp.wait_for_tone(700)
    app.wait("call.playback.ended", b.leg, status="completed")
    hang_up(app, b)
    a, c = calls_in(), answers()
    app.actions.transfer(a.leg, to=c.uri, audio_url=hello)
    c.rtp.wait_for_tone(700)
    app.wait("call.bridged", a.leg)
    assert not is_tone(a.rtp.heard(8000), 700)
    hang_up(app, a)
    c.phone.finish()


def test_a_muted_leg_is_not_heard(app, bridged):
    a, b = bridged()
    a.rtp.play(tone(440, 0.6))
    assert is_tone(b.rtp.heard(3200), 440)
    action = f"/calls/{a.leg}/actions/"
    for name, hears in [("mute", False), ("unmute", True)]:
        answer = app.client.post(action + name, body={"command_id": name}, cast_to=object)
        assert answer == {"data": {"result": "ok"}}
        a.rtp.play(tone(440, 0.6))
        assert bool(is_tone(b.rtp.heard(3200), 440)) is hears, name
    hang_up(app, a)
    b.phone.finish()


def test_answer_and_hangup_send_custom_headers(app, calls_in):
    a = calls_in(answered=False)
    app.actions.answer(a.leg, custom_headers=[{"name": "X-Desk", "value": "7"}])
    app.wait("call.answered", a.leg)
    app.actions.hangup(a.leg, custom_headers=[{"name": "X-Why", "value": "lunch"}])
    app.wait("call.hangup", a.leg)
    a.phone.finish()
    messages = a.phone.messages()
    assert re.search(r"SIP/2.0 200 OK\r?\n(?:.+\r?\n)*X-Desk: 7", messages)
    assert re.search(r"BYE sip:\S+ SIP/2.0\r?\n(?:.+\r?\n)*X-Why: lunch", messages)


def test_a_hangup_before_the_answer_reports_the_sent_sip_status(app, calls_in):
    a = calls_in(answered=False, scenario=caller(NUMBER, reject=480))
    app.actions.hangup(a.leg)
    end = app.wait("call.hangup", a.leg)
    a.phone.finish()
    assert (end["hangup_cause"], end["sip_hangup_cause"]) == ("normal_clearing", "480")


def test_a_dial_without_retry_on_timeout_ends_with_no_answer(app, rings):
    for retries, cause in [(True, "timeout"), (False, "no_answer")]:
        b = rings()
        leg = dial(app, b.uri, timeout_secs=5, retry_on_timeout=retries).call_control_id
        assert app.wait("call.hangup", leg)["hangup_cause"] == cause
        b.phone.finish()


def test_audio_can_play_to_the_opposite_leg(app, bridged, module_webapp):
    module_webapp.on("/aside.wav", wav_file(tone(700, 1.0)))
    a, b = bridged()
    app.actions.start_playback(a.leg, audio_url=module_webapp.url + "/aside.wav", target_legs="opposite")
    b.rtp.wait_for_tone(700)
    app.wait("call.playback.ended", b.leg, status="completed")
    assert not is_tone(a.rtp.heard(8000), 700)
    hang_up(app, a)
    b.phone.finish()


def test_the_audio_of_a_stream_plays_to_its_own_leg_and_after_a_bridge_to_the_opposite_leg(app, calls_in, bridged):
    a = calls_in()
    with listening_bot() as bot:
        app.actions.start_streaming(a.leg, stream_url=bot.url, stream_bidirectional_mode="rtp")
        app.wait("streaming.started", a.leg)
        bot.connected()
        bot.say(pcmu(tone(700, 0.5)))
        a.rtp.wait_for_tone(700)
        a, b = bridged(a)
        speaking = threading.Thread(target=a.rtp.play, args=(tone(440, 1.5),))
        speaking.start()
        b.rtp.wait_for_tone(440)
        bot.say(pcmu(tone(900, 0.5)))  # before what the caller says
        bot.mark("said")
        b.rtp.wait_for_tone(900)
        assert bot.told("mark")["mark"]["name"] == "said"
        speaking.join()
        assert not is_tone(a.rtp.heard(8000), 900)
        app.actions.stop_streaming(a.leg)
        app.wait("streaming.stopped", a.leg)
        bot.told("over")
    hang_up(app, a)
    b.phone.finish()


def test_a_stream_gets_error_frames_for_unplayable_files(app, calls_in):
    a = calls_in()
    with listening_bot() as bot:
        app.actions.start_streaming(a.leg, stream_url=bot.url, stream_bidirectional_mode="mp3")
        app.wait("streaming.started", a.leg)
        bot.connected()
        for _ in range(5):
            bot.say(b"no audio at all")
        first, second = bot.told("error"), bot.told("error")
        assert (first["payload"]["code"], first["payload"]["title"]) == (100004, "invalid_media")
        assert (second["payload"]["code"], second["payload"]["title"]) == (100005, "rate_limit_reached")
        hang_up(app, a)
        bot.told("over")


def test_an_invalid_command_gets_telnyxs_error_code(app, server, calls_in):
    client, actions = app.client, app.actions
    a = calls_in(answered=False)
    unknown = "v3:" + "A" * 54
    rows = [
        (lambda: actions.speak(a.leg, payload="Hello.", voice="female"), 422, "90034", None),
        (lambda: actions.start_recording(a.leg, format="wav", channels="dual"), 422, "90020", None),
        (lambda: actions.start_streaming(a.leg, stream_url="ws://127.0.0.1/"), 422, "90034", None),
        (lambda: actions.hangup(unknown), 422, "90015", "/call_control_id"),
        (lambda: client.calls.retrieve_status("nonsense"), 422, "90015", "/call_control_id"),
        (lambda: actions.bridge(a.leg, call_control_id_to_bridge_with=unknown), 422, "90015", "/call_control_id"),
        (lambda: dial(app, "5551"), 422, "10016", "/to"),
        (lambda: dial(app, ""), 422, "10004", "/to"),
        (lambda: dial(app, "+15557770001"), 422, "10002", "/to"),  # no trunk
        (lambda: dial(app, "sip:x@127.0.0.1", link_to=unknown), 422, "90015", "/link_to"),
        (lambda: dial(app, "sip:x@127.0.0.1", timeout_secs=1), 422, "90028", "/timeout_secs"),
        (lambda: client.calls.dial(connection_id="17", to="+1555", from_=NUMBER), 422, "10015", "/connection_id"),
        (lambda: client.calls.dial(connection_id=CONNECTION, to="+15557770001", from_=""), 422, "10004", "/from"),
        (lambda: client.calls.dial(connection_id=CONNECTION, to=NUMBER, from_="nobody"), 422, "10016", "/from"),
        (lambda: actions.reject(a.leg, cause="BORED"), 422, "10032", "/cause"),
        (lambda: actions.answer(a.leg, client_state="***"), 422, "90017", "/client_state"),
        (lambda: actions.speak(a.leg, payload="", voice="female"), 422, "10004", "/payload"),
        (lambda: actions.speak(a.leg, payload="x", voice=""), 422, "10004", "/voice"),
        (lambda: actions.send_dtmf(a.leg, digits="12x"), 422, "90014", "/digits"),
        (lambda: actions.gather(a.leg, maximum_digits=0), 422, "90023", "/maximum_digits"),
        (lambda: actions.start_playback(a.leg, audio_url="nowhere"), 422, "10003", "/audio_url"),
        (lambda: client.recordings.retrieve("00000000-0000-4000-8000-000000000000"), 404, "10005", "/recording_id"),
    ]
    for number, (call, status, code, pointer) in enumerate(rows):
        got, error = refused(call)
        assert (got, error["code"], error.get("source", {}).get("pointer")) == (status, code, pointer), (number, error)
        assert error["title"] and error["detail"]
        assert error["meta"]["url"] == f"https://developers.telnyx.com/docs/overview/errors/{code}"

    actions.answer(a.leg)
    assert actions.answer(a.leg).data.result == "ok"
    assert refused(actions.reject, a.leg, cause="USER_BUSY")[1]["code"] == "10027"
    hang_up(app, a)
    for late in (
        lambda: actions.hangup(a.leg),
        lambda: actions.speak(a.leg, payload="Hello.", voice="female"),
        lambda: actions.stop_recording(a.leg),
    ):
        assert (refused(late)[0], refused(late)[1]["code"]) == (422, "90018")
    assert app.told(a.leg) == ["call.initiated", "call.answered", "call.hangup"]

    stranger = client.with_options(api_key="KEYstranger")
    status, error = refused(stranger.calls.retrieve_status, a.leg)
    assert (status, error["code"]) == (401, "10009")
    raw = urllib.request.Request(
        server.http + "/v2/calls", b"{", {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as malformed:
        urllib.request.urlopen(raw, timeout=10)
    assert (malformed.value.code, json.load(malformed.value)["errors"][0]["code"]) == (400, "10023")


def test_recordings_are_listed_by_page_and_filter_and_deleted(app, calls_in):
    a = calls_in()
    for number in range(3):
        app.actions.start_recording(a.leg, format="wav", channels="single")
        a.rtp.play(tone(300, 0.1))
        app.actions.stop_recording(a.leg)
        app.wait("call.recording.saved", a.leg, count=number + 1)
    app.actions.start_recording(a.leg, format="wav", channels="single")  # still running: not listed
    recordings = app.client.recordings
    of_call = {"call_leg_id": a.initiated["call_leg_id"]}
    page = recordings.list(filter=of_call, page_size=2)
    assert (page.meta.total_results, page.meta.total_pages, len(page.data)) == (3, 2, 2)
    saved = [event["payload"] for event in app.events(a.leg) if event["event_type"] == "call.recording.saved"]
    assert [one.id for one in page] == [one["recording_id"] for one in reversed(saved)], "newest first, over all pages"
    assert {one.from_ for one in page.data} == {CALLER} and {one.to for one in page.data} == {NUMBER}
    assert len(recordings.list(filter=of_call | {"from": CALLER, "to": NUMBER}).data) == 3
    assert recordings.list(filter=of_call | {"to": "+19"}).data == []
    assert recordings.list(filter=of_call | {"end_time": {"lte": saved[1]["recording_ended_at"]}}).meta.total_results == 2
    first = saved[0]["recording_id"]
    assert recordings.delete(first).data.id == first
    assert refused(recordings.retrieve, first)[1]["code"] == "10005"
    assert recordings.list(filter=of_call).meta.total_results == 2
    hang_up(app, a)


# ----- queues -----------------------------------------------------------------------------------------------------------


def test_callers_wait_in_a_queue_and_an_agent_takes_the_first(app, calls_in, module_webapp):
    module_webapp.on("/hold.wav", wav_file(tone(700, 20)))
    queues = app.client.queues
    assert queues.create(queue_name="sales", max_size=2).data.current_size == 0
    a, b, late = calls_in(), calls_in(), calls_in()
    for place, one in enumerate((a, b), 1):
        assert app.actions.enqueue(one.leg, queue_name="sales", client_state=state("waits")).data.result == "ok"
        entered = app.wait("call.enqueued", one.leg)
        assert (entered["queue"], entered["current_position"], entered["client_state"]) == ("sales", place, state("waits"))
    app.actions.start_playback(a.leg, audio_url=f"{module_webapp.url}/hold.wav")
    a.rtp.wait_for_tone(700)

    waiting = list(queues.calls.list("sales"))
    assert [(call.call_control_id, call.queue_position) for call in waiting] == [(a.leg, 1), (b.leg, 2)]
    assert queues.calls.retrieve(b.leg, queue_name="sales").data.queue_position == 2
    assert queues.retrieve("sales").data.current_size == 2
    assert refused(app.actions.enqueue, late.leg, queue_name="sales")[1]["code"] == "90036"
    assert refused(app.actions.enqueue, a.leg, queue_name="support")[1]["code"] == "90038"
    assert refused(queues.delete, "sales")[1]["code"] == "90050"

    app.actions.bridge(late.leg, call_control_id_to_bridge_with=b.leg)  # not the first
    left = app.wait("call.dequeued", b.leg)
    assert (left["reason"], left["queue"], left["queue_position"]) == ("bridged", "sales", 2)
    app.wait("call.bridged", b.leg)
    hang_up(app, b)
    app.wait("call.hangup", late.leg)
    late.phone.finish()

    agent = calls_in()
    app.actions.bridge(agent.leg, call_control_id_to_bridge_with="", queue="sales")
    assert app.wait("call.dequeued", a.leg)["reason"] == "bridged"
    for leg in (agent.leg, a.leg):
        app.wait("call.bridged", leg)
    nobody = refused(app.actions.bridge, agent.leg, call_control_id_to_bridge_with="", queue="sales")
    assert (nobody[0], nobody[1]["source"]["pointer"]) == (422, "/queue")
    speaking = threading.Thread(target=agent.rtp.play, args=(tone(1000, 1.0),))
    speaking.start()
    a.rtp.wait_for_tone(1000)
    speaking.join()
    hang_up(app, a)
    app.wait("call.hangup", agent.leg)
    agent.phone.finish()
    assert queues.retrieve("sales").data.current_size == 0
    queues.delete("sales")
    assert refused(queues.retrieve, "sales")[0] == 404


def test_a_call_leaves_its_queue_by_command_timeout_or_hangup(app, calls_in):
    a = calls_in()
    reasons = []

    def enters(**how):
        app.actions.enqueue(a.leg, queue_name="returns", **how)
        app.wait("call.enqueued", a.leg, count=len(reasons) + 1)

    def leaves():
        reasons.append(app.wait("call.dequeued", a.leg, count=len(reasons) + 1)["reason"])

    assert refused(app.actions.leave_queue, a.leg)[1]["code"] == "90035"
    enters(max_size=9)
    assert app.actions.leave_queue(a.leg).data.result == "ok"
    leaves()
    assert app.client.queues.retrieve("returns").data.max_size == 9
    assert refused(app.actions.enqueue, a.leg, queue_name="returns", max_size=8)[1]["code"] == "90037"
    assert refused(app.actions.enqueue, a.leg, queue_name="returns", keep_after_hangup=True)[1]["code"] == "10038"
    enters(max_wait_time_secs=1)
    leaves()
    enters()
    app.client.queues.calls.remove(a.leg, queue_name="returns")
    leaves()
    enters()
    hang_up(app, a)
    leaves()
    assert reasons == ["leave", "timeout", "leave", "hangup"]
    assert app.told(a.leg)[-2:] == ["call.dequeued", "call.hangup"]
    app.client.queues.delete("returns")
