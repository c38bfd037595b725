"""packaging/cluster/compose.yaml: its files are valid, and its programs work together as processes of one namespace."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.phone import caller
from harness.server import binary
from harness.waiting import wait_for
from lab.engines import NATS_SERVER, Database
from lab.process import Process
from lab.proxies import PACKAGE

PUBLIC, CARRIER = "203.0.113.5", "203.0.113.99"
# What .env has.
GIVEN = {
    "PUBLIC_IP": PUBLIC,
    "HOST_NAME": "voice.example.com",
    "ACCOUNT_SID": "AC00000000000000000000000000000001",
    "AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    "POSTGRES_PASSWORD": "of-postgres",
    "NATS_PASSWORD": "of-nats",
    "S3_SECRET": "of-the-bucket",
    "FLOW_SECRET": "of-the-flows",
    "CARRIERS": f"{CARRIER}/32",
}
SERVICES = yaml.safe_load((PACKAGE / "compose.yaml").read_text())["services"]
NODES = [name for name in SERVICES if name.startswith("node-")]
WEED = Path(sys.executable).with_name("weed")


def environment(service):
    """The variables that a service gets. A variable without a value has that of .env, if there is one."""
    given = SERVICES[service]["environment"]
    values = {name: GIVEN.get(name) if value is None else filled(value) for name, value in given.items()}
    return {name: value for name, value in values.items() if value is not None}


def filled(text):
    return re.sub(r"\$\{(\w+)(?::\?[^}]*)?\}", lambda found: GIVEN[found[1]], str(text))


def check(command, service, **more):
    done = subprocess.run(command, env=os.environ | environment(service) | more, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_of_the_composition_is_there_and_valid(hub):
    for service in SERVICES.values():
        mounted = [one.split(":")[0] for one in service.get("volumes", []) if one.startswith("./")]
        assert all((PACKAGE / one).exists() for one in mounted if one != "./tls"), mounted
    for node in NODES:
        check([binary(), "check", "--config", PACKAGE / "tandem.toml"], node)
    check(["kamailio", "-c", "-f", PACKAGE / "kamailio.cfg"], "kamailio", NODE_LIST=str(PACKAGE / "dispatcher.list"))
    check(["haproxy", "-c", "-f", PACKAGE / "haproxy.cfg"], "haproxy")


@pytest.fixture
def host(hub):
    """A host with the public address."""
    namespace = hub.namespace("host")
    namespace.run("ip", "addr", "add", f"{PUBLIC}/32", "dev", "lo")
    namespace.run("ip", "addr", "add", f"{CARRIER}/32", "dev", "lo")
    yield namespace
    namespace.close()


def test_the_programs_of_the_composition_take_calls_and_requests(hub, host, tmp_path):
    running = []

    def start(service, *command, **more):
        variables = environment(service) | more if "environment" in SERVICES[service] else {}
        running.append(Process(service, command, tmp_path / f"{service}.log", host, environment=variables, directory=tmp_path))
        running[-1].start()
        return running[-1]

    def given(service, folder):
        (tmp_path / folder).mkdir()
        return [word.replace("/data", str(tmp_path / folder)) for word in SERVICES[service]["command"]]

    database = Database(hub, tmp_path, "127.0.0.1", host)
    try:
        start("nats", NATS_SERVER, *map(filled, SERVICES["nats"]["command"]))
        start("s3", WEED, *given("s3", "objects"), "-ip=127.0.0.1")
        wait_for("the bucket", lambda: makes_bucket(host), 60)
        start("kamailio", "kamailio", "-DD", "-E", "-f", PACKAGE / "kamailio.cfg", "-Y", tmp_path, "-P", tmp_path / "pid", NODE_LIST=PACKAGE / "dispatcher.list")
        start("haproxy", "haproxy", "-db", "-f", PACKAGE / "haproxy.cfg")
        for node in NODES:
            start(node, binary(), "serve", "--config", PACKAGE / "tandem.toml", TANDEM_DATA_DIR=tmp_path / node)
        wait_for("three nodes", lambda: all(one.check() for one in running) and nodes_up(host) == 3, 60)
        (tmp_path / "scenario.xml").write_text(caller("600"))
        sipp = ["sipp", f"{PUBLIC}:5060", "-sf", tmp_path / "scenario.xml", "-i", CARRIER, "-m", 12, "-r", 10, "-nostdin", "-timeout", 20, "-timeout_error"]
        host.run(*map(str, sipp), seconds=40)

        def ended():
            return [(tmp_path / f"{node}.log").read_text().count("inbound call ended") for node in NODES]

        wait_for("the end of 12 calls in the logs", lambda: sum(ended()) == 12, 5)
        assert sum(1 for one in ended() if one) >= 2, ended()
        api = f"http://{PUBLIC}:8080/2010-04-01/Accounts/{GIVEN['ACCOUNT_SID']}.json"
        answer = host.run("curl", "-sS", "-m", "5", "-u", f"{GIVEN['ACCOUNT_SID']}:{GIVEN['AUTH_TOKEN']}", api)
        assert GIVEN["ACCOUNT_SID"] in answer and '"active"' in answer, answer
    finally:
        for one in reversed(running):
            one.kill()
        database.close()


def makes_bucket(host):
    """Runs the command of the service `bucket`, as it is except for the program's path and the name of the host."""
    script = SERVICES["bucket"]["command"][0].replace("weed shell", f"{WEED} shell").replace("s3:9333", "127.0.0.1:9333")
    return subprocess.run(host.command("sh", "-c", script), capture_output=True, timeout=60).returncode == 0


def nodes_up(host):
    """How many nodes HAProxy and Kamailio send requests to: the smaller number."""
    status = host.command("curl", "-s", "http://127.0.0.1:8404/status;csv")
    up = sum(1 for line in subprocess.run(status, capture_output=True, text=True).stdout.splitlines() if re.match("nodes,[abc],.*,UP,", line))
    request = '{"jsonrpc": "2.0", "method": "dispatcher.list", "id": 1}'
    listing = host.command("curl", "-s", "-d", request, "http://127.0.0.2:8060/RPC")
    active = subprocess.run(listing, capture_output=True, text=True).stdout.count('"AP"')
    return min(up, active)
