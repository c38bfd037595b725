"""Speech: what callers say reaches the application, live, gathered and recorded; what it says is spoken by another engine."""

import json

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.twiml.voice_response import Gather, Start, VoiceResponse

from harness.audio import is_heard, speech, without_silent_ends, write_capture
from harness.engines import KEY
from harness.phone import caller, pause, play, until_told
from harness.rtp import share, tone
from harness.waiting import wait_for
from twilio_app import assert_genuine, client, number, twiml


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, engine):
    more = f"""
[speech]
tts = "{engine.url}/v1/audio/speech"
tts_key = "{KEY}"
stt = "{engine.url}/v1/audio/transcriptions"
stt_key = "{KEY}"
"""
    return start_tandem(number("6*", module_webapp, "/voice") + more)


@pytest.fixture(scope="module")
def live_server(start_tandem, module_webapp, live_engine):
    more = f'[speech]\nstt = "{live_engine.url}"\nstt_key = "{KEY}"\n'
    return start_tandem(number("6*", module_webapp, "/voice") + more)


@pytest.fixture
def app(module_webapp):
    """The web application, knowing nothing of earlier tests."""
    module_webapp.forget()
    yield module_webapp


def gather(app, more=None, **attributes):
    """`/voice` gathers for `/heard`, and else asks for `/nothing`."""
    response = VoiceResponse()
    one = Gather(action="/heard", **attributes)
    if more:
        more(one)
    response.append(one)
    response.redirect("/nothing")
    app.on("/voice", twiml(response))
    app.on("/heard", twiml("<Response><Hangup/></Response>"))
    app.on("/nothing", twiml("<Response><Hangup/></Response>"))


def test_gather_returns_recognised_speech_and_speech_stops_the_prompt(server, engine, app, phone, talk):
    engine.words, engine.asked[:] = ["I want to pay my bill."], []
    app.sound("/prompt.wav", speech(2))
    # Would go on for a quarter of an hour.
    gather(
        app, lambda g: g.play("/prompt.wav", loop=500), input="speech", speech_timeout=1, hints="bill, balance",
        language="en-GB", partial_result_callback="/partial",
    )
    app.on("/partial")
    phone(caller("600", talk[0], ends="wait"), target=server.sip).finish()
    (heard,) = app.to("/heard")
    assert heard["SpeechResult"] == "I want to pay my bill." and heard["CallStatus"] == "in-progress"
    assert 0.9 < float(heard["Confidence"]) < 0.91
    assert "Digits" not in heard.form
    (asked,) = engine.asked
    assert asked["language"] == "en" and asked["prompt"] == "bill, balance" and asked["model"] == "whisper-1"
    assert is_heard(speech(2), asked["file"])
    # An utterance is told when it is known, though more may come.
    (partial,) = app.to("/partial")
    assert partial["StableSpeechResult"] == "I want to pay my bill." and partial["SequenceNumber"] == "0"
    assert_genuine(server, app)


def test_digits_before_speech_win_and_silence_continues_the_document(server, engine, app, phone, tmp_path):
    engine.asked.clear()
    gather(app, input="dtmf speech", timeout=2, num_digits=2)
    write_capture(tmp_path / "keys.pcap", "  42 ")
    phone(caller("600", play(tmp_path / "keys.pcap"), ends="wait"), target=server.sip).finish()
    (heard,) = app.to("/heard")
    assert heard["Digits"] == "42" and "SpeechResult" not in heard.form
    gather(app, input="speech", timeout=1)
    phone(caller("600", ends="wait"), target=server.sip).finish()
    assert app.to("/nothing") and len(app.to("/heard")) == 1
    assert not engine.asked
    assert_genuine(server, app)


