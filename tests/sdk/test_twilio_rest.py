"""Calls made, watched, changed and removed by twilio-python's REST client, to SIPp phones."""

import socket
import time
from datetime import datetime, timedelta, timezone

import pytest
import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from harness.audio import RATE, is_heard, mp3_samples, read_wav, speech, write_capture
from harness.phone import callee, pause, play, ringing_callee
from harness.waiting import wait_for
from twilio_app import Elsewhere, assert_genuine, ended, twiml

FROM = "+15550001111"
EVENTS = ["initiated", "ringing", "answered", "completed"]


@pytest.fixture
def app(server, webapp):
    """A web application of which every request must be genuine."""
    webapp.on("/status")
    yield webapp
    if webapp.to():
        assert_genuine(server, webapp, bare=["/bare"])


def progress(app, count, path="/status"):
    """The status callbacks, once there are so many: their CallStatus, in order of arrival."""
    callbacks = app.wait(path, count)
    assert [one["SequenceNumber"] for one in callbacks] == [str(number) for number in range(count)]
    return [one["CallStatus"] for one in callbacks]


def test_the_account_can_be_fetched(server, twilio):
    account = twilio.api.accounts(server.account_sid).fetch()
    assert account.status == "active" and account.sid == server.account_sid


def test_a_call_is_created_fetched_redirected_ended_and_deleted_with_its_recording(
    twilio, app, phone, tmp_path
):
    spoken = speech(3)
    pcap = tmp_path / "spoken.pcap"
    write_capture(pcap, "     ", spoken)
    called = phone(callee(play(pcap)))
    app.on("/voice", lambda: twiml("<Response><Pause length='60'/></Response>"))
    app.on("/second", lambda: twiml("<Response><Say>Moved.</Say><Pause length='60'/></Response>"))
    app.on("/third", lambda: twiml("<Response><Pause length='60'/></Response>"))
    app.on("/recorded")

    created = twilio.calls.create(
        to=called.uri,
        from_=FROM,
        url=f"{app.url}/voice?to=phone&name=J%C3%BCrg",
        status_callback=f"{app.url}/status",
        status_callback_event=EVENTS,
        record=True,
        recording_channels="dual",
        trim="do-not-trim",
        recording_status_callback=f"{app.url}/recorded",
        recording_status_callback_event=["in-progress", "completed"],
    )
    assert created.sid.startswith("CA") and created.status == "queued" and created.direction == "outbound-api"
    assert created.date_created is None and created.start_time is None and created.duration is None
    assert created.to == called.uri and created._from == FROM

    (voice,) = app.wait("/voice")
    assert voice["CallSid"] == created.sid and voice["CallStatus"] == "in-progress"
    assert voice["Direction"] == "outbound-api" and voice.args == {"to": ["phone"], "name": ["Jürg"]}
    live = twilio.calls(created.sid).fetch()
    assert live.status == "in-progress" and live.start_time is not None and live.end_time is None
    with pytest.raises(TwilioRestException) as refused:
        live.delete()
    assert (refused.value.status, refused.value.code) == (400, 20009)

    assert live.update(url=f"{app.url}/second", method="GET").status == "in-progress"
    assert app.wait("/second")[0].method == "GET"
    document = VoiceResponse()
    document.redirect(f"{app.url}/third")
    live.update(twiml=str(document))
    assert app.wait("/third")[0]["CallSid"] == created.sid
    until = app.wait("/recorded")[0].at + len(spoken) / RATE + 1.5
    wait_for("the phone to have spoken", lambda: time.monotonic() > until)

    live.update(status="completed")
    called.finish()
    assert progress(app, 4) == ["initiated", "ringing", "in-progress", "completed"]
    last = app.to("/status")[-1]
    assert last["SipResponseCode"] == "200" and last["CallDuration"] == str(int(last["CallDuration"]))
    over = ended(twilio, created.sid)
    assert over.status == "completed" and over.duration == last["CallDuration"]
    assert over.start_time.tzinfo is not None and over.end_time >= over.start_time
    assert over.price_unit == "USD"

    begun, kept = app.wait("/recorded", 2)
    assert [begun["RecordingStatus"], kept["RecordingStatus"]] == ["in-progress", "completed"]
    for name in ("RecordingUrl", "RecordingSid", "RecordingDuration"):
        assert last[name] == kept[name]
    assert kept["RecordingSource"] == "OutboundAPI" and kept["RecordingChannels"] == "2"
    (recording,) = twilio.calls(created.sid).recordings.list()
    assert recording.sid == kept["RecordingSid"] and recording.status == "completed" and recording.channels == 2
    assert [one.sid for one in twilio.recordings.list(call_sid=created.sid)] == [recording.sid]
    fetched = twilio.recordings(recording.sid).fetch()
    assert fetched.duration == kept["RecordingDuration"] and fetched.source == "OutboundAPI"
    login = (twilio.username, twilio.password)
    wav = tmp_path / "call.wav"
    answer = requests.get(fetched.media_url + ".wav", auth=login, timeout=5)
    assert answer.status_code == 200
    wav.write_bytes(answer.content)
    heard, rate = read_wav(wav)
    assert rate == RATE and heard.shape[1] == 2 and is_heard(spoken, heard[:, 0])
    mp3 = requests.get(fetched.media_url + ".mp3", auth=login, timeout=5)
    assert mp3_samples(mp3.content) == len(heard)
    mono = requests.get(fetched.media_url + ".wav?RequestedChannels=1", auth=login, timeout=5)
    wav.write_bytes(mono.content)
    assert read_wav(wav)[0].shape == (len(heard), 1)

    assert recording.delete()
    with pytest.raises(TwilioRestException) as gone:
        twilio.recordings(recording.sid).fetch()
    assert (gone.value.status, gone.value.code) == (404, 20404)
    assert requests.get(fetched.media_url + ".wav", auth=login, timeout=5).status_code == 404
    assert twilio.calls(created.sid).recordings.list() == []
    assert over.delete()
    with pytest.raises(TwilioRestException) as gone:
        twilio.calls(created.sid).fetch()
    assert (gone.value.status, gone.value.code) == (404, 20404)


