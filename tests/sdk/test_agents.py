"""Voice agents: a caller on a SIP phone talks with a language model, through engines that a test can script."""


import time

import numpy as np
import pytest
import requests

from harness.audio import RATE, chatter
from harness.models import Engines
from harness.phone import callee, caller, free_port, until_told
from harness.resources import carrier
from harness.waiting import wait_for
from harness.webapp import WebApp

SILENCE = np.zeros(RATE // 2)
REPEAT = "Sorry, I did not catch that."
HELLO = "Good morning, this is the reception."


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
{engines.speech}timeout_seconds = 20
{carrier(colleague_port)}
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
        steps = until_told() if ends == "bye" else ""
        handset = phone(caller(number, steps, ends=ends), target=server.sip, media=media, seconds=120)
        media.wait("the call", lambda: media._remote)
        return handset, media

    return start


def say(media, seconds=1.0):
    """Somebody speaks for so long, and is silent then."""
    media.play(np.concatenate([chatter(seconds), SILENCE]))


def is_silent(media, seconds):
    """The caller listens for so long."""
    media.play(np.zeros(int(RATE * seconds)))


def hear_greeting(engines, media):
    """The caller lets the agent finish its greeting: whoever speaks earlier interrupts it."""
    engines.voice.wait_until_heard(media, HELLO)
    is_silent(media, engines.voice.seconds_of(HELLO) + 0.5)


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
    hear_greeting(engines, media)
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


STORY = "Once upon a time. " + "There was a very long story that went on and on without any end in sight. " * 6


def test_an_interruption_tells_the_model_the_text_that_the_caller_heard(server, engines, call):
    engines.ears.hears = lambda samples: "Stop it!" if engines.model.asked else "Tell me a story."
    engines.model.answer = lambda messages: STORY if "story" in messages[-1]["content"] else "I stop."
    handset, media = call()
    hear_greeting(engines, media)
    say(media, 1.6)
    engines.voice.wait_until_heard(media, "Once upon a time.")
    is_silent(media, 1.0)
    say(media, 0.7)
    engines.voice.wait_until_heard(media, "I stop.")
    # On a busy machine, the caller's words can come with a gap, as two utterances. So the story may be earlier than the last two messages.
    (story,) = (line for line in asked(engines) if "Once upon a time." in line)
    assert story.endswith(" — (interrupted by the caller)") and "Once upon a time." in story and len(story) < 300, story
    assert asked(engines)[-1] == "user: Stop it!"
    handset.hang_up()
    assert [line for line in log(server) if line["text"].startswith("interrupted by speech after")]


def test_words_of_agreement_and_a_cough_do_not_interrupt_the_agent(server, engines, call):
    words = {"story": "Tell me a story.", "mhm": "Mhm."}
    engines.ears.hears = lambda samples: words["mhm"] if engines.model.asked else words["story"]
    engines.model.answer = lambda messages: STORY + "That was all."
    handset, media = call()
    hear_greeting(engines, media)
    say(media, 1.8)
    engines.voice.wait_until_heard(media, "Once upon a time.")
    is_silent(media, 0.3)
    say(media, 0.5)
    words["mhm"] = ""
    say(media, 0.4)
    engines.voice.wait_until_heard(media, "That was all.", 30)
    assert len(engines.model.asked) == 1
    handset.hang_up()
    lines = [line["text"] for line in log(server)]
    assert 'heard "Mhm."; not sent to the application, which is speaking' in lines, lines
    assert not [line for line in lines if line.startswith("interrupted")], lines


def test_tools_run_and_the_caller_hears_their_results(server, engines, tool, call):
    tool.on("/order", {"state": "on its way"})
    engines.ears.hears = lambda samples: "Where is order seven?"

    def answer(messages):
        if messages[-1]["role"] == "tool":
            return f"It is {'on its way' if 'on its way' in messages[-1]['content'] else 'lost'}."
        return ["Let me look.", ("order_status", {"number": 7})]

    engines.model.answer = answer
    for style in [set(), {"whole", "crlf", "comments", "thinks", "reasoning", "no-done"}]:
        engines.forget()
        engines.model.style = style
        tool.forget()
        tool.on("/order", {"state": "on its way"})
        handset, media = call()
        engines.model.style = style
        hear_greeting(engines, media)
        say(media)
        engines.voice.wait_until_heard(media, "Let me look.")
        engines.voice.wait_until_heard(media, "It is on its way.")
        (request,) = tool.wait("/order")
        assert request.args["number"] in ("7", ["7"])
        described = engines.model.asked[0]["tools"]
        assert [one["function"]["name"] for one in described] == ["hang_up", "send_digits", "transfer", "order_status"]
        handset.hang_up()


def test_the_agent_hangs_up_after_its_last_words_were_played(server, engines, call):
    engines.ears.hears = lambda samples: "That is all, goodbye."
    engines.model.answer = lambda messages: ["Have a nice day.", ("hang_up", {})]
    handset, media = call(ends="wait")
    hear_greeting(engines, media)
    say(media)
    handset.finish()
    assert "Have a nice day." in engines.voice.heard(media)


def test_an_unanswered_transfer_returns_the_caller_to_the_agent(server, engines, call, phone, rtp, colleague_port):
    engines.ears.hears = lambda samples: "Sales please."

    def answer(messages):
        if messages[-1]["role"] == "system":
            return "Nobody is there."
        return ["I connect you.", ("transfer", {"to": "sales"})]

    engines.model.answer = answer
    busy = phone(callee(reject="486 Busy Here"), port=colleague_port)
    handset, media = call()
    hear_greeting(engines, media)
    say(media)
    engines.voice.wait_until_heard(media, "Nobody is there.", 20)
    busy.finish()
    assert "was to be connected with sales" in asked(engines)[-1]
    colleague_audio = rtp()
    colleague = phone(callee(until_told(), ends="bye"), port=colleague_port, media=colleague_audio)
    is_silent(media, 0.6)
    say(media)
    colleague_audio.wait("audio", lambda: colleague_audio._remote, 20)
    media.play(np.concatenate([chatter(0.5), SILENCE]))
    colleague_audio.wait("the caller", lambda: abs(colleague_audio.heard()).max() > 1000)
    colleague.hang_up()
    handset.stop()


def test_the_model_gets_pressed_digits(server, engines, call):
    engines.model.answer = lambda messages: "Thank you."
    handset, media = call()
    engines.voice.wait_until_heard(media, HELLO)
    media.press("42#")
    engines.voice.wait_until_heard(media, "Thank you.")
    assert asked(engines)[-1] == "user: (pressed the keys 4 2)"
    handset.hang_up()


def test_silence_causes_a_prompt_and_then_ends_the_call(server, engines, call):
    handset, media = call("701", ends="wait")
    handset.finish()
    assert engines.voice.heard(media) == ["Are you still there?", "Goodbye."]


@pytest.mark.parametrize(
    ("engine", "fault"),
    [("model", "hang"), ("model", "drop"), ("model", "garbage"), ("model", 500), ("model", 10.0)]
    + [("ears", 500), ("ears", 10.0), ("voice", 500), ("voice", "hang")],
)
def test_a_failed_engine_causes_an_apology_and_the_fallback_call(server, engines, call, phone, rtp, colleague_port, engine, fault):
    """The model and the ears: an apology in the agent's voice, and the fallback number. The voice: espeak-ng speaks on."""
    engines.ears.hears = lambda samples: "What are your hours?"
    engines.model.answer = lambda messages: f"At {len(messages)}, {engine}, {fault}."
    help_audio = rtp()
    helper = phone(callee(until_told(), ends="bye"), port=colleague_port, media=help_audio, seconds=120)
    handset, media = call()
    hear_greeting(engines, media)
    getattr(engines, engine).fault.kind = fault
    began = time.monotonic()
    if engine == "voice":
        say(media)
        before = len(media.heard())
        media.wait("another voice", lambda: abs(media.heard()[before:]).max(initial=0) > 1000, 10)
        engines.voice.fault.over.set()
        handset.hang_up()
        return
    apology, transfer = "I am sorry, I have a technical problem.", "I will connect you with somebody who can help."
    for attempt in range(4):
        say(media)
        if engine == "model" or attempt == 3:
            break
        # He says it again when he is asked to.
        late = lambda text: "ears, 10.0" in text
        since = len(media.heard())
        wait_for(
            "an answer",
            lambda: any(text in (REPEAT, apology) or late(text) for text in engines.voice.heard(media, since)),
            40,
        )
        if apology in engines.voice.heard(media) or fault == 10.0:
            break
        is_silent(media, 2)
    if engine == "ears" and fault == 10.0:
        # What comes late is answered late.
        wait_for("an answer", lambda: any("ears, 10.0" in text for text in engines.voice.heard(media)), 40)
        handset.hang_up()
        return
    wait_for("the apology", lambda: apology in engines.voice.heard(media), 60)
    help_audio.wait("the fallback", lambda: help_audio._remote, 20)
    assert transfer in engines.voice.heard(media)
    print(f"{engine} {fault}: fallback after {time.monotonic() - began:.1f} s; heard {engines.voice.heard(media)}")
    helper.hang_up()
    handset.stop()
