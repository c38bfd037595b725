"""Agents whose model hears and speaks by itself: a caller on a SIP phone talks with a stand-in for a realtime model."""

import numpy as np
import pytest
import requests

from harness.engines import KEY
from harness.faults import Fault
from harness.phone import callee, caller, free_port, until_told
from harness.realtime import RealtimeModel, Tone
from harness.resources import carrier
from harness.rtp import share, tone
from harness.waiting import wait_for
from harness.webapp import WebApp

RATE = 8_000
HELLO = "Good morning."
ASKED = {500: "What are your hours?", 900: "And on Sunday?"}


@pytest.fixture(scope="module")
def models():
    """By the number that reaches an agent with it."""
    all_ = {"710": RealtimeModel(hears=ASKED), "711": RealtimeModel(hears=ASKED, beta=True, compat=True)}
    yield all_
    for one in all_.values():
        one.stop()


@pytest.fixture(scope="module")
def tool():
    app = WebApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def colleague_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, models, tool, colleague_port):
    agents = "".join(
        f"""
[[numbers]]
number = "{number}"
account = "acme"
agent = "agent{number}"
[[agents]]
name = "agent{number}"
prompt = "You answer the phone."
first_message = "{HELLO}"
voice = "marin"
fallback = "+15551230099"
silence_seconds = 3
silence_prompts = 1
model = {{ url = "{model.url}", name = "m", key = "{KEY}", timeout_seconds = 2, protocol = "{'beta' if model.beta else 'ga'}" }}
tools = ["hang_up", "send_digits", {{ name = "transfer", to = {{ sales = "+15551230001" }} }},
  {{ name = "order_status", description = "The state of an order", url = "{tool.url}/order", method = "GET", parameters = {{ number = {{ type = "integer" }} }} }}]
"""
        for number, model in models.items()
    )
    return start_tandem(f"""
[speech]
tts = "espeak"
{carrier(colleague_port)}
{agents}""")


def greets(session):
    """The first answer is the greeting; those after it are the test's."""
    return len(session.responses) == 1


@pytest.fixture
def call(server, models, phone, rtp):
    """Calls an agent: call(answer) gives the phone, its audio and the model's session. `answer(session)`: what the model says after
    its greeting."""

    def start(answer, number="710", ends="bye"):
        model = models[number]
        before = len(model.sessions)
        model.answer = lambda session: Tone(700, 0.6, HELLO) if greets(session) else answer(session)
        media = rtp()
        handset = phone(caller(number, until_told() if ends == "bye" else "", ends=ends), target=server.sip, media=media, seconds=120)
        media.wait("the call", lambda: media._remote)
        return handset, media, model.wait_for_session(before + 1)

    return start


def says(media, hertz, seconds=0.8):
    """Somebody speaks for so long, and is silent then."""
    media.play(np.concatenate([tone(hertz, seconds), np.zeros(RATE)]))


def silent(media, seconds):
    media.play(np.zeros(int(RATE * seconds)))


def hears(media, hertz, seconds=10):
    media.wait_for_tone(hertz, seconds)


def log(server):
    answer = requests.get(f"{server.http}/console/sessions/last/events", auth=(server.account_sid, server.auth_token))
    return [line["text"] for line in answer.json() if line["kind"] == "speech"]


@pytest.mark.parametrize("number", ["710", "711"])
def test_a_caller_talks_with_a_realtime_model(server, call, number):
    answers = {"What are your hours?": Tone(1_000, 0.8, "We open at nine."), "And on Sunday?": Tone(1_300, 0.8, "We are closed.")}

    def answer(session):
        users = [one for one in session.items.values() if one.get("role") == "user"]
        return answers[users[-1]["content"][0]["transcript"]]

    handset, media, session = call(answer, number)
    hears(media, 700)
    silent(media, 1)
    says(media, 500)
    hears(media, 1_000)
    silent(media, 1)
    says(media, 900)
    hears(media, 1_300)
    silent(media, 1)
    assert session.query == {"model": "m"}
    beta = number == "711"
    assert session.headers.get("OpenAI-Beta") == ("realtime=v1" if beta else None)
    assert session.input_format == session.output_format == ("audio/pcm" if beta else "audio/pcmu")
    assert session.config["instructions"] == "You answer the phone."
    voice = session.config["voice"] if beta else session.config["audio"]["output"]["voice"]
    assert voice == "marin" and [one["name"] for one in session.config["tools"]] == ["hang_up", "send_digits", "transfer", "order_status"]
    assert HELLO in session.of("response.create")[0]["response"]["instructions"]
    # What it heard is what was said. The pieces are short: packets that come late on a busy machine spoil some of them.
    piece = session.rate // 25
    heard = np.array([share(session.audio[at : at + piece], 500 * 8_000 / session.rate) for at in range(0, len(session.audio), piece)])
    assert (heard > 0.9).sum() >= 15, heard
    handset.hang_up()
    wait_for("the end of the session", lambda: session.closed)
    lines = log(server)
    for line in (f'said "{HELLO}"', 'heard "What are your hours?"', 'said "We open at nine."', 'heard "And on Sunday?"'):
        assert line in lines, lines
    assert [line for line in lines if line.startswith("turn 2")], lines


