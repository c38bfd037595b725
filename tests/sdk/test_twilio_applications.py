"""Applications that are called: by <Dial><Application>, by calls and participants to app:AP..., and by one another. Nobody has a
phone there: the far end of the call is the application's document."""

import pytest
import requests
from twilio.twiml.voice_response import Dial, Gather

from harness.audio import read_wav
from harness.phone import callee, caller, until_told
from harness.rtp import share, tone
from harness.waiting import wait_for
from twilio_app import answering, number, refused

GREETING, SAID = 850, 1000  # Hz: the application's greeting; what a phone says
EVERY = "initiated ringing answered completed"
NOBODY = "AP" + "9" * 32


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number("caller", module_webapp, "/voice"))


@pytest.fixture
def app(app):
    app.sound("/greeting.wav", tone(GREETING, 30))
    app.on("/ended")
    return app


@pytest.fixture
def application(twilio, app):
    """Makes applications: application("/path") answers at that path."""
    made = []

    def make(path, **more):
        new = twilio.applications.create(voice_url=app.url + path, status_callback=app.url + "/ended", **more)
        made.append(new)
        return new

    yield make
    for one in made:
        twilio.applications(one.sid).delete()


def dialing(app, sid, parameters=(), **more):
    """The caller's document: it dials the application and goes on at /after."""

    def voice(document):
        dial = Dial(action="/after")
        noun = dial.application(status_callback="/status", status_callback_event=EVERY, **more)
        noun.application_sid(sid)
        for name, value in parameters:
            noun.parameter(name=name, value=value)
        document.append(dial)

    answering(app, "/voice", voice)
    answering(app, "/after", lambda document: document.hangup())


def test_a_dialled_application_talks_with_the_caller_and_returns_values(
    server, twilio, app, application, phone, rtp
):
    shop = application("/shop")

    def greets(document):
        gather = Gather(num_digits=1, action="/chosen", timeout=30)
        gather.play("/greeting.wav")
        document.append(gather)

    def thanks(document):
        document.hangup().parameter(name="outcome", value="sold & paid")

    answering(app, "/shop", greets)
    answering(app, "/chosen", thanks)
    dialing(app, shop.sid, [("cart", "7 & 8"), ("CallSid", "mine")], customer_id="till-4")
    media = rtp()
    calling = phone(caller("caller", ends="wait"), target=server.sip, media=media)
    media.wait_for_tone(GREETING)
    media.press("5")
    calling.finish()

    (asked,) = app.to("/shop")
    (voice,) = app.to("/voice")
    assert (asked["From"], asked["To"], asked["ApplicationSid"]) == (voice["From"], shop.sid, shop.sid)
    assert (asked["Direction"], asked["CallStatus"]) == ("inbound", "ringing")
    assert (asked["Param_cart"], asked["Param_CallSid"], asked["CustomerId"]) == ("7 & 8", "mine", "till-4")
    (chosen,) = app.to("/chosen")
    assert chosen["Digits"] == "5" and chosen["CallSid"] == asked["CallSid"]
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == ("completed", "true")
    assert after["ReturnParam_outcome"] == "sold & paid"
    progress = app.wait("/status", 4)
    assert [one["CallStatus"] for one in progress] == ["initiated", "ringing", "in-progress", "completed"]
    assert {one["CallSid"] for one in progress} == {after["DialCallSid"]} and progress[0]["To"] == f"app:{shop.sid}"
    # Three calls: the caller's, its child, and the application's.
    assert len({voice["CallSid"], after["DialCallSid"], asked["CallSid"]}) == 3
    (ended,) = app.wait("/ended")
    assert (ended["CallSid"], ended["CallStatus"]) == (asked["CallSid"], "completed")
    # How it looks to who asks the API.
    child, own = (twilio.calls(sid).fetch() for sid in (after["DialCallSid"], asked["CallSid"]))
    assert (child.direction, child.to, child.parent_call_sid) == ("outbound-dial", f"app:{shop.sid}", voice["CallSid"])
    assert (own.direction, own.to, own.parent_call_sid) == ("inbound", shop.sid, None)


def test_a_busy_application_is_reported_and_gets_the_called_number_with_copy_parent_to(server, app, application, phone):
    desk = application("/desk")

    def busy(document):
        document.reject(reason="busy").parameter(name="why", value="lunch")

    answering(app, "/desk", busy)
    dialing(app, desk.sid, copy_parent_to=True)
    phone(caller("caller", ends="wait"), target=server.sip).finish()
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"], after["ReturnParam_why"]) == ("busy", "false", "lunch")
    (asked,) = app.to("/desk")
    (voice,) = app.to("/voice")
    assert asked["To"] == voice["To"] and asked["CustomerId"] == server.account_sid
    (ended,) = app.wait("/ended")
    assert ended["CallStatus"] == "busy"


