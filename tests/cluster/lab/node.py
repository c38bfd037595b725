"""A node: the built server in a namespace of its own."""

import re
import signal
import urllib.error
import urllib.request

from harness.server import ACCOUNT_SID, API_KEY, AUTH_TOKEN, SIGNING_SEED, binary
from harness.waiting import wait_for

from .engines import BUCKET, BUS, DATABASE
from .network import INSIDE, OUTSIDE
from .process import Process
from .proxies import CARRIER, PROXY, PROXY_INSIDE, PROXY_TRUSTED

# The names of users in the address of a phone: the address of the proxy, or this name.
DOMAIN = "voice.test"
CONFIG = """
data_dir = "{data}"
drain_timeout = 5

[sip]
listen = ["udp://{inside}:5060", "tcp://{inside}:5060"]
[sip.registrar]
domains = ["{proxy}", "{domain}"]
keep_alive = "options"
[sip.bans]
never = ["{network}.0/24"]

[media]
listen = "{outside}"
ports = "20000-20999"
kernel_relay = "off"

[http]
listen = "{inside}:8080"
metrics_listen = "127.0.0.1:9464"
trusted_proxies = ["127.0.0.0/8", "{network}.254/32"]

[webhooks]
allow_networks = ["{network}.0/24", "{outside_network}.0/24"]

[[accounts]]
name = "acme"
twilio = {{ account_sid = "{sid}", auth_token = "{token}" }}
telnyx = {{ api_key = "{key}", signing_seed = "{seed}" }}

[[trunks]]
name = "carrier"
account = "acme"
uri = "sip:{carrier}:5060"
inbound_from = ["{trusted}/32"]
prefixes = ["+"]

[database]
url = "{database}"
"""
CLUSTER = """
[cluster]
node = "{name}"
bus = "{bus}"
sip = "udp://{inside}:5060"
proxies = ["{proxy_url}"]
"""


class Node:
    """A node with a name such as "a". `inside` is its address for SIP and HTTP, `outside` that for audio; `http` is its base URL.

    `resources`: TOML behind the settings of every node. `database_url`: that of the cluster, or None for an SQLite of its own.
    `cluster`: the URLs for [cluster], or None for a server that knows of no other."""

    account_sid, auth_token, api_key = ACCOUNT_SID, AUTH_TOKEN, API_KEY

    def __init__(self, hub, directory, name, number, resources="", database_url=None, cluster=None):
        self.name, self.data = name, directory / name
        self.data.mkdir()
        self.inside, self.outside = f"{INSIDE}.{number}", f"{OUTSIDE}.{number}"
        self.http = f"http://{self.inside}:8080"
        self.namespace = hub.namespace(f"node-{name}", inside=[self.inside], outside=[self.outside])
        self.config = self.data / "tandem.toml"
        addresses = {"inside": self.inside, "outside": self.outside, "network": INSIDE, "outside_network": OUTSIDE}
        addresses |= {"proxy": PROXY, "trusted": PROXY_TRUSTED, "carrier": CARRIER, "domain": DOMAIN}
        credentials = {"sid": ACCOUNT_SID, "token": AUTH_TOKEN, "key": API_KEY, "seed": SIGNING_SEED}
        database = database_url or f"sqlite:{self.data}/tandem.db"
        text = CONFIG.format(data=self.data / "data", database=database, **addresses, **credentials)
        if cluster:
            text += CLUSTER.format(name=name, inside=self.inside, **cluster)
        self.config.write_text(text + resources)
        self.use(binary())

    def use(self, program):
        """The program of the next start. The node must not run."""
        log = self.data / "tandem.log"
        self.process = Process(f"node {self.name}", [program, "serve", "--config", self.config], log, self.namespace)

    def start(self, wait=True):
        """Starts the server, and waits until it takes calls."""
        self.process.start()
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=30):
        """Waits until the server takes calls."""
        wait_for(f"/readyz of node {self.name}", lambda: self.process.check() and self.is_ready(), seconds)

    def kill(self):
        """SIGKILL: the server ends at once, and says nothing to anybody."""
        self.process.kill()

    def drain(self):
        """SIGTERM, without waiting: the server takes no more calls, and ends with the last one."""
        self.process.running.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM, and waits for the end. The exit code must be 0."""
        code = self.process.stop()
        assert code == 0, f"node {self.name} ended with {code}\n{self.log()[-4000:]}"

    def freeze(self):
        """SIGSTOP: for all others the node is dead, but it does not know this when it goes on."""
        self.process.freeze()

    def thaw(self):
        """SIGCONT."""
        self.process.thaw()

    def log(self):
        """What the server has written in all its starts."""
        return self.process.log()

    def get(self, path, seconds=2):
        """The status and the body of a GET, or None without an answer."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError:
            return None

    def is_ready(self):
        """Whether the server takes calls."""
        answer = self.get("/readyz")
        return answer is not None and answer[0] == 200

    def metric(self, name):
        """The sum of a metric over its labels, such as "tandem_live_legs", as the node itself sees it."""
        page = self.namespace.run("curl", "-sS", "-m", "5", "http://127.0.0.1:9464/metrics")
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))

    def cut(self, *what):
        """Drops all packets between this node and: "database", "bus", "bucket", "proxy" (Kamailio), "nodes" (all others), "outside"
        (phones, carriers, audio), another node by its name, or "all". Established connections stay open, in silence."""
        for one in what:
            self.namespace.cut(_table(one), self._addresses(one))

    def heal(self, *what):
        """Ends these cuts."""
        for one in what:
            self.namespace.heal(_table(one))

    def close(self):
        """Ends the server at once, and removes its namespace."""
        self.process.kill()
        self.namespace.close()

    # The other nodes by name. The lab sets it.
    others = {}

    def _addresses(self, what):
        if what in self.others:
            return [self.others[what].inside, self.others[what].outside]
        nodes = [address for node in self.others.values() for address in (node.inside, node.outside)]
        return {
            "all": None,
            "database": [DATABASE],
            "bus": [BUS],
            "bucket": [BUCKET],
            "proxy": [PROXY, PROXY_INSIDE, PROXY_TRUSTED],
            "nodes": nodes,
            "outside": [f"{OUTSIDE}.0/24"],
        }[what]


def _table(what):
    return f"cut_{what}"
