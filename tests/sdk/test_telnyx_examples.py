"""The applications of examples/telnyx, driven by phones that speak, press keys and listen."""

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request

import pytest

from harness.audio import chatter, is_heard, speech
from harness.party import Party, is_deaf_to
from harness.phone import callee, caller, free_port, until_told
from harness.rtp import tone
from harness.server import API_KEY, ROOT, binary
from harness.telnyx_app import CONNECTION
from harness.waiting import wait_for

FOLDER = ROOT / "examples" / "telnyx"
AGENT, TUNE = "+15559990000", 392


@pytest.fixture(scope="module")
def example():
    """An example as a module, with the `local` of its folder: other folders' examples have such names, too."""
    names = ("local", "ivr", "voicemail", "callcenter", "conference", "repeater")
    before = {name: sys.modules.pop(name, None) for name in names}

    def load(name):
        found = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    load("local")
    yield load
    sys.modules.update({name: module for name, module in before.items() if module})


@pytest.fixture(scope="module")
def server(start_tandem, late):
    return start_tandem(f"""
[[applications]]
id = "{CONNECTION}"
account = "acme"
provider = "telnyx"
webhook_url = "{late.url}/voice"

[[numbers]]
number = "7*"
account = "acme"
application = "{CONNECTION}"

[speech]
tts = "espeak"
""")


@pytest.fixture
def client(server, example, monkeypatch):
    monkeypatch.setenv("TELNYX_API_KEY", API_KEY)
    monkeypatch.setenv("TELNYX_PUBLIC_KEY", server.telnyx_public_key())
    monkeypatch.setenv("TELNYX_BASE_URL", server.http + "/v2")
    return sys.modules["local"].client()


@pytest.fixture
def call(server, phone, rtp):
    """A phone that calls and hangs up when told (or, ends="wait", is hung up on)."""

    def start(ends="bye", from_="+15550009999"):
        scenario = caller("700", until_told() if ends == "bye" else "", ends=ends).replace("+15550009999", from_)
        return Party(phone, rtp, scenario, target=server.sip, seconds=60)

    return start


@pytest.fixture
def person(phone, rtp):
    """A phone that takes a call, and hangs up when told (or is hung up on)."""

    def start(ends="wait", ring_ms=0):
        return Party(phone, rtp, callee(until_told() if ends == "bye" else "", ends=ends, ring_ms=ring_ms), seconds=60)

    return start


def talk(one, other):
    """Each hears the other."""
    with one.sounds(700), other.sounds(900):
        one.hears(900)
        other.hears(700)


def test_the_menu_plays_the_opening_hours_and_then_transfers_to_a_person(late, example, client, call, person):
    someone = person(ring_ms=1_000)
    app = example("ivr").make(client, someone.uri)
    late.app = app.flask
    one = call()
    one.rtp.wait_for_sound()
    one.rtp.press("1")
    wait_for("the hours", lambda: app.choices == ["1"])
    one.rtp.press("2")
    talk(one, someone)
    one.hang_up()
    someone.phone.finish()
    assert app.choices == ["1", "2"]


def test_a_message_is_left_on_an_answering_machine_after_its_beep(late, example, client, call, person):
    machine = person()
    app = example("voicemail").make(client, machine.uri)
    late.app = app.flask
    one = call(ends="wait")
    one.rtp.wait_for_tone(1000, 20)
    said = speech(2)
    one.rtp.play(said)
    one.rtp.press("#")
    # A long greeting, then the beep.
    wait_for("the call to the machine", lambda: "ACK sip:" in machine.phone.messages(), 20)
    machine.rtp.play(chatter(5))
    machine.rtp.play(tone(1000, 0.5))
    start = len(machine.rtp.heard())
    machine.rtp.play(tone(1000, 0.5) * 0)
    machine.rtp.wait_for_sound(20)
    machine.phone.finish()
    assert app.outcomes == ["left"]
    assert is_heard(said, machine.rtp.heard()[start:])
    one.phone.finish()