def test_a_call_to_an_application_connects_its_document_with_the_document_of_the_url(twilio, app, application, phone, rtp, tmp_path):
    media = rtp()
    called = phone(callee(until_told(), ends="bye"), media=media)
    agent = application("/agent")
    # What the application does: it has a phone called. What the other side does: it speaks, then records.
    answering(app, "/agent", lambda document: document.dial().sip(called.uri))

    answering(app, "/speaks", lambda document: document.play("/greeting.wav"))
    answering(app, "/records", lambda document: document.record(play_beep=False, timeout=0, action="/recorded"))
    answering(app, "/recorded", lambda document: None)
    call = twilio.calls.create(
        to=f"app:{agent.sid}?order=7&note=a%20b",
        from_="+15550001111",
        url=app.url + "/speaks",
        status_callback=app.url + "/status",
        status_callback_event=EVERY.split(),
    )
    assert call.to == f"app:{agent.sid}" and call.direction == "outbound-api"
    media.wait_for_tone(GREETING)
    (asked,) = app.to("/agent")
    assert (asked["order"], asked["note"], asked["From"]) == ("7", "a b", "+15550001111")
    assert asked["CallSid"] != call.sid
    twilio.calls(call.sid).update(url=app.url + "/records")
    app.wait("/records")
    media.play(tone(SAID, 2))
    called.tell()
    called.finish()
    (recorded,) = app.wait("/recorded")
    (tmp_path / "heard.wav").write_bytes(requests.get(recorded["RecordingUrl"], timeout=5).content)
    samples = read_wav(tmp_path / "heard.wav")[0][:, 0]
    loud = [samples[at : at + 400] for at in range(0, len(samples) - 400, 400) if abs(samples[at : at + 400]).max() > 2000]
    assert len(loud) > 20 and sum(share(part, SAID) > 0.9 for part in loud) > 0.8 * len(loud)
    progress = app.wait("/status", 4)
    assert [one["CallStatus"] for one in progress] == ["initiated", "ringing", "in-progress", "completed"]


def test_an_application_joins_a_conference(server, twilio, app, application, phone, rtp):
    bot = application("/bot")
    answering(app, "/bot", lambda document: document.play("/greeting.wav"))

    def voice(document):
        document.dial().conference("Room", beep="false", wait_url="", end_conference_on_exit=True)

    answering(app, "/voice", voice)
    media = rtp()
    calling = phone(caller("caller", until_told(), ends="bye"), target=server.sip, media=media)
    app.wait("/voice")
    wait_for("the conference", lambda: twilio.conferences.list(friendly_name="Room", status="in-progress")
             or twilio.conferences.list(friendly_name="Room", status="init"))  # fmt: skip
    new = twilio.conferences("Room").participants.create(to=f"app:{bot.sid}?topic=tea", from_="+15550001111", beep="false")
    media.wait_for_tone(GREETING)
    (asked,) = app.to("/bot")
    assert asked["topic"] == "tea" and asked["CallSid"] != new.call_sid
    calling.tell()
    calling.finish()
    (ended,) = app.wait("/ended")
    assert ended["CallSid"] == asked["CallSid"]


def test_applications_that_dial_each_other_end_after_eight_calls(server, twilio, app, application, phone):
    mirror = application("/mirror")

    def again(document):
        document.dial(action="/unwound").application(mirror.sid)

    answering(app, "/mirror", again)
    answering(app, "/unwound", lambda document: document.hangup())
    dialing(app, mirror.sid)
    phone(caller("caller", ends="wait"), target=server.sip).finish()
    (after,) = app.wait("/after")
    assert after["DialCallStatus"] == "completed"
    # The eighth document ends as a loop when it dials, so its action is not requested.
    asked, unwound = app.to("/mirror"), app.wait("/unwound", 7)
    assert len(asked) == 8 and len({one["CallSid"] for one in asked}) == 8
    assert [one["DialCallStatus"] for one in unwound] == ["completed"] * 7
    (deepest,) = {one["CallSid"] for one in asked} - {one["CallSid"] for one in unwound}
    found = twilio.calls(deepest).notifications.list()
    assert [note.error_code for note in found] == ["14106"] and "chain+of+8+calls" in found[0].message_text, found[0].message_text
    assert twilio.calls.list(status="in-progress") == []


def test_only_a_public_application_of_another_account_can_be_called(server, twilio, app, phone):
    other = twilio.api.accounts.create(friendly_name="other")
    theirs = twilio.api.accounts(other.sid).applications
    shut = theirs.create(voice_url=app.url + "/theirs")
    for sid in (NOBODY, shut.sid):
        refused(lambda: twilio.calls.create(to=f"app:{sid}", from_="+15550001111", twiml="<Response/>"), 400, 21218)
        app.on("/status")
        dialing(app, sid)
        phone(caller("caller", ends="wait"), target=server.sip).finish()
        (after,) = app.wait("/after")
        assert after["DialCallStatus"] == "failed"
        notes = twilio.calls(after["DialCallSid"]).notifications.list()
        assert [note.error_code for note in notes] == ["13224"]
        app.forget()
    own = theirs.create(voice_url="http://127.0.0.1:9/nowhere", public_application_connect_enabled=True)
    app.on("/status")
    dialing(app, own.sid)
    phone(caller("caller", ends="wait"), target=server.sip).finish()
    (after,) = app.wait("/after")
    # It was called, as its own account's, and had nothing to say: the apology is heard, and that is all.
    assert after["DialCallStatus"] == "completed"
    (call,) = twilio.api.accounts(other.sid).calls.list()
    assert (call.direction, call.to) == ("inbound", own.sid)
