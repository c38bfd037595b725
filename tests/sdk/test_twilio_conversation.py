"""ConversationRelay: a caller speaks and presses keys, an application answers with tokens, and either cuts the other short."""

import json
import re

import pytest
import requests
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, VoiceResponse

from harness.audio import speech
from harness.phone import caller, until_told
from harness.waiting import wait_for
from harness.webapp import WebApp
from twilio_app import client, number, twiml

STORY = (
    "Once upon a time there was a very long story. It went on and on without any end in sight. "
    "Nobody knew who had begun it. Nobody knew how it would end. And so it was told for ever."
)


@pytest.fixture(scope="module")
def recogniser():
    """An engine that takes files, as OpenAI's API has it: `recogniser.words` are what it hears, one utterance after another."""
    app = WebApp()
    app.words = []

    def hear():
        return {"text": app.words.pop(0) if app.words else ""}

    app.on("/v1/audio/transcriptions", hear)
    yield app
    app.stop()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, recogniser):
    more = f'status_callback = "{module_webapp.url}/status"\n'
    stt = f'[speech]\nstt = "{recogniser.url}/v1/audio/transcriptions"\n'
    return start_tandem(number("6*", module_webapp, "/voice", more) + stt)


@pytest.fixture
def talk(server, app, socketapp, phone, rtp):
    """Calls a number that leads to the application: talk(attributes...) gives the phone, its audio and the socket."""

    def start(children=lambda noun: None, ends="wait", **attributes):
        def voice():
            response = VoiceResponse()
            connect = Connect(action="/after")
            noun = connect.conversation_relay(url=f"{socketapp.url}/relay?who=me", **attributes)
            children(noun)
            response.append(connect)
            return twiml(response)

        app.on("/voice", voice)
        app.on("/after", twiml("<Response><Hangup/></Response>"))
        media = rtp()
        steps = until_told() if ends == "bye" else ""
        handset = phone(caller("600", steps, ends=ends), target=server.sip, media=media)
        socket = socketapp.take()
        return handset, media, socket

    return start


def ended_by_application(app):
    (after,) = app.wait("/after")
    return after


def test_a_caller_and_an_application_have_a_conversation(server, app, talk, recogniser):
    recogniser.words[:] = ["I would like to order a pizza."]
    handset, media, socket = talk(
        children=lambda noun: noun.parameter(name="callReference", value="bar"),
        welcome_greeting="Hello, dear caller. What can I do for you?",
        dtmf_detection=True,
        debug="speaker-events tokens-played",
    )
    signature = socket.headers["X-Twilio-Signature"]
    url = f"ws://{socket.headers['Host']}{socket.path}"
    assert url.endswith("/relay?who=me")
    assert RequestValidator(server.auth_token).validate(url, {}, signature)
    assert "Origin" not in socket.headers

    (setup,) = socket.wait("setup")
    (asked,) = app.wait("/voice")
    assert setup["sessionId"].startswith("VX") and len(setup["sessionId"]) == 34
    expected = {
        "accountSid": server.account_sid, "callSid": asked["CallSid"], "parentCallSid": "", "from": asked["From"],
        "to": asked["To"], "forwardedFrom": "", "callerName": "", "direction": "inbound", "callStatus": "RINGING",
        "customParameters": {"callReference": "bar"},
    }
    assert {name: setup[name] for name in expected} == expected

    # The greeting is heard, to its end.
    media.wait_for_sound()
    played = socket.wait("info", 2, where=lambda one: one["name"] == "tokensPlayed")
    assert "".join(one["value"] for one in played) == "Hello, dear caller.What can I do for you?"
    assert [one["value"] for one in socket.wait("info", 2, where=lambda one: one["name"] == "agentSpeaking")] == ["on", "off"]

    # The caller speaks.
    media.play(speech(2))
    (prompt,) = socket.wait("prompt")
    assert (prompt["voicePrompt"], prompt["lang"], prompt["last"]) == ("I would like to order a pizza.", "en-US", True)
    media.press("42")
    assert [one["digit"] for one in socket.wait("dtmf", 2)] == ["4", "2"]

    # The application answers by tokens.
    before = len(media.heard())
    for token in ["All", " right", ". One", " pizza", " is", " coming."]:
        socket.send(type="text", token=token, last=False)
    socket.send(type="text", token="", last=True)
    media.wait_for_sound()
    socket.wait("info", 4, where=lambda one: one["name"] == "tokensPlayed")
    assert len(media.heard()) > before + 8000, "about two seconds of it"

    # Keys are sent in their turn.
    socket.send(type="sendDigits", digits="1w2")
    media.wait("the keys", lambda: media.keys == "12")

    socket.send(type="end", handoffData=json.dumps({"reason": "live agent"}))
    assert socket.wait_closed() == (1000, "Closing websocket session")
    after = ended_by_application(app)
    assert (after["SessionStatus"], after["SessionId"], after["CallStatus"]) == ("ended", setup["sessionId"], "in-progress")
    assert json.loads(after["HandoffData"]) == {"reason": "live agent"}
    assert int(after["SessionDuration"]) >= 3
    assert "ErrorCode" not in after.form


