"""Calls that come in and are answered by documents of twilio-python's VoiceResponse.

The caller speaks and presses keys over RTP; the SDK's RequestValidator judges every request that the server makes.
"""

import re
import sqlite3
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import flask
import pytest
import requests
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from harness.audio import RATE, is_heard, mp3_samples, read_wav, speech, without_silent_ends, write_capture
from harness.phone import callee, caller, pause, play
from harness.waiting import wait_for
from twilio_app import assert_genuine, client, number, twiml

NUMBERS = ["menu", "message", "exact", "broken", "apology", "cookies", "odd", "unknown", "dial", "busy", "get", "whisper", "silent", "beep"]


@pytest.fixture(scope="module")
def server(start_tandem, pages):
    """Each number's voice URL is /NUMBER/voice, and its status callback /NUMBER/status."""
    more = {
        "broken": f'fallback_url = "{pages.url}/broken/fallback?of=broken"\n',
        "get": 'voice_method = "GET"\nstatus_callback_method = "GET"\n',
        "odd": f'fallback_url = "{pages.url}/odd/fallback?a=1&a=2&name=J%C3%BCrg+B%20&empty=&b~c=%27!*%28"\n'
        'fallback_method = "GET"\n',
    }
    queries = {"get": "?x=1&y=%C3%A9t%C3%A9", "odd": "?q=a%2Fb&q=c+d&e="}
    resources = [
        number(
            name,
            pages,
            f"/{name}/voice{queries.get(name, '')}",
            f'status_callback = "{pages.url}/{name}/status{queries.get(name, "")}"\n' + more.get(name, ""),
        )
        for name in NUMBERS
    ]
    return start_tandem("".join(resources))


@pytest.fixture(autouse=True)
def every_request_is_genuine(server, pages):
    """For every test of this file."""
    yield
    assert_genuine(server, pages)


def log_of(server, call_sid):
    """Waits for the end of a call and returns the lines of its event log."""
    def rows():
        with sqlite3.connect(f"file:{server.data}/tandem.db?mode=ro", uri=True) as database:
            session = database.execute("SELECT session FROM calls WHERE id = ?", (call_sid[2:],)).fetchone()
            query = "SELECT 1 FROM events WHERE kind = 'log' AND session = ?"
            return session and database.execute(query, session).fetchone()

    wait_for("the call's log", rows)
    url = f"{server.http}/console/sessions/{call_sid}/events"
    answer = requests.get(url, auth=(server.account_sid, server.auth_token), timeout=10)
    assert answer.status_code == 200, answer.text
    return [line["text"] for line in answer.json()]


def test_a_menu_gathers_digits_during_a_prompt_and_continues_by_get_and_redirect(server, pages, phone, tmp_path):
    def voice():
        response = VoiceResponse()
        gather = Gather(num_digits=4, action="choice?step=1&who=J%C3%BCrg", method="GET", timeout=5)
        gather.say("Please enter the four digits of your account, followed by nothing at all.")
        response.append(gather)
        response.say("We did not hear anything.")
        return twiml(response)

    def choice():
        response = VoiceResponse()
        response.redirect("../menu/goodbye?after=choice", method="POST")
        return twiml(response)

    def goodbye():
        response = VoiceResponse()
        response.say("Goodbye.")
        response.hangup()
        return twiml(response)

    pages.on("/menu/voice", voice)
    pages.on("/menu/choice", choice)
    pages.on("/menu/goodbye", goodbye)
    pages.on("/menu/status")
    pcap = tmp_path / "keys.pcap"
    write_capture(pcap, " " * 6, "2*70", " " * 4)
    phone(caller("menu", play(pcap), ends="wait"), target=server.sip).finish()

    (first,) = pages.to("/menu/voice")
    assert first.method == "POST"
    assert first["CallStatus"] == "ringing" and first["Direction"] == "inbound"
    assert first["ApiVersion"] == "2010-04-01" and first["To"] == first["Called"] and first["From"] == first["Caller"]
    assert first["From"] == "+15550009999"
    assert first.headers["user-agent"] == "TwilioProxy/1.1"
    assert first.headers["i-twilio-idempotency-token"]
    assert first.headers["content-type"].startswith("application/x-www-form-urlencoded")
    (chosen,) = pages.to("/menu/choice")
    assert chosen.method == "GET" and not chosen.body
    assert chosen["Digits"] == "2*70" and chosen["msg"] == "Gather End" and chosen["FinishedOnKey"] == ""
    assert chosen["step"] == "1" and chosen["who"] == "Jürg" and chosen["CallStatus"] == "in-progress"
    (last,) = pages.to("/menu/goodbye")
    assert last.method == "POST" and last.args == {"after": ["choice"]} and last["CallSid"] == first["CallSid"]
    (status,) = pages.wait("/menu/status")
    assert status["CallStatus"] == "completed" and status["SequenceNumber"] == "0"
    assert status["CallbackSource"] == "call-progress-events" and status["CallSid"] == first["CallSid"]
    assert int(status["CallDuration"]) >= 1 and status["Duration"] == "1"
    assert parsedate_to_datetime(status["Timestamp"]).utcoffset().total_seconds() == 0


