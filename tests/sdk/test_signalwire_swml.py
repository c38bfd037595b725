"""SWML: documents that signalwire-sdk serves, unmodified, and whose requests it checks; and documents of the test's own."""

import hashlib
import hmac
import json
import os
import queue
import subprocess
import threading
import uuid

import numpy
import pytest
import requests
import websockets.sync.server

from harness.engines import KEY as SPEECH_KEY
from harness.party import Party
from harness.phone import callee, caller, free_port, pause, until_told
from harness.server import ROOT, binary
from harness.rtp import LINEAR, share
from harness.signalwire import ACCOUNT, KEY, PROJECT, TOKEN
from harness.waiting import wait_for

PYTHON = ROOT / ".venv-swml" / "bin" / "python"
MENU, OWN, KIND = "+15551230001", "+15551230002", "+15551230003"


@pytest.fixture(scope="module")
def menu_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, menu_port, live_engine):
    menu = f"http://swml:pass%20word@127.0.0.1:{menu_port}/menu"
    return start_tandem(f"""{ACCOUNT}
[speech]
stt = "{live_engine.url}"
stt_key = "{SPEECH_KEY}"

[[numbers]]
number = "{MENU}"
account = "space"
provider = "swml"
voice_url = "{menu}"

[[numbers]]
number = "{OWN}"
account = "space"
provider = "swml"
voice_url = "{module_webapp.url}/swml"
status_callback = "{module_webapp.url}/state"

[[numbers]]
number = "{KIND}"
account = "space"
voice_url = "{module_webapp.url}/kind"
""")


@pytest.fixture
def app(module_webapp):
    module_webapp.forget()
    for path in ["/told/record", "/told/collect", "/told/play", "/told/variables", "/state"]:
        module_webapp.on(path)
    return module_webapp


@pytest.fixture
def sdk(app, menu_port, tmp_path):
    """The SDK's application, until the test is over."""
    assert PYTHON.exists(), "run scripts/test-sdk.sh install"
    log = tmp_path / "swml_app.log"
    program = [str(PYTHON), str(ROOT / "tests/sdk/swml_app.py"), str(menu_port), KEY, app.url + "/told"]
    with log.open("w") as out:
        running = subprocess.Popen(program, stdout=out, stderr=subprocess.STDOUT)
    wait_for("the SDK's application", lambda: "Uvicorn running" in log.read_text(), 60)
    yield log
    running.terminate()
    running.wait(10)


@pytest.fixture
def call(server):
    """Calls; gives the exit code and the report."""

    def start(number, *steps):
        phone = [str(binary()), "call", number, "--server", server.sip, "--json",
                 "--config", str(server.data / "tandem.toml"), *steps]
        run = subprocess.run(phone, capture_output=True, text=True, timeout=60, env=os.environ | {"NO_COLOR": "1"})
        assert run.stdout, run.stderr
        return run.returncode, json.loads(run.stdout)

    return start


def told(request):
    return json.loads(request.body)


def test_a_signalwire_sdk_service_answers_and_records_a_call_and_gets_its_webhooks(call, sdk, app):
    code, report = call(MENU, "--expect", "speech", "--press", "1234", "--expect", "speech", "--expect", "hangup")
    assert code == 0, (report, sdk.read_text())
    assert report["ended_by"] == "other side"
    (variables,) = app.wait("/told/variables")
    assert (variables["digits"], variables["result"], variables["recording"]) == ("1234", "match_digits", "success")
    (collected,) = app.wait("/told/collect")
    body = told(collected)
    assert body["event_type"] == "calling.call.collect" and body["project_id"] == PROJECT
    assert body["params"]["result"] == {"type": "digit", "params": {"digits": "1234", "terminator": ""}}
    played = [told(one)["params"]["state"] for one in app.wait("/told/play", 2)]
    assert played == ["playing", "finished"]
    recorded = [told(one)["params"] for one in app.wait("/told/record", 2)]
    assert [one["state"] for one in recorded] == ["recording", "finished"]
    assert recorded[0]["control_id"] == recorded[1]["control_id"]
    assert recorded[1]["duration"] > 1 and recorded[1]["record"]["url"] == recorded[1]["url"]
    # The SDK has checked each signature: 403 otherwise.
    asked = sdk.read_text()
    assert '"POST /menu/ HTTP/1.1" 200' in asked or '"POST /menu HTTP/1.1" 200' in asked, asked
    assert " 403" not in asked and " 401" not in asked, asked


