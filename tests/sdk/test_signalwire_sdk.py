"""SignalWire's own SDKs, unmodified, sent here by `tandem proxy`; and the applications of examples/signalwire."""

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

from harness.phone import callee, free_port
from harness.proxy import Proxy
from harness.server import ROOT, binary
from harness.signalwire import KEY, NUMBER, PROJECT, TOKEN, space
from harness.waiting import wait_for

HERE = Path(__file__).parent
PYTHON = ROOT / ".venv-signalwire" / "bin" / "python"
EXAMPLES = ["ivr", "voicemail", "callcenter", "conference", "counter"]


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(space(module_webapp.url + "/voice"))


@pytest.fixture(scope="module")
def proxy(server):
    one = Proxy(server)
    yield one
    one.stop()


def run(command, phone, **more):
    environment = os.environ | more | {
        "SIGNALWIRE_PROJECT_ID": PROJECT, "SIGNALWIRE_API_TOKEN": TOKEN, "SIGNALWIRE_SPACE_URL": "example.signalwire.com", "PHONE": phone.uri,
    }
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=90)
    print(done.stdout, done.stderr)
    assert done.returncode == 0


@pytest.fixture
def trusting(proxy):
    """The interpreter with the SDK, where certifi has our authority, too: the SDK's old twilio-python asks no variable for it."""
    assert PYTHON.exists(), "run scripts/test-sdk.sh install"
    where = subprocess.run([str(PYTHON), "-m", "certifi"], capture_output=True, text=True, check=True).stdout
    bundle = Path(where.strip())
    before = bundle.read_bytes()
    bundle.write_bytes(before + b"\n" + proxy.ca.read_bytes())
    yield str(PYTHON)
    bundle.write_bytes(before)


def test_the_unmodified_signalwire_python_sdk_works(proxy, trusting, phone):
    answers = phone(callee())
    run([trusting, "signalwire_calls.py"], answers, HTTPS_PROXY=proxy.url)
    answers.finish()


def test_the_unmodified_signalwire_node_sdk_works_and_accepts_signatures(server, proxy, module_webapp, phone):
    module_webapp.forget()
    module_webapp.on("/voice", ("<Response><Hangup/></Response>", 200, {"Content-Type": "text/xml"}))
    made = urllib.request.Request(
        f"{server.http}/api/laml/2010-04-01/Accounts/{PROJECT}/Calls.json",
        data=f"To=%2B{NUMBER[1:]}&From=%2B{NUMBER[1:]}&Url={module_webapp.url}/voice".encode(),
        headers={"Authorization": "Basic " + basic(PROJECT, TOKEN)},
    )
    urllib.request.urlopen(made).close()
    (one, *_) = wait_for("the webhook", lambda: module_webapp.to("/voice"))
    signed = {"key": KEY, "signature": one.headers["x-signalwire-signature"], "url": one.url, "form": dict(one.form)}
    answers = phone(callee())
    run(
        ["node", "signalwire_calls.mjs"], answers, HTTP_PROXY=proxy.url, NODE_EXTRA_CA_CERTS=str(proxy.ca), SIGNED=json.dumps(signed),
    )
    answers.finish()


def basic(username, password):
    import base64

    return base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize("example", [one for one in EXAMPLES if (ROOT / "examples" / "signalwire" / f"{one}.py").exists()])
def test_an_example_runs_without_any_setting_and_one_command_calls_it(example, tmp_path):
    hidden = ("SIGNALWIRE_", "TANDEM_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    port, sip, http = free_port(), free_port(), free_port()
    ports = ["--port", str(port), "--sip-port", str(sip), "--http-port", str(http)]
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "examples" / "signalwire" / "try.py"), example, *ports],
        cwd=tmp_path, env=environment | {"TANDEM": str(binary())}, capture_output=True, text=True, timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
