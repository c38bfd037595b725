"""`tandem call`, the phone in the terminal, against a server that has a trunk and so takes no calls from strangers."""

import json
import os
import subprocess

import pytest

from harness.audio import read_wav, write_wav
from harness.phone import free_port
from harness.rtp import tone
from harness.server import binary

NUMBERS = """
[[trunks]]
name = "elsewhere"
account = "acme"
uri = "sip:127.0.0.9:5070"
inbound_from = ["192.0.2.0/24"]

[[numbers]]
number = "600"
account = "acme"
twiml = '<Response><Gather numDigits="1" timeout="10"><Pause length="10"/></Gather></Response>'

[[numbers]]
number = "601"
account = "acme"
twiml = "<Response><Echo/></Response>"

[[numbers]]
number = "602"
account = "acme"
twiml = '<Response><Say>Good morning</Say><Pause length="30"/></Response>'

[[numbers]]
number = "603"
account = "acme"
voice_url = "http://127.0.0.1:9/voice"
"""


@pytest.fixture(scope="module")
def server(start_tandem):
    return start_tandem(NUMBERS)


@pytest.fixture
def call(server):
    """Calls; gives the exit code and the report, if there is one."""

    def start(target, *steps, config=True):
        own = ["--config", str(server.data / "tandem.toml")] if config else []
        phone = [str(binary()), "call", target, "--server", server.sip, "--json", *own, *steps]
        run = subprocess.run(phone, capture_output=True, text=True, timeout=120, env=os.environ | {"NO_COLOR": "1"})
        return run.returncode, json.loads(run.stdout) if run.stdout else None, run.stderr

    return start


def test_tandem_call_needs_the_account_but_no_trunk(call):
    code, report, _ = call("602", "--expect", "speech", "--expect", "silence:1")
    assert (code, report["passed"], report["ended_by"]) == (0, True, "this side")
    assert report["heard"][0]["kind"] == "speech" and report["audio"]["lost"] == 0
    # Who does not know the account's secret is a stranger.
    code, report, said = call("602", config=False)
    assert code == 1 and report["answered"] is False and "403" in said, said


def test_played_audio_is_echoed_and_recorded_in_two_channels(call, tmp_path):
    write_wav(tmp_path / "tone.wav", tone(440, 2))
    steps = ["--play", str(tmp_path / "tone.wav"), "--expect", "silence"]
    code, report, _ = call("601", *steps, "--record", str(tmp_path / "call.wav"))
    (found,) = [piece for piece in report["heard"] if piece["kind"] == "tone"]
    assert code == 0 and abs(found["hertz"] - 440) < 10 and found["to"] - found["from"] > 1.5, report["heard"]
    samples, _ = read_wav(tmp_path / "call.wav")
    assert samples.shape[1] == 2 and len(samples) > 3 * 8000


def test_an_expected_hangup_after_a_digit_is_success(call):
    code, report, _ = call("600", "--press", "5", "--expect", "hangup within 5 seconds")
    assert (code, report["ended_by"]) == (0, "other side")


def test_an_unmet_expectation_is_exit_code_1_and_names_the_heard_audio(call):
    code, report, said = call("602", "--expect", "tone:1000 within 3 seconds")
    assert code == 1 and not report["passed"] and "heard speech" in said, said


def test_a_failed_application_is_exit_code_1_although_its_apology_is_speech(call):
    code, report, said = call("603", "--expect", "speech", "--expect", "hangup")
    assert [step["passed"] for step in report["steps"]] == [True, True]
    assert code == 1 and not report["passed"] and "the application failed" in said, said


def test_a_script_runs_the_same_steps(call, tmp_path):
    script = tmp_path / "steps.yaml"
    script.write_text("- wait: 0.2\n- press: 5\n- expect: hangup\n  within: 5\n")
    code, report, _ = call("600", "--script", str(script))
    assert code == 0 and [step["passed"] for step in report["steps"]] == [True] * 3


def test_an_unknown_number_is_reported_with_the_existing_numbers(call):
    code, _, said = call("999")
    assert code == 1 and "404" in said and "600, 601, 602, 603" in said, said


def test_expected_words_need_an_engine_and_a_call_needs_a_server(call, server, tmp_path, monkeypatch):
    # A machine that has models for speech uses them.
    monkeypatch.setenv("TANDEM_SPEECH_MODELS", str(tmp_path))
    code, report, said = call("602", "--expect", "words:good morning")
    assert (code, report) == (1, None) and "[speech] stt" in said
    nobody = f"127.0.0.1:{free_port()}"
    run = subprocess.run([str(binary()), "call", "600", "--server", nobody], capture_output=True, text=True, timeout=30)
    assert run.returncode == 2 and f"nothing listens at {nobody}" in run.stderr, run.stderr