def test_a_person_who_answers_is_connected_with_the_author_of_the_message(late, example, client, call, person):
    someone = person()
    app = example("voicemail").make(client, someone.uri)
    late.app = app.flask
    one = call()
    one.rtp.wait_for_tone(1000, 20)
    one.rtp.play(speech(2))
    one.rtp.press("#")
    wait_for("the call to the person", lambda: "ACK sip:" in someone.phone.messages(), 20)
    someone.rtp.play(speech(1))
    someone.rtp.play(speech(3) * 0)
    wait_for("the verdict", lambda: app.outcomes == ["connected"], 20)
    talk(one, someone)
    one.hang_up()
    someone.phone.finish()


def test_a_supervisor_listens_then_whispers_then_speaks_to_both(late, example, client, call, person):
    supervisor = person()
    app = example("callcenter").make(client, [AGENT], supervisor.uri)
    late.app = app.flask
    one = call(ends="wait")
    one.rtp.wait_for_tone(TUNE, 20)
    with urllib.request.urlopen(late.url + "/waiting") as answer:
        assert len(json.load(answer)) == 1
    agent = call(from_=AGENT)
    talk(agent, one)
    wait_for("the supervisor", lambda: app.roles == ["monitor"])
    with one.sounds(700):
        supervisor.hears(700)
    with agent.sounds(900):
        supervisor.hears(900)
    with supervisor.sounds(1300):
        assert is_deaf_to(agent, 1300) and is_deaf_to(one, 1300)
    supervisor.rtp.press("2")
    wait_for("whispering", lambda: app.roles[-1] == "whisper")
    with supervisor.sounds(1300):
        agent.hears(1300)
        assert is_deaf_to(one, 1300)
    supervisor.rtp.press("3")
    wait_for("speaking to both", lambda: app.roles[-1] == "barge")
    with supervisor.sounds(1300):
        agent.hears(1300)
        one.hears(1300)
    agent.hang_up()
    one.phone.finish()
    supervisor.phone.finish()


def test_a_conference_with_a_pin_has_hold_music_and_mutes_a_participant(late, example, client, call):
    app = example("conference").make(client, "4711")
    late.app = app.flask
    first = call()
    first.rtp.wait_for_sound()
    first.rtp.press("4711")
    first.rtp.wait_for_tone(TUNE, 20)
    second = call()
    second.rtp.wait_for_sound()
    second.rtp.press("4711")
    talk(first, second)

    def people():
        with urllib.request.urlopen(late.url + "/people") as answer:
            return json.load(answer)

    wait_for("both in the room", lambda: [one["is"] for one in people()] == ["heard", "heard"])
    muted = people()[1]["leg"]
    for how, hears in (("mute", False), ("unmute", True)):
        asked = urllib.request.Request(f"{late.url}/people/{muted}/{how}", method="POST")
        assert urllib.request.urlopen(asked).status == 204
        with second.sounds(900):
            first.hears(900) if hears else first.hears_nothing()
    wrong = call(ends="wait")
    wrong.rtp.wait_for_sound()
    wrong.rtp.press("1234")
    wrong.phone.finish()
    first.hang_up()
    second.hang_up()
    wait_for("the end of the room", lambda: app.events and app.events[-1] == "ended")
    assert app.events.count("participant.joined") == 2


def test_a_voice_bot_repeats_the_callers_audio(late, example, client, call):
    repeater, bots, port = example("repeater"), [], free_port()
    server = repeater.serve(port, bots.append)
    try:
        late.app = repeater.make(client, f"ws://127.0.0.1:{port}/stream").flask
        one = call(ends="wait")
        wait_for("the bot", lambda: bots and bots[0].format)
        said = speech(2)
        one.rtp.play(said)
        start = len(one.rtp.heard())
        wait_for("the echo's end", lambda: bots[0].repeated == 1, 20)
        assert is_heard(said, one.rtp.heard()[start:])
        one.rtp.press("#")
        one.phone.finish()
    finally:
        server.shutdown()


@pytest.mark.parametrize("name", ["ivr", "voicemail", "callcenter", "conference", "repeater"])
def test_an_example_runs_without_any_setting_and_one_command_calls_it(name, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TELNYX_", "TANDEM_"))}
    port, sip, http = free_port(), free_port(), free_port()
    ports = ["--port", str(port), "--sip-port", str(sip), "--http-port", str(http)]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "try.py"), name, *ports],
        cwd=tmp_path, env=environment | {"TANDEM": str(binary())}, capture_output=True, text=True, timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "Error code" not in done.stdout + done.stderr