def story(server, app):
    """The JSON lines of the call's log that tell of speech: text and figures of each."""
    call_sid = app.to("/voice")[-1]["CallSid"]
    url = f"{server.http}/console/sessions/{call_sid}/events"
    lines = requests.get(url, auth=(server.account_sid, server.auth_token), timeout=10).json()
    return [(line["text"], line.get("data")) for line in lines if line["kind"] == "speech"]


def test_the_log_of_a_call_shows_the_conversation_and_the_duration_of_its_turns(server, app, talk, recogniser):
    recogniser.words[:] = ["I would like to order a pizza."]
    handset, media, socket = talk(welcome_greeting="Hello, dear caller.", debug="tokens-played")
    (setup,) = socket.wait("setup")
    socket.wait("info", where=lambda one: one["name"] == "tokensPlayed")
    media.play(speech(2))
    socket.wait("prompt")
    socket.send(type="text", token="One pizza is coming.", last=True)
    socket.wait("info", 2, where=lambda one: one["name"] == "tokensPlayed")
    socket.send(type="end")
    ended_by_application(app)

    def told():
        lines = story(server, app)
        return lines if lines and lines[-1][1]["event"] == "conversation" else None

    lines = wait_for("the end of the conversation in the call's log", told)
    assert [data["event"] for _, data in lines] == ["said", "heard", "turn", "said", "conversation"]
    assert [text for text, _ in lines[:2]] == ['said "Hello, dear caller."', 'heard "I would like to order a pizza."']
    assert lines[3][0] == 'said "One pizza is coming."'
    turn = lines[2][1]
    assert 0 <= turn["words_ms"] <= turn["token_ms"] <= turn["audio_ms"] < 10_000
    text, totals = lines[4]
    assert text.startswith(f"conversation {setup['sessionId']}: 1 turn, 0 interruptions, end of speech to first audio ")
    assert (totals["turns"], totals["audio_ms_max"]) == (1, turn["audio_ms"])

    metrics = requests.get(f"{server.http}/metrics", timeout=10).text
    counts = dict(re.findall(r'tandem_turn_seconds_count{kind="conversation",until="(\w+)"} (\d+)', metrics))
    assert set(counts) == {"words", "token", "audio"} and all(int(count) >= 1 for count in counts.values())


