"""Calls between numbers of this server: they need no phone, no SIP and no trunk. The server has a trunk that takes every number
and leads nowhere, so a call that left the server would fail."""

import pytest
import requests
from twilio.twiml.voice_response import Gather

from harness.audio import read_wav
from harness.phone import free_port
from harness.resources import carrier
from harness.rtp import share, tone
from harness.waiting import wait_for
from twilio_app import answering, ended, number

ROBOT, IVR, DESK, LOOP, NOBODY = ("+15551230001", "+15551230002", "+15551230003", "+15551230004", "+15551230009")
BLOCK = "+15551239*"
GREETING, SAID = 850, 1000  # Hz
EVERY = ["initiated", "ringing", "answered", "completed"]


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    url = module_webapp.url
    numbers = [
        number(ROBOT, module_webapp, "/robot"),
        number(IVR, module_webapp, "/ivr", f'status_callback = "{url}/ended"'),
        number(DESK, module_webapp, "/desk"),
        number(LOOP, module_webapp, "/loop"),
        number(BLOCK, module_webapp, "/block"),
        # Where calls go, and no destination: these leave by the trunk.
        '[[numbers]]\nnumber = "+1777*"\naccount = "acme"\nbridge = "trunk:carrier"\n',
    ]
    return start_tandem("".join(numbers) + carrier(free_port()))


@pytest.fixture
def app(app):
    app.on("/ended")
    app.sound("/greeting.wav", tone(GREETING, 2))
    app.sound("/said.wav", tone(SAID, 2))
    return app


def menu(document):
    gather = Gather(num_digits=2, action="/chosen", timeout=15)
    gather.play("/greeting.wav")
    document.append(gather)


def test_an_internal_call_presses_digits_in_an_ivr_and_both_legs_are_listed(server, twilio, app):
    answering(app, "/ivr", menu)
    answering(app, "/chosen", lambda document: document.hangup())

    def robot(document):
        document.pause(length=1)
        document.play(digits="42")
        document.pause(length=10)

    answering(app, "/presses", robot)
    call = twilio.calls.create(
        to=IVR, from_=ROBOT, url=app.url + "/presses", status_callback=app.url + "/status", status_callback_event=EVERY
    )
    (chosen,) = app.wait("/chosen")
    (asked,) = app.to("/ivr")
    assert chosen["Digits"] == "42" and chosen["CallSid"] == asked["CallSid"] != call.sid
    assert (asked["From"], asked["To"], asked["Direction"], asked["CallStatus"]) == (ROBOT, IVR, "inbound", "ringing")
    assert "CustomerId" not in asked.form and "SipCallId" not in asked.form
    progress = app.wait("/status", 4)
    assert [one["CallStatus"] for one in progress] == ["initiated", "ringing", "in-progress", "completed"]
    (told,) = app.wait("/ended")
    assert (told["CallSid"], told["CallStatus"]) == (asked["CallSid"], "completed")
    legs = twilio.calls.list(to=IVR, from_=ROBOT)
    found = {one.sid: one for one in legs}
    own = [number.sid for number in twilio.incoming_phone_numbers.list(phone_number=IVR)]
    assert found[call.sid].direction == "outbound-api"
    inbound = found[asked["CallSid"]]
    assert (inbound.direction, inbound.parent_call_sid, [inbound.phone_number_sid]) == ("inbound", None, own)


def test_a_dialled_internal_number_rings_is_recorded_and_reports_its_end(server, twilio, app, tmp_path):
    def desk(document):
        document.play("/said.wav")

    answering(app, "/desk", desk)

    def dials(document):
        document.dial(action="/after", record="record-from-answer-dual").number(
            DESK, status_callback="/status", status_callback_event=" ".join(EVERY)
        )

    answering(app, "/dials", dials)
    answering(app, "/after", lambda document: document.hangup())

    def robot(document):
        document.play("/greeting.wav")  # a pause alone does not answer
        document.pause(length=20)

    answering(app, "/robot", robot)
    twilio.calls.create(to=ROBOT, from_=IVR, url=app.url + "/dials")
    (after,) = app.wait("/after", seconds=25)
    assert (after["DialCallStatus"], after["DialBridged"]) == ("completed", "true")
    (asked,) = app.to("/desk")
    assert (asked["To"], asked["Direction"]) == (DESK, "inbound")
    progress = app.wait("/status", 4)
    assert [one["CallStatus"] for one in progress] == ["initiated", "ringing", "in-progress", "completed"]
    child = twilio.calls(after["DialCallSid"]).fetch()
    assert (child.direction, child.to) == ("outbound-dial", DESK)
    heard = wait_for("the recording", lambda: [answer for answer in [requests.get(after["RecordingUrl"], timeout=5)]
                                               if answer.ok])[0]  # fmt: skip
    (tmp_path / "heard.wav").write_bytes(heard.content)
    samples = read_wav(tmp_path / "heard.wav")[0][:, 1]  # what the called number said
    loud = [samples[at : at + 400] for at in range(0, len(samples) - 400, 400) if abs(samples[at : at + 400]).max() > 2000]
    assert len(loud) > 20 and sum(share(part, SAID) > 0.9 for part in loud) > 0.8 * len(loud)


