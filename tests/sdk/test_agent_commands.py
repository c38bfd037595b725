"""The commands for voice agents: `tandem dev --agent`, `tandem measure agent` and `tandem speech`; the example of examples/agent, and the
first block of docs/agents.md as it stands there. Engines that a test can script take the place of the models."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from harness import local_speech
from harness.models import Engines
from harness.phone import free_port
from harness.server import ROOT, binary
from harness.skips import OPTIONAL
from harness.waiting import wait_for
from harness.webapp import WebApp

STORY = "There was a very long story that went on and on without any end in sight of the people who heard it. " * 4


@pytest.fixture(scope="module")
def engines():
    all_three = Engines()
    # The included questions with long answers are the only recordings of more than 2.2 s.
    all_three.ears.hears = lambda samples: "Tell me a story." if len(samples) > 8000 * 2.7 else "When do you open?"
    yield all_three
    all_three.stop()


@pytest.fixture(autouse=True)
def fresh(engines):
    engines.forget()
    engines.model.answer = lambda messages: STORY if "story" in messages[-1]["content"] else "From nine to six."


@pytest.fixture(scope="module")
def webapp():
    app = WebApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def server(start_tandem, engines, webapp):
    return start_tandem(f"""
{engines.speech}[[agents]]
name = "shop"
prompt = "You answer the phone."
first_message = "Good morning."
model = {{ url = "{engines.model.url}/v1" }}
tools = ["hang_up"]
[[numbers]]
number = "600"
account = "acme"
agent = "shop"
[[numbers]]
number = "601"
account = "acme"
twiml = '<Response><Say>Hello.</Say><Pause length="120"/></Response>'
[[numbers]]
number = "602"
account = "acme"
twiml = "<Response><Reject/></Response>"
[[numbers]]
number = "603"
account = "acme"
voice_url = "{webapp.url}/once"
""")


def tandem(*arguments, cwd=None, seconds=200, environment=None):
    """Runs a command; gives its exit code and its output."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "OPENAI_"))}
    command = [str(binary()), *map(str, arguments)]
    run = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=seconds, env=own | {"NO_COLOR": "1"} | (environment or {}))
    return run.returncode, run.stdout, run.stderr


def measure(server, number, *options):
    return tandem("measure", "agent", number, "--server", server.sip, "--config", server.data / "tandem.toml", *options)