def test_a_recorded_message_is_transcribed(server, engine, app, phone, talk):
    engine.words, engine.asked[:] = ["Please call me back."], []
    app.on("/voice", twiml('<Response><Record transcribeCallback="/words" action="/done" maxLength="4"/></Response>'))
    app.on("/done", twiml("<Response><Hangup/></Response>"))
    app.on("/words")
    # It begins to speak behind the beep.
    phone(caller("600", pause(800) + talk[0], ends="wait"), target=server.sip).finish()
    (told,) = app.wait("/words")
    (done,) = app.to("/done")
    assert told["TranscriptionText"] == "Please call me back." and told["TranscriptionStatus"] == "completed"
    assert told["RecordingUrl"] == done["RecordingUrl"] and told["RecordingSid"] in done["RecordingUrl"]
    assert told["CallSid"] == done["CallSid"] and told["From"] == done["From"]
    (asked,) = engine.asked
    assert is_heard(speech(2), asked["file"])
    sdk = client(server)
    found = sdk.transcriptions(told["TranscriptionSid"]).fetch()
    assert (found.status, found.transcription_text) == ("completed", "Please call me back.")
    assert found.recording_sid == told["RecordingSid"] and found.type == "fast" and int(found.duration) >= 2
    assert [one.sid for one in sdk.recordings(found.recording_sid).transcriptions.list()] == [found.sid]
    assert sdk.recordings(found.recording_sid).transcriptions(found.sid).fetch().date_created is not None
    assert found.sid in [one.sid for one in sdk.transcriptions.list(limit=20)]
    assert sdk.transcriptions(found.sid).delete()
    with pytest.raises(TwilioRestException) as gone:
        sdk.transcriptions(found.sid).fetch()
    assert (gone.value.status, gone.value.code) == (404, 20404)
    assert_genuine(server, app)


def test_another_speech_engine_synthesises_the_text(server, engine, app, phone, rtp):
    engine.said.clear()
    app.on("/voice", twiml('<Response><Say voice="man">Good day.</Say></Response>'))
    heard = rtp()
    phone(caller("600", ends="wait"), target=server.sip, media=heard).finish()
    assert engine.said == [{"model": "tts-1", "input": "Good day.", "voice": "onyx", "response_format": "wav"}]
    assert share(without_silent_ends(heard.heard()), 1_000) > 0.9, "its tone is heard"


def test_without_a_recognition_engine_gather_gets_no_speech_and_the_log_has_the_reason(start_tandem, app, phone, talk):
    server = start_tandem(number("6*", app, "/voice"))
    gather(app, input="speech", timeout=1)
    phone(caller("600", talk[0], ends="wait"), target=server.sip).finish()
    assert app.to("/nothing") and not app.to("/heard")
    assert "speech to text is off" in server.log()
    app.on("/voice", twiml('<Response><Record transcribeCallback="/words" action="/done" maxLength="1"/></Response>'))
    app.on("/done", twiml("<Response><Hangup/></Response>"))
    app.on("/words")
    phone(caller("600", talk[0], ends="wait"), target=server.sip).finish()
    (told,) = app.wait("/words")
    assert told["TranscriptionStatus"] == "failed" and told["TranscriptionText"] == ""
    assert client(server).transcriptions(told["TranscriptionSid"]).fetch().status == "failed"


def test_partial_results_arrive_in_order_before_the_final_one(live_server, live_engine, app, phone, talk):
    live_engine.sessions.clear()
    app.on("/partial")
    gather(app, input="speech", speech_timeout="auto", speech_model="deepgram_nova-2", partial_result_callback="/partial")
    phone(caller("600", talk[0], ends="wait"), target=live_server.sip).finish()
    (heard,) = app.to("/heard")
    assert heard["SpeechResult"] == "I want to pay my bill" and heard["Confidence"] == "0.9"
    # The callback with the whole words is not a part of the call: it may come after the call has ended.
    whole = lambda: [one for one in app.to("/partial") if one["StableSpeechResult"]]
    wait_for("the whole words", whole)
    partials = app.to("/partial")
    assert [one["SequenceNumber"] for one in partials] == [str(at) for at in range(len(partials))]
    texts = [one["UnstableSpeechResult"] for one in partials[:-1]]
    assert texts == ["I want to pay my bill".rsplit(" ", 6 - words)[0] for words in range(1, len(partials))]
    assert len(texts) >= 3 and partials[-1]["StableSpeechResult"] == heard["SpeechResult"]
    assert [one["CallSid"] for one in partials] == [heard["CallSid"]] * len(partials)
    (session,) = live_engine.sessions
    assert session["model"] == ["nova-2"] and session["language"] == ["en-US"] and session["encoding"] == ["mulaw"]
    assert_genuine(live_server, app)


