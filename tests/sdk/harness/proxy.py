"""`tandem proxy` in front of a server: what an application needs besides is two environment variables."""

import re
import signal
import subprocess

from .server import HOST, binary
from .waiting import wait_for


class Proxy:
    """A running proxy. `url` is where it listens, `ca` its authority's certificate, `bundle` that and the system's."""

    def __init__(self, server, *options):
        """In front of `server`; `options` as on the command line."""
        self._log = server.data / "proxy.log"
        command = [str(binary()), "proxy", "--config", str(server.data / "tandem.toml"), "--url", server.http]
        command += ["--listen", f"{HOST}:0", *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the proxy's address", lambda: self.process.poll() is not None or "proxy on " in self.log(), 20)
        found = re.search(r"proxy on (\S+)", self.log())
        assert found, self.log()
        self.url = found[1]
        self.ca = server.data / "ca" / "tandem-ca.pem"
        self.bundle = server.data / "ca" / "bundle.pem"

    def log(self):
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def stop(self):
        """SIGTERM; it must end with 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        print(self.log())
        assert code == 0 and "panicked" not in self.log(), f"exit code {code}"
