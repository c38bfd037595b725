"""SWML: documents that signalwire-sdk serves, unmodified, and whose requests it checks; and documents of the test's own."""

import hashlib
import hmac
import json
import os
import subprocess

import pytest

from harness.phone import free_port
from harness.server import ROOT, binary
from harness.waiting import wait_for

PROJECT, TOKEN, KEY = "6b2d7f6e-3c55-4d2c-9a37-0c1d6f3f9a10", "PT5e1f0a9b8c7d6e5f", "PSK_0a1b2c3d4e5f"
PYTHON = ROOT / ".venv-swml" / "bin" / "python"
MENU, OWN, KIND = "+15551230001", "+15551230002", "+15551230003"


@pytest.fixture(scope="module")
def menu_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, menu_port):
    keys = f'{{ project_id = "{PROJECT}", api_token = "{TOKEN}", signing_key = "{KEY}" }}'
    menu = f"http://swml:pass%20word@127.0.0.1:{menu_port}/menu"
    return start_tandem(f"""
[[accounts]]
name = "space"
signalwire = {keys}

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


def test_a_service_of_signalwire_sdk_answers_a_call_records_it_and_is_told(call, sdk, app):
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
