"""Telnyx's SDKs as they are, today's and one of an older major version of each language: each makes a call, commands it, and checks the
signatures of what it is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.party import Party
from harness.phone import callee
from harness.proxy import Proxy
from harness.server import API_KEY, ROOT
from harness.telnyx_app import CONNECTION, NUMBER, serve

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp, '[speech]\ntts = "espeak"\n')


@pytest.fixture(scope="module")
def proxy(server):
    one = Proxy(server)
    yield one
    one.stop()


def python(program, bundle):
    """Its HTTP library is told of the proxy and of whom to trust, as for any proxy that a company has."""
    return lambda server, proxy: ([str(program), "telnyx_calls.py"], {"HTTPS_PROXY": proxy.url, bundle: str(proxy.bundle)})


def node(package):
    def run(server, proxy):
        return ["node", "telnyx_calls.mjs"], {"SDK": package, "TELNYX_BASE_URL": server.http + "/v2", "TANDEM_URL": server.http}

    return run


SDKS = {
    "Python 4": python(sys.executable, "SSL_CERT_FILE"),
    "Python 2": python(ROOT / ".venv-telnyx" / "bin" / "python", "REQUESTS_CA_BUNDLE"),
    "Node 7": node("telnyx"),
    "Node 1": node("telnyx-old"),
}


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_creates_and_commands_a_call_and_accepts_its_webhooks(sdk, server, proxy, phone, rtp):
    command, how = SDKS[sdk](server, proxy)
    called = Party(phone, rtp, callee())
    hidden = ("TELNYX_", "HTTP", "TANDEM_")
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith(hidden)} | how | {
        "TELNYX_API_KEY": API_KEY, "TELNYX_PUBLIC_KEY": server.telnyx_public_key(),
        "PHONE": called.uri, "FROM": NUMBER, "CONNECTION": CONNECTION,
    }
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    program = subprocess.Popen(command, cwd=HERE, env=environment, text=True, **pipes)
    try:
        if program.stdout.readline() == "gathers\n":
            called.rtp.wait_for_sound()
            called.rtp.press("42")
        if program.stdout.readline() == "pressed\n":
            called.rtp.wait("the key", lambda: called.rtp.keys == "7")
        said, wrong = program.communicate("go on\n", timeout=60)
    finally:
        program.kill()
    assert (program.returncode, said) == (0, "done\n"), wrong
    called.phone.finish()