def test_speech_interrupts_the_application(app, talk, recogniser):
    recogniser.words[:] = ["Stop it."]
    handset, media, socket = talk(ends="bye")
    socket.wait("setup")
    socket.send(type="text", token=STORY, last=True)
    media.wait_for_sound()
    media.wait_for_more(1.5)  # The caller hears a part of the story.
    media.play(speech(1.5))
    (interrupt,) = socket.wait("interrupt")
    heard = interrupt["utteranceUntilInterrupt"]
    assert STORY.startswith(heard) and 0 < len(heard) < len(STORY) / 2, heard
    assert 1000 < interrupt["durationUntilInterruptMs"] < 5000
    (prompt,) = socket.wait("prompt")
    assert prompt["voicePrompt"] == "Stop it."
    # Nothing of the story is heard any more.
    wait_for("silence", lambda: len(set(media.heard(last=4000))) <= 4)
    handset.hang_up()
    (after,) = app.wait("/after")
    assert (after["SessionStatus"], after["CallStatus"]) == ("completed", "completed")
    assert "HandoffData" not in after.form
    assert socket.wait_closed() == (1000, "Closing websocket session")
    assert app.wait("/status")[0]["CallStatus"] == "completed"


def test_a_digit_interrupts_the_application_with_interruptible_dtmf(app, talk, recogniser):
    recogniser.words[:] = ["I am not heard."]
    handset, media, socket = talk(interruptible="dtmf", dtmf_detection=True)
    socket.wait("setup")
    socket.send(type="text", token=STORY, last=True)
    media.wait_for_sound()
    media.play(speech(1))
    media.press("7")
    (interrupt,) = socket.wait("interrupt")
    assert interrupt["durationUntilInterruptMs"] > 900
    (key,) = socket.wait("dtmf")
    assert key["digit"] == "7" and key["at"] >= interrupt["at"]
    assert not socket.of("prompt")
    socket.send(type="end")
    assert ended_by_application(app)["SessionStatus"] == "ended"
    handset.finish()


def test_invalid_messages_get_an_error_and_the_tenth_in_a_row_ends_the_conversation(app, talk):
    handset, media, socket = talk()
    socket.wait("setup")
    for count in range(1, 10):
        socket.send_raw("nonsense")
        socket.wait("error", count)
    socket.send(type="text", token="Sorry.", last=True)
    for count in range(10, 20):
        socket.send(type="dance")
        errors = socket.wait("error", count)
    assert errors[0]["description"] == "Invalid message received, code: 64107, nonsense"
    assert socket.wait_closed() == (1007, "Too many consecutive malformed messages.")
    after = ended_by_application(app)
    assert (after["SessionStatus"], after["ErrorCode"], after["ErrorMessage"]) == ("failed", "64105", "Websocket ended")
    handset.finish()


def test_a_lost_or_unreachable_application_ends_the_conversation_and_the_action_runs(app, talk, server, phone, socketapp):
    handset, media, socket = talk()
    socket.wait("setup")
    socket.drop()
    after = ended_by_application(app)
    assert (after["SessionStatus"], after["ErrorCode"], after["CallStatus"]) == ("failed", "64105", "in-progress")
    handset.finish()
    app.forget()
    app.on("/status")
    app.on("/after", twiml("<Response><Hangup/></Response>"))

    def nobody():
        connect = Connect(action="/after")
        connect.conversation_relay(url="ws://127.0.0.1:9/")
        return twiml(f"<Response>{connect}</Response>")

    app.on("/voice", nobody)
    phone(caller("600", ends="wait"), target=server.sip).finish()
    after = ended_by_application(app)
    assert (after["SessionStatus"], after["ErrorCode"]) == ("failed", "64102")


def test_the_action_can_start_another_conversation_and_a_request_can_end_it(app, talk, server, socketapp):
    handset, media, socket = talk()
    (first,) = socket.wait("setup")
    app.on("/after", lambda: app._answers["/voice"]())
    socket.send(type="end")
    again = socketapp.take()
    (setup,) = again.wait("setup")
    assert (setup["callStatus"], setup["callSid"]) == ("IN_PROGRESS", first["callSid"])
    assert setup["sessionId"] != first["sessionId"]
    client(server).calls(first["callSid"]).update(twiml="<Response><Hangup/></Response>")
    assert again.wait_closed() == (1000, "Closing websocket session")
    assert app.wait("/status")[0]["CallStatus"] == "completed"
    assert len(app.to("/after")) == 1
