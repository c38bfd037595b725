"""What is in front of the nodes: Kamailio for SIP and HAProxy for HTTP, each with its file of packaging/cluster as it is."""

import json
import subprocess
import urllib.request

from harness.server import ROOT
from harness.waiting import wait_for

from .network import INSIDE, OUTSIDE
from .process import Process

PACKAGE = ROOT / "packaging/cluster"
# Kamailio: where phones and carriers send to, where nodes send to, and whence the requests of carriers and the pings come.
PROXY, PROXY_INSIDE, PROXY_TRUSTED = f"{OUTSIDE}.9", f"{INSIDE}.9", f"{INSIDE}.8"
BALANCER = f"{OUTSIDE}.10"
# Calls from here need no password. Phones have other addresses.
CARRIERS = f"{OUTSIDE}.192/26"
CARRIER = f"{OUTSIDE}.201"


class Kamailio:
    """Kamailio in a namespace of its own, in front of nodes at these addresses."""

    def __init__(self, hub, directory, nodes):
        self.directory = directory
        self.namespace = hub.namespace("kamailio", inside=[PROXY_INSIDE, PROXY_TRUSTED], outside=[PROXY])
        self.url = f"http://{PROXY_INSIDE}:8060/RPC"
        self.certificate = certify(PROXY, directory / "proxy")
        self._list = directory / "dispatcher.list"
        self.set_nodes(nodes)
        environment = {"OUTSIDE": PROXY, "INSIDE": PROXY_INSIDE, "TRUSTED": PROXY_TRUSTED, "CARRIERS": CARRIERS, "NODES": f"{INSIDE}.0/24"}
        environment |= {"NODE_LIST": self._list, "FLOW_SECRET": "a secret that lasts", "TLS_CERTIFICATE": self.certificate, "TLS_KEY": directory / "proxy.key"}
        command = ["kamailio", "-DD", "-E", "-m", "64", "-M", "8", "-f", PACKAGE / "kamailio.cfg", "-Y", directory, "-P", directory / "kamailio.pid"]
        self.process = Process("Kamailio", command, directory / "kamailio.log", self.namespace, environment=environment)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def set_nodes(self, nodes):
        """Writes the list of nodes. `rpc("dispatcher.reload")` applies it to a running Kamailio."""
        self._list.write_text("".join(f"1 {uri(node)}\n" for node in nodes))

    def start(self):
        """Starts Kamailio, and waits until it answers."""
        self.process.start()
        wait_for("Kamailio", lambda: self.process.check() and self._answers(), 20)

    def rpc(self, method, *params):
        """Calls a procedure by JSON-RPC, and returns its result. An error raises."""
        answer = self._post({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        assert "error" not in answer, answer
        return answer["result"]

    def set_state(self, node, state):
        """`dispatcher.set_state` for a node (`Node`). "a": active, "i": inactive until the next ping succeeds,
        "d": disabled, whatever the pings say."""
        self.rpc("dispatcher.set_state", state, 1, uri(node.inside))

    def states(self):
        """The flags of each node by its inside address: AP (active), IP (inactive), DX (disabled)."""
        (record,) = self.rpc("dispatcher.list")["RECORDS"]
        targets = [one["DEST"] for one in record["SET"]["TARGETS"]]
        return {one["URI"].removeprefix("sip:").removesuffix(":5060"): one["FLAGS"] for one in targets}

    def takes(self, node):
        """Whether a node gets new calls."""
        return self.states()[node.inside].startswith("A")

    def wait_takes(self, node, takes=True, seconds=10):
        """Waits until a node (`Node`) gets new calls, or (takes=False) gets none any more."""
        what = f"Kamailio to send calls to {node.name}" if takes else f"Kamailio to send no calls to {node.name}"
        wait_for(what, lambda: self.takes(node) == takes, seconds)

    def close(self):
        self.process.end()
        self.namespace.close()

    def _post(self, request):
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url, json.dumps(request).encode(), headers), timeout=5) as answer:
            return json.load(answer)

    def _answers(self):
        try:
            return self.states()
        except (OSError, ValueError):
            return None


class Haproxy:
    """HAProxy in the hub, in front of the HTTP of three nodes at these addresses. `url` is its base URL."""

    def __init__(self, hub, directory, nodes):
        hub.add(OUTSIDE, BALANCER)
        self.url = f"http://{BALANCER}:80"
        environment = {"HTTP_LISTEN": f"{BALANCER}:80", "STATUS_LISTEN": f"{BALANCER}:8404"}
        environment |= {f"NODE_{name}": f"{node}:8080" for name, node in zip("ABC", nodes, strict=True)}
        command = ["haproxy", "-db", "-f", PACKAGE / "haproxy.cfg"]
        self.process = Process("HAProxy", command, directory / "haproxy.log", environment=environment)
        self.start()

    def start(self):
        """Starts HAProxy, and waits until it listens."""
        self.process.start()
        wait_for("HAProxy", lambda: self.process.check() and self.status() is not None, 20)

    def status(self):
        """What HAProxy says of each node, by its name "a", "b" or "c": "UP" or "DOWN"."""
        try:
            with urllib.request.urlopen(f"http://{BALANCER}:8404/status;csv", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        rows = [line.split(",") for line in lines if line.startswith("nodes,")]
        return {row[1]: row[17].split()[0] for row in rows if row[1] not in ("FRONTEND", "BACKEND")}

    def close(self):
        self.process.kill()


def uri(node):
    """What the list of nodes and `dispatcher.set_state` call a node with this inside address."""
    return f"sip:{node}:5060"


def certify(address, path):
    """A certificate of its own for that address, `PATH.pem`, and its key, `PATH.key`."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}", "-keyout", f"{path}.key", "-out", f"{path}.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return f"{path}.pem"