def test_a_recorded_message_has_the_callers_audio_and_can_be_fetched(server, pages, phone, tmp_path):
    spoken = without_silent_ends(speech(4))

    def voice():
        response = VoiceResponse()
        response.record(
            action="/message/recorded",
            finish_on_key="#",
            max_length=20,
            play_beep=True,
            recording_status_callback="kept?which=message",
            recording_status_callback_event="in-progress completed",
        )
        return twiml(response)

    pages.on("/message/voice", voice)
    pages.on("/message/recorded", lambda: twiml(VoiceResponse()))
    pages.on("/message/kept")
    pages.on("/message/status")
    pcap = tmp_path / "message.pcap"
    write_capture(pcap, " " * 18, spoken, "  #  ")
    phone(caller("message", play(pcap), ends="wait"), target=server.sip).finish()

    (recorded,) = pages.wait("/message/recorded")
    assert recorded["Digits"] == "#" and recorded["CallStatus"] == "in-progress"
    assert recorded["RecordingSid"] == recorded["RecordingUrl"].rsplit("/", 1)[1]
    begun, kept = pages.wait("/message/kept", 2)
    assert [begun["RecordingStatus"], kept["RecordingStatus"]] == ["in-progress", "completed"]
    assert kept["RecordingSource"] == "RecordVerb" and kept["RecordingChannels"] == "1" and kept["ErrorCode"] == "0"
    assert kept["RecordingUrl"] == recorded["RecordingUrl"] and kept.args == {"which": ["message"]}
    assert abs(int(kept["RecordingDuration"]) - len(spoken) / RATE) <= 1

    wav = tmp_path / "message.wav"
    wav.write_bytes(requests.get(kept["RecordingUrl"], timeout=5).content)
    heard, rate = read_wav(wav)
    assert rate == RATE and heard.shape[1] == 1
    assert is_heard(spoken, heard[:, 0])
    assert abs(len(heard) - len(spoken)) <= 0.040 * RATE
    mp3 = requests.get(kept["RecordingUrl"] + ".mp3", timeout=5)
    assert mp3.headers["content-type"] == "audio/mpeg"
    assert mp3_samples(mp3.content) == len(heard)
    found = client(server).recordings.list(call_sid=recorded["CallSid"])
    assert [one.sid for one in found] == [kept["RecordingSid"]] and found[0].source == "RecordVerb"


