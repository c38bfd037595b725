"""All that a call can be made with, and all that can be found out about it: Events, Notifications, webhooks again, signatures."""

from urllib.parse import unquote_plus

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from harness.phone import callee
from harness.waiting import wait_for
from twilio_app import assert_genuine, ended, twiml

FROM = "+15550001111"
SHOWN = "+15550003333"
EVENTS = ["initiated", "ringing", "answered", "completed"]


@pytest.fixture
def app(server, webapp):
    """A web application of which every request must be genuine."""
    webapp.on("/status")
    yield webapp
    if webapp.to():
        assert_genuine(server, webapp)


@pytest.fixture(scope="module")
def server(start_tandem):
    """The calling numbers are the account's: else each call's Notifications would say so."""
    number = '[[numbers]]\nnumber = "{}"\naccount = "acme"\ntwiml = "<Response/>"\n'
    return start_tandem(number.format(FROM) + number.format(SHOWN))


def everything(app, called):
    """A new call with every parameter that can go together."""
    return dict(
        to=f"{called.uri}?X-Order=7",
        from_=FROM,
        caller_id=SHOWN,
        url=f"{app.url}/voice#rc=2&rt=3000&rp=5xx",
        method="GET",
        fallback_url=f"{app.url}/fallback",
        fallback_method="POST",
        status_callback=f"{app.url}/status",
        status_callback_method="POST",
        status_callback_event=EVENTS,
        timeout=30,
        time_limit=120,
        record=True,
        recording_channels="dual",
        recording_track="both",
        recording_status_callback=f"{app.url}/recorded",
        recording_status_callback_method="POST",
        recording_status_callback_event=["in-progress", "completed", "absent"],
        trim="do-not-trim",
        sip_auth_username="user",
        sip_auth_password="secret",
        machine_detection="Enable",
        machine_detection_timeout=10,
        machine_detection_speech_threshold=2400,
        machine_detection_speech_end_threshold=1200,
        machine_detection_silence_timeout=2000,
        async_amd="true",
        async_amd_status_callback=f"{app.url}/amd",
        async_amd_status_callback_method="POST",
        call_reason="Your order",
        call_token="%7B%7D",
        byoc="BY" + "0" * 32,
    )


def test_a_call_with_every_parameter_has_complete_webhooks_events_and_notifications(server, twilio, app, phone):
    called = phone(callee())
    app.on("/voice", lambda: twiml("<Response><Say mood='glad'>Hi</Say><Pause length='60'/></Response>"))
    app.on("/recorded")
    app.on("/amd")
    call = twilio.calls.create(**everything(app, called))
    (voice,) = app.wait("/voice")
    assert voice.method == "GET" and voice["From"] == "+15550003333" and voice["CallSid"] == call.sid
    (amd,) = app.wait("/amd")
    assert {"CallSid", "AccountSid", "AnsweredBy", "MachineDetectionDuration"} <= set(amd.form)
    with pytest.raises(TwilioRestException):
        twilio.calls(call.sid).update(url="nowhere")
    twilio.calls(call.sid).update(status="completed")
    called.finish()
    ended(twilio, call.sid)
    app.wait("/status", 4)
    app.wait("/recorded", 2)
    last = app.to("/status")[-1]
    # Everything that a final progress callback says.
    for name in """CallSid AccountSid ApiVersion From To Caller Called CallStatus Direction Timestamp CallbackSource SequenceNumber
        CallDuration Duration SipResponseCode AnsweredBy RecordingUrl RecordingSid RecordingDuration SipCallId
        FromCity FromState FromZip FromCountry ToCity ToState ToZip ToCountry CallerCity CalledCity""".split():
        assert name in last.form, name
    assert (last["CallbackSource"], last["SequenceNumber"], last["Duration"]) == ("call-progress-events", "3", "1")

    def all_told():
        events = twilio.calls(call.sid).events.list()
        return events if len(events) >= 11 else None

    events = wait_for("the events", all_told)
    asked = [(event.request["method"], event.request["url"].rsplit("/", 1)[-1]) for event in events]
    assert asked[0] == ("POST", "Calls.json") and ("GET", "voice#rc=2&rt=3000&rp=5xx") in asked, asked
    assert sorted(name for _, name in asked if name in ("status", "amd", "recorded")) == [
        "amd", "recorded", "recorded", "status", "status", "status", "status"
    ]  # fmt: skip
    changes = [event.response["response_code"] for event in events if event.request["url"].endswith(f"{call.sid}.json")]
    assert changes == [400, 200]
    made, document = events[0], next(event for event in events if "voice" in event.request["url"])
    assert made.response["response_code"] == 201 and call.sid in made.response["response_body"]
    assert made.request["parameters"]["status_callback_event"] == EVENTS
    assert made.request["parameters"]["sip_auth_password"] == "***"
    assert document.response["response_code"] == 200 and "<Pause length='60'/>" in document.response["response_body"]
    assert document.response["content_type"].startswith("text/xml")
    assert document.request["parameters"]["call_sid"] == call.sid
    assert isinstance(document.response["request_duration"], int) and document.response["date_created"]
    # Paged, they are the same.
    assert [event.request for event in twilio.calls(call.sid).events.list(page_size=2)] == [e.request for e in events]

    (odd,) = twilio.calls(call.sid).notifications.list()
    assert (odd.error_code, odd.log) == ("12200", "1") and "mood" in odd.message_text
    assert odd.request_method == "GET" and odd.request_url.startswith(f"{app.url}/voice")
    fetched = twilio.calls(call.sid).notifications(odd.sid).fetch()
    assert f"CallSid={call.sid}" in fetched.request_variables and "<Say mood" in fetched.response_body
    assert "Content-Type" in fetched.response_headers or "content-type" in fetched.response_headers


