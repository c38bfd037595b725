"""Calls driven by commands of telnyx-python, unmodified but for TELNYX_BASE_URL; every webhook is verified by the SDK."""

import io
import re
import threading
import urllib.request
import wave

import numpy
import pytest
import telnyx

from harness.phone import callee, caller, pause, ringing_callee
from harness.rtp import share, tone
from harness.server import API_KEY
from harness.telnyx_app import TelnyxApp, state
from harness.waiting import wait_for

CONNECTION = "1000000000000000001"
NUMBER = "+15551230001"
CALLER = "+15550009999"  # who harness.phone.caller says it is


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    app = TelnyxApp(module_webapp)
    server = start_tandem(f"""
[[applications]]
id = "{CONNECTION}"
account = "acme"
provider = "telnyx"
webhook_url = "{app.url}"

[[numbers]]
number = "{NUMBER}"
account = "acme"
application = "{CONNECTION}"
""")
    server.telnyx_app = app
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TELNYX_BASE_URL", server.http + "/v2")
        environment.setenv("TELNYX_API_KEY", API_KEY)
        environment.setenv("TELNYX_PUBLIC_KEY", server.telnyx_public_key())
        app.connect()
    yield server


@pytest.fixture
def app(server):
    app = server.telnyx_app
    yield app
    assert not app.refused


class Caller:
    """Somebody who has called: `leg` is the call_control_id."""

    def __init__(self, app, phone, rtp, server, scenario):
        before = {event["payload"]["call_control_id"] for event in app.events()}
        self.rtp = rtp()
        self.phone = phone(scenario, target=server.sip, media=self.rtp)

        def new():
            legs = [event for event in app.events() if event["event_type"] == "call.initiated"]
            return next((leg for leg in legs if leg["payload"]["call_control_id"] not in before), None)

        self.initiated = wait_for("the call", new)["payload"]
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


class Callee:
    """Somebody who waits to be called at `uri`."""

    def __init__(self, phone, rtp, scenario):
        self.rtp = rtp()
        self.phone = phone(scenario, media=self.rtp)
        self.uri = self.phone.uri


@pytest.fixture
def answers(phone, rtp):
    """A phone that answers."""
    return lambda **how: Callee(phone, rtp, callee(**how))


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


def test_a_call_is_answered_asked_for_digits_joined_with_another_recorded_and_hung_up(app, calls_in, answers):
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
    assert share(a.rtp.heard(4000), 1000) > 0.95 and share(b.rtp.heard(4000), 440) > 0.95
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
    assert share(left[2400:6400], 440) > 0.95 and share(right[2400:6400], 1000) > 0.95
    recording = app.client.recordings.retrieve(saved["recording_id"]).data
    assert recording.duration_millis == len(left) // 8
    assert recording.call_control_id == a.leg and recording.download_urls.wav == saved["recording_urls"]["wav"]


def test_the_payloads_have_the_documented_members(app, calls_in, answers):
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
    first, answered, last = (event["payload"] for event in data)
    assert (first["direction"], first["state"], first["client_state"]) == ("incoming", "parked", None)
    assert first["offered_codecs"] == "PCMU"
    assert (answered["state"], answered["client_state"]) == ("answered", state("one"))
    assert (last["state"], last["client_state"]) == ("hangup", state("one"))
    assert (last["hangup_cause"], last["hangup_source"], last["sip_hangup_cause"]) == ("normal_clearing", "callee", "200")