def test_an_untrimmed_recording_lasts_until_the_hangup(server, pages, phone, tmp_path):
    spoken = speech(3)
    pages.on(
        "/exact/voice",
        lambda: twiml(_recording(play_beep=False, trim="do-not-trim", action="recorded", timeout=0)),
    )
    pages.on("/exact/recorded", lambda: twiml(VoiceResponse()))
    pages.on("/exact/status")
    pcap = tmp_path / "spoken.pcap"
    milliseconds = write_capture(pcap, spoken)
    phone(caller("exact", play(pcap) + pause(milliseconds), ends="bye"), target=server.sip).finish()
    (recorded,) = pages.wait("/exact/recorded")
    assert recorded["Digits"] == "hangup" and recorded["CallStatus"] == "completed"
    wav = tmp_path / "exact.wav"
    wav.write_bytes(requests.get(recorded["RecordingUrl"], timeout=5).content)
    heard = read_wav(wav)[0][:, 0]
    assert is_heard(spoken, heard)
    assert abs(len(heard) - len(spoken)) <= 0.040 * RATE


def test_a_silent_recording_is_stored_and_reported_with_its_duration(server, pages, phone, tmp_path):
    pages.on(
        "/silent/voice",
        lambda: twiml(_recording(play_beep=False, timeout=2, action="recorded", recording_status_callback="kept")),
    )
    pages.on("/silent/recorded", lambda: twiml(VoiceResponse()))
    pages.on("/silent/kept")
    pages.on("/silent/status")
    pcap = tmp_path / "nothing.pcap"
    write_capture(pcap, " " * 40)
    phone(caller("silent", play(pcap), ends="wait"), target=server.sip).finish()
    (recorded,), (kept,) = pages.wait("/silent/recorded"), pages.wait("/silent/kept")
    assert recorded["RecordingDuration"] == "2" and recorded["Digits"] == ""
    assert kept["RecordingStatus"] == "completed" and kept["RecordingDuration"] == "2"
    assert requests.get(recorded["RecordingUrl"], timeout=5).status_code == 200


def test_a_hangup_before_the_recording_begins_is_reported(server, pages, phone):
    more = {"recording_status_callback": "kept", "recording_status_callback_event": "absent"}
    pages.on("/beep/voice", lambda: twiml(_recording(action="recorded", **more)))
    pages.on("/beep/recorded", lambda: twiml(VoiceResponse()))
    pages.on("/beep/kept")
    pages.on("/beep/status")
    phone(caller("beep", ends="bye"), target=server.sip).finish()
    (recorded,), (kept,) = pages.wait("/beep/recorded"), pages.wait("/beep/kept")
    assert recorded["RecordingDuration"] == "0" and recorded["Digits"] == "hangup"
    assert recorded["CallStatus"] == "completed" and kept["RecordingStatus"] == "absent"


def _recording(**attributes):
    response = VoiceResponse()
    response.record(**attributes)
    return response


def test_the_fallback_url_is_requested_after_a_500_of_the_voice_url(server, pages, phone):
    pages.on("/broken/voice", ("this is broken", 500))
    pages.on("/broken/fallback", lambda: twiml("<Response><Hangup/></Response>"))
    pages.on("/broken/status")
    phone(caller("broken", ends="wait"), target=server.sip).finish()
    (fallback,) = pages.to("/broken/fallback")
    assert fallback["ErrorCode"] == "11200" and fallback["ErrorUrl"] == f"{pages.url}/broken/voice"
    assert fallback.args == {"of": ["broken"]} and fallback["CallSid"] == pages.to("/broken/voice")[0]["CallSid"]
    assert pages.wait("/broken/status")[0]["CallStatus"] == "completed"


def test_without_a_fallback_the_caller_hears_an_apology_and_the_call_ends(server, pages, phone):
    pages.on("/apology/voice", ("this is broken", 500))
    pages.on("/apology/status")
    phone(caller("apology", ends="wait"), target=server.sip).finish()
    assert pages.wait("/apology/status")[0]["CallStatus"] == "completed"
    log = log_of(server, pages.to("/apology/voice")[0]["CallSid"])
    assert any(line.startswith("document failed") and "answered 500" in line for line in log), log
    # A second of words at least.
    assert int(re.search(r"(\d+) out", "\n".join(log))[1]) > 50, log


