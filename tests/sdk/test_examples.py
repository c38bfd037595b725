"""The applications of examples/twilio, driven by phones that speak, press keys and listen."""

import itertools
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import flask
import pytest

from harness.audio import is_heard, read_wav, speech, write_wav
from harness.engines import KEY
from harness.party import Party, is_deaf_to
from harness.phone import callee, caller, free_port, until_told
from harness.rtp import tone
from harness.server import ROOT, binary
from harness.waiting import wait_for
from harness.webapp import Serving
from twilio_app import client

sys.path.insert(0, str(ROOT / "examples" / "twilio"))

import callcenter  # noqa: E402
import conference  # noqa: E402
import forwarding  # noqa: E402
import parrot  # noqa: E402
import voicemail  # noqa: E402

MUSIC = 440
"""Hz of the music, which no voice and no other phone of these tests has."""
PERSON, OTHER = "+15550002222", "+15551113333"


@pytest.fixture(scope="module")
def ports():
    """Where the two trunks lead: a phone started there takes their calls."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def server(start_tandem, late, ports, engine):
    trunks = "".join(
        f"""
[[trunks]]
name = "{name}"
account = "acme"
uri = "sip:127.0.0.1:{port}"
{'inbound_from = ["127.0.0.0/8"]' if name == "one" else ""}
prefixes = ["{prefix}"]
"""
        for name, port, prefix in zip(("one", "other"), ports, ("+1555000", "+1555111"))
    )
    return start_tandem(
        f"""
[[numbers]]
number = "7*"
account = "acme"
provider = "twilio"
voice_url = "{late.url}/voice"