def test_recognised_words_end_the_gather_without_detected_speech(live_server, live_engine, app, phone, tmp_path):
    gather(app, input="speech dtmf", timeout=5, num_digits=1)
    silence = tone(0, 1)
    write_capture(tmp_path / "whistle.pcap", silence, tone(2500, 1.5), *[silence] * 12)
    phone(caller("600", play(tmp_path / "whistle.pcap"), ends="wait"), target=live_server.sip).finish()
    (heard,) = app.to("/heard")
    assert heard["SpeechResult"] == "I want to pay my bill" and not app.to("/nothing")


def test_a_live_transcription_covers_both_tracks(live_server, app, phone, talk, tmp_path):
    app.sound("/agent.wav", speech(2))
    app.on("/words")
    response = VoiceResponse()
    start = Start()
    start.transcription(
        name="both", status_callback_url=f"{app.url}/words", partial_results=True, inbound_track_label="customer",
        outbound_track_label="agent", language_code="en-US", hints="bill",
    )
    response.append(start)
    response.play("/agent.wav")
    response.pause(30)
    app.on("/voice", twiml(response))
    dialled = phone(caller("600", talk[0] + until_told()), target=live_server.sip)
    is_final = lambda one: one.get("Final") == "true"
    both = app.wait("/words", 2, where=is_final)
    assert sorted(one["Track"] for one in both) == ["inbound_track", "outbound_track"]
    for one in both:
        assert json.loads(one["TranscriptionData"]) == {"transcript": "I want to pay my bill", "confidence": 0.9}
    sdk = client(live_server)
    call = sdk.calls(both[0]["CallSid"])
    # Another one, by request, only of what the caller says.
    second = call.transcriptions.create(name="second", track="inbound_track", status_callback_url=f"{app.url}/second")
    app.on("/second")
    assert second.sid.startswith("GT") and second.status == "in-progress" and second.name == "second"
    stopped = call.transcriptions("both").update(status="stopped")
    assert (stopped.sid, stopped.status) == (both[0]["TranscriptionSid"], "stopped")
    app.wait("/words", where=lambda one: one["TranscriptionEvent"] == "transcription-stopped")
    assert call.transcriptions(second.sid).update(status="stopped").status == "stopped"
    app.wait("/second", 2)
    told = app.to("/words")
    assert [one["SequenceId"] for one in told] == [str(at + 1) for at in range(len(told))]
    events = [one["TranscriptionEvent"].removeprefix("transcription-") for one in told]
    assert events[0] == "started" and events[-1] == "stopped" and set(events[1:-1]) == {"content"}
    assert any(one.get("Final") == "false" and one["Stability"] == "0.5" for one in told)
    started = told[0]
    assert started["Name"] == "both" and started["Track"] == "both_tracks" and started["PartialResults"] == "true"
    assert started["InboundTrackLabel"] == "customer" and started["OutboundTrackLabel"] == "agent"
    assert json.loads(started["ProviderConfiguration"])["hints"] == "bill"
    assert [one["TranscriptionEvent"] for one in app.to("/second")] == ["transcription-started", "transcription-stopped"]
    dialled.hang_up()
    assert_genuine(live_server, app)


def test_a_refusing_recognition_engine_is_reported_as_an_error(start_tandem, live_engine, app, phone):
    server = start_tandem(number("6*", app, "/voice") + f'[speech]\nstt = "{live_engine.url}"\nstt_key = "wrong"\n')
    app.on("/words")
    document = '<Response><Start><Transcription statusCallbackUrl="/words"/></Start><Pause length="2"/></Response>'
    app.on("/voice", twiml(document))
    phone(caller("600", ends="wait"), target=server.sip).finish()
    told = app.wait("/words", 2)
    assert [one["TranscriptionEvent"] for one in told] == ["transcription-started", "transcription-error"]
    assert "401" in told[1]["TranscriptionError"]
    unknown = wait_for("the call's end", lambda: client(server).calls.list(limit=1))[0]
    with pytest.raises(TwilioRestException) as refused:
        client(server).calls(unknown.sid).transcriptions.create()
    assert refused.value.status in (400, 404)
