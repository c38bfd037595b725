"""Sessions with a recording server: begun and ended by TwiML and by request, what the server is told, and what it hears."""

import re

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.twiml.voice_response import Dial, Start, Stop, VoiceResponse

from harness.phone import callee, caller, until_told
from harness.recorder import NS, Recorder
from harness.rtp import is_tone, share, tone
from harness.waiting import wait_for
from twilio_app import answering, client, number

FROM = "+15550009999"


@pytest.fixture(scope="module")
def recorders():
    """The recording servers of the configuration: one that works, one that refuses, one that never answers, and others."""
    all_ = {
        "good": Recorder(),
        "moody": Recorder(),
        "refusing": Recorder(refuses="503 Service Unavailable"),
        "busy": Recorder(),
        "another": Recorder(),
        "third": Recorder(),
    }
    yield all_
    for one in all_.values():
        one.stop()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, recorders):
    connectors = "".join(
        f'[[siprec]]\nname = "{name}"\naccount = "acme"\nuri = "{one.uri}"\n' for name, one in recorders.items()
    )
    status = f'status_callback = "{module_webapp.url}/status"\n'
    return start_tandem(number("7*", module_webapp, "/voice", status) + connectors)


@pytest.fixture
def app(app):
    app.on("/siprec")
    return app


@pytest.fixture
def call(server, app, phone, rtp):
    """Calls a number whose document `make` fills: call(make) gives the phone and its audio."""

    def start(make):
        answering(app, "/voice", make)
        media = rtp()
        return phone(caller("700", until_told()), target=server.sip, media=media), media

    return start


def records(response, connector, **attributes):
    start = Start()
    session = start.siprec(connector_name=connector, **attributes)
    response.append(start)
    return session


def events(app, *names):
    """What was told of the session so far: its events, once so many have come."""
    return [one["SiprecEvent"] for one in app.wait("/siprec", len(names))]


def test_a_document_starts_and_stops_a_siprec_session(app, call, server, recorders):
    app.sound("/tone.wav", tone(660, 30))

    def make(response):
        session = records(
            response, "good", name="mine", track="both_tracks", status_callback=f"{app.url}/siprec",
            status_callback_method="GET",
        )
        session.parameter(name="case", value="a <b> & c")
        response.play(f"{app.url}/tone.wav")

    recorder = recorders["good"]
    handset, media = call(make)
    (invite,) = recorder.wait("INVITE")
    assert invite["Require"] == "siprec" and invite["Contact"].endswith(";+sip.src")
    (sdp_type, sdp_disposition, sdp), (type_, disposition, _) = invite.parts()
    assert (sdp_type, sdp_disposition) == ("application/sdp", "session;handling=required")
    assert (type_, disposition) == ("application/rs-metadata+xml", "recording-session")
    assert re.findall(r"m=audio \d+ RTP/AVP 0 8\r", sdp) and sdp.count("a=sendonly") == 2
    assert re.findall(r"a=label:(\d)", sdp) == ["1", "2"]
    assert "telephone-event" not in sdp

    metadata = invite.metadata()
    assert metadata.tag == "{%s}recording" % NS["rs"] and metadata.findtext("rs:datamode", namespaces=NS) == "complete"
    session = metadata.find("rs:session", NS)
    started = app.wait("/siprec")[0]
    assert session.find("own:call", NS).get("id") == started["CallSid"]
    (parameter,) = session.findall("own:parameter", NS)
    assert (parameter.get("name"), parameter.text) == ("case", "a <b> & c")
    aors = [one.find("rs:nameID", NS).get("aor") for one in metadata.findall("rs:participant", NS)]
    assert aors == [f"tel:{FROM}", "sip:700@127.0.0.1"]
    streams = {one.findtext("rs:label", namespaces=NS): one.get("stream_id") for one in metadata.findall("rs:stream", NS)}
    assert sorted(streams) == ["1", "2"]
    first, second = metadata.findall("rs:participantstreamassoc", NS)
    assert (first.findtext("rs:send", namespaces=NS), first.findtext("rs:recv", namespaces=NS)) == (streams["1"], streams["2"])
    assert second.findtext("rs:send", namespaces=NS) == streams["2"]

    assert started.method == "GET"
    assert (started["SiprecEvent"], started["SiprecName"]) == ("siprec-started", "mine")
    assert re.fullmatch(r"SR[0-9a-f]{32}", started["SiprecSid"]) and started["Timestamp"]
    media.wait_for_tone(660)
    media.play(tone(440, 2))
    recorder.streams["1"].wait_for_tone(440, last=3)
    recorder.streams["2"].wait_for_tone(660)
    heard = recorder.streams["1"].heard()
    said = [at for at in range(0, len(heard) - 399, 400) if share(heard[at : at + 400], 440) > 0.9]
    assert len(said) >= 36, f"{len(said)} of 40 pieces of what was said"
    assert is_tone(recorder.streams["2"].heard(4_000), 660)

    def stop(response):
        end = Stop()
        end.siprec(name="mine")
        response.append(end)
        response.pause(length=30)

    response = VoiceResponse()
    stop(response)
    client(server).calls(started["CallSid"]).update(twiml=str(response))
    recorder.wait("BYE")
    assert events(app, "started", "stopped") == ["siprec-started", "siprec-stopped"]
    # The call goes on.
    assert client(server).calls(started["CallSid"]).fetch().status == "in-progress"
    handset.hang_up()


