"""What a call costs on one, two and three nodes, and on one server without [cluster] with the same PostgreSQL: CPU time, writes to the
database, messages on the bus. And what a node costs without calls. `pytest tests/cluster --measure ROUNDS`, with a release build
(TANDEM_PROFILE=release) on a machine that does nothing else. docs/scale.md has the results.

Prints a table and writes `figures/cluster-costs.json`. A call: in from a carrier through Kamailio; <Say>, <Gather> that times out,
<Dial><Number> to the carrier; six status webhooks; one GET of the call by REST, 20 s in all. The application ends every fourth call
by REST. Requests go to one node after the other. The phones send two RTP packets a second, so this is the cost of a call almost
without its audio: a call with all its audio costs more, on every cluster."""

import collections
import itertools
import json
import os
import statistics
import threading
import time

import pytest

from harness.resources import table
from harness.server import ROOT, binary
from harness.waiting import poll, wait_for
from lab.application import Application
from lab.costs import DATABASE_SETTINGS, Counters, memory_of, per
from lab.crowd import Crowd
from lab.network import OUTSIDE
from lab.proxies import CARRIER, PROXY
from lab.rest import Rest

pytestmark = pytest.mark.measure

RATE, LENGTH = float(os.environ.get("RATE", "8")), 20.0  # calls a second, seconds of each call
LOAD = float(os.environ.get("SECONDS_EACH", "60"))  # seconds of new calls
PULSE = 0.5  # seconds between two RTP packets of a phone
WARM_UP, IDLE, AFTER = 16, 20.0, 12.0  # calls before all; seconds of no calls; seconds after the last call for late writes
EVENTS = "initiated ringing answered completed"
DOCUMENTS = {
    "/voice": "<Response><Gather timeout='2' numDigits='1' actionOnEmptyResult='true' action='/menu'>"
    "<Say>Hello and welcome. Press one for sales.</Say></Gather></Response>",
    "/menu": f"<Response><Say>One moment please.</Say><Dial><Number statusCallback='/child' statusCallbackEvent='{EVENTS}'>"
    "+15550001234</Number></Dial></Response>",
}
# The clusters: (what, nodes, with [cluster]).
SETTINGS = [("one server, no [cluster]", 1, False), ("1 node", 1, True), ("2 nodes", 2, True), ("3 nodes", 3, True)]
if only := os.environ.get("ONLY"):
    SETTINGS = [one for one in SETTINGS if one[0] in only.split(",")]
MILLISECONDS = {"cpu_tandem", "cpu_postgres", "cpu_nats", "cpu_kamailio"}


class Load:
    """Calls at a steady rate, and what the application asks by REST."""

    def __init__(self, hub, nodes):
        self.application = Application(DOCUMENTS | {"/voice": self._begin})
        self.callers = Crowd(hub, f"{OUTSIDE}.202", (PROXY, 5060), pulse=PULSE)
        self.callees = Crowd(hub, CARRIER, pulse=PULSE)
        self.refused = []  # answers to REST other than 200
        self._nodes, self._due, self._over = nodes, collections.deque(), threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def settings(self):
        """TOML for the nodes."""
        return self.application.numbers({"700": "/voice"})

    def run(self, count):
        """Makes so many calls, and waits for the last webhook. Returns what has gone wrong."""
        if not self._thread.is_alive():
            self._thread.start()
        before, received = len(self.callers.calls), len(self.application.to("/status"))
        begun = time.monotonic()
        for number in range(count):
            self._over.wait(max(0.0, begun + number / RATE - time.monotonic()))
            by_rest = number % 4 == 3
            self.callers.call("700", "rest" if by_rest else "bye", None if by_rest else LENGTH)
        calls = self.callers.calls[before:]
        wait_for("the end of the calls", lambda: not any(call.is_up or call.status is None for call in calls), LENGTH + 30)
        poll(lambda: len(self.application.to("/status")) >= received + count, 10)
        faults = [(call.kind, call.status, call.ended_by) for call in calls if call.status != 200 or call.ended_by != ("them" if call.kind == "rest" else "us")]
        if len(self.application.to("/status")) != received + count:
            faults.append(f"{len(self.application.to('/status')) - received} final webhooks of {count} calls")
        return faults + [self.refused.pop() for _ in list(self.refused)]

    def close(self):
        self._over.set()
        self.callers.close()
        self.callees.close()
        self.application.close()

    def _begin(self, form):
        """A call begins: it is asked for after 5 s, and each fourth one is ended."""
        now, caller = time.monotonic(), form["From"]
        kind = next((call.kind for call in reversed(self.callers.calls) if call.caller == caller), None)
        self._due.append((now + 5, form["CallSid"], {}))
        if kind == "rest":
            self._due.append((now + LENGTH - 1, form["CallSid"], {"Status": "completed"}))
        return DOCUMENTS["/voice"]

    def _ask(self):
        turns = itertools.cycle([Rest(node) for node in self._nodes()])
        while not self._over.wait(0.02):
            for one in [one for one in list(self._due) if one[0] <= time.monotonic()]:
                self._due.remove(one)
                status, answer = next(turns).call(one[1], **one[2])
                if status != 200:
                    self.refused.append((status, answer))


