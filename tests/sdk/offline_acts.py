"""What test_offline.py runs in a network namespace that has only loopback: first starts with speech on this machine. Prints JSON.

    offline_acts.py ivr|agent FOLDER
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from harness.models import ChatModel
from harness.server import HOST, ROOT, Tandem, binary
from harness.waiting import wait_for
from harness.webapp import WebApp

QUESTIONS = ROOT / "tools/measure/questions"
ASKS = """<Response>
  <Gather input="speech" action="/heard" speechModel="phone_call" speechTimeout="auto">
    <Say>Welcome to the bicycle shop. How can I help you?</Say>
  </Gather>
</Response>"""
XML = {"Content-Type": "text/xml"}


class NameServer:
    """The name server of resolv.conf: counts the questions, and answers none."""

    def __init__(self):
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 53))
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self):
        while True:
            self._socket.recv(4096)
            self.questions += 1


def no_routes():
    """How many packets or connections had no route: they were for another machine."""
    four = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    six = re.search(r"^Ip6OutNoRoutes\s+(\d+)$", Path("/proc/net/snmp6").read_text(), re.MULTILINE)
    return int(dict(zip(*four))["OutNoRoutes"]) + int(six[1])


def tandem(*arguments, cwd):
    """Runs a command; gives its exit code and its output."""
    run = subprocess.run([binary(), *arguments], cwd=cwd, capture_output=True, text=True, timeout=200)
    return run.returncode, run.stdout, run.stderr


def ivr(folder):
    """An application asks by <Gather input="speech">, and a SIP phone answers with a recording."""
    app = WebApp()
    app.on("/voice", (ASKS, XML))
    app.on("/heard", ("<Response><Say>We are open from nine to six.</Say><Hangup/></Response>", XML))
    began = time.monotonic()
    server = Tandem(folder, f"""
[speech]
stt = "local"
tts = "local"
[[numbers]]
number = "600"
account = "acme"
voice_url = "{app.url}/voice"
""")
    ready = time.monotonic() - began
    code, out, error = tandem(
        "call", "600", "--server", server.sip, "--config", "tandem.toml", "--json", "--timeout", "60",
        "--expect", "speech within 20 seconds", "--expect", "silence:1", "--play", QUESTIONS / "hours.wav",
        "--expect", "speech within 20 seconds", "--expect", "hangup within 20 seconds", cwd=folder)
    heard = [request.get("SpeechResult") for request in app.to("/heard")]
    server.stop()
    app.stop()
    return {"ready": ready, "code": code, "heard": heard, "report": out + error, "log": server.log()}


def agent(folder):
    """`tandem dev --agent` finds a model server at the port of Ollama, and a SIP phone asks a question. Another program has the
    default HTTP port."""
    other = socket.create_server((HOST, 8080))
    model = ChatModel(11434, ("nomic-embed-text", "stand-in"))
    model.answer = lambda messages: "We are open from nine to six."
    began = time.monotonic()
    with (folder / "dev.log").open("w+") as log:
        command = [binary(), "dev", "--agent", "You answer the phone of a bicycle shop."]
        dev = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for("the server", lambda: dev.poll() is not None or is_ready(), 60)
        ready = time.monotonic() - began
        asked = folder / "asked"
        asked.mkdir()
        (asked / "hours.wav").write_bytes((QUESTIONS / "hours.wav").read_bytes())
        code, out, error = tandem("measure", "agent", "600", "--questions", asked, "--json", cwd=folder)
    finally:
        dev.terminate()
        dev.wait(20)
    # The first request is the question of the command before the start.
    heard = [body["messages"][-1]["content"] for body in model.asked[1:]]
    model.stop()
    other.close()
    return {"ready": ready, "code": code, "heard": heard, "report": out + error, "log": (folder / "dev.log").read_text()}


def is_ready():
    try:
        with urllib.request.urlopen(f"http://{HOST}:8081/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        del os.environ[name]
    names = NameServer()
    result = {"ivr": ivr, "agent": agent}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({**result, "no_routes": no_routes(), "name_lookups": names.questions}))
