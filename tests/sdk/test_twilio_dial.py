"""Dial: who is called, in what order, and what each of them hears before the two are joined. Phones answer, press keys, decline."""

import pytest
import requests
from twilio.twiml.voice_response import Dial, Gather

from harness.audio import is_heard, read_wav, speech
from harness.phone import callee, caller, pause, ringing_callee, until_told
from harness.rtp import share, tone
from harness.waiting import wait_for
from twilio_app import answering, client, number

ASKED = 700  # Hz: what a called party hears when it is asked whether it takes the call
EVERY = "initiated ringing answered completed"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number("caller", module_webapp, "/voice"))


@pytest.fixture
def app(app):
    app.sound("/asked.wav", tone(ASKED, 2))
    answering(app, "/after", lambda document: document.hangup())
    answering(app, "/screen", screen)
    answering(app, "/accepted", lambda document: None)
    app.on("/child")
    return app


def screen(document):
    """Takes the call by a key; whoever presses none declines."""
    gather = Gather(num_digits=1, timeout=1, action="/accepted")
    gather.play("/asked.wav")
    document.append(gather)
    document.hangup()


def test_a_screened_call_is_bridged_after_a_digit_of_the_called_party(server, app, phone, rtp):
    media, heard = rtp(), rtp()
    called = phone(callee(until_told(), ends="bye"), media=media)

    def voice(document):
        dial = Dial(action="/after", ring_tone="fr")
        dial.sip(called.uri, url="/screen", status_callback="/child", status_callback_event=EVERY)
        document.append(dial)

    answering(app, "/voice", voice)
    calling = phone(caller("caller", ends="wait"), target=server.sip, media=heard)
    media.wait_for_tone(ASKED)
    # The French one: 440 Hz alone. The caller hears that, and nothing of the question.
    heard.wait_for_tone(440)
    media.press("1")
    (accepted,) = app.wait("/accepted")
    assert accepted["Digits"] == "1" and accepted["Direction"] == "outbound-dial"
    media.play(tone(1000, 0.2))
    wait_for("the called party", lambda: media.play(tone(1000, 0.3)) or share(heard.heard(1600), 1000) > 0.5)
    whole = heard.heard()
    assert not any(share(whole[at : at + 800], ASKED) > 0.5 for at in range(0, len(whole) - 800, 400))
    called.hang_up()
    calling.finish()
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == ("completed", "true")
    progress = app.wait("/child", 4)
    assert [one["CallStatus"] for one in progress] == ["initiated", "ringing", "in-progress", "completed"]
    (screened,) = app.to("/screen")
    assert screened["CallSid"] == after["DialCallSid"] == progress[0]["CallSid"]
    assert screened["ParentCallSid"] == after["CallSid"] and screened["CallStatus"] == "in-progress"


def test_a_sequential_dial_continues_after_a_busy_or_declining_target(server, app, phone):
    busy, declines, takes = phone(callee(reject="486 Busy Here")), phone(callee()), phone(callee(pause(700), ends="bye"))

    def voice(document):
        dial = Dial(action="/after", sequential=True)
        dial.sip(busy.uri, status_callback="/child")
        dial.sip(declines.uri, url="/screen", status_callback="/child")
        dial.sip(takes.uri, status_callback="/child")
        document.append(dial)

    answering(app, "/voice", voice)
    phone(caller("caller", ends="wait"), target=server.sip).finish()
    for one in (busy, declines, takes):
        one.finish()
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == ("completed", "true")
    children = app.wait("/child", 3)
    assert [one["CallStatus"] for one in children] == ["busy", "completed", "completed"]
    assert after["DialCallSid"] == children[2]["CallSid"]


def test_a_called_party_that_declines_is_not_bridged(server, app, phone):
    declines = phone(callee())

    def voice(document):
        dial = Dial(action="/after")
        dial.sip(declines.uri, url="/screen")
        document.append(dial)

    answering(app, "/voice", voice)
    phone(caller("caller", ends="wait"), target=server.sip).finish()
    declines.finish()
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == ("completed", "false")
    assert after["DialCallDuration"] == "0"


def test_dial_sends_sip_headers_and_returns_those_of_the_answer(server, app, phone):
    called = phone(callee(ends="bye", answer_headers="X-Agent: seven\nUser-to-User: 00a1;encoding=hex"))

    def voice(document):
        dial = Dial(action="/after", caller_id="+15550007777")
        dial.sip(f"{called.uri}?X-Order=a%20b%26c&X-Tier=gold&User-to-User=beef&Via=evil")
        document.append(dial)

    answering(app, "/voice", voice)
    phone(caller("caller", ends="wait"), target=server.sip).finish()
    called.finish()
    invite = called.messages()
    assert "\nX-Order: a b&c" in invite and "\nX-Tier: gold" in invite and "\nUser-to-User: beef" in invite
    assert "evil" not in invite and "From: <sip:+15550007777@" in invite
    (after,) = app.wait("/after")
    assert after["DialSipHeader_X-Agent"] == "seven" and after["DialSipHeader_User-to-User"] == "00a1;encoding=hex"
    assert after["DialSipResponseCode"] == "200" and after["DialSipCallId"]