class Client:
    """The program with the SDK's RestClient; each next() is its next line."""

    def __init__(self, server, app, callee):
        host = server.http.removeprefix("http://")
        program = [str(PYTHON), str(ROOT / "tests/sdk/swml_calls.py"), host, PROJECT, TOKEN, MENU, callee, app.url]
        self._running = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def next(self):
        line = self._running.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)

    def go_on(self):
        self._running.stdin.write("\n")
        self._running.stdin.flush()

    def end(self):
        self._running.stdin.close()
        assert self._running.wait(10) == 0

    def kill(self):
        self._running.kill()
        self._running.wait(10)


@pytest.fixture
def client(server, app):
    """Starts the program: client(callee)."""
    started = []

    def start(callee):
        started.append(Client(server, app, callee))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_the_rest_client_of_signalwire_sdk_creates_and_commands_calls(server, client, app, phone, rtp):
    for path in ["/record", "/play", "/collect", "/moved"]:
        app.on(path)
    media = rtp()
    called = phone(callee(), media=media)
    client = client(called.uri)
    made = client.next()["call"]
    assert (made["status"], made["direction"], made["to"]) == ("queued", "outbound-api", called.uri), made
    states = app.wait("/state", 2)
    assert [told(one)["params"]["call_state"] for one in states] == ["ringing", "answered"]
    assert told(states[0])["params"]["call_id"] == made["id"]
    client.go_on()
    client.next()
    media.press("42")
    (collected,) = app.wait("/collect")
    params = told(collected)["params"]
    assert params["control_id"] == "digits" and params["result"]["params"]["digits"] == "42"
    played = app.wait("/play", 2)
    assert [(told(one)["params"]["control_id"], told(one)["params"]["state"]) for one in played] == [
        ("hello", "playing"), ("hello", "finished"),
    ]
    client.go_on()
    client.next()
    recorded = [told(one)["params"] for one in app.wait("/record", 2)]
    assert [one["state"] for one in recorded] == ["recording", "finished"]
    audio = requests.get(recorded[1]["url"], timeout=10)
    assert audio.status_code == 200 and audio.content[:4] == b"RIFF"
    client.go_on()
    assert client.next()["moved"]["status"] == "answered"
    app.wait("/moved")
    client.go_on()
    client.next()
    (ended,) = app.wait("/state", where=lambda one: told(one)["params"]["call_state"] == "ended")
    assert told(ended)["params"]["end_reason"] == "hangup"
    # The Compatibility API knows it by the same id.
    other = f"{server.http}/api/laml/2010-04-01/Accounts/{PROJECT}/Calls/{made['id']}"
    shown = requests.get(other, auth=(PROJECT, TOKEN), timeout=10)
    assert (shown.status_code, shown.json()["status"]) == (200, "completed"), shown.text
    client.go_on()
    client.end()


def test_the_calling_api_has_its_own_form_of_errors(server):
    def ask(body, credentials=(PROJECT, TOKEN), path="/api/calling/calls"):
        return requests.post(server.http + path, json=body, auth=credentials, timeout=10)

    assert ask({}, (PROJECT, "wrong")).status_code == 401
    assert ask({"command": "calling.end", "id": str(uuid.uuid4()), "params": {}}).status_code == 404
    refused = ask({"command": "dial", "params": {"from": MENU, "to": "+49301234567"}}, path="/api/calling/rpc")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["code"] == "inline_swml_or_swml_webhook_required"
    nowhere = ask({"command": "dial", "params": {"from": MENU, "to": "+49301234567", "url": "http://127.0.0.1/"}})
    assert nowhere.json()["errors"][0]["code"] == "billing_route_not_found"


SIGNED = {"sha1": "x-signalwire-signature", "sha256": "x-signalwire-sha256-signature"}


def test_a_yaml_document_answers_a_json_request_and_may_refuse_the_call(call, app):
    document = "sections:\n  main:\n  - play: {url: 'silence:0.3', auto_answer: false}\n  - hangup: {reason: busy}\n"
    app.on("/swml", (document, 200, {"Content-Type": "text/plain"}))
    code, report = call(OWN)
    assert report["answered"] is False and code == 1, report
    (asked,) = app.wait("/swml")
    for digest, name in SIGNED.items():
        expected = hmac.new(KEY.encode(), asked.url.encode() + asked.body, digest).hexdigest()
        assert asked.headers[name] == expected
    about = told(asked)
    assert about["call"]["to"] == OWN and about["call"]["direction"] == "inbound" and about["params"] == {}
    (ended,) = app.wait("/state")
    assert (told(ended)["params"]["call_state"], told(ended)["params"]["end_reason"]) == ("ended", "busy")