def test_events_that_twilio_would_not_send_cause_notifications(server, twilio, app, phone):
    def noted(events):
        asked = {
            "Twiml": "<Response><Hangup/></Response>",
            "To": phone(callee()).uri,
            "From": FROM,
            "StatusCallback": f"{app.url}/status",
        }
        made = requests.post(
            f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Calls.json",
            data=[*asked.items(), *(("StatusCallbackEvent", event) for event in events)],
            auth=(server.account_sid, server.auth_token),
            timeout=10,
        ).json()
        wait_for("the end", lambda: twilio.calls(made["sid"]).fetch().status not in ("queued", "ringing", "in-progress"))
        return [(one.error_code, unquote_plus(one.message_text)) for one in twilio.calls(made["sid"]).notifications.list()]

    assert noted(["initiated", "answered", "completed"]) == []
    [(code, text)] = noted(["initiated answered"])
    assert code == "21626" and "StatusCallbackEvent=initiated&StatusCallbackEvent=answered" in text
    [(code, text)] = noted(["answred"])
    assert code == "21626" and "answred" in text


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        (dict(timeout=601), 21208),
        (dict(method="PUT"), 21209),
        (dict(send_digits="12x"), 21206),
        (dict(machine_detection="Maybe"), 21234),
        (dict(machine_detection="Enable", machine_detection_timeout=61), 21263),
        (dict(machine_detection="Enable", machine_detection_speech_threshold=10), 21263),
        (dict(sip_auth_username="u"), 21225),
        (dict(sip_auth_username="u" * 256, sip_auth_password="p"), 21221),
        (dict(sip_auth_username="u", sip_auth_password="p" * 256), 21223),
        (dict(application_sid="AP" + "0" * 32), 21218),
        (dict(from_="nobody at all"), 21212),
        (dict(status_callback="nowhere"), 21502),
        (dict(recording_track="left"), 20001),
        (dict(trim="perhaps"), 20001),
        (dict(time_limit=0), 20001),
        (dict(to="sip:a@127.0.0.1?X-A=" + "x" * 1024), 21227),
        (dict(to="sip:a@127.0.0.1?Via=x"), 21228),
    ],
)
def test_an_invalid_new_call_gets_its_error_code(twilio, parameters, code):
    wished = dict(to="+15550002222", from_=FROM, url="http://127.0.0.1:9/voice") | parameters
    with pytest.raises(TwilioRestException) as refused:
        twilio.calls.create(**wished)
    assert (refused.value.status, refused.value.code) == (400, code)