def test_cookies_last_for_one_call(server, pages, phone):
    def voice():
        flask.session["count"] = flask.session.get("count", 0) + 1
        response = VoiceResponse()
        if flask.session["count"] < 3:
            response.redirect("")
        else:
            response.redirect("/cookies/end")
        return twiml(response)

    counts = []

    def end():
        counts.append(flask.session.get("count"))
        return twiml(VoiceResponse())

    pages.on("/cookies/voice", voice)
    pages.on("/cookies/end", end)
    pages.on("/cookies/status")
    phone(caller("cookies", ends="wait"), target=server.sip, calls=2).finish()
    assert counts == [3, 3]
    assert len(pages.to("/cookies/voice")) == 6


def test_unusual_query_strings_are_requested_and_signed_unchanged(server, pages, phone):
    pages.on("/odd/voice", ("", 404))
    pages.on("/odd/fallback", lambda: twiml("<Response><Hangup/></Response>"))
    pages.on("/odd/status")
    phone(caller("odd", ends="wait"), target=server.sip).finish()
    (voice,), (fallback,) = pages.to("/odd/voice"), pages.to("/odd/fallback")
    assert urlsplit(voice.url).query == "q=a%2Fb&q=c+d&e="
    assert fallback.method == "GET"
    assert urlsplit(fallback.url).query.startswith("a=1&a=2&name=J%C3%BCrg+B%20&empty=&b~c=%27!*%28&")
    assert fallback.args["a"] == ["1", "2"] and fallback["ErrorCode"] == "11200"
    assert pages.wait("/odd/status")[0].args["q"] == ["a/b", "c d"]


def test_documents_and_callbacks_can_use_get(server, pages, phone):
    pages.on("/get/voice", lambda: twiml("<Response><Pause length='1'/></Response>"))
    pages.on("/get/status")
    phone(caller("get", ends="wait"), target=server.sip).finish()
    (voice,), (status,) = pages.to("/get/voice"), pages.wait("/get/status")
    for request in (voice, status):
        assert request.method == "GET" and not request.body
        assert request["x"] == "1" and request["y"] == "été"
    assert status["CallStatus"] == "completed" and status["CallSid"] == voice["CallSid"]


def test_an_unknown_verb_causes_a_warning_and_is_skipped(server, pages, phone, tmp_path):
    document = "<Response><Frobnicate/><Gather numDigits='1' sparkle='yes' action='/unknown/key'/></Response>"
    # Flask says text/html unless told otherwise.
    pages.on("/unknown/voice", document)
    pages.on("/unknown/key", "<Response><Hangup/></Response>")
    pages.on("/unknown/status")
    pcap = tmp_path / "key.pcap"
    write_capture(pcap, "    7  ")
    phone(caller("unknown", play(pcap), ends="wait"), target=server.sip).finish()
    assert pages.to("/unknown/key")[0]["Digits"] == "7"
    log = log_of(server, pages.to("/unknown/voice")[0]["CallSid"])
    assert any("12200" in line and "Frobnicate" in line for line in log), log
    assert any("12200" in line and "sparkle" in line for line in log), log