def test_an_application_of_the_compatibility_api_may_answer_with_swml(call, app):
    app.on("/kind", ('{"sections":{"main":[{"play":"say:Hello"},{"execute":"end"}],"end":[{"hangup":{}}]}}', 200))
    code, report = call(KIND, "--expect", "speech", "--expect", "hangup")
    assert code == 0, report
    (asked,) = app.wait("/kind")
    assert asked["To"] == KIND


def test_the_script_continues_after_connect(call, app, phone):
    other = phone(callee(pause(1500), ends="bye"))
    steps = [
        {"connect": {"to": other.uri, "timeout": 10, "headers": [{"name": "X-Order", "value": "7"}]}},
        {"play": "say:${connect_result} ${vars.connect_result}"},
        {"request": {"url": app.url + "/moved?result=${connect_result}", "method": "GET"}},
        {"hangup": {}},
    ]
    app.on("/moved")
    app.on("/swml", (json.dumps({"version": "1.0.0", "sections": {"main": steps}}), 200))
    code, report = call(OWN, "--expect", "hangup")
    assert code == 0, report
    (moved,) = app.wait("/moved")
    assert moved["result"] == "connected"


def test_an_invalid_document_is_an_error_with_its_code(call, app, server):
    app.on("/swml", ('{"sections":{"main":[{"explode":{}}]}}', 200))
    _, report = call(OWN)
    errors = requests.get(server.http + "/console/errors", auth=(PROJECT, TOKEN), timeout=10).text
    assert "relay_script_method_undefined" in errors, errors
    assert report["ended_by"] == "other side"


def test_the_called_party_hears_the_confirm_document_and_may_refuse(call, app, phone):
    """The first hears a document that hangs up: the next one is called."""
    first, second = phone(callee()), phone(callee(pause(2500), ends="bye"))
    refuses = [{"play": "silence:0.3"}, {"hangup": {}}]
    accepts = [{"play": "silence:0.3"}, {"request": {"url": app.url + "/moved?leg=${call.direction}", "method": "GET"}}]
    serial = [{"to": first.uri, "confirm": refuses}, {"to": second.uri, "confirm": accepts}]
    steps = [
        {"connect": {"serial": serial, "timeout": 10, "result": {"case": {"connected": [
            {"request": {"url": app.url + "/moved?result=${connect_result}", "method": "GET"}},
        ]}}}},
        {"hangup": {}},
    ]
    app.on("/moved")
    app.on("/swml", (json.dumps({"sections": {"main": steps}}), 200))
    # The phones of the test send no audio.
    code, report = call(OWN, "--expect", "hangup", "--expect", "problem no-audio")
    assert code == 0, report
    confirmed, moved = app.wait("/moved", 2)
    assert confirmed["leg"] == "outbound" and moved["result"] == "connected"


def test_a_script_records_and_executes_another_document(call, app):
    app.on("/moved")
    app.on("/sub", ("sections:\n  main:\n  - return: '${params.a} and ${vars.b}'\n", 200))
    steps = [
        {"set": {"b": "b"}},
        {"execute": {"dest": app.url + "/sub", "params": {"a": 1}}},
        {"record": {"beep": True, "terminators": "5", "end_silence_timeout": 5, "format": "wav"}},
        {"request": {"url": app.url + "/moved?value=${return_value}&url=${record_url}&result=${record_result}", "method": "GET"}},
        {"join_conference": {"name": "room", "wait_url": app.url + "/wait"}},
    ]
    app.on("/swml", (json.dumps({"sections": {"main": steps}}), 200))
    app.on("/wait", ('{"sections":{"main":[{"play":"say:Please wait"}]}}', 200))
    code, report = call(OWN, "--expect", "tone", "--wait", "1", "--press", "5", "--expect", "speech", "--hangup")
    assert code == 0, report
    (moved,) = app.wait("/moved")
    assert (moved["value"], moved["result"]) == ("1 and b", "success")
    audio = requests.get(moved["url"], timeout=10)
    assert audio.status_code == 200 and audio.content[:4] == b"RIFF" and len(audio.content) > 8000
    (asked,) = app.wait("/sub")
    assert told(asked)["params"] == {"a": "1"} and told(asked)["vars"]["b"] == "b"


