"""The built server, started with a configuration of the test's own."""

import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

from .waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"

ACCOUNT_SID = "AC00000000000000000000000000000001"
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
API_KEY = "KEY0123456789abcdef"
SIGNING_SEED = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

# Ports are the system's choice; the log says which. The RTP ports are neither those of a server with
# default settings nor those of the phones (phone.free_port).
RECORDINGS = """
[recordings]
url = "file:{data}/recordings"
"""
BASE = """
data_dir = "{data}"
drain_timeout = 5
[sip]
listen = ["udp://{host}:0", "tcp://{host}:0"]
[media]
listen = "{host}"
ports = "14000-19999"
{media}
[http]
listen = "{host}:0"
{http}
[database]
url = "{database}"
{cluster}
[recordings]
url = "file:{data}/recordings"

[webhooks]
allow_networks = ["127.0.0.0/8"]
[[accounts]]
name = "acme"
twilio = {{ account_sid = "{sid}", auth_token = "{token}" }}
telnyx = {{ api_key = "{key}", signing_seed = "{seed}" }}
"""


def binary():
    """The debug build of this checkout, or the one of TANDEM_PROFILE."""
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / os.environ.get("TANDEM_PROFILE", "debug") / "tandem"


class Tandem:
    """A running server. `http` is its base URL, `sip` and `sip_tcp` its HOST:PORT."""

    def __init__(self, directory, resources="", media="", http="", database=None, cluster=""):
        """`resources`: TOML behind the basic settings, such as [[numbers]], [[trunks]], [[applications]]; `media` and `http`: more
        lines of [media] and [http]; `database`: a URL in place of an SQLite file; `cluster`: [cluster]."""
        self.data = Path(directory)
        self.data.mkdir(parents=True, exist_ok=True)
        self.account_sid, self.auth_token, self.api_key = ACCOUNT_SID, AUTH_TOKEN, API_KEY
        self._told_to_end = False
        config = self.data / "tandem.toml"
        # A test may keep recordings in another place.
        base = BASE.replace(RECORDINGS, "") if "\n[recordings]" in resources else BASE
        credentials = {"sid": ACCOUNT_SID, "token": AUTH_TOKEN, "key": API_KEY, "seed": SIGNING_SEED}
        more = {"media": media, "http": http, "database": database or f"sqlite:{self.data}/tandem.db", "cluster": cluster}
        base = base.format(data=self.data, host=HOST, **credentials, **more)
        config.write_text(base + resources)
        self._log = self.data / "tandem.log"
        with self._log.open("wb") as log:
            command = [str(binary()), "serve", "--config", str(config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for("the server's addresses", lambda: not self._alive() or "HTTP on " in self.log(), 20)
            self.sip = self._logged(r"SIP on udp:(\S+)")
            self.sip_tcp = self._logged(r"SIP on tcp:(\S+)")
            self.http = "http://" + self._logged(r"HTTP on ([^;\s]+)")
            wait_for("/readyz", self.is_ready)
        except BaseException:
            self.process.kill()
            self.process.wait()
            print(self.log())
            raise

    def log(self):
        """What it has written to standard error so far."""
        return self._log.read_text(errors="replace")

    def telnyx_public_key(self):
        """The key that its Telnyx webhooks are verified with, base64."""
        return self._logged(r"Telnyx public key: (\S+)")

    def is_ready(self, url=None):
        """Whether it takes calls, asked at its own URL or at that of a proxy."""
        try:
            with urllib.request.urlopen((url or self.http) + "/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def metric(self, name):
        """The sum of a metric over its labels, such as "tandem_live_legs"."""
        with urllib.request.urlopen(self.http + "/metrics", timeout=5) as answer:
            page = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))

    def end(self):
        """SIGTERM, once: it drains."""
        if self._alive() and not self._told_to_end:
            self.process.send_signal(signal.SIGTERM)
        self._told_to_end = True

    def stop(self):
        """Ends it and waits. It must drain, say nothing that is an error, and exit with 0."""
        self.end()
        try:
            code = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "none: it would not end"
        log = self.log()
        print(log[-20_000:])
        assert code == 0, f"exit code {code}"
        faults = [line for line in log.splitlines() if " ERROR " in line or "panicked" in line]
        assert not faults, faults

    def _alive(self):
        return self.process.poll() is None

    def _logged(self, pattern):
        found = re.search(pattern, self.log())
        assert found, f"no {pattern} in the log:\n{self.log()}"
        return found[1]
