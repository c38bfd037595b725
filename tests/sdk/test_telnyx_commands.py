"""Commands of Telnyx's calls that reach beyond the call, with telnyx-python: forks, recording servers, recognisers, SIP INFO."""

import socket

import pytest
import telnyx

from harness.audio import chatter, speech
from harness.engines import KEY
from harness.party import Party
from harness.phone import HOST, callee, is_referred
from harness.recorder import Recorder
from harness.rtp import LINEAR, share, tone
from harness.telnyx_app import CONNECTION, NUMBER, serve, state
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def recorder():
    one = Recorder()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, recorder, live_engine):
    more = f"""
[[siprec]]
name = "archive"
account = "acme"
uri = "{recorder.uri}"
[speech]
stt = "{live_engine.url}"
stt_key = "{KEY}"
"""
    yield from serve(start_tandem, module_webapp, more)


@pytest.fixture
def app(server):
    app = server.telnyx_app
    yield app
    assert not app.refused


@pytest.fixture
def dials(app, phone, rtp):
    """A phone that is called and answers: its `leg`."""

    def dial(scenario=None, **parameters):
        one = Party(phone, rtp, scenario or callee())
        one.leg = app.client.calls.dial(connection_id=CONNECTION, to=one.uri, from_=NUMBER, **parameters).data.call_control_id
        app.wait("call.answered", one.leg)
        return one

    return dial


def end(app, *parties):
    for one in parties:
        app.actions.hangup(one.leg)
        app.wait("call.hangup", one.leg)
        one.phone.finish()