def test_failures_are_notifications_of_the_call_and_of_the_account(server, twilio, app, phone):
    called = phone(callee())
    app.on("/voice", ("no", 500))
    app.on("/broken", ("gone", 404))
    before = len(twilio.notifications.list(log=0))
    call = twilio.calls.create(
        to=called.uri,
        from_=FROM,
        url=f"{app.url}/voice?step=1",
        twiml="<Response/>",
        status_callback=f"{app.url}/broken",
    )
    called.finish()
    ended(twilio, call.sid)

    def told():
        notifications = twilio.calls(call.sid).notifications.list()
        return notifications if len(notifications) >= 3 else None

    told = {one.error_code: one for one in wait_for("the notifications", told)}
    assert set(told) == {"32019", "11200", "15003"}
    assert [told[code].log for code in ("32019", "11200", "15003")] == ["1", "0", "1"]
    assert told["11200"].request_url == f"{app.url}/voice?step=1" and told["11200"].call_sid == call.sid
    assert "httpResponse=500" in told["11200"].message_text and "ErrorCode=11200" in told["11200"].message_text
    assert told["15003"].more_info == "https://www.twilio.com/docs/errors/15003"
    whole = twilio.notifications(told["11200"].sid).fetch()
    assert whole.response_body == "no" and whole.sid == told["11200"].sid
    assert whole.message_date is not None and whole.date_updated is not None
    assert len(twilio.notifications.list(log=0)) == before + 1
    today = whole.message_date.date()
    assert told["15003"].sid in [one.sid for one in twilio.notifications.list(log=1, message_date=today)]
    assert twilio.notifications.list(message_date_before=today) == []
    with pytest.raises(TwilioRestException) as unknown:
        twilio.calls(call.sid).notifications("NO" + "0" * 32).fetch()
    assert (unknown.value.status, unknown.value.code) == (404, 20404)


@pytest.fixture
def dialled(twilio, app, phone):
    """A call to a phone that has dialled another one: both calls, joined, and both phones."""
    parent, child = phone(callee()), phone(callee())
    document = f"<Response><Dial action='{app.url}/after'><Sip>{child.uri}</Sip></Dial></Response>"
    call = twilio.calls.create(to=parent.uri, from_=FROM, twiml=document)

    def joined():
        return [one for one in twilio.calls.list(parent_call_sid=call.sid) if one.status == "in-progress"]

    (other,) = wait_for("the dialled call", joined)
    return call, other, (parent, child)


PAUSE = "<Response><Pause length='60'/></Response>"


def test_a_redirected_child_call_leaves_its_dial_and_the_parent_continues(twilio, app, dialled):
    call, other, phones = dialled
    app.on("/child", lambda: twiml(PAUSE))
    app.on("/after", lambda: twiml(PAUSE))
    assert other.update(url=f"{app.url}/child").status == "in-progress"
    (child,), (after,) = app.wait("/child"), app.wait("/after")
    assert (child["CallSid"], child["ParentCallSid"]) == (other.sid, call.sid)
    assert (after["CallSid"], after["DialCallSid"]) == (call.sid, other.sid) and "DialCallDuration" not in after.form
    assert [twilio.calls(one.sid).fetch().status for one in (call, other)] == ["in-progress"] * 2
    for one in (call, other):
        one.update(status="completed")
        assert ended(twilio, one.sid).status == "completed"
    for one in phones:
        one.finish()


def test_a_redirected_parent_call_hangs_up_its_child(twilio, app, dialled):
    call, other, phones = dialled
    assert call.update(twiml=PAUSE).status == "in-progress"
    assert ended(twilio, other.sid).status == "completed"
    assert app.wait("/after")[0]["DialCallStatus"] == "completed"
    assert twilio.calls(call.sid).fetch().status == "in-progress"
    call.update(status="completed")
    for one in phones:
        one.finish()


