"""coturn, the TURN server: a browser that cannot reach a UDP port of ours reaches it through a relay."""

import subprocess

from .phone import HOST, free_port
from .waiting import wait_for


class Turn:
    """A running coturn. `urls` are those of `[ice]`, `secret` is the shared secret."""

    def __init__(self, directory, host=HOST):
        self.secret, port = "shared-with-coturn", free_port()
        self.urls = [f"turn:{host}:{port}?transport={transport}" for transport in ("udp", "tcp")]
        self._log = directory / "turn.log"
        # The relayed addresses are on this machine, too. In the Internet both options would open the machine to strangers.
        command = ["turnserver", "-n", f"--listening-ip={host}", f"--listening-port={port}", f"--relay-ip={host}", "--realm=test"]
        command += ["--use-auth-secret", f"--static-auth-secret={self.secret}", "--allow-loopback-peers", "--no-tls", "--no-dtls"]
        command += ["--no-cli", f"--pidfile={directory / 'turn.pid'}", f"--db={directory / 'turn.db'}", "--log-file=stdout", "-v"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("coturn", lambda: "TCP listener opened" in self.log() or self.process.poll() is not None, 20)
        assert self.process.poll() is None, self.log()

    def log(self):
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait(timeout=20)