[speech]
tts = "espeak"
stt = "{engine.url}/v1/audio/transcriptions"
stt_key = "{KEY}"
"""
        + trunks
    )


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """The URL of 60 s of a tone."""
    file = tmp_path_factory.mktemp("music") / "music.wav"
    write_wav(file, tone(MUSIC, 60))
    app = flask.Flask("music")
    app.add_url_rule("/music.wav", view_func=lambda: flask.send_file(file, mimetype="audio/wav"))
    serving = Serving(app)
    yield serving.url + "/music.wav"
    serving.stop()


@pytest.fixture
def call(server, phone, rtp):
    """A phone that calls and hangs up when told (or, ends="wait", is hung up on)."""
    numbers = itertools.count(700)

    def start(ends="bye", from_=None):
        scenario = caller(str(next(numbers)), until_told() if ends == "bye" else "", ends=ends)
        if from_:
            scenario = scenario.replace("+15550009999", from_)
        return Party(phone, rtp, scenario, target=server.sip, seconds=60)

    return start


@pytest.fixture
def person(phone, rtp, ports):
    """A phone behind one of the trunks, that hangs up when told (or is hung up on)."""

    def start(at=0, ends="wait", ring_ms=0):
        scenario = callee(until_told() if ends == "bye" else "", ends=ends, ring_ms=ring_ms)
        return Party(phone, rtp, scenario, port=ports[at], seconds=60)

    return start


def speak_and_hear(one, other, hertz):
    """What the one says is heard by the other."""
    speaker = threading.Thread(target=one.rtp.play, args=(tone(hertz, 4),))
    speaker.start()
    other.rtp.wait_for_tone(hertz)
    speaker.join()


def test_a_caller_talks_to_a_person_or_leaves_a_message_that_is_transcribed(server, late, engine, call, person):
    engine.words = ["Please call me back."]
    late.app = voicemail.make(PERSON)
    someone, one = person(), call()
    one.rtp.wait_for_sound()
    one.rtp.press("1")
    speak_and_hear(one, someone, 700)
    speak_and_hear(someone, one, 900)
    one.hang_up()
    someone.phone.finish()

    another = call(ends="wait")
    another.rtp.wait_for_sound()
    another.rtp.press("2")
    another.rtp.wait_for_tone(1000, 20)  # the beep
    said = speech(3)
    another.rtp.play(said)
    another.rtp.press("#")
    another.phone.finish()
    ((sid, message),) = late.app.messages.items()
    assert message["caller"] == "+15550009999" and message["seconds"] in (3, 4)
    file, _ = urllib.request.urlretrieve(message["url"] + ".wav")
    assert is_heard(said, read_wav(file)[0][:, 0])
    # The application is told what was recorded, before its silent ends were cut off.
    assert int(client(server).recordings(sid).fetch().duration) <= message["seconds"]
    wait_for("the transcription", lambda: "status" in message)
    assert (message["status"], message["text"]) == ("completed", engine.words[0])
    (written,) = client(server).recordings(sid).transcriptions.list()
    assert written.transcription_text == engine.words[0]


def test_a_forwarded_call_is_announced_to_the_called_party_who_may_decline(late, call, person):
    late.app = forwarding.make(PERSON)
    someone, one = person(), call()
    someone.rtp.wait_for_sound()
    someone.rtp.press("1")
    speak_and_hear(someone, one, 900)
    speak_and_hear(one, someone, 700)
    one.hang_up()
    someone.phone.finish()
    wait_for("the outcome", lambda: list(late.app.outcomes.values()) == [("completed", "true")])

    late.app.outcomes.clear()
    someone, one = person(), call(ends="wait")
    someone.rtp.wait_for_sound()
    someone.rtp.press("2")
    someone.phone.finish()
    one.rtp.wait_for_sound()  # nobody can take it
    one.phone.finish()
    ((_, bridged),) = late.app.outcomes.values()
    assert bridged != "true"


def test_a_conference_of_three_has_a_coach_and_hold_music(server, late, call, person, music):
    twilio = client(server)
    late.app = conference.make(twilio, late.url, "+15550001111", PERSON, OTHER, music)
    helper, customer = person(ring_ms=3_000), call(ends="wait")
    customer.rtp.wait_for_tone(MUSIC)
    speak_and_hear(customer, helper, 700)
    speak_and_hear(helper, customer, 900)
    ((room, _),) = late.app.events.items()

    supervisor = person(at=1)
    ask(f"{late.url}/coach/{room}")
    wait_for("three", lambda: len(twilio.conferences(sid_of(twilio, room)).participants.list()) == 3)
    speaker = threading.Thread(target=supervisor.rtp.play, args=(tone(1300, 4),))
    speaker.start()
    helper.rtp.wait_for_tone(1300)
    assert is_deaf_to(customer, 1300)
    speaker.join()
    speak_and_hear(customer, supervisor, 700)
    ask(f"{late.url}/join/{room}")
    speak_and_hear(supervisor, customer, 1300)

    ask(f"{late.url}/hold/{room}/on")
    customer.rtp.wait_for_tone(MUSIC)
    speaker = threading.Thread(target=customer.rtp.play, args=(tone(700, 3),))
    speaker.start()
    assert is_deaf_to(helper, 700)
    speaker.join()
    ask(f"{late.url}/hold/{room}/off")
    speak_and_hear(helper, customer, 900)

    twilio.conferences(sid_of(twilio, room)).update(status="completed")
    for party in (helper, supervisor, customer):
        party.phone.finish()
    wait_for("its end", lambda: ("conference-end", None) in late.app.events[room])
    told = late.app.events[room]
    assert told[0] == ("participant-join", "customer") and ("conference-start", None) in told
    assert [event for event in told if event[0] == "participant-hold"] == [("participant-hold", "customer")]


def test_callers_hear_music_until_an_agent_takes_them_in_order(server, late, call, music):
    agent_number = "+15559990000"
    late.app = callcenter.make(client(server), [agent_number], music)
    first = call()
    first.rtp.wait_for_tone(MUSIC, 20)
    second = call(ends="wait")
    second.rtp.wait_for_tone(MUSIC, 20)
    places = {place for _, place in late.app.places}
    assert places == {1, 2}
    with urllib.request.urlopen(late.url + "/waiting") as answer:
        assert [one["place"] for one in json.load(answer)] == [1, 2]
    agent = call(from_=agent_number)
    speak_and_hear(agent, first, 900)
    speak_and_hear(first, agent, 700)
    assert is_deaf_to(second, 900)
    first.hang_up()
    speak_and_hear(agent, second, 900)
    agent.hang_up()
    second.phone.finish()
    wait_for("both to have left", lambda: len(late.app.left) == 2)
    assert {result for result, _ in late.app.left.values()} == {"bridged"}


def test_a_voice_bot_repeats_the_callers_audio_and_can_be_interrupted(late, call, tmp_path):
    write_wav(tmp_path / "greeting.wav", tone(600, 8))
    bots = []
    port = free_port()
    server = parrot.serve(port, parrot.read(str(tmp_path / "greeting.wav")), bots.append)
    try:
        late.app = parrot.make(f"ws://127.0.0.1:{port}/stream")
        one = call(ends="wait")
        one.rtp.wait_for_tone(600)
        said = speech(2)
        one.rtp.play(said)  # into the greeting, which ends at once
        (bot,) = bots
        assert bot.interrupted == 1
        start = len(one.rtp.heard())
        wait_for("the echo", lambda: bot.said and bot.said[-1].startswith("echo"), 20)
        heard = one.rtp.heard()[start:]
        assert is_heard(said, heard)
        assert bot.said[0] == "greeting" and is_deaf_to(one, 600)
        one.rtp.press("#")
        one.rtp.wait_for_sound()
        one.phone.finish()
    finally:
        server.shutdown()


def ask(url):
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        assert answer.status in (200, 204)


def sid_of(twilio, room):
    return twilio.conferences.list(friendly_name=room)[0].sid


@pytest.mark.parametrize("example", ["voicemail", "forwarding", "conference", "callcenter", "parrot"])
def test_an_example_runs_without_any_setting_and_one_command_calls_it(example, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "TANDEM_"))}
    port, sip, http = free_port(), free_port(), free_port()
    ports = ["--port", str(port), "--sip-port", str(sip), "--http-port", str(http)]
    # The server's data is beside it, so in a directory of its own.
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "twilio" / "try.py"), example, *ports],
        cwd=tmp_path, env=environment | {"TANDEM": str(binary())}, capture_output=True, text=True, timeout=240,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("example", ["voicemail", "forwarding", "conference", "callcenter", "parrot"])
def test_an_example_starts_without_environment_variables_and_without_a_server(example, tmp_path):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    port = free_port()
    # Its one setting here is a port that is free on the test's machine.
    program = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "twilio" / f"{example}.py")], cwd=tmp_path, env=environment | {"PORT": str(port)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    try:
        def answers():
            assert program.poll() is None, program.stderr.read()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/voice").close()
            except urllib.error.HTTPError as error:
                return error.code == 405
            except OSError:
                return False

        wait_for("the application", answers, 30)
    finally:
        program.kill()
        program.wait()