def test_lists_are_paged_limited_and_filtered(twilio, phone):
    called = phone(callee(), calls=5)
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    made = [
        twilio.calls.create(to=called.uri, from_=FROM, twiml="<Response><Hangup/></Response>").sid for _ in range(5)
    ]
    called.finish()
    for sid in made:
        ended(twilio, sid)
    newest_first = made[::-1]
    assert [call.sid for call in twilio.calls.list(to=called.uri, page_size=2)] == newest_first
    assert [call.sid for call in twilio.calls.list(to=called.uri, page_size=2, limit=3)] == newest_first[:3]
    assert [call.sid for call in twilio.calls.stream(to=called.uri, limit=4)] == newest_first[:4]
    first = twilio.calls.page(to=called.uri, page_size=2)
    second = first.next_page()
    third = second.next_page()
    assert [[call.sid for call in page] for page in (first, second, third)] == [
        newest_first[0:2],
        newest_first[2:4],
        newest_first[4:],
    ]
    assert third.next_page() is None
    assert {call.sid for call in twilio.calls.list(status="completed", start_time_after=before)} >= set(made)
    assert twilio.calls.list(to=called.uri, status="busy") == []
    assert twilio.calls.list(to=called.uri, start_time_before=before) == []
    # More calls do not move what the next page holds.
    page = twilio.calls.page(to=called.uri, page_size=3)
    assert [call.sid for call in page] == newest_first[:3]
    another = phone(callee())
    twilio.calls.create(to=another.uri, from_=FROM, twiml="<Response><Hangup/></Response>")
    another.finish()
    assert [call.sid for call in page.next_page()] == newest_first[3:]


def test_a_ringing_call_is_canceled(twilio, app, phone):
    called = phone(ringing_callee())
    call = twilio.calls.create(
        to=called.uri,
        from_=FROM,
        url=f"{app.url}/voice",
        status_callback=f"{app.url}/status?kind=cancel",
        status_callback_event=EVENTS,
        status_callback_method="GET",
    )
    app.wait("/status", 2)
    assert twilio.calls(call.sid).fetch().status == "ringing"
    with pytest.raises(TwilioRestException) as refused:
        call.update(twiml="<Response/>")
    assert (refused.value.status, refused.value.code) == (400, 21220)
    call.update(status="canceled")
    called.finish()
    assert progress(app, 3) == ["initiated", "ringing", "canceled"]
    assert ended(twilio, call.sid).status == "canceled" and not app.to("/voice")
    assert all(request.method == "GET" and request.args["kind"] == ["cancel"] for request in app.to("/status"))


@pytest.mark.parametrize(
    ("reply", "status"), [("486 Busy Here", "busy"), ("480 Gone", "no-answer"), ("404 Not Found", "failed")]
)
def test_the_sip_response_decides_the_status_of_a_refused_call(twilio, app, phone, reply, status):
    called = phone(callee(reject=reply))
    call = twilio.calls.create(
        to=called.uri,
        from_=FROM,
        url=f"{app.url}/voice",
        status_callback=f"{app.url}/status",
        status_callback_event=EVENTS,
    )
    called.finish()
    assert progress(app, 2) == ["initiated", status]
    last = app.to("/status")[-1]
    assert last["SipResponseCode"] == reply[:3] and last["CallDuration"] == "0" and last["Duration"] == "0"
    over = ended(twilio, call.sid)
    assert over.status == status and over.start_time is None and over.duration in (None, "0")
    assert not app.to("/voice")