def test_a_busy_internal_number_ends_the_call_as_busy(server, twilio, app):
    answering(app, "/desk", lambda document: document.reject(reason="busy"))
    call = twilio.calls.create(to=DESK, from_=ROBOT, twiml="<Response><Hangup/></Response>")
    assert ended(twilio, call.sid).status == "busy"


def test_machine_detection_works_for_an_internal_number(server, twilio, app):
    def answers(document):
        document.play("/said.wav")
        document.pause(length=20)

    answering(app, "/desk", answers)
    app.on("/amd")
    call = twilio.calls.create(
        to=DESK,
        from_=ROBOT,
        twiml='<Response><Pause length="30"/></Response>',
        machine_detection="Enable",
        async_amd="true",
        async_amd_status_callback=app.url + "/amd",
    )
    (told,) = app.wait("/amd", seconds=20)
    # While the call still lives.
    live = twilio.calls(call.sid).fetch()
    assert (live.status, live.answered_by) == ("in-progress", told["AnsweredBy"])
    twilio.calls(call.sid).update(status="completed")


def test_an_internal_number_joins_a_conference(server, twilio, app):
    answering(app, "/ivr", menu)
    answering(app, "/chosen", lambda document: document.hangup())
    answering(app, "/desk", lambda document: document.dial().conference("Room", beep="false", wait_url=""))
    desk = twilio.calls.create(to=DESK, from_=ROBOT, twiml='<Response><Pause length="60"/></Response>')
    wait_for("the conference", lambda: twilio.conferences.list(friendly_name="Room"))
    new = twilio.conferences("Room").participants.create(to=IVR, from_=ROBOT, beep="false")
    (asked,) = app.wait("/ivr")
    assert asked["CallSid"] != new.call_sid and asked["From"] == ROBOT
    twilio.calls(desk.sid).update(status="completed")
    twilio.calls(new.call_sid).update(status="completed")


def test_numbers_of_a_block_are_internal_and_bridged_numbers_are_not(server, twilio, app):
    answering(app, "/block", lambda document: document.reject(reason="busy"))
    call = twilio.calls.create(to="+15551239123", from_=ROBOT, twiml="<Response/>")
    assert ended(twilio, call.sid).status == "busy"
    (asked,) = app.to("/block")
    assert asked["To"] == "+15551239123"
    left = twilio.calls.create(to="+17775550001", from_=ROBOT, twiml="<Response/>", timeout=2)
    assert twilio.calls(left.sid).fetch().direction == "outbound-api"
    assert [one.direction for one in twilio.calls.list(to="+17775550001")] == ["outbound-api"]
    twilio.calls(left.sid).update(status="completed")


def test_a_number_that_dials_itself_ends_after_eight_calls(server, twilio, app):
    answering(app, "/loop", lambda document: document.dial(action="/unwound").number(LOOP))
    answering(app, "/unwound", lambda document: document.hangup())
    call = twilio.calls.create(to=LOOP, from_=ROBOT, twiml='<Response><Pause length="30"/></Response>')
    # The eighth document ends as a loop when it dials, so its action is not requested.
    unwound = app.wait("/unwound", 7, seconds=30)
    assert len(app.to("/loop")) == 8
    assert [one["DialCallStatus"] for one in unwound] == ["completed"] * 7
    assert ended(twilio, call.sid).status == "completed"


def test_a_number_that_dials_itself_in_parallel_makes_at_most_a_hundred_calls(server, twilio, app):
    def fan(document):
        dial = document.dial(action="/unwound", timeout=10)
        for _ in range(10):
            dial.number(LOOP)

    answering(app, "/loop", fan)
    answering(app, "/unwound", lambda document: document.hangup())
    call = twilio.calls.create(to=LOOP, from_=ROBOT, twiml='<Response><Pause length="5"/></Response>')
    assert ended(twilio, call.sid)
    wait_for("the end of all", lambda: not twilio.calls.list(status="in-progress", to=LOOP)
             and not twilio.calls.list(status="ringing", to=LOOP), 30)  # fmt: skip
    assert len(app.to("/loop")) <= 100


def test_a_call_to_a_number_of_another_account_is_listed_by_both_accounts(server, twilio):
    other = twilio.api.accounts.create(friendly_name="other")
    theirs = twilio.api.accounts(other.sid)
    # Nobody serves it: that it was asked is in their list.
    theirs.incoming_phone_numbers.create(phone_number="+15557770001", voice_url="http://127.0.0.1:9/nowhere")
    call = twilio.calls.create(to="+15557770001", from_=ROBOT, twiml="<Response/>")
    ended(twilio, call.sid)
    (inbound,) = theirs.calls.list()
    assert (inbound.direction, inbound._from, inbound.to) == ("inbound", ROBOT, "+15557770001")
    assert [one.sid for one in twilio.calls.list(to="+15557770001")] == [call.sid]


def test_a_call_to_an_unknown_client_fails(server, twilio):
    call = twilio.calls.create(to="client:nobody", from_=ROBOT, twiml="<Response/>")
    assert ended(twilio, call.sid).status == "failed"
    (note,) = twilio.calls(call.sid).notifications.list()
    assert note.error_code == "32009" and "no+phone" in note.message_text
