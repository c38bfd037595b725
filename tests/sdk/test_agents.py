"""Voice agents: a caller on a SIP phone talks with a language model, through engines that a test can script."""

import time

import numpy as np
import pytest
import requests

from harness.audio import RATE, chatter
from harness.models import ChatModel, SpeechToText, TextToSpeech
from harness.phone import callee, caller, free_port, until_told
from harness.waiting import wait_for
from harness.webapp import WebApp

SILENCE = np.zeros(RATE // 2)
HELLO = "Good morning, this is the reception."


class Engines:
    """A model, ears and a voice."""

    def __init__(self):
        self.model, self.ears, self.voice = ChatModel(), SpeechToText(), TextToSpeech()

    def forget(self):
        """Back to how they began."""
        for one in (self.model, self.ears, self.voice):
            one.fault.kind = None
        self.model.asked.clear()
        self.ears.asked.clear()
        self.model.style, self.model.dropped = set(), 0

    def stop(self):
        for one in (self.model, self.ears, self.voice):
            one.stop()


@pytest.fixture(scope="module")
def engines():
    all_three = Engines()
    yield all_three
    all_three.stop()


@pytest.fixture(scope="module")
def tool():
    app = WebApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def colleague_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, engines, tool, colleague_port):
    return start_tandem(f"""
[speech]
tts = "{engines.voice.url}/v1/audio/speech"
stt = "{engines.ears.url}/v1/audio/transcriptions"
timeout_seconds = 20
[[trunks]]
name = "carrier"
account = "acme"
uri = "sip:127.0.0.1:{colleague_port}"
inbound_from = ["127.0.0.0/8"]
prefixes = ["+"]
[[numbers]]
number = "700"
account = "acme"
agent = "reception"
[[numbers]]
number = "701"
account = "acme"
agent = "alone"
[[agents]]
name = "reception"
prompt = "You answer the phone."
first_message = "{HELLO}"
fallback = "+15551230099"
model = {{ url = "{engines.model.url}/v1", name = "m", timeout_seconds = 2 }}
tools = ["hang_up", "send_digits", {{ name = "transfer", to = {{ sales = "+15551230001" }} }},
  {{ name = "order_status", description = "The state of an order", url = "{tool.url}/order", method = "GET", parameters = {{ number = {{ type = "integer" }} }} }}]
[[agents]]
name = "alone"
prompt = "You answer the phone."
silence_seconds = 2
silence_prompts = 1
model = {{ url = "{engines.model.url}/v1" }}
""")


@pytest.fixture
def call(server, engines, phone, rtp):
    """Calls the agent: call() gives the phone and its audio."""
    engines.forget()

    def start(number="700", ends="bye"):
        media = rtp()
        handset = phone(caller(number, until_told() if ends == "bye" else "", ends=ends), target=server.sip, media=media)
        media.wait("the call", lambda: media._remote)
        return handset, media

    return start


def say(media, seconds=1.0):
    """Somebody speaks for so long, and is silent then."""
    media.play(np.concatenate([chatter(seconds), SILENCE]))


def asked(engines):
    """What the model was asked last, a line a message."""
    wait_for("a question to the model", lambda: engines.model.asked)
    return [f"{one['role']}: {one['content']}" for one in engines.model.asked[-1]["messages"]]


def log(server, kind="speech"):
    """The last call's lines."""
    answer = requests.get(f"{server.http}/console/sessions/last/events", auth=(server.account_sid, server.auth_token))
    return [line for line in answer.json() if line["kind"] == kind]


def test_a_caller_talks_with_an_agent(server, engines, call):
    engines.ears.hears = lambda samples: "What are your hours?" if len(samples) < 1.8 * RATE else "And on Sunday, please?"
    answers = {"What are your hours?": "We open at nine.", "And on Sunday, please?": "We are **closed** on Sunday."}
    engines.model.answer = lambda messages: answers[messages[-1]["content"]]
    handset, media = call()
    engines.voice.wait_until_heard(media, HELLO)
    time.sleep(0.5)
    say(media, 0.8)
    engines.voice.wait_until_heard(media, "We open at nine.")
    media.play(SILENCE)
    say(media, 2.0)
    engines.voice.wait_until_heard(media, "We are closed on Sunday.")
    assert asked(engines) == [
        "system: You answer the phone.",
        f"assistant: {HELLO}",
        "user: What are your hours?",
        "assistant: We open at nine.",
        "user: And on Sunday, please?",
    ]
    assert engines.model.asked[-1]["model"] == "m" and engines.model.asked[-1]["stream"] is True
    handset.hang_up()
    lines = [line["text"] for line in log(server)]
    assert 'heard "What are your hours?"' in lines and 'said "We open at nine."' in lines
    assert [line for line in lines if line.startswith("turn 2: from the end of speech ")], lines