def test_a_call_that_rings_past_its_timeout_is_no_answer(twilio, app, phone):
    called = phone(ringing_callee())
    call = twilio.calls.create(
        to=called.uri, from_=FROM, url=f"{app.url}/voice", timeout=1, status_callback=f"{app.url}/status"
    )
    called.finish()
    # Without a list of events only the last one is told.
    assert progress(app, 1) == ["no-answer"]
    assert ended(twilio, call.sid).status == "no-answer"


def test_a_call_to_an_unreachable_address_fails(twilio, app):
    nowhere = "sip:nobody@127.0.0.1:9;transport=tcp"
    call = twilio.calls.create(to=nowhere, from_=FROM, url=f"{app.url}/voice", status_callback=f"{app.url}/status")
    assert progress(app, 1) == ["failed"]
    assert ended(twilio, call.sid).status == "failed"


@pytest.mark.parametrize("who", ["phone", "application"])
def test_the_recording_can_be_fetched_when_the_end_of_its_call_is_reported(twilio, app, phone, who):
    found = []

    def status():
        found.append(requests.get(app.to("/status")[-1]["RecordingUrl"], timeout=5).status_code)
        return "", 204

    called = phone(callee(pause(1200), ends="bye") if who == "phone" else callee())
    app.on("/status", status)
    document = "<Response><Say>And now.</Say></Response>" if who == "application" else "<Response><Pause length='60'/></Response>"
    app.on("/voice", lambda: twiml(document))
    call = twilio.calls.create(
        to=called.uri, from_=FROM, url=f"{app.url}/voice", record=True, status_callback=f"{app.url}/status"
    )
    called.finish()
    (last,) = app.wait("/status")
    wait_for("the answer", lambda: found)
    assert found == [200] and last["RecordingSid"] == twilio.calls(call.sid).recordings.list()[0].sid
    assert ended(twilio, call.sid).status == "completed"


def test_the_phone_hangs_up_during_speech(twilio, app, phone):
    called = phone(callee(pause(1000), ends="bye"))
    app.on("/voice", lambda: twiml(f"<Response><Say>{'And so on. ' * 50}</Say></Response>"))
    call = twilio.calls.create(
        to=called.uri, from_=FROM, url=f"{app.url}/voice", status_callback=f"{app.url}/status"
    )
    called.finish()
    assert progress(app, 1) == ["completed"]
    assert ended(twilio, call.sid).duration == "1"


@pytest.mark.parametrize("behavior", [None, "silence", "skip"])
def test_a_live_call_is_recorded_paused_and_stopped_by_request(twilio, app, phone, tmp_path, behavior):
    called = phone(callee())
    app.on("/recorded")
    app.on("/voice", lambda: twiml("<Response><Pause length='60'/></Response>"))
    call = twilio.calls.create(to=called.uri, from_=FROM, url=f"{app.url}/voice")
    app.wait("/voice")
    requests_took = []  # the times before and after each request

    def at(seconds, request):
        wait_for("its time", lambda: not requests_took or time.monotonic() >= requests_took[0][0] + seconds)
        before = time.monotonic()
        answer = request()
        requests_took.append((before, time.monotonic()))
        return answer

    begun = at(
        0,
        lambda: call.recordings.create(
            recording_status_callback=f"{app.url}/recorded", recording_status_callback_event=["completed"]
        ),
    )
    assert begun.status == "in-progress" and begun.source == "StartCallRecordingAPI" and begun.channels == 1
    pausing = {"pause_behavior": behavior} if behavior else {}
    assert at(0.375, lambda: call.recordings("Twilio.CURRENT").update(status="paused", **pausing)).status == "paused"
    with pytest.raises(TwilioRestException) as running:
        twilio.recordings(begun.sid).delete()
    assert running.value.status == 400
    assert at(1.125, lambda: call.recordings(begun.sid).update(status="in-progress")).status == "in-progress"
    assert at(1.5, lambda: call.recordings(begun.sid).update(status="stopped")).status == "stopped"
    (kept,) = app.wait("/recorded")
    assert kept["RecordingSid"] == begun.sid and kept["RecordingSource"] == "StartCallRecordingAPI"
    assert call.recordings(begun.sid).fetch().status == "completed"
    (tmp_path / "call.wav").write_bytes(requests.get(kept["RecordingUrl"], timeout=5).content)
    seconds = len(read_wav(tmp_path / "call.wav")[0]) / RATE
    began, paused, resumed, stopped = requests_took
    stretches = [(began, paused), (resumed, stopped)] if behavior == "skip" else [(began, stopped)]
    shortest = sum(end[0] - start[1] for start, end in stretches)
    longest = sum(end[1] - start[0] for start, end in stretches)
    assert shortest - 0.1 < seconds < longest + 0.1
    call.update(status="completed")
    called.finish()
    assert call.recordings(begun.sid).delete()


