"""What a call may be made with beyond whom it calls: a reason, a trunk, the token of the call that it passes on; and a payment
that is not taken, of which its application is told."""

import pytest
from twilio.twiml.voice_response import Dial

from harness.phone import callee, caller, free_port
from harness.server import HOST
from twilio_app import answering, ended, number, refused

OWN, CALLER, CALLED = "+15551230001", "+15550009999", "+14155550123"
CHOSEN = "BY" + "0" * 31 + "1"


@pytest.fixture(scope="module")
def ports():
    """Where the calls of the two trunks go: the usual one, and the one that is chosen by its id."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, ports):
    usual, chosen = ports
    return start_tandem(
        f"""
[[trunks]]
name = "usual"
uri = "sip:{HOST}:{usual}"
inbound_from = ["{HOST}/32"]
prefixes = ["+"]

[[trunks]]
name = "chosen"
uri = "sip:{HOST}:{chosen}"
byoc = "{CHOSEN}"

[twilio]
strict_caller_id = true
{number(OWN, module_webapp, "/voice")}
"""
    )


def test_a_payment_is_refused_and_the_document_continues_at_its_action(server, twilio, app, phone):
    def voice(document):
        pay = document.pay(
            action="/paid", status_callback="/paying", charge_amount="9.99", payment_connector="Default", security_code=True
        )
        pay.prompt(for_="payment-card-number").say("Your card, please.")
        pay.parameter(name="order", value="7")
        document.play("/never.wav")

    answering(app, "/voice", voice)
    answering(app, "/paid", lambda document: document.hangup())
    app.on("/paying")
    phone(caller(OWN, ends="wait"), target=server.sip).finish()
    (paid,) = app.wait("/paid")
    assert (paid["Result"], paid["PayErrorCode"], paid["PaymentMethod"]) == ("payment-connector-error", "64002", "credit-card")
    assert "cannot take payments" in paid["PaymentError"]
    (paying,) = app.wait("/paying")
    assert (paying["For"], paying["ErrorType"], paying["CallSid"]) == ("payment-processing", "internal-error", paid["CallSid"])
    assert [note.error_code for note in twilio.calls(paid["CallSid"]).notifications.list()] == ["64002"]
    assert not app.to("/never.wav")


def test_a_call_uses_the_trunk_of_byoc_and_sends_its_call_reason(twilio, phone, ports):
    usual, chosen = (phone(callee(ends="wait"), port=port) for port in ports)
    create = lambda **more: twilio.calls.create(to=CALLED, from_=OWN, twiml="<Response><Hangup/></Response>", **more)
    ended(twilio, create(byoc=CHOSEN, call_reason='The "blue" one').sid)
    chosen.finish()
    invite = chosen.messages()
    assert f"INVITE sip:{CALLED}@" in invite
    assert r'Call-Info: <data:>;purpose=jcard;call-reason="The \"blue\" one"' in invite
    ended(twilio, create().sid)
    usual.finish()
    assert "Call-Info" not in usual.messages()
    refused(lambda: create(byoc="BY" + "9" * 32), 400, 21214)
    refused(lambda: create(byoc="chosen"), 400, 20001)
    refused(lambda: create(call_reason="x" * 51), 400, 20001)


def test_a_dial_uses_the_trunk_of_byoc_and_sends_its_call_reason(server, app, phone, ports):
    chosen = phone(callee(ends="bye"), port=ports[1])

    def voice(document):
        dial = Dial(action="/after", call_reason="Your order", caller_id=OWN)
        dial.number(CALLED, byoc=CHOSEN)
        document.append(dial)

    answering(app, "/voice", voice)
    answering(app, "/after", lambda document: document.hangup())
    phone(caller(OWN, ends="wait"), target=server.sip).finish()
    chosen.finish()
    assert 'call-reason="Your order"' in chosen.messages()
    (after,) = app.wait("/after")
    assert after["DialCallStatus"] == "completed"


def test_a_call_token_permits_the_callers_number_as_caller_id(server, twilio, app, phone):
    answering(app, "/voice", lambda document: document.hangup())
    phone(caller(OWN, ends="wait"), target=server.sip).finish()
    (voice,) = app.wait("/voice")
    assert voice["From"] == CALLER
    called = phone(callee())
    create = lambda **more: twilio.calls.create(to=called.uri, twiml="<Response><Hangup/></Response>", **more)
    refused(lambda: create(from_=CALLER), 400, 21210)
    refused(lambda: create(from_=CALLER, call_token="%7B%7D"), 400, 21210)
    refused(lambda: create(from_="+15550008888", call_token=voice["CallToken"]), 400, 21210)
    ended(twilio, create(from_=CALLER, call_token=voice["CallToken"]).sid)
    called.finish()
    assert f"From: <sip:{CALLER}@" in called.messages()
