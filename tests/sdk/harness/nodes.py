"""A cluster in place of each server: the tests of TANDEM_TEST_NODES=3 run against three nodes with one PostgreSQL and one NATS.

HAProxy sends each HTTP request to the next node. `sip` is the address of the next node at each use, or always that of the first
node (TANDEM_TEST_SIP=first). So a test that passes against one server and fails here has found something that a node does not
know of another."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import skips
from .phone import free_port
from .server import HOST, Tandem
from .waiting import poll, wait_for

COUNT = int(os.environ.get("TANDEM_TEST_NODES", "1"))
IN_TURNS = os.environ.get("TANDEM_TEST_SIP", "turns") == "turns"
NATS_SERVER = Path(sys.executable).with_name("nats-server")

HTTP = """
public_url = "{url}"
trusted_proxies = ["127.0.0.0/8"]
"""
CLUSTER = """
[cluster]
node = "{name}"
bus = "{bus}"
"""
HAPROXY = """
global
    log stderr format raw local0 notice
defaults
    mode http
    log global
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
    retries 2
    option redispatch
    retry-on conn-failure
listen nodes
    bind {listen}
    http-request set-header X-Forwarded-For %[src]
    balance roundrobin
{servers}
"""

# Tests that look into one process or its files.
OF_ONE_SERVER = {
    "it reads the SQLite file": [
        "test_an_api_key_is_accepted_and_its_secret_is_shown_once",
        "test_without_a_fallback_the_caller_hears_an_apology_and_the_call_ends",
        "test_an_unknown_verb_causes_a_warning_and_is_skipped",
        "test_a_dial_in_a_whisper_causes_a_warning_and_is_skipped",
    ],
    "it reads the metrics of one process": [
        "test_the_log_of_a_call_shows_the_conversation_and_the_duration_of_its_turns",
    ],
    "it counts what one process allows": [
        "test_the_number_of_followed_lists_of_an_account_is_limited",
    ],
    "it changes the configuration of one process": [
        "test_a_reload_keeps_purchased_numbers_and_changes_the_number_pool",
        "test_changed_origins_apply_to_the_next_request",
    ],
}


def why_not(name):
    """Why the test with this name cannot run against a cluster, or None."""
    return next((f"{skips.OPTIONAL}{why}" for why, names in OF_ONE_SERVER.items() if name in names), None)


class Engines:
    """One PostgreSQL and one NATS server for all clusters of this process. Each cluster has a database of its own."""

    def __init__(self, settings=None):
        """`settings` of PostgreSQL; by default, commits do not wait for the disk."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        assert found and NATS_SERVER.exists() and shutil.which("haproxy"), "TANDEM_TEST_NODES: scripts/packages.sh cluster; scripts/test-sdk.sh install"
        self._programs, self._databases = found[-1].parent, {}
        self._folder = Path(tempfile.mkdtemp(prefix="tandem-engines-"))
        self._port, nats = free_port(), free_port()
        self.bus = f"nats://{HOST}:{nats}"
        self._running = []
        # PostgreSQL does not run as root.
        self._user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        try:
            if self._user:
                shutil.chown(self._folder, "postgres", "postgres")
            self._run("initdb", "--auth=trust", "--username=tandem", "--encoding=UTF8", "--no-sync", "-D", self._folder / "data")
            settings = {"max_connections": 2000, "listen_addresses": HOST} | ({"fsync": "off"} if settings is None else settings)
            words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            self._start(self._user, [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder, "-p", self._port, *words])
            self._start([], [NATS_SERVER, "-a", HOST, "-p", nats])
            wait_for("PostgreSQL", lambda: self._run("pg_isready", "-q", *self._server(), check=False) == 0, 30)
        except BaseException:
            self.close()
            raise

    def database(self, directory):
        """The URL of the database of a cluster with its data in that directory."""
        if directory not in self._databases:
            name = f"tandem{len(self._databases)}"
            self.run_sql(f"CREATE DATABASE {name}")
            self._databases[directory] = f"postgres://tandem@{HOST}:{self._port}/{name}"
        return self._databases[directory]

    def run_sql(self, statement):
        """Runs a statement in no cluster's database."""
        self._run("psql", *self._server(), "-d", "postgres", "-qc", statement)

    @property
    def postgres_pid(self):
        return self._running[0].pid

    def close(self):
        """Ends both."""
        for one in self._running:
            one.send_signal(signal.SIGINT)  # PostgreSQL then waits for no client.
        for one in self._running:
            one.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _server(self):
        return "-h", HOST, "-p", str(self._port), "-U", "tandem"

    def _run(self, program, *words, check=True):
        command = ["setpriv", *self._user, "--", str(self._programs / program), *map(str, words)]
        return subprocess.run(command, check=check, capture_output=True, cwd="/").returncode

    def _start(self, user, command):
        with (self._folder / "log").open("ab") as log:
            # If the test process is killed, nobody else ends them.
            command = ["setpriv", "--pdeathsig", "KILL", *user, "--", *map(str, command)]
            self._running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"))