def test_unplayable_audio_is_a_notification_with_its_document(server, twilio, app, phone):
    called = phone(callee())
    app.on("/text", ("no audio at all", 200, {"Content-Type": "audio/wav"}))
    app.on("/voice", lambda: twiml("<Response><Play>/missing.wav</Play><Play>/text</Play><Sms>x</Sms></Response>"))
    call = twilio.calls.create(to=called.uri, from_=FROM, url=f"{app.url}/voice")
    called.finish()
    ended(twilio, call.sid)
    numbers = sorted(one.error_code for one in twilio.calls(call.sid).notifications.list())
    assert numbers == ["11200", "13420", "13803"]
    assert all(one.request_url == f"{app.url}/voice" for one in twilio.calls(call.sid).notifications.list())
    app.forget()


def test_a_replayed_callback_has_the_same_idempotency_token_and_a_valid_signature(server, twilio, app, phone):
    called = phone(callee())
    call = twilio.calls.create(
        to=called.uri, from_=FROM, twiml="<Response><Hangup/></Response>", status_callback=f"{app.url}/status"
    )
    called.finish()
    (first,) = app.wait("/status")
    login = (server.account_sid, server.auth_token)

    def delivered():
        listed = requests.get(f"{server.http}/console/calls/{call.sid}/webhooks", auth=login, timeout=5).json()
        return [one for one in listed if one["state"] == "delivered"]

    (one,) = wait_for("its delivery", delivered)
    assert (one["event"], one["attempts"], one["last_status"]) == ("completed", 1, 204)
    again = requests.post(f"{server.http}/console/webhooks/{one['id']}/replay", auth=login, timeout=5)
    assert again.status_code == 202 and again.json()["replay_of"] == one["id"] != again.json()["id"]
    second = app.wait("/status", 2)[1]
    assert second.form == first.form
    token = "i-twilio-idempotency-token"
    assert second.headers[token] == first.headers[token]
    assert requests.post(f"{server.http}/console/webhooks/{one['id']}/replay", timeout=5).status_code == 401
    assert requests.post(f"{server.http}/console/webhooks/{'0' * 32}/replay", auth=login, timeout=5).status_code == 404


def test_the_explanation_of_a_signature_agrees_with_the_validator_of_the_sdk(server, twilio, app, phone):
    called = phone(callee())
    call = twilio.calls.create(
        to=called.uri, from_=FROM, twiml="<Response><Hangup/></Response>", status_callback=f"{app.url}/status?b=1&a=2"
    )
    called.finish()
    (status,) = app.wait("/status")
    signature, validator = status.headers["x-twilio-signature"], RequestValidator(server.auth_token)
    params = {name: values[0] for name, values in status.form.items()}

    def explained(url, params=params):
        answer = requests.post(
            f"{server.http}/console/signature",
            json={"url": url, "params": params, "signature": signature},
            auth=(server.account_sid, server.auth_token),
            timeout=5,
        )
        return answer.json()

    right = explained(status.url)
    assert right["valid"] and right["expected"] == signature and right["differences"] == []
    assert right["signed"].startswith(status.url + "AccountSid" + server.account_sid)
    for seen, difference in [
        (status.url.replace("http:", "https:"), "scheme"),
        (status.url.replace("?", "/?"), "trailing slash"),
        (status.url.replace("b=1&a=2", "a=2&b=1"), "query"),
        (status.url + "#rc=1", "fragment"),
    ]:
        assert not validator.validate(seen, MultiDict(params), signature) or difference == "fragment"
        told = explained(seen)
        assert not told["valid"] and told["url"] == status.url, told
        assert told["differences"][0].startswith(difference)
    told = explained(status.url, {name: value for name, value in params.items() if value})
    assert told["differences"][0].startswith("parameters") and told["key"]
    assert explained(status.url, {"a": "b"})["key"] is None
    assert call.sid == status["CallSid"]
