"""TeXML by telnyx-python, unmodified but for TELNYX_BASE_URL: calls placed and changed by REST, documents, callbacks that the SDK
verifies, a bot behind a WebSocket, conferences and queues."""

import base64
import json
import re
import uuid
from email.utils import parsedate_to_datetime

import pytest
import requests
import telnyx

from harness.party import Party
from harness.phone import callee, caller, until_told
from harness.rtp import pcmu, tone
from harness.server import API_KEY
from harness.waiting import wait_for

APPLICATION, NUMBER = "2000000000000000001", "+15551230001"
CALLER = "+15550009999"  # who harness.phone.caller says it is
CONTROL_ID = re.compile(r"v3:[A-Za-z0-9_-]{54}")
XML = {"Content-Type": "text/xml"}


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    server = start_tandem(f"""
[[applications]]
id = "{APPLICATION}"
account = "acme"
provider = "texml"
webhook_url = "{module_webapp.url}/voice?color=blue%20%26%20red"
status_callback = "{module_webapp.url}/status"

[[numbers]]
number = "{NUMBER}"
account = "acme"
application = "{APPLICATION}"

[[siprec]]
name = "recorder"
uri = "sip:127.0.0.1:9"
""")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TELNYX_BASE_URL", server.http + "/v2")
        environment.setenv("TELNYX_API_KEY", API_KEY)
        environment.setenv("TELNYX_PUBLIC_KEY", server.telnyx_public_key())
        server.client = telnyx.Telnyx(max_retries=0)
    detail = requests.get(
        f"{server.http}/v2/texml/Accounts/x/Calls", headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10
    ).json()["errors"][0]["detail"]
    server.account = detail.split()[-1]
    yield server


@pytest.fixture
def client(server):
    return server.client


@pytest.fixture
def app(server, module_webapp):
    """The application; every request that it was sent is the SDK's to verify."""
    app = module_webapp
    app.forget()
    for path in ("/status", "/amd", "/recorded", "/stream", "/progress", "/conference"):
        app.on(path)
    yield app
    for one in app.to():
        if one.path not in app.sounds:
            assert_genuine(server.client, one)


def assert_genuine(client, request):
    # What follows the SDK's check of the signature, reading the body as JSON, is not for forms.
    with pytest.raises(json.JSONDecodeError):
        client.webhooks.unwrap(request.body.decode(), headers=request.headers)
    changed = {**request.headers, "telnyx-timestamp": str(int(request.headers["telnyx-timestamp"]) + 1)}
    with pytest.raises(ValueError, match="Signature verification failed"):
        client.webhooks.unwrap(request.body.decode(), headers=changed)


def document(body):
    return f"<?xml version='1.0' encoding='UTF-8'?><Response>{body}</Response>", 200, XML


def place(client, server, to, **parameters):
    """A call; its answer with the keys beyond the SDK's type."""
    body = {"ApplicationSid": APPLICATION, "To": to, "From": NUMBER} | parameters
    made = client.texml.accounts.calls.calls(server.account, body=body)
    assert (made.status, made.from_, made.to) == ("accepted", NUMBER, to)
    assert CONTROL_ID.fullmatch(made.call_sid) and made.sid == made.call_sid
    return made.call_sid


def end(client, server, sid):
    client.texml.accounts.calls.update(sid, account_sid=server.account, status="completed")


@pytest.fixture
def answers(phone, rtp):
    """A phone that answers."""
    return lambda **how: Party(phone, rtp, callee(**how))


# ----- documents --------------------------------------------------------------------------------------------------------