def test_the_transcript_of_a_call_is_sent_at_its_end(server, app, phone, talk):
    app.on("/transcript")
    app.on("/vars")
    about = "id=${call.call_id}&first=${first}&second=${transcribe_result}"
    steps = [
        {"transcribe": {"status_url": app.url + "/transcript"}},
        {"set": {"first": "${transcribe_result} ${transcribe_control_id}"}},
        {"transcribe": {}},
        {"request": {"url": app.url + "/vars?" + about, "method": "GET"}},
        {"sleep": 3500},
        {"transcribe_stop": {}},
        {"request": {"url": app.url + "/vars?stopped=${transcribe_stop_result}", "method": "GET"}},
        {"sleep": -1},
    ]
    app.on("/swml", (json.dumps({"sections": {"main": steps}}), 200))
    handset = phone(caller(OWN, talk[0] + until_told()), target=server.sip)
    (seen,) = app.wait("/vars")
    assert seen["first"].startswith("success ") and seen["second"] == "failed", "one at a time"
    again = {"command": "calling.transcribe", "id": seen["id"], "params": {"control_id": "own", "status_url": app.url + "/transcript"}}
    ask = lambda body: requests.post(server.http + "/api/calling/calls", json=body, auth=(PROJECT, TOKEN), timeout=10)
    assert ask(again).status_code == 409
    assert app.wait("/vars", 2)[1]["stopped"] == "success"
    (done,) = app.wait("/transcript")
    body = told(done)
    assert body["event_type"] == "calling.transcript.completed" and body["params"]["text"] == "I want to pay my bill"
    assert body["params"]["call_id"] == seen["id"] and uuid.UUID(body["params"]["id"])
    assert ask(again).status_code == 200
    handset.hang_up()
    (_, last) = app.wait("/transcript", 2)
    assert told(last)["params"]["control_id"] == "own", "a call's end is the end of what runs beside it"


def test_a_tap_sends_the_callers_audio_as_rtp_and_over_a_websocket(server, app, phone, rtp):
    app.on("/tap")
    app.on("/vars")
    target, octets = rtp(), queue.Queue()

    def collect(connection):
        for message in connection:
            octets.put(message)

    with websockets.sync.server.serve(collect, "127.0.0.1", 0) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        about = "id=${call.call_id}&tap=${tap_result} ${tap_uri} ${tap_codec} ${tap_ptime} ${tap_direction}"
        steps = [
            {"tap": {"uri": f"rtp://{target.address}:{target.port}", "direction": "speak", "rtp_ptime": 30, "status_url": app.url + "/tap"}},
            {"request": {"url": app.url + "/vars?" + about, "method": "GET"}},
            {"play": "ring:10"},
            {"stop_tap": {}},
            {"request": {"url": app.url + "/vars?stopped=${stop_tap_result}", "method": "GET"}},
            {"sleep": -1},
        ]
        app.on("/swml", (json.dumps({"sections": {"main": steps}}), 200))
        one = Party(phone, rtp, caller(OWN, until_told()), target=server.sip)
        with one.sounds(700):
            target.wait_for_tone(700)
            (seen,) = app.wait("/vars")
            assert seen["tap"] == f"success rtp://{target.address}:{target.port} PCMU 40 speak"
            command = {"command": "calling.tap", "id": seen["id"], "params": {
                "control_id": "ear", "tap": {"type": "audio", "params": {"direction": "both"}},
                "device": {"type": "ws", "params": {"uri": url, "codec": "PCMU"}}, "status_url": app.url + "/tap",
            }}
            ask = lambda body: requests.post(server.http + "/api/calling/calls", json=body, auth=(PROJECT, TOKEN), timeout=10)
            assert ask(command).status_code == 200

            def mixed():
                """What the caller says and what it hears, of half a second."""
                samples = LINEAR[numpy.frombuffer(b"".join(octets.get(timeout=5) for _ in range(25)), dtype=numpy.uint8)]
                return len(samples) == 25 * 160 and share(samples, 700) > 0.3 and max(share(samples, 440), share(samples, 480)) > 0.05

            wait_for("both sides in the WebSocket", mixed)
            stop = {"command": "calling.tap.stop", "id": seen["id"], "params": {"control_id": "ear"}}
            assert ask(stop).status_code == 200
        assert app.wait("/vars", 2)[1]["stopped"] == "success"
        told_of = [told(it)["params"] for it in app.wait("/tap", 4)]
        states = {kind: [it["state"] for it in told_of if it["device"]["type"] == kind] for kind in ("rtp", "ws")}
        assert states == {"rtp": ["tapping", "finished"], "ws": ["tapping", "finished"]}
        assert told_of[0]["device"]["params"] == {"addr": target.address, "port": target.port, "codec": "PCMU", "ptime": 40}
        one.hang_up()
