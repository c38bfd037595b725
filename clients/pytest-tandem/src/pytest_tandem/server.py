"""A Tandem server for tests: free ports, one account, numbers for voice URLs, and callers."""

import base64
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from .cases import program

ACCOUNT_SID = "AC" + "7e57" * 8
AUTH_TOKEN = "7e57" * 8
BASE = """
data_dir = "{data}"
drain_timeout = 1
[sip]
listen = ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
[http]
listen = "127.0.0.1:0"
[webhooks]
allow_networks = ["127.0.0.0/8"]
[[accounts]]
name = "test"
twilio = {{ account_sid = "{sid}", auth_token = "{token}" }}
"""


class Call:
    """A call that has ended: `passed`, `steps`, `heard`, `words`, `keys`, `problems`, `ended_by` (the report of `tandem call --json`)."""

    def __init__(self, report, lines):
        self.report, self.lines = report, lines

    def __getattr__(self, name):
        try:
            return self.report[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self):
        return f"<Call passed={self.passed}>\n{self.lines}"


class Tandem:
    """A running server. `url` is the base URL of its REST APIs; `account_sid` and `auth_token` are the credentials of its account."""

    def __init__(self, directory, config=""):
        """`config`: more TOML, such as `[speech]` and `[[endpoints]]`."""
        self.directory = Path(directory)
        self.account_sid, self.auth_token = ACCOUNT_SID, AUTH_TOKEN
        self._config = BASE.format(data=self.directory / "data", sid=ACCOUNT_SID, token=AUTH_TOKEN) + config
        self._numbers = []
        self._file, self._log = self.directory / "tandem.toml", self.directory / "tandem.log"
        self._file.write_text(self._config)
        with self._log.open("wb") as log:
            command = [program(), "serve", "--config", str(self._file)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.sip = self._logged(r"SIP on udp:(\S+)")
        self.url = "http://" + self._logged(r"HTTP on ([^;\s]+)")

    def log(self):
        """The log of the server so far."""
        return self._log.read_text(errors="replace")

    @property
    def env(self):
        """The variables of the account, as the providers' SDKs read them."""
        return {"TWILIO_ACCOUNT_SID": self.account_sid, "TWILIO_AUTH_TOKEN": self.auth_token}

    def number(self, voice_url, number=None, **settings):
        """Adds a number whose calls go to the application at this URL, and returns it. `settings`: more keys of `[[numbers]]`, such
        as `provider="texml"` and `status_callback="http://..."`."""
        number = number or str(600 + len(self._numbers))
        keys = {"number": number, "account": "test", "voice_url": voice_url, **settings}
        entry = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
        self._numbers.append(f"[[numbers]]\n{entry}\n")
        self._file.write_text(self._config + "".join(self._numbers))
        login = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        reload = urllib.request.Request(self.url + "/console/reload", method="POST", headers={"Authorization": f"Basic {login}"})
        try:
            urllib.request.urlopen(reload, timeout=30).close()
        except urllib.error.HTTPError as error:
            self._numbers.pop()
            raise ValueError(error.read().decode()) from None
        return number

    def call(self, target, steps, timeout=60, caller="+15550109999"):
        """Calls a number as `tandem call` does, and executes the steps: `[{"expect": "speech"}, {"press": 1}, "hangup"]`."""
        script = self.directory / "steps.yaml"
        # JSON is YAML. The texts are quoted, so "01" stays a text.
        script.write_text("\n".join(f"- {_step(step)}" for step in steps) + "\n")
        command = [program(), "call", target, "--config", str(self._file), "--json", f"--timeout={timeout}", f"--from={caller}"]
        run = subprocess.run([*command, "--script", str(script)], capture_output=True, text=True, timeout=timeout + 30)
        if not run.stdout:
            raise RuntimeError(run.stderr.strip())
        return Call(json.loads(run.stdout), run.stderr)

    def stop(self):
        """Ends the server, and waits for its end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _logged(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = re.search(pattern, self.log())
            if found:
                return found[1]
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log()}")
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"the server did not start in {seconds} s:\n{self.log()}")


def _step(step):
    if isinstance(step, str):
        return step
    return json.dumps({name: str(value) for name, value in step.items()})