def test_requests_start_and_stop_siprec_sessions(app, call, server, recorders):
    app.sound("/tone.wav", tone(660, 30))
    handset, media = call(lambda response: response.play(f"{app.url}/tone.wav"))
    (voice,) = app.wait("/voice")
    live = client(server).calls(voice["CallSid"])
    wait_for("the call", lambda: live.fetch().status == "in-progress")
    begun = live.siprec.create(
        connector_name="another", name="two", track="inbound_track", status_callback=f"{app.url}/siprec",
        parameter1_name="a", parameter1_value="b",
    )
    assert (begun.name, begun.status, begun.call_sid) == ("two", "in-progress", voice["CallSid"])
    assert begun.uri.endswith(f"/Calls/{begun.call_sid}/Siprec/{begun.sid}.json") and begun.date_updated
    recorder = recorders["another"]
    (invite,) = recorder.wait("INVITE")
    assert re.findall(r"a=label:(\d)", invite.sdp()) == ["1"]
    media.play(tone(520, 1))
    recorder.streams["1"].wait_for_tone(520, last=3)
    ended = live.siprec(begun.sid).update(status="stopped")
    assert (ended.sid, ended.name, ended.status) == (begun.sid, "two", "stopped")
    recorder.wait("BYE")
    assert events(app, "started", "stopped") == ["siprec-started", "siprec-stopped"]
    with pytest.raises(TwilioRestException) as gone:
        live.siprec(begun.sid).update(status="stopped")
    assert (gone.value.status, gone.value.code) == (404, 20404)
    with pytest.raises(TwilioRestException) as unknown:
        live.siprec.create(connector_name="nobody")
    assert (unknown.value.status, unknown.value.code) == (400, 31940)
    # Four tracks of a call at most.
    live.siprec.create(connector_name="third")
    named = live.siprec.create(connector_name="third", name="last")
    with pytest.raises(TwilioRestException) as many:
        live.siprec.create(connector_name="third")
    assert many.value.status == 429
    assert live.siprec("last").update(status="stopped").sid == named.sid
    handset.hang_up()
    recorders["third"].wait("BYE", 2)


def test_a_recording_server_that_refuses_hangs_up_or_pauses_does_not_disturb_the_call(app, call, server, recorders):
    callback = f"{app.url}/siprec"

    def make(response):
        records(response, "refusing", name="refused", track="inbound_track", status_callback=callback)
        records(response, "nobody", name="unknown", track="outbound_track", status_callback=callback)
        records(response, "moody", name="moody", status_callback=callback)
        response.pause(length=30)

    handset, media = call(make)
    told = {(one["SiprecName"], one["SiprecEvent"]): one for one in app.wait("/siprec", 3)}
    assert set(told) == {("refused", "siprec-error"), ("unknown", "siprec-error"), ("moody", "siprec-started")}
    refused, unknown = told["refused", "siprec-error"], told["unknown", "siprec-error"]
    assert (refused["SiprecErrorCode"], unknown["SiprecErrorCode"]) == ("31902", "31940")
    assert "503" in refused["SiprecError"] and "nobody" in unknown["SiprecError"]
    recorder = recorders["moody"]
    media.play(tone(480, 1))
    recorder.streams["1"].wait_for_tone(480, last=3)
    recorder.offers("inactive")
    paused = wait_for("an answer", lambda: [one for one in recorder.responses if "200" in one.start])
    assert paused[0].sdp().count("a=inactive") == 2
    sid = refused["CallSid"]
    rest = client(server)
    notes = lambda: rest.calls(sid).fetch() and [one.error_code for one in rest.api.v2010.account.calls(sid).notifications.list()]
    wait_for("what went wrong, in the debugger", lambda: {"31902", "31940", "31900"} <= set(notes()))
    before = len(recorder.streams["1"].heard())
    media.play(tone(480, 0.5))
    assert len(recorder.streams["1"].heard()) - before < 800, "nothing more comes"
    recorder.hangs_up()
    ended = app.wait("/siprec", 4)[3]
    assert (ended["SiprecEvent"], ended["SiprecErrorCode"]) == ("siprec-error", "31921")
    assert rest.calls(sid).fetch().status == "in-progress"
    handset.hang_up()


def test_a_bridged_call_is_recorded_with_the_audio_of_both_legs(app, call, server, phone, rtp, recorders):
    other = rtp()
    called = phone(callee(), media=other)

    def make(response):
        records(response, "busy", status_callback=f"{app.url}/siprec")
        dial = Dial()
        dial.sip(called.uri)
        response.append(dial)

    recorder = recorders["busy"]
    handset, media = call(make)
    first, second = recorder.wait("INVITE", 2)
    aors = lambda message: [
        one.find("rs:nameID", NS).get("aor") for one in message.metadata().findall("rs:participant", NS)
    ]
    assert aors(first) == [f"tel:{FROM}", "sip:700@127.0.0.1"]
    assert aors(second) == [f"tel:{FROM}", called.uri], "whom it talks with now"
    assert second["Contact"].endswith(";+sip.src")
    media.play(tone(440, 0.2))
    other.play(tone(700, 3))
    recorder.streams["2"].wait_for_tone(700, last=3)
    media.play(tone(440, 1))
    recorder.streams["1"].wait_for_tone(440, last=3)
    handset.hang_up()
    called.finish()
    recorder.wait("BYE")
    assert events(app, "started", "stopped") == ["siprec-started", "siprec-stopped"]
