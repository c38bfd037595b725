"""First starts on a machine without any network: an IVR with speech, and `tandem dev --agent`. All of it runs in a network namespace
that has only loopback. Its name server counts the questions, and the kernel counts the packets that have no route."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import local_speech
from harness.skips import OPTIONAL

ACTS = Path(__file__).with_name("offline_acts.py")
# Root needs no user namespace.
UNSHARE = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--mount"]
BEGIN = 'mount --bind "$1" /etc/resolv.conf && ip link set lo up && shift && exec "$@"'


def in_an_empty_network(folder, *command, seconds=280):
    """Runs a command in a network namespace of its own."""
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    whole = [*UNSHARE, "sh", "-c", BEGIN, "sh", str(resolver), *map(str, command)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=seconds)


@pytest.fixture
def first_start(tmp_path, monkeypatch):
    """Runs an act, and gives what it measured."""
    models = local_speech.models()
    if models is None:
        pytest.skip(f"{OPTIONAL}this machine has no models for speech, or no program tandem-speech")
    if not (shutil.which("unshare") and shutil.which("ip")) or in_an_empty_network(tmp_path, "true").returncode != 0:
        pytest.skip(f"{OPTIONAL}this user cannot make a network namespace")
    monkeypatch.setenv("TANDEM_SPEECH_MODELS", str(models))

    def run(act):
        folder = tmp_path / act
        folder.mkdir()
        done = in_an_empty_network(tmp_path, sys.executable, ACTS, act, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        print(result["log"], result["report"], f"ready after {result['ready']:.2f} s; heard {result['heard']}", sep="\n")
        return result

    return run


@pytest.mark.parametrize("act", ["ivr", "agent"])
def test_the_first_start_without_a_network_understands_and_answers_a_caller(first_start, act):
    result = first_start(act)
    assert result["code"] == 0, result["report"]
    assert "opening hours" in " ".join(result["heard"]).lower(), result["heard"]
    if act == "agent":
        assert "stand-in at http://127.0.0.1:11434/v1 (Ollama)" in result["log"], result["log"]
        assert "recognition  local (tandem-speech)\n  voice        local (tandem-speech)" in result["log"], result["log"]
    # At its start, the server once asks the kernel for its own address. This sends nothing, but the kernel counts it.
    assert result["no_routes"] <= 1 and result["name_lookups"] == 0, result