def test_the_fallback_url_of_a_call_or_of_its_update_is_requested_after_a_failed_document(twilio, app, phone):
    called = phone(callee())
    app.on("/e500", ("", 500))
    app.on("/first", lambda: twiml("<Response><Pause length='60'/></Response>"))
    app.on("/second", lambda: twiml("<Response><Hangup/></Response>"))
    call = twilio.calls.create(
        to=called.uri,
        from_=FROM,
        twiml=f"<Response><Redirect>{app.url}/e500</Redirect></Response>",
        fallback_url=f"{app.url}/first",
        fallback_method="GET",
        status_callback=f"{app.url}/status",
    )
    (first,) = app.wait("/first")
    assert first.method == "GET" and (first["ErrorCode"], first["ErrorUrl"]) == ("11200", f"{app.url}/e500")
    call.update(url=f"{app.url}/e500", fallback_url=f"{app.url}/second")
    called.finish()
    (second,) = app.wait("/second")
    assert second.method == "POST" and second["ErrorCode"] == "11200" and second["CallSid"] == call.sid
    assert progress(app, 1) == ["completed"]


def test_status_callbacks_follow_redirects_and_keep_their_parameters_only_with_307(twilio, app, phone):
    called = phone(callee())
    app.on("/status", lambda: ("", 307, {"Location": "/kept"}))
    app.on("/kept", lambda: ("", 302, {"Location": "/bare?a=b"}))
    app.on("/bare")
    hangup = "<Response><Hangup/></Response>"
    call = twilio.calls.create(to=called.uri, from_=FROM, twiml=hangup, status_callback=f"{app.url}/status")
    called.finish()
    (bare,), (kept,) = app.wait("/bare"), app.to("/kept")
    assert kept.method == "POST" and kept["CallSid"] == call.sid and kept["CallStatus"] == "completed"
    assert bare.method == "GET" and bare.args == {"a": ["b"]}


def test_a_stream_is_stopped_by_its_name(twilio, app, phone):
    called = phone(callee())
    app.on("/voice", lambda: twiml("<Response><Pause length='60'/></Response>"))
    app.on("/stream")
    call = twilio.calls.create(to=called.uri, from_=FROM, url=f"{app.url}/voice")
    app.wait("/voice")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Whoever is listening there never answers, so that the stream neither begins nor fails by itself.
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        begun = call.streams.create(url=url, name="my stream", status_callback=f"{app.url}/stream")
        with pytest.raises(TwilioRestException) as unknown:
            call.streams("another").update(status="stopped")
        assert (unknown.value.status, unknown.value.code) == (404, 20404)
        stopped = call.streams("my stream").update(status="stopped")
    assert (stopped.sid, stopped.name, stopped.status) == (begun.sid, "my stream", "stopped")
    assert app.wait("/stream", where=lambda one: one["StreamEvent"] == "stream-stopped")[0]["StreamSid"] == begun.sid
    call.update(status="completed")
    called.finish()


def test_invalid_requests_get_the_error_codes_of_the_api(server, twilio):
    def code(call):
        with pytest.raises(TwilioRestException) as refused:
            call()
        return refused.value.status, refused.value.code

    missing = "CA" + "0" * 32
    wrong = Client(server.account_sid, "not-the-token", http_client=Elsewhere(server.http))
    other = Client("AC" + "f" * 32, server.auth_token, http_client=Elsewhere(server.http))
    hangup = "<Response><Hangup/></Response>"
    assert code(lambda: wrong.calls.create(to=FROM, from_=FROM, twiml=hangup)) == (401, 20003)
    assert code(lambda: other.calls(missing).fetch()) == (401, 20003)
    assert code(lambda: twilio.calls(missing).fetch()) == (404, 20404)
    assert code(lambda: twilio.calls(missing).update(status="completed")) == (404, 20404)
    assert code(lambda: twilio.calls(missing).delete()) == (404, 20404)
    assert code(lambda: twilio.recordings("RE" + "0" * 32).fetch()) == (404, 20404)
    assert code(lambda: twilio.calls.create(to="no number", from_=FROM, twiml=hangup)) == (400, 21211)
    assert code(lambda: twilio.calls.create(to="sip:a@127.0.0.1", from_=FROM)) == (400, 21205)
    relative = "<Response><Redirect>/next</Redirect></Response>"
    assert code(lambda: twilio.calls.create(to="sip:a@127.0.0.1", from_=FROM, twiml=relative)) == (400, 15004)
    assert code(lambda: twilio.calls.create(to="sip:a@127.0.0.1", from_=FROM, twiml="<Response")) == (400, 12100)
    with pytest.raises(TwilioException, match="20007"):
        twilio.calls.page(page_size=2000)