def questions(folder, *names):
    """A folder with some of the included recordings."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.wav").write_bytes((ROOT / "tools/measure/questions" / f"{name}.wav").read_bytes())
    return folder


def test_answers_and_interruptions_are_measured_at_the_phone(server, tmp_path):
    asked = questions(tmp_path / "asked", "hours", "place", "long-tour", "stop-wait")
    code, out, error = measure(server, "600", "--questions", asked, "--json")
    report = json.loads(out)
    answers, stops = report["end_of_question_to_first_word_ms"], report["interruption_to_silence_ms"]
    assert code == 0, error
    # A busy machine may not measure a recording.
    unmeasured = report["recordings_not_measured"]
    assert 3 - unmeasured <= answers["n"] <= 3 and report["questions_without_answer"] == 0, report
    # The pause after a whole sentence is 200 ms. An answer needs some time more, even from engines that take none.
    assert answers["min"] >= 200, report
    interruptions = (stops or {"n": 0})["n"] + report["interruptions_of_silence"] + report["interruptions_ignored"]
    assert 1 - unmeasured <= interruptions <= 1, report
    assert "place" in error and "answer after" in error


def test_a_noisy_line_and_the_echo_of_a_loudspeaker_change_no_method(server, tmp_path):
    asked = questions(tmp_path / "asked", "hours")
    code, out, error = measure(server, "600", "--questions", asked, "--noise", "-55", "--echo", "30")
    assert code == 0, out + error
    assert re.search(r"first word +1 +\d+ ms", out), out


def test_an_agent_that_does_not_answer_is_a_failure(server, tmp_path):
    asked = questions(tmp_path / "asked", "place")
    code, out, error = measure(server, "601", "--questions", asked)
    assert (code, "did not answer 1 of 1 questions" in error) == (1, True), out + error
    code, _, error = measure(server, "602", "--questions", asked)
    assert (code, "was not answered" in error) == (2, True), error
    code, _, error = measure(server, "600", "--questions", tmp_path / "none")
    assert (code, "--questions" in error) == (1, True), error


def test_an_agent_that_hangs_up_leaves_the_other_questions_without_an_answer(server, engines, tmp_path):
    asked = questions(tmp_path / "asked", "hours", "place", "repair")
    answers = iter(["From nine to six.", [("hang_up", {})]])
    engines.model.answer = lambda messages: next(answers, "Goodbye.")
    code, out, error = measure(server, "600", "--questions", asked, "--json")
    report = json.loads(out)
    results = {one["question"]: one["result"] for one in report["measurements"]}
    assert (code, results["hours"], results["repair"]) == (1, "answered", "missing"), out + error
    # A call that is over is no fault of this machine.
    assert (report["recordings_not_measured"], report["questions_not_asked"]) == (0, 0), report
    assert "the agent has hung up" in error, error


def test_a_later_call_that_nobody_answers_does_not_lose_the_measurements_before_it(server, webapp, tmp_path):
    documents = iter(['<Connect><Agent name="shop"/></Connect>'])
    webapp.on("/once", lambda: (f"<Response>{next(documents, '<Reject/>')}</Response>", {"Content-Type": "text/xml"}))
    asked = questions(tmp_path / "asked", "place")
    code, out, error = measure(server, "603", "--questions", asked, "--calls", "3", "--json")
    report = json.loads(out)
    assert (code, report["calls"], report["end_of_question_to_first_word_ms"]["n"]) == (2, 1, 1), out + error
    assert "was not answered" in error, error


def test_ctrl_c_hangs_up_and_reports_the_measurements_so_far(server, tmp_path):
    asked = questions(tmp_path / "asked", "hours", "place", "repair")
    command = [binary(), "measure", "agent", "600", "--server", server.sip, "--config", server.data / "tandem.toml", "--questions", asked]
    process = subprocess.Popen([*map(str, command), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "answer after" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    report = json.loads(out)
    assert (process.returncode, report["questions_not_asked"]) == (2, 2), out + error
    assert report["end_of_question_to_first_word_ms"]["n"] == 1, report
    # The agent does not wait for a caller who has gone.
    wait_for("the end of the call", lambda: server.metric("tandem_live_legs") == 0)


def start(*arguments, cwd, http, environment=None):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "OPENAI_"))}
    log = (Path(cwd) / "server.log").open("w+")
    process = subprocess.Popen([str(binary()), *map(str, arguments)], cwd=cwd, stdout=log, stderr=log, env=own | (environment or {}))

    def is_ready():
        if process.poll() is not None:
            raise AssertionError((Path(cwd) / "server.log").read_text())
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    wait_for("the server", is_ready, 20)
    return process


def end(process):
    process.terminate()
    process.wait(20)


def test_one_command_starts_an_agent_with_a_model_of_the_environment(engines, tmp_path):
    sip, http = free_port(), free_port()
    model = f"{engines.model.url}/v1"
    started = start(
        "dev", "--agent", "You answer the phone of a bicycle shop.", "--model", f"{model}#little", "--first-message", "Here is the shop.",
        "--sip-port", sip, "--http-port", http, cwd=tmp_path, http=http)
    try:
        code, out, error = tandem("call", "600", "--server", f"127.0.0.1:{sip}", "--expect", "speech", cwd=tmp_path)
        text = (tmp_path / "server.log").read_text()
        assert f"little at {model}" in text and "tandem measure agent 600" in text and "tandem call 600" in text, text
        # The command asks the model before the first call, so that the model is loaded.
        assert engines.model.asked[0]["messages"][0]["content"] == "You answer the phone of a bicycle shop."
        assert "speech" in out, out + error
    finally:
        end(started)


def test_a_port_in_use_that_the_user_has_chosen_is_reported_before_the_model_is_asked(engines, tmp_path):
    taken = socket.create_server(("127.0.0.1", 0))
    used, sip = taken.getsockname()[1], free_port()
    try:
        code, _, error = tandem(
            "dev", "--agent", "p", "--model", f"{engines.model.url}/v1", "--sip-port", sip, "--http-port", used, cwd=tmp_path)
    finally:
        taken.close()
    assert (code, f"cannot listen on 127.0.0.1:{used}" in error, "--http-port 8081" in error) == (2, True, True), error
    assert engines.model.asked == []


def test_a_model_that_the_server_does_not_have_is_named_with_those_that_it_has(engines, tmp_path):
    engines.model.fault.kind = 404
    code, _, error = tandem("dev", "--agent", "p", "--model", f"{engines.model.url}/v1#huge", cwd=tmp_path)
    assert (code, "its models are stand-in" in error) == (2, True), error
    code, _, error = tandem("dev", "--agent", "p", "--model", f"{engines.model.url}#huge", cwd=tmp_path)
    assert code == 2 and "the base URL of most servers ends with /v1" in error, error
    engines.model.fault.kind = "garbage"
    code, _, error = tandem("dev", "--agent", "p", "--model", f"{engines.model.url}/v1#huge", cwd=tmp_path)
    assert code == 2 and "something else than a stream of chat completions" in error, error


def test_without_a_model_the_command_says_what_to_start(tmp_path):
    code, _, error = tandem("dev", "--agent", "p", "--model", "http://127.0.0.1:9/v1", cwd=tmp_path)
    assert (code, "nothing listens there" in error) == (2, True), error
    code, _, error = tandem("dev", cwd=tmp_path)
    assert code == 1 and "URL" in error, error


def test_speech_runs_the_program_with_its_arguments_and_exit_code(tmp_path):
    # A copy, because the program beside tandem comes first.
    alone = tmp_path / "alone" / "tandem"
    alone.parent.mkdir()
    shutil.copy(binary(), alone)
    program = tmp_path / "tandem-speech"
    program.write_text('#!/bin/sh\necho "$#:$*"\nexit 7\n')
    program.chmod(0o755)

    def speech(*arguments, path):
        run = subprocess.run([alone, "speech", *arguments], capture_output=True, text=True, timeout=30, env={"PATH": path})
        return run.returncode, run.stdout, run.stderr

    path = f"{tmp_path}:{os.environ['PATH']}"
    assert speech("install", "de", "--models", "a b", path=path)[:2] == (7, "4:install de --models a b\n")
    assert speech("list", path=path)[:2] == (7, "2:install --list\n")
    code, out, _ = speech("--help", path=path)
    assert code == 0 and "tandem speech install de" in out, out
    code, _, error = speech("list", path="/nowhere")
    assert code == 2 and "cargo install --path speech_server" in error and len(error.splitlines()) == 1, error


def test_the_example_looks_up_an_order_with_its_tool(engines, tmp_path):
    port, sip, http = free_port(), free_port(), free_port()
    text = (ROOT / "examples/agent/tandem.toml").read_text()
    for old, new in [
        ('stt = "local"', f'stt = "{engines.ears.url}/v1/audio/transcriptions"'), ('tts = "local"', f'tts = "{engines.voice.url}/v1/audio/speech"'),
        ("http://127.0.0.1:11434/v1", f"{engines.model.url}/v1"), ("127.0.0.1:5000", f"127.0.0.1:{port}"),
    ]:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "tandem.toml").write_text(
        text.replace("[speech]", f'[sip]\nlisten = ["udp://127.0.0.1:{sip}"]\n[http]\nlisten = "127.0.0.1:{http}"\n[speech]', 1))
    # The number is spoken in groups.
    engines.model.answer = lambda messages: (
        "Your order: " + json.loads(messages[-1]["content"]).get("state", "unknown") if messages[-1]["role"] == "tool"
        else [("order_status", {"number": "4 71 92"})])
    shop = subprocess.Popen([sys.executable, ROOT / "examples/agent/shop.py", str(port)], stderr=subprocess.DEVNULL)
    started = start("serve", "--config", "tandem.toml", cwd=tmp_path, http=http)
    try:
        asked = questions(tmp_path / "asked", "hours")
        code, out, error = tandem("measure", "agent", "600", "--questions", asked, "--config", "tandem.toml", cwd=tmp_path)
        assert code == 0, out + error
        wait_for("the answer", lambda: any("ready for pickup" in text for text in engines.voice.said))
    finally:
        end(started)
        shop.kill()
        shop.wait()


@pytest.mark.parametrize("speech", ["stand-ins", "models of this machine"])
def test_the_first_block_of_the_page_about_agents_answers_a_call(engines, tmp_path, speech):
    page = (ROOT / "docs/agents.md").read_text()
    block = re.search(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    assert 'stt = "local"' in block and 'tts = "local"' in block and "http://127.0.0.1:11434/v1" in block
    models, environment = local_speech.models(), {}
    if speech == "stand-ins":
        block = block.replace('stt = "local"', f'stt = "{engines.ears.url}/v1/audio/transcriptions"')
        block = block.replace('tts = "local"', f'tts = "{engines.voice.url}/v1/audio/speech"')
    elif models is None:
        pytest.skip(f"{OPTIONAL}this machine has no models for speech, or no program tandem-speech")
    else:
        environment = {"TANDEM_SPEECH_MODELS": str(models)}
    # Only the URL of the model and the ports of the test are different.
    block = block.replace("http://127.0.0.1:11434/v1", f"{engines.model.url}/v1")
    sip, http = free_port(), free_port()
    ports = f'[sip]\nlisten = ["udp://127.0.0.1:{sip}"]\n[http]\nlisten = "127.0.0.1:{http}"\n'
    (tmp_path / "tandem.toml").write_text(ports + block)
    started = start("serve", "--config", "tandem.toml", cwd=tmp_path, http=http, environment=environment)
    try:
        asked = questions(tmp_path / "asked", "hours")
        code, out, error = tandem("measure", "agent", "600", "--questions", asked, "--config", "tandem.toml", cwd=tmp_path)
        assert code == 0, out + error
        if models and speech != "stand-ins":
            assert "opening hours" in engines.model.asked[-1]["messages"][-1]["content"].lower(), engines.model.asked[-1]
    finally:
        end(started)
