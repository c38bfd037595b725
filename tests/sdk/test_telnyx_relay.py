"""Telnyx's Conversation Relay with its SDK as it is: by command, with an answer, and by a document."""

import numpy
import pytest

from harness.audio import RATE, chatter
from harness.models import Engines
from harness.party import Party
from harness.phone import caller
from harness.telnyx_app import NUMBER, TEXML_NUMBER, called_party, serve, texml_number

HELLO = "Welcome to the demo."
# The members of the published first message.
SETUP = {
    "type", "sessionId", "accountSid", "callSid", "callControlId", "callSessionId", "callLegId", "from", "to", "direction",
    "callerName", "callStatus", "customParameters",
}


@pytest.fixture(scope="module")
def engines():
    engines = Engines()
    yield engines
    engines.stop()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, engines):
    yield from serve(start_tandem, module_webapp, f"""{texml_number(module_webapp)}
{engines.speech}""")


@pytest.fixture
def app(server, engines):
    engines.forget()
    app = server.telnyx_app
    yield app
    assert not app.refused


@pytest.fixture
def called(app, phone, rtp):
    return called_party(app, phone, rtp)


def speak(party, engines, after, words):
    engines.ears.hears = lambda samples: words
    engines.voice.wait_until_heard(party.rtp, after)
    party.rtp.play(numpy.zeros(int(RATE * (engines.voice.seconds_of(after) + 0.5))))
    party.rtp.play(numpy.concatenate([chatter(1.0), numpy.zeros(RATE // 2)]))


def test_a_command_starts_a_conversation_relay_and_the_application_ends_it(app, called, engines, socketapp):
    begun = app.actions.start_conversation_relay(
        called.leg, url=f"{socketapp.url}/relay", greeting=HELLO, dtmf_detection=True, language="en-US",
        interruptible="none", interruptible_greeting="none", voice="Telnyx.Natural.abbie", tts_provider="telnyx",
        voice_settings={"type": "telnyx"}, transcription_engine="Deepgram",
        transcription_engine_config={"transcription_model": "deepgram/nova-3"}, custom_parameters={"customer_id": "customer_123"},
    )
    assert begun.data.result == "ok"
    socket = socketapp.take()
    (setup,) = socket.wait("setup")
    assert set(setup) - {"at"} == SETUP
    assert (setup["sessionId"], setup["callControlId"]) == (begun.data.conversation_relay_id, called.leg)
    assert (setup["callStatus"], setup["direction"]) == ("active", "outbound")
    assert setup["customParameters"] == {"customer_id": "customer_123"}
    speak(called, engines, HELLO, "I want a bicycle.")
    (prompt,) = socket.wait("prompt", where=lambda one: one["last"])
    assert (prompt["voicePrompt"], prompt["lang"]) == ("I want a bicycle.", "en-US")
    called.rtp.press("4")
    assert socket.wait("dtmf")[0]["digit"] == "4"
    socket.send(type="text", token="Which ", last=False)
    socket.send(type="text", token="colour?", last=True)
    engines.voice.wait_until_heard(called.rtp, "Which colour?")
    socket.send(type="dance")
    assert socket.wait("error")[0]["description"] == "Invalid message: unknown type: dance"
    socket.send(type="end", handoffData='{"reason":"caller_done"}')
    ended = app.wait("call.conversation.ended", called.leg)
    assert (ended["reason"], ended["conversation_id"]) == ("customer_disconnect", begun.data.conversation_relay_id)
    # The call goes on.
    app.actions.speak(called.leg, payload="Goodbye then.", voice="female")
    engines.voice.wait_until_heard(called.rtp, "Goodbye then.")
    app.actions.hangup(called.leg)
    called.phone.finish()


def test_a_conversation_relay_is_stopped_by_command_or_by_the_close_of_its_socket(app, called, engines, socketapp):
    app.actions.start_conversation_relay(called.leg, url=f"{socketapp.url}/relay")
    socketapp.take().wait("setup")
    app.actions.stop_conversation_relay(called.leg)
    assert app.wait("call.conversation.ended", called.leg)["reason"] == "customer_disconnect"
    app.actions.start_conversation_relay(called.leg, conversation_relay_settings={"url": f"{socketapp.url}/again"})
    socket = socketapp.take()
    socket.wait("setup")
    socket.close()
    app.wait("call.conversation.ended", called.leg, count=2)
    app.actions.hangup(called.leg)
    called.phone.finish()


def test_an_answer_starts_the_conversation_relay_of_its_configuration(app, server, phone, rtp, engines, socketapp):
    party = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    party.leg = app.wait("call.initiated", direction="incoming", state="parked")["call_control_id"]
    config = {"url": f"{socketapp.url}/relay", "greeting": HELLO, "custom_parameters": {"a": "b"}}
    app.actions.answer(party.leg, conversation_relay_config=config)
    (setup,) = socketapp.take().wait("setup")
    assert (setup["callControlId"], setup["customParameters"], setup["direction"]) == (party.leg, {"a": "b"}, "inbound")
    engines.voice.wait_until_heard(party.rtp, HELLO)
    app.actions.hangup(party.leg)
    party.phone.finish()


def document(body):
    return f"<Response>{body}</Response>", 200, {"Content-Type": "text/xml"}


def test_a_document_connects_a_call_with_a_conversation_relay(app, server, module_webapp, phone, rtp, engines, socketapp):
    module_webapp.on("/voice", document(
        f"<Connect action='/after'><ConversationRelay url='{socketapp.url}/relay' welcomeGreeting='{HELLO}' "
        "voice='Telnyx.Natural.abbie' language='en' transcriptionProvider='deepgram' dtmfDetection='true'>"
        "<Language code='fr' voice='Telnyx.NaturalHD.astra' transcriptionProvider='google'/>"
        "<Parameter name='customer_id' value='customer_123'/></ConversationRelay></Connect>"
    ))
    module_webapp.on("/after", document("<Hangup/>"))
    party = Party(phone, rtp, caller(TEXML_NUMBER, ends="wait"), target=server.sip)
    socket = socketapp.take()
    (setup,) = socket.wait("setup")
    assert set(setup) - {"at"} == SETUP and setup["customParameters"] == {"customer_id": "customer_123"}
    assert setup["callSid"] == setup["callControlId"]
    engines.voice.wait_until_heard(party.rtp, HELLO)
    socket.send(type="end", handoffData="done")
    (after,) = module_webapp.wait("/after")
    assert (after["CallSid"], after["SessionId"], after["HandoffData"]) == (setup["callSid"], setup["sessionId"], "done")
    party.phone.finish()