def measure(hub, start_cluster, count, joined):
    """One round with one cluster: {"faults", "calls", "call": each call, "idle": each second, "memory": octets}."""
    nodes = []
    load = Load(hub, lambda: nodes)
    try:
        cluster = start_cluster(load.settings(), count=count, joined=joined, on_postgres=True, database_settings=DATABASE_SETTINGS)
        cluster.database.query("CREATE EXTENSION pg_stat_statements")
        nodes.extend(cluster)
        faults = load.run(WARM_UP)
        poll(lambda: False, AFTER)
        start = Counters.of(cluster)
        poll(lambda: False, IDLE)
        idle = Counters.of(cluster)
        calls = int(RATE * LOAD)
        faults += load.run(calls)
        poll(lambda: False, AFTER)
        loaded = Counters.of(cluster)
        idle, used = idle.since(start), loaded.since(idle)
        statements = cluster.database.query(r"SELECT calls, regexp_replace(query, '\s+', ' ', 'g') FROM pg_stat_statements ORDER BY calls DESC LIMIT 40")
        webhooks = collections.Counter(one.path for one in load.application.to(None))
        return {
            "calls": calls,
            "faults": faults,
            "call": per(used, idle, calls),
            "idle": {name: value / idle["seconds"] for name, value in idle.items() if name != "seconds"},
            "memory": [memory_of(node.process.pid) for node in cluster],
            "webhooks": {path: number / (calls + WARM_UP) for path, number in webhooks.items()},
            "statements": statements,
            "events": cluster.database.query("SELECT kind, count(*) FROM events GROUP BY kind"),
            "resources": cluster.database.query("SELECT kind, count(*) FROM resources GROUP BY kind"),
            "connections": int(cluster.database.query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'tandem'")[0][0]) - 1,
        }
    finally:
        load.close()


def test_a_call_costs_the_same_on_one_node_and_on_many(hub, start_cluster, request):
    rounds = request.config.getoption("--measure")
    results = collections.defaultdict(list)
    for number in range(rounds):
        for what, count, joined in SETTINGS:
            one = measure(hub, start_cluster, count, joined)
            results[what].append(one)
            shown = {name: round(1000 * value if name in MILLISECONDS else value, 2) for name, value in one["call"].items()}
            print(f"\nround {number + 1}, {what}: {shown}; faults: {one['faults'][:5]}", flush=True)
    folder = ROOT / "figures"
    folder.mkdir(exist_ok=True)
    report = {"binary": str(binary()), "cores": os.cpu_count(), "rate": RATE, "results": results}
    (folder / "cluster-costs.json").write_text(json.dumps(report, indent=1))
    print("\n" + render(results))
    faults = {what: one["faults"] for what, ones in results.items() for one in ones if one["faults"]}
    assert not faults, faults


def render(results):
    """The table: the median of the rounds, with the smallest and the largest."""
    lines = []
    for part, title in (("call", "each call"), ("idle", "each second without calls, all nodes together")):
        lines.append(f"{title:<28}" + "".join(f"{what:>30}" for what in results))
        for name in next(iter(results.values()))[0][part]:
            row = f"{name + (' ms' if name in MILLISECONDS else ''):<28}"
            for ones in results.values():
                values = sorted(one[part].get(name, 0) * (1000 if name in MILLISECONDS else 1) for one in ones)
                row += f"{f'{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})':>30}"
            lines.append(row)
        base = results[SETTINGS[0][0]]
        if part == "call":
            ratios = {what: [one["call"]["cpu_tandem"] / other["call"]["cpu_tandem"] for one, other in zip(ones, base, strict=True)] for what, ones in results.items()}
            shown = (f"{f'{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})':>30}" for values in ratios.values())
            lines.append(f"{'CPU, to one server':<28}" + "".join(shown))
    return "\n".join(lines)