class Nodes:
    """Looks like a `Tandem`. `nodes` are the servers; `http` is the URL of HAProxy. `data`, `process` and what `_logged` finds are
    those of the first node."""

    def __init__(self, engines, directory, resources="", media=""):
        self.nodes, self._turn, self._haproxy = [], 0, None
        self.data = Path(directory)
        port = free_port()
        self.http = f"http://{HOST}:{port}"
        database = engines.database(self.data)
        try:
            for number in range(COUNT):
                name = "abcdefgh"[number]
                cluster = CLUSTER.format(name=name, bus=engines.bus)
                data = self.data / f"node-{name}" if number else self.data
                more = {"http": HTTP.format(url=self.http), "database": database, "cluster": cluster}
                self.nodes.append(Tandem(data, resources, media, **more))
            for node in self.nodes:
                wait_for("the nodes to see each other", lambda node=node: node.metric("tandem_nodes_living") == COUNT)
            self._start_haproxy(port)
        except BaseException:
            for node in self.nodes:
                node.process.kill()
                node.process.wait()
            self._end_haproxy()
            raise
        first = self.nodes[0]
        self.account_sid, self.auth_token, self.api_key = first.account_sid, first.auth_token, first.api_key
        self.process, self.telnyx_public_key = first.process, first.telnyx_public_key

    @property
    def sip(self):
        """HOST:PORT of a node."""
        return self._next().sip

    @property
    def sip_tcp(self):
        """The same for TCP."""
        return self._next().sip_tcp

    def log(self):
        """What all nodes have written."""
        return "".join(node.log() for node in self.nodes)

    def is_ready(self):
        """Whether all nodes take calls."""
        return all(node.is_ready() for node in self.nodes)

    def end(self):
        """SIGTERM to all nodes, once."""
        for node in self.nodes:
            node.end()

    def stop(self):
        """Ends all nodes, and checks each one."""
        self.end()
        faults = []
        for node in self.nodes:
            try:
                node.stop()
            except AssertionError as fault:
                faults.append(f"{node.data.name}: {fault}")
        self._end_haproxy()
        assert not faults, faults

    def _next(self):
        self._turn += IN_TURNS
        return self.nodes[(self._turn - IN_TURNS) % len(self.nodes)]

    def _start_haproxy(self, port):
        servers = "".join(f"    server {node.data.name} {node.http.removeprefix('http://')}\n" for node in self.nodes)
        (self.data / "haproxy.cfg").write_text(HAPROXY.format(listen=f"{HOST}:{port}", servers=servers))
        with (self.data / "haproxy.log").open("ab") as log:
            command = ["haproxy", "-db", "-f", str(self.data / "haproxy.cfg")]
            self._haproxy = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ready = lambda: self._haproxy.poll() is not None or self.nodes[0].is_ready(self.http)
        if not poll(ready, 10) or self._haproxy.poll() is not None:
            raise AssertionError((self.data / "haproxy.log").read_text())

    def _end_haproxy(self):
        if self._haproxy:
            self._haproxy.kill()
            self._haproxy.wait()
