"""What an application finds that was written against Twilio itself: how its documents are sent, what it says of calls that
come to nothing, and numbers as its guides write them."""

import pytest
import requests
from twilio.twiml.voice_response import Start

from harness.phone import callee, caller, pause, until_told
from harness.resources import carrier
from harness.waiting import wait_for
from twilio_app import answering, number, twiml

OWN = "+14155550100"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, carrier_port):
    more = f'status_callback = "{module_webapp.url}/status"\nfallback_url = "{module_webapp.url}/fallback"\n'
    numbers = number("5*", module_webapp, "/voice", more) + number(OWN, module_webapp, "/voice", more)
    return start_tandem(numbers + carrier(carrier_port, "+1"))


@pytest.fixture
def app(app):
    app.on("/after", twiml("<Response><Hangup/></Response>"))
    app.on("/fallback", twiml("<Response><Hangup/></Response>"))
    return app


@pytest.fixture
def calls(server, phone):
    """Calls 500 and waits until it is hung up: calls()."""
    return lambda: phone(caller("500", ends="wait"), target=server.sip).finish()


def troubles(twilio, sid, *codes):
    """Waits until these are what the call's notifications number."""

    def told():
        return sorted(one.error_code for one in twilio.calls(sid).notifications.list()) == sorted(codes)

    wait_for(f"notifications {codes}", told)


def test_a_number_in_national_form_is_dialled_in_international_form(twilio, app, phone, carrier_port, calls):
    called = phone(callee(pause(300), ends="bye"), port=carrier_port)
    answering(app, "/voice", lambda document: document.dial("415-123-4567", action="/after", caller_id="(415) 555-0100"))
    calls()
    called.finish()
    (after,) = app.wait("/after")
    child = twilio.calls(after["DialCallSid"]).fetch()
    assert (after["DialCallStatus"], child.to, child._from) == ("completed", "+14151234567", OWN)
    assert "INVITE sip:+14151234567@" in called.messages()


def test_rest_accepts_numbers_in_national_form(twilio, app, phone, carrier_port):
    called = phone(callee(pause(100), ends="bye"), port=carrier_port)
    made = twilio.calls.create(
        to="(415) 123-4567",
        from_="1 415 555 0100",
        twiml="<Response><Pause/></Response>",
        status_callback=app.url + "/status",
    )
    assert (made.to, made._from) == ("+14151234567", OWN) and made.phone_number_sid
    called.finish()
    (told,) = app.wait("/status")
    assert (told["To"], told["CallStatus"]) == ("+14151234567", "completed")


@pytest.mark.parametrize(
    ("inside", "status", "codes"),
    [
        ("", "failed", ["13224"]),
        ("nobody", "failed", ["13223", "13224"]),
        ("<Sip>not a uri</Sip>", "failed", ["13224", "13243"]),
        ("<Conference/>", "failed", ["13224", "13237"]),
        ("<Client>nobody</Client>", "no-answer", []),
        ("<Number>+442079460958</Number>", "failed", []),
    ],
)
def test_a_dial_without_a_reachable_target_requests_its_action(twilio, app, calls, inside, status, codes):
    app.on("/voice", twiml(f'<Response><Dial action="/after">{inside}</Dial><Redirect>/never</Redirect></Response>'))
    calls()
    (after,) = app.wait("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == (status, "false")
    assert not app.to("/never")
    troubles(twilio, after["CallSid"], *codes)
    if not codes:
        troubles(twilio, after["DialCallSid"], "32009" if status == "no-answer" else "13224")


def test_a_recording_started_by_a_document_has_two_channels_and_its_source(twilio, app, calls):
    def voice(document):
        start = Start()
        start.recording(recording_status_callback="/kept")
        document.append(start)
        document.pause(1)

    answering(app, "/voice", voice)
    app.on("/kept")
    calls()
    (kept,) = app.wait("/kept")
    assert (kept["RecordingSource"], kept["RecordingChannels"]) == ("StartCallRecordingTwiML", "2")
    recording = twilio.recordings(kept["RecordingSid"]).fetch()
    assert (recording.source, recording.channels) == ("StartCallRecordingTwiML", 2)


def test_an_empty_answer_has_its_own_error_code(app, calls):
    app.on("/voice", ("", 204))
    calls()
    (fallback,) = app.wait("/fallback")
    assert fallback["ErrorCode"] == "11770"


def test_a_document_with_a_latin_1_declaration_is_read(app, calls):
    document = '<?xml version="1.0" encoding="ISO-8859-1"?><Response><Redirect>/after?name=Müller</Redirect></Response>'
    app.on("/voice", (document.encode("latin-1"), {"Content-Type": "text/xml"}))
    calls()
    (after,) = app.wait("/after")
    assert after.args["name"] == ["Müller"]


def test_a_pause_as_first_verb_delays_the_answer(app, calls):
    app.on("/voice", twiml("<Response><Pause/><Redirect>/after</Redirect></Response>"))
    calls()
    assert app.to("/voice")[0]["CallStatus"] == "ringing"
    assert app.to("/after")[0]["CallStatus"] == "in-progress"


@pytest.mark.parametrize(
    ("attributes", "code"), [({"participant_label": "agent"}, "16025"), ({"max_participants": 2}, "16020")]
)
def test_a_refused_participant_causes_a_notification(twilio, server, app, phone, calls, attributes, code):
    name = f"not taken {code}"
    inside = [0]

    def voice(document):
        inside[0] += 1
        # Of two there is room for both; the label is the first one's.
        own = attributes if code == "16020" or inside[0] != 2 else {}
        document.dial(action="/after").conference(name, wait_url="", **own)

    answering(app, "/voice", voice)
    seated = [phone(caller("500", until_told(), ends="bye"), target=server.sip) for _ in range(2)]
    wait_for("two in the conference", lambda: count(twilio, name) == 2)
    calls()
    (after,) = app.to("/after")
    assert (after["DialCallStatus"], after["DialBridged"]) == ("failed", "false")
    troubles(twilio, after["CallSid"], code)
    assert count(twilio, name) == 2
    for one in seated:
        one.tell()
        one.finish()
    # Nothing of it is left for the next test to hear of.
    app.wait("/after", 3)
    app.wait("/status", 3)


def test_requests_to_other_products_are_refused_with_a_message(server):
    for host, path in [("lookups.twilio.com", "/v1/PhoneNumbers/+15550001111"), ("verify.twilio.com", "/v2/Services")]:
        answer = requests.get(server.http + path, headers={"Host": host}, timeout=5)
        assert (answer.status_code, answer.json()["code"]) == (404, 20404)
        assert f"does not serve {host}" in answer.json()["message"]


def count(twilio, name):
    """How many are in the conference of that name, once there is one."""
    live = twilio.conferences.list(friendly_name=name, status="in-progress")
    return len(twilio.conferences(live[0].sid).participants.list()) if live else 0


def test_a_failed_wait_document_causes_a_notification(twilio, server, app, phone):
    app.on("/voice", twiml('<Response><Dial><Conference waitUrl="/nothing">waits</Conference></Dial></Response>'))
    calling = phone(caller("500", until_told(), ends="bye"), target=server.sip)
    app.wait("/nothing")
    troubles(twilio, app.to("/voice")[0]["CallSid"], "11200")
    calling.tell()
    calling.finish()
