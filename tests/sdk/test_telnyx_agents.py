"""Telnyx's commands that have an agent talk with the caller, with its SDK as it is."""

import numpy
import pytest

from harness.audio import RATE, chatter
from harness.models import ChatModel, SpeechToText, TextToSpeech
from harness.telnyx_app import called_party, serve

HELLO = "Hello, can you tell me your age and where you live?"
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["age", "city"],
}


@pytest.fixture(scope="module")
def model():
    one = ChatModel()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def ears():
    one = SpeechToText()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def voice():
    one = TextToSpeech()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, model, ears, voice):
    yield from serve(start_tandem, module_webapp, f"""
[speech]
tts = "{voice.url}/v1/audio/speech"
stt = "{ears.url}/v1/audio/transcriptions"
[[agents]]
name = "reception"
prompt = "You answer the phone."
first_message = "Good morning."
silence_prompts = 0
model = {{ url = "{model.url}/v1" }}
""")


@pytest.fixture
def app(server):
    app = server.telnyx_app
    yield app
    assert not app.refused


@pytest.fixture
def called(app, phone, rtp):
    return called_party(app, phone, rtp)


def say(called, voice, after, seconds=1.0):
    """Hears a text out, then says something."""
    voice.wait_until_heard(called.rtp, after)
    called.rtp.play(numpy.zeros(int(RATE * (voice.seconds_of(after) + 0.5))))
    called.rtp.play(numpy.concatenate([chatter(seconds), numpy.zeros(RATE // 2)]))


def test_gather_using_ai_reports_the_values_and_the_message_history(app, called, model, ears, voice):
    model.asked.clear()
    ears.hears = lambda samples: "I am 29 and I live in Paris."
    model.answer = lambda messages: ("collected", {"age": 29, "city": "Paris"})
    begun = app.actions.gather_using_ai(
        called.leg, parameters=SCHEMA, greeting=HELLO, gather_ended_speech="Thank you.", send_message_history_updates=True,
        assistant={"instructions": "You ask for two things.", "model": "whatever"}, voice="Telnyx.KokoroTTS.af", language="en",
        message_history=[{"role": "assistant", "content": "Hello, what is your name?"}, {"role": "user", "content": "John."}],
    )
    assert begun.data.result == "ok" and begun.data.conversation_id
    say(called, voice, HELLO)
    voice.wait_until_heard(called.rtp, "Thank you.")
    ended = app.wait("call.ai_gather.ended", called.leg)
    assert (ended["status"], ended["result"]) == ("valid", {"age": 29, "city": "Paris"})
    assert ended["message_history"] == [
        {"role": "assistant", "content": HELLO},
        {"role": "user", "content": "I am 29 and I live in Paris."},
        {"role": "assistant", "content": "Thank you."},
    ]
    assert app.wait("call.ai_gather.message_history_updated", called.leg)["message_history"]
    told = [(one["role"], one["content"]) for one in model.asked[0]["messages"]]
    assert told[:3] == [("system", "You ask for two things."), ("assistant", "Hello, what is your name?"), ("user", "John.")]
    # The call goes on.
    app.actions.hangup(called.leg)
    called.phone.finish()


def test_a_silent_caller_gives_no_values_and_the_call_continues(app, called, voice):
    app.actions.gather_using_ai(called.leg, parameters=SCHEMA, greeting=HELLO, user_response_timeout_ms=1000)
    voice.wait_until_heard(called.rtp, HELLO)
    ended = app.wait("call.ai_gather.ended", called.leg)
    assert (ended["status"], ended["result"]) == ("invalid", {})
    assert ended["message_history"] == [{"role": "assistant", "content": HELLO}]
    app.actions.speak(called.leg, payload="Goodbye then.", voice="female")
    voice.wait_until_heard(called.rtp, "Goodbye then.")
    app.actions.hangup(called.leg)
    called.phone.finish()


def test_an_assistant_is_started_talks_and_is_stopped(app, called, model, ears, voice):
    model.asked.clear()
    ears.hears = lambda samples: "Are you open?"
    model.answer = lambda messages: "We are open."
    begun = app.actions.start_ai_assistant(
        called.leg, greeting="Hello {{name}}.",
        assistant={"id": "reception", "instructions": "You talk with {{name}}.", "dynamic_variables": {"name": "Ann"}},
    )
    say(called, voice, "Hello Ann.")
    voice.wait_until_heard(called.rtp, "We are open.")
    assert model.asked[0]["messages"][0]["content"] == "You talk with Ann."
    app.actions.stop_ai_assistant(called.leg)
    ended = app.wait("call.conversation.ended", called.leg)
    assert (ended["assistant_id"], ended["conversation_id"]) == ("reception", begun.data.conversation_id)
    app.actions.hangup(called.leg)
    called.phone.finish()


def test_an_assistant_without_an_id_is_the_only_configured_one_and_ends_with_the_call(app, called, voice):
    app.actions.start_ai_assistant(called.leg)
    voice.wait_until_heard(called.rtp, "Good morning.")
    app.actions.hangup(called.leg)
    ended = app.wait("call.conversation.ended", called.leg)
    assert ended["reason"] == "customer_disconnect" and ended["calling_party_type"] == "sip"
    called.phone.finish()