def test_a_dial_is_recorded_in_two_channels_and_the_recording_is_reported(server, app, phone, rtp, tmp_path):
    said, told = speech(3), tone(900, 3)
    media, heard = rtp(), rtp()
    called = phone(callee(until_told(), ends="bye"), media=media)
    app.on("/recorded")

    def voice(document):
        dial = Dial(
            action="/after",
            record="record-from-answer-dual",
            recording_status_callback="/recorded",
            recording_status_callback_event="in-progress completed",
        )
        dial.sip(called.uri)
        document.append(dial)

    answering(app, "/voice", voice)
    calling = phone(caller("caller", ends="wait"), target=server.sip, media=heard)
    app.wait("/recorded")
    heard.play(said)
    media.play(told)
    called.hang_up()
    calling.finish()
    (after,) = app.wait("/after")
    assert after["RecordingUrl"] and after["RecordingSid"] and int(after["RecordingDuration"]) >= 5
    began, ended = app.wait("/recorded", 2)
    assert (began["RecordingStatus"], ended["RecordingStatus"]) == ("in-progress", "completed")
    assert ended["RecordingSource"] == "DialVerb" and ended["RecordingChannels"] == "2"
    assert ended["RecordingUrl"] == after["RecordingUrl"]
    (tmp_path / "dial.wav").write_bytes(requests.get(after["RecordingUrl"], timeout=5).content)
    samples, _ = read_wav(tmp_path / "dial.wav")
    assert is_heard(said, samples[:, 0])
    assert share(samples[-12_000:-4_000, 1], 900) > 0.9


def test_star_hangs_up_the_called_party_and_the_document_continues(server, app, phone, rtp):
    media = rtp()
    called = phone(callee(), media=rtp())

    def voice(document):
        dial = Dial(action="/after", hangup_on_star=True)
        dial.sip(called.uri, status_callback="/child", status_callback_event="answered completed")
        document.append(dial)

    answering(app, "/voice", voice)
    calling = phone(caller("caller", ends="wait"), target=server.sip, media=media)
    app.wait("/child")
    media.press("5*")
    called.finish()
    calling.finish()
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == ("completed", "true")


def test_a_redirected_child_call_has_no_dial_duration(server, app, phone):
    called = phone(callee())
    answering(app, "/voice", lambda document: document.dial(action="/after").sip(called.uri, status_callback="/child", status_callback_event="answered"))
    answering(app, "/elsewhere", lambda document: document.hangup())
    calling = phone(caller("caller", ends="wait"), target=server.sip)
    (child,) = app.wait("/child")
    client(server).calls(child["CallSid"]).update(url=f"{app.url}/elsewhere")
    called.finish()
    calling.finish()
    (after,) = app.wait("/after")
    assert after["DialCallSid"] == child["CallSid"] and "DialCallDuration" not in after.form


def test_answer_on_bridge_delays_the_answer_of_the_caller(server, app, phone):
    rings, called = phone(ringing_callee()), phone(callee(pause(300), ends="bye", ring_ms=500))

    def voice(document):
        dial = Dial(answer_on_bridge=True, timeout=1, action="/second")
        dial.sip(rings.uri)
        document.append(dial)

    def second(document):
        document.append(_to(called.uri))

    answering(app, "/voice", voice)
    answering(app, "/second", second)
    calling = phone(caller("caller", ends="wait"), target=server.sip)
    calling.finish()
    rings.finish()
    called.finish()
    (told,) = app.to("/second")
    assert told["DialCallStatus"] == "no-answer" and told["CallStatus"] == "ringing"
    (after,) = app.wait("/after")
    assert after["DialCallStatus"] == "completed"


def _to(uri):
    dial = Dial(answer_on_bridge=True, action="/after")
    dial.sip(uri)
    return dial


def test_strict_caller_id_permits_numbers_of_the_account_and_the_callers_own(start_tandem, app, phone):
    own = number("+15550100001", app, "/voice") + number("caller", app, "/voice")
    strict = start_tandem(own + "[twilio]\nstrict_caller_id = true\n")
    called = phone(callee(ends="bye"), calls=2)

    def voice(document):
        dial = Dial(action="/first", caller_id="+15550007777")
        dial.sip(called.uri)
        document.append(dial)

    def first(document):
        dial = Dial(action="/second", caller_id="+15550100001")
        dial.sip(called.uri)
        document.append(dial)

    answering(app, "/voice", voice)
    answering(app, "/first", first)
    answering(app, "/second", lambda document: document.append(_to(called.uri)))
    phone(caller("caller", ends="wait"), target=strict.sip).finish()
    called.finish()
    (refused,), (shown,), (after,) = app.to("/first"), app.to("/second"), app.wait("/after")
    assert (refused["DialCallStatus"], refused["DialBridged"]) == ("failed", "false")
    assert shown["DialCallStatus"] == after["DialCallStatus"] == "completed"
    callers = [one for one in ("15550007777", "15550100001", "15550009999") if f"From: <sip:+{one}@" in called.messages()]
    assert callers == ["15550100001", "15550009999"]
    child = client(strict).calls(refused["DialCallSid"])
    assert [one.error_code for one in wait_for("a notification", child.notifications.list)] == ["13214"]
