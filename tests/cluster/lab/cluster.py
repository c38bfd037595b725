"""A whole cluster: nodes, what they share, and what is in front of them."""

import re
import string

from .engines import Bus, Database, start_bucket
from .network import INSIDE
from .node import Node
from .proxies import Haproxy, Kamailio

FIRST_NODE = 11  # the last number of the address of node "a"


class Cluster:
    """Nodes "a", "b", "c" ... and the rest. `nodes` has them by name; `database`, `bus`, `bucket`, `kamailio` and `haproxy` are None
    if the cluster has none.

    `joined`: the nodes have [cluster] and share `database` and `bus`. Without it, each node is a server of its own behind the
    proxies, with an SQLite, or with `on_postgres` on `database`; `engines=True` starts both all the same. `database_settings` are
    those of PostgreSQL. `resources` is TOML for every node, such as [[numbers]]; with a bucket, [recordings] is added. `start=False`
    leaves the nodes to the test: `cluster["a"].start()`."""

    def __init__(
        self,
        hub,
        directory,
        resources="",
        count=3,
        joined=True,
        engines=False,
        bucket=False,
        haproxy=False,
        start=True,
        on_postgres=False,
        database_settings=None,
    ):
        self.hub, self.directory = hub, directory
        self.database = self.bus = self.bucket = self.kamailio = self.haproxy = None
        self.nodes = {}
        names = string.ascii_lowercase[:count]
        numbers = range(FIRST_NODE, FIRST_NODE + count)
        try:
            if joined or engines or on_postgres:
                self.database = Database(hub, directory, settings=database_settings)
                self.bus = Bus(hub, directory)
            if bucket:
                self.bucket = start_bucket(hub, directory)
                resources = self.bucket.settings() + resources
            inside = [f"{INSIDE}.{number}" for number in numbers]
            self.kamailio = Kamailio(hub, directory, inside)
            if haproxy:
                self.haproxy = Haproxy(hub, directory, inside)
            urls = {"bus": self.bus.url, "proxy_url": self.kamailio.url} if joined else None
            for name, number in zip(names, numbers, strict=True):
                url = self.database.url if joined or on_postgres else None
                self.nodes[name] = Node(hub, directory, name, number, resources, url, urls)
            for node in self.nodes.values():
                node.others = {name: other for name, other in self.nodes.items() if other is not node}
            if start:
                self.start()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name):
        return self.nodes[name]

    def __iter__(self):
        return iter(self.nodes.values())

    def start(self):
        """Starts all nodes, and waits until all take calls and Kamailio knows it."""
        for node in self:
            node.start(wait=False)
        for node in self:
            node.wait_ready()
            self.kamailio.wait_takes(node)

    def node_in(self, text):
        """The node whose inside address is in the text, such as the Contact of a 200 or `Call.node`."""
        return next(node for node in self if re.search(rf"\b{re.escape(node.inside)}\b", text))

    def check(self):
        """No server may have panicked."""
        faults = [f"node {node.name}: {line}" for node in self for line in node.log().splitlines() if "panicked" in line]
        assert not faults, faults

    def close(self):
        """Ends everything at once."""
        for node in self:
            node.close()
        for part in (self.haproxy, self.kamailio, self.bus, self.database):
            if part:
                part.close()
        if self.bucket:
            self.bucket.stop()
