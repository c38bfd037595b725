"""The server under test, and the web application that some of its numbers ask."""

import base64
import http.server
import json
import pathlib
import signal
import subprocess
import threading
import urllib.parse
import urllib.request

from phone import Failed, wait
from wire import Wire

USERS = {
    "alice": "webrtc = false\n",
    "bob": "webrtc = false\n",
    "carol": "webrtc = false\n",
    "dora": 'webrtc = false\nsrtp = "required"\n',
    "erin": "webrtc = true\n",
}
REALM = "tandem"
ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "of the peers"


def password(user):
    return f"of {user}"


class Application:
    """Returns a document for each path, and stores the requests."""

    def __init__(self, address):
        self.address, self.requests = address, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
                outer.requests.append((self.path, form))
                body = outer.document(self.path).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def document(self, path):
        if path == "/gather":
            return f'<Response><Gather numDigits="4" timeout="15" action="{self.url}/digits"/></Response>'
        if path == "/ring":
            return '<Response><Dial timeout="3" action="/rung"><Client>bob</Client></Dial></Response>'
        return "<Response><Hangup/></Response>"

    def last_value(self, path, field):
        """The value of this field in the last request of this path, or None."""
        return next((form.get(field) for where, form in reversed(self.requests) if where == path), None)

    def close(self):
        self.server.shutdown()


def certify(address, path):
    """A certificate of its own for that address, `PATH.pem`, and its key, `PATH.key`."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address},DNS:{address}"]
        + ["-keyout", f"{path}.key", "-out", f"{path}.pem"],
        check=True,
        capture_output=True,
    )
    return f"{path}.pem"


class Server:
    """`tandem serve` at an address of its own: UDP and TCP on 5060, TLS on 5061, HTTP on 8080."""

    def __init__(self, binary, folder, address, more="", sip="", media=""):
        self.binary, self.folder, self.address = binary, pathlib.Path(folder), address
        self.application = Application(address)
        self.wire = Wire(address)
        self.process = None
        self.certificate = certify(address, self.folder / "server")
        (self.folder / "tandem.toml").write_text(self.settings(sip, media) + more)

    def settings(self, sip, media):
        asks = "".join(
            f'[[numbers]]\nnumber = "{number}"\naccount = "peers"\nprovider = "twilio"\n'
            f'voice_url = "{self.application.url}/{path}"\n'
            for number, path in (("700", "gather"), ("701", "ring"))
        )
        users = "".join(
            f'[[endpoints]]\naccount = "peers"\nusername = "{user}"\npassword = "{password(user)}"\n{more}'
            for user, more in USERS.items()
        )
        return f"""
data_dir = "{self.folder}/data"
drain_timeout = 1
[sip]
listen = ["udp://{self.address}:5060", "tcp://{self.address}:5060", "tls://{self.address}:5061"]
session_expires = 90
{sip}
[[sip.certificates]]
certificate = "{self.folder}/server.pem"
key = "{self.folder}/server.key"
[media]
listen = "{self.address}"
ports = "20000-20499"
{media}
[http]
listen = "{self.address}:8080"
[webhooks]
allow_networks = ["{self.address}/32"]
[[accounts]]
name = "peers"
twilio = {{ account_sid = "{ACCOUNT}", auth_token = "{TOKEN}" }}
[[trunks]]
name = "nobody"
account = "peers"
uri = "sip:192.0.2.1"
inbound_from = ["192.0.2.1/32"]
{users}{asks}
[[numbers]]
number = "702"
account = "peers"
twiml = "<Response><Echo/></Response>"
"""

    def start(self):
        self.log = open(self.folder / "server.log", "ab")
        command = [self.binary, "serve", "--config", str(self.folder / "tandem.toml")]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        failure = f"the server does not start: see {self.folder}/server.log"

        def is_ready():
            if self.process.poll() is not None:
                raise SystemExit(failure)
            return self.get("/readyz")

        try:
            wait(failure, is_ready, 20)
        except Failed as error:
            raise SystemExit(failure) from error

    def get(self, path):
        """The body of the response, or None if the server does not answer with success."""
        try:
            return urllib.request.urlopen(f"http://{self.address}:8080{path}", timeout=1).read().decode()
        except OSError:
            return None

    def ask(self, path, data=None):
        """The JSON that the account gets. With data, the request is a POST."""
        credentials = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        request = urllib.request.Request(f"http://{self.address}:8080{path}", data, {"Authorization": f"Basic {credentials}"})
        return json.load(urllib.request.urlopen(request, timeout=5))

    def timeline(self):
        """The lines of the newest call's report, or nothing."""
        try:
            return "\n".join(line["text"] for line in self.ask("/console/calls/last")["timeline"])
        except OSError:
            return ""

    def is_idle(self):
        """Whether the server has no leg."""
        return "\ntandem_live_legs 0\n" in (self.get("/metrics") or "")

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)

    def close(self):
        self.stop()
        self.application.close()
