"""Voices over a WebSocket: a caller on a SIP phone hears each word of ElevenLabs, Cartesia and Deepgram, as it is made."""

import pytest
import requests
from twilio.twiml.voice_response import Connect, VoiceResponse

from harness.phone import caller
from harness.voices import KEY, KINDS, VOICE, StreamedVoice
from harness.waiting import wait_for
from twilio_app import number, twiml


@pytest.fixture(scope="module", params=list(KINDS))
def voice(request):
    one = StreamedVoice(request.param)
    yield one
    one.stop()
    assert one.wrong == []


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, voice):
    speech = f"""
[speech]
tts = "{voice.url}"
tts_key = "{KEY}"
tts_model = "a-model"
tts_voice = "{VOICE}"
tts_voices = {{}}
"""
    more = f'status_callback = "{module_webapp.url}/status"\n'
    return start_tandem(number("6*", module_webapp, "/voice", more) + speech)


@pytest.fixture
def talk(server, voice, app, socketapp, phone, rtp):
    """A caller whose application speaks by tokens: the caller's audio and the socket of the application."""
    voice.forget()
    response = VoiceResponse()
    connect = Connect(action="/after")
    connect.conversation_relay(url=f"{socketapp.url}/relay", dtmf_detection=True, interruptible="any")
    response.append(connect)
    app.on("/voice", twiml(response))
    app.on("/after", twiml("<Response><Hangup/></Response>"))
    media = rtp()
    phone(caller("600", "", ends="wait"), target=server.sip, media=media)
    socket = socketapp.take()
    socket.wait("setup")
    yield media, socket
    socket.send(type="end")
    app.wait("/after")


def errors(server, cause):
    """The messages of the errors with this cause."""
    url = f"{server.http}/console/errors?limit=100&cause={cause}"
    found = requests.get(url, auth=(server.account_sid, server.auth_token), timeout=10).json()["errors"]
    return [one["message"] for one in found]


def test_a_caller_hears_every_word_of_every_text_in_order(voice, talk):
    media, socket = talk
    socket.send(type="text", token="Good morning dear caller. We are open from nine until five.", last=True)
    voice.vocabulary.wait_until_heard(media, "good morning dear caller we are open from nine until five")
    socket.send(type="text", token="Is there anything else?", last=True)
    voice.vocabulary.wait_until_heard(media, "is there anything else")
    if voice.kind != "elevenlabs":
        assert voice.connections == 1, "one connection for a conversation"
    assert voice.cancelled == []


def test_words_are_heard_while_the_voice_still_makes_others_and_a_key_cancels_those(voice, talk):
    media, socket = talk
    voice.pace = 0.04
    story = "Once upon a time there was a story without any end."
    socket.send(type="text", token=story, last=True)
    voice.vocabulary.wait_until_heard(media, "once upon a time")
    assert voice.cancelled == [], "the voice is still at work"
    media.press("7")
    socket.wait("interrupt")
    wait_for("the end of the text", lambda: voice.cancelled)
    voice.pace = 0.0
    socket.send(type="text", token="Very well.", last=True)
    voice.vocabulary.wait_until_heard(media, "very well")
    heard = voice.vocabulary.heard(media.heard())
    assert "end" not in heard and heard[-2:] == ["very", "well"]


def test_a_voice_that_refuses_a_text_is_a_problem_of_the_call_and_the_text_is_spoken(server, voice, talk):
    media, socket = talk
    voice.fault = "refuse"
    socket.send(type="text", token="This sentence is heard in any case.", last=True)
    media.wait_for_sound()
    (message,) = wait_for("the problem", lambda: errors(server, "voice-replaced"))
    assert "credits" in message and KEY not in message, message