def test_a_document_is_filled_with_the_parameters_of_its_request(app, server, phone, rtp):
    document_body = (
        "<Gather action='/digits?call={{CallSid}}' minDigits='2' maxDigits='4' validDigits='123' timeout='10'>"
        "<Say>{{color}}</Say></Gather>"
        "{{#if CallingPartyType == 'sip'}}<Reject/>{{#else}}<Pause length='20'/>{{/if}}"
    )
    app.on("/voice", document(document_body))
    app.on("/digits", document("<Hangup/>"))
    one = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    one.rtp.wait_for_sound()
    one.rtp.press("12#")
    one.phone.finish()
    (asked,) = app.wait("/voice")
    assert asked.args["color"] == ["blue & red"] and asked.method == "POST"
    assert CONTROL_ID.fullmatch(asked["CallSid"]) and asked["CallSidLegacy"] == asked["CallSid"]
    assert (asked["From"], asked["To"], asked["ConnectionId"]) == (CALLER, NUMBER, APPLICATION)
    assert (asked["CallStatus"], asked["CallingPartyType"], asked["CallerId"]) == ("ringing", "pstn", CALLER)
    assert asked["AccountSid"] == server.account and str(uuid.UUID(server.account)) == server.account
    assert not {"ApiVersion", "FromCity", "CalledCountry", "CallToken"} & set(asked.form)
    (digits,) = app.wait("/digits")
    assert digits.args["call"] == [asked["CallSid"]] and digits["Digits"] == "12"
    (status,) = app.wait("/status")
    assert status["CallStatus"] == "completed" and status["CallSid"] == asked["CallSid"]


