"""What the nodes share: PostgreSQL, NATS and a bucket, each at an address of its own in the hub."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from harness import bucket
from harness.waiting import wait_for

from .network import INSIDE
from .process import Process

DATABASE, BUS, BUCKET = f"{INSIDE}.201", f"{INSIDE}.202", f"{INSIDE}.203"
NATS_SERVER = Path(sys.executable).with_name("nats-server")


class Database:
    """A PostgreSQL server. `url` is that of a database `tandem`."""

    def __init__(self, hub, directory, address=DATABASE, namespace=None, settings=None):
        """At an address of the hub, or of the namespace. `settings`: more settings of PostgreSQL."""
        if namespace is None:
            hub.add(INSIDE, address)
        self._address, self._namespace, self._programs = address, namespace, postgres_programs()
        # PostgreSQL does not run as root. Its user cannot read the directory of a test, so the data is in another place.
        self._data = Path(tempfile.mkdtemp(prefix="tandem-postgres-"))
        self._process = None
        try:
            shutil.chown(self._data, "postgres", "postgres")
            words = [self._programs / "initdb", "--auth=trust", "--username=tandem", "--encoding=UTF8", "--no-sync", "-D", self._data / "data"]
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
            subprocess.run([*as_user, *map(str, words)], check=True, capture_output=True, cwd="/")
            with (self._data / "data/pg_hba.conf").open("a") as file:
                file.write(f"host all all {INSIDE}.0/24 trust\n")
            command = [self._programs / "postgres", "-D", self._data / "data", "-k", self._data]
            ours = {"listen_addresses": address, "fsync": "off", "max_connections": 200, "shared_buffers": "32MB"}
            # A connection to a node that is cut off ends soon, so that its locks do.
            ours |= {"tcp_keepalives_idle": 2, "tcp_keepalives_interval": 1, "tcp_keepalives_count": 3, "tcp_user_timeout": 5000}
            for name, value in (ours | (settings or {})).items():
                command += ["-c", f"{name}={value}"]
            self._process = Process("PostgreSQL", command, directory / "postgres.log", namespace, user="postgres")
            self.start()
            self.query("CREATE DATABASE tandem", "postgres")
        except BaseException:
            self.close()
            raise
        self.url = f"postgres://tandem@{address}:5432/tandem"

    def start(self):
        """Starts the server, and waits until it answers."""
        self._process.start()
        wait_for("PostgreSQL", lambda: self._process.check() and self._client("pg_isready", "-q", "-d", "postgres").returncode == 0, 30)

    def stop(self):
        """Ends the server as an administrator would: it ends all connections."""
        self._process.stop(signal.SIGINT)

    def kill(self):
        """SIGKILL to all processes of the server."""
        self._signal_all("-KILL")
        self._process.kill()
        (self._data / "data/postmaster.pid").unlink(missing_ok=True)

    def freeze(self):
        """The server does nothing, and keeps its connections."""
        self._signal_all("-STOP")

    def thaw(self):
        self._signal_all("-CONT")

    @property
    def pid(self):
        """That of the postmaster, whose children are the other processes."""
        return self._process.pid

    def query(self, sql, database="tandem"):
        """Runs a statement. Returns the rows, each as a list of texts."""
        done = self._client("psql", "-d", database, "-XAtqF", "\t", "-v", "ON_ERROR_STOP=1", "-c", sql)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def close(self):
        """Ends the server at once, and removes its data."""
        if self._process and self._process.is_running():
            self.thaw()
            self._process.stop(signal.SIGQUIT)
        shutil.rmtree(self._data, ignore_errors=True)

    def _client(self, name, *words):
        """Runs a client program of PostgreSQL to its end."""
        command = [str(self._programs / name), "-h", self._address, "-U", "tandem", *words]
        command = self._namespace.command(*command) if self._namespace else command
        return subprocess.run(command, capture_output=True, text=True, timeout=20)

    def _signal_all(self, number):
        """Each process of PostgreSQL has a session of its own, so a process group does not have all of them."""
        parent = str(self._process.pid)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", parent], capture_output=True, text=True).stdout
        # A process may have ended since then.
        subprocess.run(["kill", number, parent, *children.split()], capture_output=True)


class Bus:
    """A NATS server with JetStream."""

    def __init__(self, hub, directory):
        hub.add(INSIDE, BUS)
        self.url = f"nats://{BUS}:4222"
        store = directory / "jetstream"
        command = [NATS_SERVER, "-a", BUS, "-p", "4222", "-m", "8222", "-js", "-sd", store]
        self._process = Process("NATS", command, directory / "nats.log")
        self.start()

    def start(self):
        """Starts the server, and waits until it answers."""
        self._process.start()
        wait_for("NATS", lambda: self._process.check() and self._monitor("healthz"), 20)

    def stop(self):
        """Ends the server. What JetStream has stays."""
        self._process.stop()

    def kill(self):
        self._process.kill()

    def freeze(self):
        """The server does nothing, and keeps its connections."""
        self._process.freeze()

    def thaw(self):
        self._process.thaw()

    @property
    def pid(self):
        return self._process.pid

    def messages(self):
        """The messages that have come in and gone out since the start."""
        figures = self._monitor("varz")
        return figures["in_msgs"] + figures["out_msgs"]

    def connections(self):
        """The addresses of the programs that are connected, such as "10.77.0.11"."""
        return sorted(one["ip"] for one in self._monitor("connz")["connections"])

    def close(self):
        self._process.kill()

    def _monitor(self, path):
        try:
            with urllib.request.urlopen(f"http://{BUS}:8222/{path}", timeout=2) as answer:
                return json.load(answer)
        except OSError:
            return None


def start_bucket(hub, directory):
    """SeaweedFS (harness.bucket.Bucket) at the address of the bucket: `settings()` is TOML for a node."""
    hub.add(INSIDE, BUCKET)
    bucket.HOST = BUCKET  # The module listens on this address, and connects to it.
    return bucket.Bucket(directory)


def postgres_programs():
    """The folder of the programs of PostgreSQL, or None. Debian's programs in PATH are wrappers."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None