class Fork:
    """Where RTP is forked to: what came, at `target`."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, 0))
        self.socket.settimeout(10)
        self.target = f"udp:{HOST}:{self.socket.getsockname()[1]}"

    def hears(self, hertz):
        """Takes packets until 200 ms of them in a row are this tone."""
        heard = []
        for _ in range(1_000):
            packet = self.socket.recv(2_048)
            assert packet[0] == 0x80 and packet[1] & 0x7F == 0, "RTP, PCMU"
            heard = [*heard, *LINEAR[list(packet[12:])]][-1_600:]
            if len(heard) == 1_600 and share(heard, hertz) > 0.9:
                return
        raise AssertionError(f"no {hertz} Hz")


def test_a_media_fork_gets_received_and_transmitted_audio(app, dials):
    one, two = dials(client_state=state("fork")), dials()
    app.actions.bridge(one.leg, call_control_id_to_bridge_with=two.leg)
    app.wait("call.bridged", one.leg)
    received, transmitted = Fork(), Fork()
    app.actions.start_forking(one.leg, rx=received.target, tx=transmitted.target, stream_type="decrypted")
    started = app.wait("call.fork.started", one.leg)
    assert (started["stream_type"], started["client_state"]) == ("decrypted", state("fork"))
    with one.sounds(500), two.sounds(800):
        received.hears(500)
        transmitted.hears(800)
    with pytest.raises(telnyx.UnprocessableEntityError) as refused:
        app.actions.start_forking(one.leg, rx=received.target)
    assert refused.value.body["errors"][0]["code"] == "90045"
    app.actions.stop_forking(one.leg)
    app.wait("call.fork.stopped", one.leg)
    with pytest.raises(telnyx.UnprocessableEntityError) as refused:
        app.actions.stop_forking(one.leg)
    assert refused.value.body["errors"][0]["code"] == "90031"
    with pytest.raises(telnyx.UnprocessableEntityError):
        app.actions.start_forking(one.leg, rx="tcp:1.2.3.4:5")
    app.actions.hangup(one.leg)
    for each in (one, two):
        app.wait("call.hangup", each.leg)
        each.phone.finish()


def test_a_recording_server_gets_the_audio_of_a_call_until_siprec_stop(app, dials, recorder):
    one = dials()
    app.actions.start_siprec(one.leg, connector_name="archive", siprec_track="both_tracks")
    app.wait("siprec.started", one.leg)
    with one.sounds(700):
        recorder.wait("INVITE")
        wait_for("the tone", lambda: any(share(rtp.heard(800), 700) > 0.9 for rtp in recorder.streams.values()))
    app.actions.stop_siprec(one.leg)
    recorder.wait("BYE")
    assert app.wait("siprec.stopped", one.leg)["hangup_cause"] == "normal_clearing"
    app.actions.start_siprec(one.leg, connector_name="nobody")
    assert "nobody" in app.wait("siprec.failed", one.leg)["failure_cause"]
    end(app, one)


def test_a_live_transcription_sends_its_transcripts(app, dials, live_engine):
    one = dials(client_state=state("said"))
    live_engine.sessions.clear()
    config = {"transcription_engine": "Google", "language": "es", "interim_results": True}
    app.actions.start_transcription(one.leg, transcription_engine="Google", transcription_engine_config=config)
    with one.says([*speech(2), *(speech(1) * 0)]):
        words = lambda event: event["payload"].get("transcription_data", {})
        final = wait_for(
            "the words",
            lambda: [event for event in app.events(one.leg) if words(event).get("is_final")],
            seconds=20,
        )[0]
    data = final["payload"]["transcription_data"]
    assert (data["transcript"], data["transcription_track"]) == ("I want to pay my bill", "inbound")
    assert data["confidence"] == pytest.approx(0.9) and final["payload"]["client_state"] == state("said")
    assert any(words(event).get("is_final") is False for event in app.events(one.leg))
    (session,) = live_engine.sessions
    assert session["language"] == ["es"]
    app.actions.stop_transcription(one.leg)
    end(app, one)


def test_a_far_end_gets_an_info_with_its_body(app, dials):
    one = dials()
    app.actions.send_sip_info(one.leg, content_type="application/json", body='{"seat": 7}')
    wait_for("the INFO", lambda: "INFO sip:" in one.phone.messages() and '{"seat": 7}' in one.phone.messages())
    assert "Content-Type: application/json" in one.phone.messages()
    for parameters in ({"content_type": "json", "body": "x"}, {"content_type": "a/b", "body": "x" * 1_401}):
        with pytest.raises(telnyx.UnprocessableEntityError):
            app.actions.send_sip_info(one.leg, **parameters)
    end(app, one)


def test_the_webhooks_of_a_call_are_listed(app, dials):
    one = dials()
    answered = app.wait("call.answered", one.leg)
    end(app, one)
    found = wait_for(
        "all of them",
        lambda: [
            rows
            for rows in [app.client.call_events.list(filter={"leg_id": answered["call_leg_id"]}).data]
            if {"call.initiated", "call.answered", "call.hangup"} <= {row.name for row in rows}
        ],
    )[0]
    assert {row.type for row in found} == {"webhook"}
    assert all(row.call_leg_id == answered["call_leg_id"] for row in found)
    with pytest.raises(telnyx.UnprocessableEntityError):
        app.client.call_events.list()


@pytest.mark.parametrize(("status", "told"), [("200 OK", "completed"), ("486 Busy Here", "failed")])
def test_refer_reports_the_result_of_the_far_end(app, dials, status, told):
    one = dials(callee(is_referred(status)))
    app.actions.refer(one.leg, sip_address="sip:somebody@127.0.0.1:9")
    app.wait("call.refer.started", one.leg)
    assert app.wait(f"call.refer.{told}", one.leg)["sip_notify_response"] == int(status[:3])
    end(app, one)


@pytest.mark.parametrize(
    ("mode", "kind", "result"),
    [("greeting_end", "call.machine", "ended"), ("premium", "call.machine.premium", "beep_detected")],
)
def test_an_answering_machine_and_the_end_of_its_greeting_are_detected(app, dials, mode, kind, result):
    one = dials(answering_machine_detection=mode)
    one.rtp.play(chatter(6))
    assert app.wait(f"{kind}.detection.ended", one.leg, seconds=20)["result"] == "machine"
    if mode == "premium":
        one.rtp.play(tone(1000, 0.5))
    one.rtp.play(tone(1000, 3) * 0)
    assert app.wait(f"{kind}.greeting.ended", one.leg, seconds=20)["result"] == result
    end(app, one)


def test_an_unknown_assistant_is_refused_with_one_error(app, dials):
    one = dials()
    acts = [
        (lambda: app.actions.gather_using_ai(one.leg, parameters={"properties": {}}), "10004"),
        (lambda: app.actions.start_ai_assistant(one.leg, assistant={"id": "nobody"}), "10015"),
        (lambda: app.actions.start_ai_assistant(one.leg, assistant={"id": "a", "mcp_servers": [{"id": "b"}]}), "10038"),
    ]
    for act, code in acts:
        with pytest.raises(telnyx.UnprocessableEntityError) as refused:
            act()
        assert refused.value.body["errors"][0]["code"] == code, refused.value.body
    end(app, one)
