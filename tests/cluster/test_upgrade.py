"""Three nodes of an earlier version are upgraded one after the other while calls come, as docs/cluster.md says.
`TANDEM_PREVIOUS=PROGRAM pytest tests/cluster/test_upgrade.py`, with the program of the earlier version."""

import itertools
import os
import pathlib
import threading
import time

import pytest

from harness import skips
from harness.resources import table
from harness.server import binary
from harness.waiting import poll, wait_for
from lab.application import FINAL, Application, misplaced, of_calls
from lab.crowd import Crowd
from lab.network import OUTSIDE
from lab.proxies import CARRIER, PROXY
from lab.rest import Rest

PREVIOUS = pathlib.Path(os.environ.get("TANDEM_PREVIOUS", ""))
EVENTS = "initiated ringing answered completed"
SECONDS, EVERY = 6.0, 0.25  # of each call; between two calls
DOCUMENTS = {
    "/gather": "<Response><Gather timeout='60'/></Response>",
    "/number": f"<Response><Dial><Number statusCallback='/child' statusCallbackEvent='{EVENTS}'>+15550001234</Number></Dial></Response>",
    # A new conference every 8 s: a node with a conference in which callers always are never has 0 legs.
    "/conference": lambda _form: f"<Response><Dial><Conference>room {time.time() // 8:.0f}</Conference></Dial></Response>",
}
KINDS = {"700": "/gather", "702": "/number", "704": "/conference"}

pytestmark = pytest.mark.skipif(not PREVIOUS.is_file(), reason=f"{skips.OPTIONAL}TANDEM_PREVIOUS is not the program of an earlier version")


@pytest.fixture(scope="module")
def application(hub):
    one = Application(DOCUMENTS)
    yield one
    one.close()


@pytest.fixture(scope="module")
def cluster(start_cluster, application):
    numbers = application.numbers(KINDS)
    cluster = start_cluster(numbers, joined=True, start=False)
    for node in cluster:
        node.use(PREVIOUS)
    cluster.start()
    return cluster


class Load:
    """Calls through the proxy, and reads of each call by REST at one node after the other."""

    def __init__(self, hub, cluster, application):
        self.callers, self.callees = Crowd(hub, f"{OUTSIDE}.202", (PROXY, 5060)), Crowd(hub, CARRIER)
        self.read, self.not_read = 0, []
        self._cluster, self._application, self._over = cluster, application, threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._call, self._read)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        wait_for("the end of the calls", lambda: not any(call.is_up or call.status is None for call in self.callers.calls), 30)

    def close(self):
        self._over.set()
        self.callers.close()
        self.callees.close()

    def _call(self):
        for number in itertools.cycle(KINDS):
            if self._over.wait(EVERY):
                return
            self.callers.call(number, KINDS[number], SECONDS)

    def _read(self):
        """Like a client of a balancer: a node that does not take calls is not asked."""
        nodes = itertools.cycle(self._cluster)
        while not self._over.wait(0.5):
            begun = [one for path in KINDS.values() for one in self._application.to(path) if 1 < time.time() - one.at < SECONDS - 1]
            node = next(node for node in nodes if node.is_ready())
            if begun:
                status, answer = Rest(node, 3).call(begun[0].sid)
                if status == 200:
                    self.read += 1
                else:
                    self.not_read.append((node.name, status, answer))


def drain(node, at):
    """`tandem drain NODE` at another node."""
    done = at.namespace.run(str(binary()), "drain", node.name, "--config", str(at.config))
    print(done)


def legs(node, at):
    """The legs of a node, as another node sees them."""
    nodes = Rest(at).console("/nodes")[1]["nodes"]
    return next(one["legs"] for one in nodes if one["name"] == node.name)


def test_nodes_are_upgraded_one_after_the_other_without_a_lost_call(hub, cluster, application):
    load = Load(hub, cluster, application)
    try:
        poll(lambda: False, 5)
        for node in cluster:
            others = [other for other in cluster if other is not node]
            drain(node, others[0])
            cluster.kamailio.wait_takes(node, False)
            wait_for("the end of the calls of the node", lambda node=node: legs(node, others[0]) == 0, 30)
            node.stop()
            node.use(binary())
            node.start()
            cluster.kamailio.wait_takes(node)
            poll(lambda: False, 5)
        load.stop()
    finally:
        load.close()
    calls = load.callers.calls
    print(f"{len(calls)} calls, {load.read} reads")
    assert len(calls) > 60 and load.read > 20
    assert not load.not_read, load.not_read[:5]
    refused = [call for call in calls if call.status != 200]
    assert not refused, refused[:5]
    cut = [(call.kind, call.ended_by) for call in calls if call.ended_by != "us"]
    assert not cut, cut
    first = {one.sid for path in KINDS.values() for one in application.to(path)}
    finals = of_calls(one for one in application.to("/status") if one.status in FINAL)
    wait_for("all final webhooks", lambda: first <= {one.sid for one in application.to("/status") if one.status in FINAL}, 10)
    assert all(len(came) == 1 for came in finals.values())
    orders = [(sid, misplaced(came)) for sid, came in of_calls(application.to("/child")).items() if misplaced(came)]
    assert not orders, orders
    cluster.check()