def test_a_created_call_with_async_amd_gathers_records_and_dials(app, server, client, answers):
    app.on("/voice", document("<Reject/>"))
    app.on("/digits", document("<Record action='/after' maxLength='2' playBeep='false' recordingStatusCallback='/recorded'/>"))
    other = answers()
    app.on("/after", document(
        f"<Dial fromDisplayName='Desk' action='/dialed' record='record-from-answer-dual'>"
        f"<Sip statusCallback='/progress' statusCallbackEvent='initiated ringing answered completed'>{other.uri}</Sip></Dial>"
    ))
    app.on("/dialed", document("<Hangup/>"))
    app.on("/start", document("<Gather action='/digits' numDigits='1' timeout='20'/>"))
    one = answers()
    sid = place(
        client, server, one.uri,
        Url=f"{app.url}/start", UrlMethod="POST", CallerId="Acme", CustomHeaders=[{"name": "X-Colour", "value": "green"}],
        StatusCallback=f"{app.url}/status", StatusCallbackEvent="initiated ringing answered completed",
        MachineDetection="Enable", DetectionMode="Premium", AsyncAmd=True, AsyncAmdStatusCallback=f"{app.url}/amd",
        MachineDetectionTimeout=20000,
    )
    app.wait("/start")
    one.rtp.play(tone(300, 0.6))
    (verdict,) = app.wait("/amd")
    assert (verdict["CallSid"], verdict["AnsweredBy"]) == (sid, "human")
    assert verdict["ConnectionId"] == APPLICATION
    messages = one.phone.messages()
    assert re.search(r'From: "?Acme"? ?<', messages) and "X-Colour: green" in messages
    one.rtp.press("5")
    app.wait("/digits", where=lambda request: request["Digits"] == "5")
    one.rtp.play(tone(440, 2.5))
    (after,) = app.wait("/after")
    assert after["RecordingUrl"].endswith(".mp3") and int(after["RecordingDuration"]) >= 1
    audio = requests.get(after["RecordingUrl"], timeout=10)
    assert audio.status_code == 200 and audio.headers["content-type"] == "audio/mpeg"
    (recorded,) = app.wait("/recorded")
    assert (recorded["RecordingSource"], recorded["RecordingChannels"]) == ("RecordVerb", "2")
    assert recorded["RecordingSid"] == after["RecordingSid"] and recorded["CallSidLegacy"] == sid
    with one.sounds(440), other.sounds(1000):
        one.hears(1000)
        other.hears(440)
    assert 'From: "Desk"' in other.phone.messages()
    live = client.texml.accounts.calls.retrieve(sid, account_sid=server.account)
    assert (live.sid, live.status, live.direction, live.answered_by) == (sid, "in-progress", "outbound", "human")
    assert parsedate_to_datetime(live.start_time)
    end(client, server, sid)
    one.phone.finish()
    other.phone.finish()
    told = app.wait("/status", 4)
    assert [notice["CallStatus"] for notice in told] == ["initiated", "ringing", "in-progress", "completed"]
    assert [notice["SequenceNumber"] for notice in told] == ["0", "1", "2", "3"]
    for notice in told:
        assert (notice["CallSid"], notice["CallbackSource"], notice["ConnectionId"]) == (
            sid, "call-progress-events", APPLICATION,
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", notice["Timestamp"])
    assert (told[2]["Codec"], told[2]["SamplingRate"]) == ("PCMU", "8000")
    last = told[3]
    assert (last["HangupCause"], last["SipHangupCause"], last["AnsweredBy"]) == ("normal_clearing", "200", "human")
    assert last["CallControlId"] == sid and uuid.UUID(last["CallLegId"]) and last["UserId"] == server.account
    child = app.wait("/progress", 4)
    assert [notice["CallStatus"] for notice in child] == ["initiated", "ringing", "in-progress", "completed"]
    assert {notice["ParentCallSidLegacy"] for notice in child} == {sid}
    listed = client.texml.accounts.calls.retrieve_calls(server.account, status="completed", page_size=50).calls
    assert sid in [call.sid for call in listed]


def test_requests_redirect_and_record_a_live_call(app, server, client, answers):
    app.on("/next", document("<Pause length='30'/>"))
    one = answers()
    # The SDK's own names, which it sends as they are.
    made = client.texml.accounts.calls.calls(
        server.account,
        body={"application_sid": APPLICATION, "to": one.uri, "from_": NUMBER, "texml": "<Response><Pause length='30'/></Response>"},
    )
    sid, calls = made.call_sid, client.texml.accounts.calls
    one.rtp.wait("media", lambda: len(one.rtp.heard()) > 0)
    calls.update(sid, account_sid=server.account, url=f"{app.url}/next", method="POST")
    app.wait("/next")
    recording = calls.recordings_json.recordings_json(
        sid, account_sid=server.account, play_beep=False, recording_status_callback=f"{app.url}/recorded"
    )
    assert (recording.channels, recording.source, recording.call_sid) == (2, "StartCallRecordingAPI", sid)
    one.rtp.play(tone(440, 1))
    paused = calls.recordings.recording_sid_json(
        recording.sid, account_sid=server.account, call_sid=sid, status="paused"
    )
    assert paused.sid == recording.sid
    (row,) = calls.recordings_json.retrieve_recordings_json(sid, account_sid=server.account).recordings
    assert (row.sid, row.status) == (recording.sid, "paused")
    calls.recordings.recording_sid_json(recording.sid, account_sid=server.account, call_sid=sid, status="stopped")
    app.wait("/recorded", where=lambda notice: notice["RecordingSid"] == recording.sid)
    whole = client.texml.accounts.recordings.json.retrieve_recording_sid_json(recording.sid, account_sid=server.account)
    assert (whole.status, whole.duration) == ("completed", "1")
    end(client, server, sid)
    one.phone.finish()
    client.texml.accounts.recordings.json.delete_recording_sid_json(recording.sid, account_sid=server.account)
    with pytest.raises(telnyx.NotFoundError) as gone:
        client.texml.accounts.recordings.json.retrieve_recording_sid_json(recording.sid, account_sid=server.account)
    assert gone.value.body["errors"][0]["code"] == "10005"


# ----- streams ----------------------------------------------------------------------------------------------------------


def test_a_connected_stream_has_telnyxs_message_form(app, server, socketapp, phone, rtp):
    app.on("/voice", document(
        f"<Connect><Stream url='{socketapp.url}/bot' bidirectionalMode='rtp' bidirectionalCodec='PCMU' "
        "statusCallback='/stream' name='mine'><Parameter name='who' value='{{From}}'/></Stream></Connect><Hangup/>"
    ))
    one = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    socket = socketapp.take()
    assert "telnyx" in socket.headers["User-Agent"].lower()
    (start,) = socket.wait("start")
    (asked,) = app.wait("/voice")
    assert socket.messages[0]["version"] == "1.0.0" and uuid.UUID(start["stream_id"])
    assert start["start"]["call_control_id"] == asked["CallSid"]
    assert start["start"]["custom_parameters"] == {"who": CALLER}
    assert start["start"]["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    socket.wait("media", 5)
    one.rtp.press("7")
    (key,) = socket.wait("dtmf")
    assert key["dtmf"] == {"digit": "7"}
    socket.send(event="media", media={"payload": base64.b64encode(pcmu(tone(800, 1.0))).decode()})
    socket.send(event="mark", mark={"name": "said"})
    one.hears(800)
    socket.wait("mark", where=lambda mark: mark["mark"] == {"name": "said"})
    socket.close()
    one.phone.finish()
    told = app.wait("/stream", 2)
    assert [notice["StreamEvent"] for notice in told] == ["stream-started", "stream-stopped"]
    assert {notice["StreamName"] for notice in told} == {"mine"}


def test_a_stream_is_started_and_stopped_by_request(app, server, client, socketapp, answers):
    one = answers()
    sid = place(client, server, one.uri, Texml="<Response><Pause length='30'/></Response>")
    one.rtp.wait("media", lambda: len(one.rtp.heard()) > 0)
    streams = client.texml.accounts.calls
    stream = streams.streams_json(sid, account_sid=server.account, url=f"{socketapp.url}/tap", bidirectional_mode="rtp")
    assert stream.status == "in-progress" and uuid.UUID(stream.sid)
    socket = socketapp.take()
    (start,) = socket.wait("start")
    assert start["stream_id"] == stream.sid
    socket.send(event="media", media={"payload": base64.b64encode(pcmu(tone(600, 1.0))).decode()})
    one.hears(600)
    stopped = streams.streams.streaming_sid_json(stream.sid, account_sid=server.account, call_sid=sid, status="stopped")
    assert (stopped.sid, stopped.status) == (stream.sid, "stopped")
    socket.wait("stop")
    end(client, server, sid)
    one.phone.finish()


# ----- conferences and queues -------------------------------------------------------------------------------------------


def test_a_conference_is_listed_joined_by_request_and_ended(app, server, client, phone, rtp, answers):
    name = f"room {uuid.uuid4().hex[:8]}"
    app.on("/voice", document(
        f"<Dial><Conference beep='false' statusCallback='/conference' statusCallbackEvent='start end join leave' "
        f"endConferenceOnExit='true'>{name}</Conference></Dial>"
    ))
    one = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    (asked,) = app.wait("/voice")
    conferences = client.texml.accounts.conferences
    (room,) = wait_for(
        "the conference",
        lambda: conferences.retrieve_conferences(server.account, friendly_name=name, status="in-progress").conferences,
    )
    assert room.friendly_name == name and uuid.UUID(room.sid)
    other = answers()
    added = conferences.participants.participants(
        room.sid, account_sid=server.account, to=other.uri, from_=NUMBER, label="guest", beep="false"
    )
    assert CONTROL_ID.fullmatch(added.call_sid) and added.conference_sid == room.sid
    wait_for("two", lambda: len(conferences.participants.retrieve_participants(
        room.sid, account_sid=server.account).participants) == 2)
    with one.sounds(440):
        other.hears(440)
    held = conferences.participants.update(added.call_sid, account_sid=server.account, conference_sid=room.sid, muted=True)
    assert held.muted and held.status == "connected" and held.call_sid_legacy == added.call_sid
    assert conferences.participants.retrieve("guest", account_sid=server.account, conference_sid=room.sid).muted
    ended = conferences.update(room.sid, account_sid=server.account, status="completed")
    assert (ended.status, ended.reason_conference_ended) == ("completed", "conference-ended-via-api")
    one.phone.finish()
    other.phone.finish()
    told = {notice["StatusCallbackEvent"] for notice in app.wait("/conference", 4)}
    assert {"conference-start", "participant-join", "participant-leave"} <= told
    assert {"CallSid", "CallSidLegacy"} <= set(app.to("/conference")[1].form)
    assert asked["CallSid"] in [notice.get("CallSid") for notice in app.to("/conference")]


def test_a_dial_takes_a_caller_from_a_queue(app, server, client, phone, rtp, answers):
    queues = client.texml.accounts.queues
    name = f"line-{uuid.uuid4().hex[:8]}"
    made = queues.create(server.account, friendly_name=name, max_size=7)
    assert (made.sid, made.max_size, made.current_size) == (name, 7, 0)
    app.on("/voice", document(f"<Enqueue action='/left'>{name}</Enqueue>"))
    app.on("/left", document("<Hangup/>"))
    waiting = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    wait_for("somebody", lambda: queues.retrieve(name, account_sid=server.account).current_size == 1)
    assert queues.update(name, account_sid=server.account, max_size=9).max_size == 9
    assert name in [queue.sid for queue in queues.list(server.account)]
    agent = answers()
    sid = place(client, server, agent.uri, Texml=f"<Response><Dial><Queue>{name}</Queue></Dial></Response>")
    with waiting.sounds(440), agent.sounds(1000):
        agent.hears(440)
        waiting.hears(1000)
    end(client, server, sid)
    agent.phone.finish()
    (left,) = app.wait("/left")
    assert left["QueueResult"] == "bridged"
    waiting.phone.finish()
    queues.delete(name, account_sid=server.account)
    with pytest.raises(telnyx.NotFoundError):
        queues.retrieve(name, account_sid=server.account)


# ----- applications and refusals ----------------------------------------------------------------------------------------


def test_texml_applications_are_created_updated_and_deleted_and_answer_calls(app, server, client, answers):
    applications = client.texml_applications
    made = applications.create(friendly_name="router", voice_url=f"{app.url}/own", voice_method="get", tags=["a"]).data
    assert re.fullmatch(r"[1-9]\d{18}", made.id) and made.record_type == "texml_application"
    assert (made.voice_method, made.tags, made.dtmf_type, made.inbound.sip_subdomain) == ("get", ["a"], "RFC 2833", None)
    changed = applications.update(made.id, friendly_name="router", voice_url=f"{app.url}/own", voice_method="post").data
    assert changed.voice_method == "post" and changed.tags == ["a"]
    listed = {one.id: one.friendly_name for one in applications.list()}
    assert listed[made.id] == "router" and APPLICATION in listed
    app.on("/own", document("<Hangup/>"))
    one = answers()
    client.texml.calls.create(made.id, to=one.uri, from_=NUMBER)
    assert app.wait("/own")[0]["ConnectionId"] == made.id
    one.phone.finish()
    assert applications.delete(made.id).data.id == made.id
    with pytest.raises(telnyx.NotFoundError):
        applications.retrieve(made.id)
    with pytest.raises(telnyx.PermissionDeniedError):
        applications.delete(APPLICATION)


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"ApplicationSid": "9999999999999999999"}, 422, "10015"),
        ({"To": ""}, 422, "10004"),
        ({"To": "nobody at all"}, 422, "10002"),
        ({"SuperviseCallSid": "v3:x"}, 422, "10038"),
        ({"MediaEncryption": "SRTP"}, 422, "10038"),
        ({"Texml": "<Answer/>"}, 422, "10015"),
        ({"MachineDetection": "Enable", "MachineDetectionTimeout": 100}, 422, "10015"),
    ],
)
def test_an_invalid_request_is_refused_in_telnyxs_error_form(app, server, client, parameters, status, code):
    body = {"ApplicationSid": APPLICATION, "To": "sip:a@127.0.0.1:9", "From": NUMBER} | parameters
    with pytest.raises(telnyx.APIStatusError) as error:
        client.texml.accounts.calls.calls(server.account, body=body)
    (only,) = error.value.body["errors"]
    assert (error.value.status_code, only["code"]) == (status, code), only
    assert {"code", "title", "detail", "meta"} <= only.keys()


def test_wrong_credentials_and_unknown_resources_are_refused(server, client):
    base = f"{server.http}/v2/texml/Accounts/{server.account}"
    bearer = {"Authorization": f"Bearer {API_KEY}"}
    for headers in ({}, {"Authorization": "Bearer KEYwrong"}):
        answer = requests.get(f"{base}/Calls", headers=headers, timeout=10)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (401, "10009")
    basic = requests.get(f"{base}/Calls", auth=(server.account_sid, server.auth_token), timeout=10)
    assert basic.status_code == 401
    for path in ("/SIP/Domains", "/Calls/v3:x", "/Nothing"):
        assert requests.get(base + path, headers=bearer, timeout=10).status_code == 404, path
    # A key of Telnyx's opens nothing of Twilio's.
    twilio = f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Calls.json"
    assert requests.get(twilio, headers=bearer, timeout=10).status_code == 401
    with pytest.raises(telnyx.UnprocessableEntityError):
        client.texml.secrets(name="a", value="b")