def test_an_interruption_truncates_the_answer_of_the_model(server, call):
    answers = iter([Tone(1_000, 20, "A very long story " * 20), Tone(1_300, 0.8, "I stop.")])
    handset, media, session = call(lambda session: next(answers))
    hears(media, 700)
    silent(media, 1)
    says(media, 500)
    hears(media, 1_000)
    silent(media, 1.5)
    says(media, 900, 0.6)
    hears(media, 1_300)
    (heard,) = session.truncated.values()
    # What the phone heard of it, to some frames.
    parts = [share(media.heard()[at : at + 400], 1_000) > 0.9 for at in range(0, len(media.heard()) - 400, 400)]
    assert abs(sum(parts) * 50 - heard) < 400, (sum(parts) * 50, heard)
    handset.hang_up()
    assert [line for line in log(server) if "(interrupted by the caller)" in line]


def test_a_noise_only_pauses_the_model(models, call):
    handset, media, session = call(lambda session: Tone(1_000, 3, "Here I go on."))
    hears(media, 700)
    silent(media, 1)
    says(media, 500)
    hears(media, 1_000)
    # Too short for the model's ears.
    models["710"].onset = 20
    media.play(np.concatenate([tone(900, 0.1), np.zeros(RATE * 4)]))
    models["710"].onset = 3
    total = sum(share(media.heard()[at : at + 400], 1_000) > 0.9 for at in range(0, len(media.heard()) - 400, 400)) * 50
    assert not session.truncated and not session.deleted and total > 2_500, total
    handset.hang_up()


def test_a_tool_runs_and_the_model_speaks_its_result(server, call, tool):
    tool.on("/order", {"state": "on its way"})

    def answer(session):
        results = [one for one in session.items.values() if one["type"] == "function_call_output"]
        return Tone(1_300, 0.8, "It is on its way.") if results else ("order_status", {"number": 7})

    handset, media, session = call(answer)
    hears(media, 700)
    silent(media, 1)
    says(media, 500)
    hears(media, 1_300)
    (request,) = tool.wait("/order")
    assert request.args["number"] in ("7", ["7"])
    (result,) = [one for one in session.items.values() if one["type"] == "function_call_output"]
    assert "on its way" in result["output"]
    handset.hang_up()


def test_the_model_hangs_up_after_its_last_words_were_played(call):
    handset, media, _ = call(lambda session: [Tone(1_000, 1.5, "Have a nice day."), ("hang_up", {})], ends="wait")
    hears(media, 700)
    silent(media, 1)
    says(media, 500)
    handset.finish()
    total = sum(share(media.heard()[at : at + 400], 1_000) > 0.9 for at in range(0, len(media.heard()) - 400, 400)) * 50
    assert total > 1_200, total


def test_the_model_gets_pressed_digits(call):
    handset, media, session = call(lambda session: Tone(1_000, 0.8, "Thank you."))
    hears(media, 700)
    media.press("42#")
    hears(media, 1_000)
    (told,) = [one for one in session.items.values() if one.get("role") == "user"]
    assert told["content"][0]["text"] == "(pressed the keys 4 2)"
    handset.hang_up()


def test_silence_causes_a_prompt_and_then_ends_the_call(call):
    handset, _, session = call(lambda session: Tone(1_000, 0.5, "Hm."), ends="wait")
    handset.finish()
    said = [one["response"]["instructions"] for one in session.of("response.create")]
    assert ["Good morning" in said[0], "Are you still there?" in said[1], "Goodbye." in said[2]] == [True, True, True]


def test_a_new_session_after_a_lost_one_gets_the_history(models, call):
    answers = iter([Tone(1_000, 0.8, "We open at nine."), Fault.DROP])
    handset, media, session = call(lambda session: next(answers))
    hears(media, 700)
    silent(media, 1)
    says(media, 500)
    hears(media, 1_000)
    silent(media, 1.5)
    says(media, 900)
    again = models["710"].wait_for_session(models["710"].sessions.index(session) + 2)
    again.wait("conversation.item.create", 3)
    said = [(one["item"]["role"], one["item"]["content"][0]["text"]) for one in again.of("conversation.item.create")]
    assert said[:3] == [("assistant", HELLO), ("user", "What are your hours?"), ("assistant", "We open at nine.")]
    handset.hang_up()


@pytest.mark.parametrize("fault", ["fails", "hangs", "is gone"])
def test_a_failed_model_causes_an_apology_and_the_fallback_call(models, call, phone, rtp, colleague_port, fault):
    help_audio = rtp()
    helper = phone(callee(until_told(), ends="bye"), port=colleague_port, media=help_audio, seconds=120)
    answer = {"fails": RuntimeError("out of order"), "hangs": Fault.HANG, "is gone": Fault.DROP}[fault]

    def always(session):
        return answer

    handset, media, session = call(always)
    hears(media, 700)
    if fault == "is gone":
        models["710"].answer = always
    silent(media, 1)
    before = len(media.heard())
    says(media, 500)
    media.wait("another voice", lambda: abs(media.heard()[before:]).max(initial=0) > 1000, 20)
    help_audio.wait("the fallback", lambda: help_audio._remote, 20)
    helper.hang_up()
    helper.finish()
    handset.stop()