def test_dial_calls_a_phone_reports_its_progress_and_requests_the_action_url(server, pages, phone):
    called = phone(callee(pause(1200), ends="bye", answer_headers="X-Agent: 7"))

    def voice():
        response = VoiceResponse()
        dial = Dial(action="after", answer_on_bridge=True, record="record-from-answer-dual", caller_id="+15550001111")
        dial.sip(
            called.uri + "?X-Ticket=4711",
            status_callback="/dial/progress?leg=b",
            status_callback_event="initiated ringing answered completed",
        )
        response.append(dial)
        return twiml(response)

    pages.on("/dial/voice", voice)
    pages.on("/dial/after", lambda: twiml(VoiceResponse()))
    pages.on("/dial/progress")
    pages.on("/dial/status")
    phone(caller("dial", ends="wait"), target=server.sip).finish()
    called.finish()

    (first,), (after,) = pages.to("/dial/voice"), pages.wait("/dial/after")
    assert after["DialCallStatus"] == "completed" and after["DialBridged"] == "true"
    assert after["DialCallDuration"] == "1" and after["DialSipResponseCode"] == "200"
    assert after["RecordingUrl"].endswith(after["RecordingSid"])
    assert f"Call-ID: {after['DialSipCallId']}" in called.messages() and after["DialSipHeader_X-Agent"] == "7"
    progress = pages.wait("/dial/progress", 4)
    assert [one["CallStatus"] for one in progress] == ["initiated", "ringing", "in-progress", "completed"]
    assert [one["SequenceNumber"] for one in progress] == ["0", "1", "2", "3"]
    for one in progress:
        assert one["CallSid"] == after["DialCallSid"] and one["ParentCallSid"] == first["CallSid"]
        assert one["Direction"] == "outbound-dial" and one.args == {"leg": ["b"]}
        assert one["From"] == "+15550001111" and one["SipCallId"] == after["DialSipCallId"]
    assert "SipHeader_X-Agent" not in progress[0].form and progress[2]["SipHeader_X-Agent"] == "7"
    assert progress[3]["CallDuration"] == "1" and progress[3]["SipResponseCode"] == "200"
    assert "X-Ticket: 4711" in called.messages()
    assert pages.wait("/dial/status")[0]["CallStatus"] == "completed"
    twilio = client(server)
    assert [call.sid for call in twilio.calls.list(parent_call_sid=first["CallSid"])] == [after["DialCallSid"]]
    (recording,) = twilio.calls(first["CallSid"]).recordings.list()
    assert recording.source == "DialVerb" and recording.channels == 2


def test_a_dial_in_a_whisper_causes_a_warning_and_is_skipped(server, pages, phone):
    called = phone(callee(pause(1000), ends="bye"))
    inner = "<Dial action='/whisper/never'>+15557654321</Dial><Play digits='1'/>"
    pages.on("/whisper/voice", f"<Response><Dial action='/whisper/after'><Sip url='/whisper/first'>{called.uri}</Sip></Dial></Response>")
    pages.on("/whisper/first", f"<Response>{inner}</Response>")
    pages.on("/whisper/after", lambda: twiml(VoiceResponse()))
    pages.on("/whisper/status")
    phone(caller("whisper", ends="wait"), target=server.sip).finish()
    called.finish()
    (voice,), (after,) = pages.to("/whisper/voice"), pages.wait("/whisper/after")
    assert after["DialCallStatus"] == "completed" and after["DialBridged"] == "true"
    assert not pages.to("/whisper/never")
    log = log_of(server, voice["CallSid"])
    assert any(line.startswith("warning 13201") for line in log), log


def test_a_busy_phone_is_reported_and_the_document_continues(server, pages, phone):
    busy = phone(callee(reject="486 Busy Here"))

    def voice():
        response = VoiceResponse()
        response.dial(action="/busy/after").sip(busy.uri, status_callback="/busy/progress")
        return twiml(response)

    def after():
        response = VoiceResponse()
        response.reject()
        return twiml(response)

    pages.on("/busy/voice", voice)
    pages.on("/busy/after", after)
    pages.on("/busy/progress")
    pages.on("/busy/status")
    phone(caller("busy", ends="wait"), target=server.sip).finish()
    busy.finish()
    (result,) = pages.wait("/busy/after")
    assert result["DialCallStatus"] == "busy" and result["DialBridged"] == "false"
    assert result["DialSipResponseCode"] == "486"
    (progress,) = pages.wait("/busy/progress")
    assert progress["CallStatus"] == "busy" and progress["CallDuration"] == "0"
