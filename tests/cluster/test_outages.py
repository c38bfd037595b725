"""Engines that are away, and nodes that are cut off, for 20 s each: what happens to live calls, new calls, requests, webhooks and
registrations. `pytest tests/cluster --kills MINUTES`. Each test prints a row of a table, and compares it with docs/cluster.md."""

import collections
import itertools
import threading
import time

import pytest

from harness.resources import table
from harness.waiting import poll, wait_for
from lab.application import FINAL, Application, of_calls
from lab.crowd import Crowd
from lab.network import INSIDE, OUTSIDE
from lab.phone import Phone
from lab.proxies import PROXY
from lab.rest import Rest

pytestmark = pytest.mark.kills

AWAY = 20.0  # seconds
DIRECT = f"{INSIDE}.241"
PASSWORD = "a long password"
DOCUMENTS = {"/hold": "<Response><Gather timeout='300'/></Response>", "/phone": lambda form: f"<Response><Dial timeout='3' action='/dialled'><Client>{_anna[-1]}</Client></Dial></Response>"}
_anna = ["anna0"]  # the phone that is called. Each outage has its own: an old one is registered for minutes


@pytest.fixture(scope="module")
def application(hub):
    one = Application(DOCUMENTS)
    yield one
    one.close()


@pytest.fixture(scope="module")
def cluster(start_cluster, application):
    text = application.numbers({"600": "/hold", "610": "/phone"})
    text += table("trunks", name="direct", account="acme", uri=f"sip:{DIRECT}:5060", inbound_from=[f"{DIRECT}/32"])
    text += "".join(table("endpoints", account="acme", username=user, password=PASSWORD) for user in ("new-a", "new-b", "new-c", *(f"anna{number}" for number in range(9))))
    return start_cluster(text, joined=True)


@pytest.fixture(autouse=True)
def whole(cluster):
    """A test finds and leaves three nodes that take calls."""
    yield
    for node in cluster:
        for what in ("database", "bus", "nodes", "all"):
            node.heal(what)
    for node in cluster:
        if poll(lambda node=node: not node.process.is_running(), 3):
            node.start()
        node.wait_ready()
    for node in cluster:
        cluster.kamailio.wait_takes(node)
        wait_for("three nodes", lambda node=node: sum(one["state"] == "alive" for one in Rest(node).console("/nodes")[1].get("nodes", [])) == 3)


class Outage:
    """Calls before, during and after an outage, and what is seen of them."""

    def __init__(self, hub, cluster, application, title):
        self.hub, self.cluster, self.application, self.title, self.rows = hub, cluster, application, title, []
        application.webhooks.clear()
        self.direct, self.callers = Crowd(hub, DIRECT), Crowd(hub, f"{OUTSIDE}.202", (PROXY, 5060))
        hub.add(OUTSIDE, f"{OUTSIDE}.120")
        self.phones = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self.direct, self.callers, *self.phones):
            one.close()

    def row(self, what, value):
        self.rows.append((what, value))

    def phone(self, user, node):
        self.phones.append(Phone(f"{OUTSIDE}.120", user, PASSWORD, proxy=node.inside))
        return self.phones[-1]

    def run(self, begin, end):
        """Runs it. `begin` starts the outage, and `end` ends it."""
        nodes = list(self.cluster)
        _anna.append(f"anna{len(_anna)}")
        anna = self.phone(_anna[-1], nodes[0])
        anna.register()
        live = {node.name: [self.direct.call("600", node.name, target=(node.inside, 5060)) for _ in range(3)] for node in nodes}
        through = [self.callers.call("600", "proxy") for _ in range(3)]
        held = [call for calls in live.values() for call in calls] + through
        wait_for("the calls", lambda: all(call.status for call in held))
        assert all(call.status == 200 for call in held), held
        sids = {call.caller: self.application.wait("/hold", From=call.caller)[0].sid for call in held}
        poll(lambda: False, 2.5)  # The database has the calls after a second, and the others the phone.

        self.began = time.time()
        begin()
        # A new call each second at each node, and one through the proxy.
        new, over = [], threading.Event()

        def call():
            for at in itertools.count():
                if over.wait(max(0, self.began + at - time.time())):
                    return
                new.extend(self.direct.call("600", node.name, 0.3, target=(node.inside, 5060)) for node in nodes)
                new.append(self.callers.call("600", "proxy", 0.3))

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        self.at(6)
        self.requests(nodes, live, sids, "during")
        # One call of each node ends by its far end.
        gone = [calls[0] for calls in live.values() if calls[0].is_up]
        for call in gone:
            self.direct.hang_up(call)
        registered = {}
        for node in nodes:
            phone = self.phone(f"new-{node.name}", node)
            try:
                phone.register()
                registered[node.name] = 200
            except AssertionError as refused:
                registered[node.name] = next((line for line in str(refused).splitlines() if line.startswith("SIP/2.0")), "no answer")[:60]
        self.row("REGISTER during, at each node", registered)
        for node in nodes:
            call = self.direct.call("610", "phone", target=(node.inside, 5060))
            poll(lambda call=call: call.status is not None and (call.status != 200 or call.ended or any(one.start.startswith("INVITE") for one in received(anna))), 5)
            rang = [one for one in anna._pending if one.start.startswith("INVITE")]
            for invite in rang:
                anna._pending.remove(invite)
                anna.reply(invite, "486 Busy Here")
            dialled = poll(lambda call=call: self.application.to("/dialled", From=call.caller), 5)
            self.row(f"a registered phone called at {node.name} during", (call.status, "rang" if rang else "did not ring", dialled[0].form["DialCallStatus"] if dialled else "-"))
            received(anna)
        self.at(AWAY)
        ended_at = time.time()
        end()
        self.at(AWAY + 12)
        over.set()
        caller.join(10)
        wait_for("the new calls", lambda: all(call.status is not None for call in new), 15)
        dead = [node.name for node in nodes if not node.process.is_running()]
        self.row("nodes that have ended, with their exit codes", {node.name: node.process.running.returncode for node in nodes if node.name in dead})
        # What happened.
        stored = {phone.user for phone in self.phones if self.cluster.database.query(f"SELECT 1 FROM bindings WHERE details LIKE '%:{phone.port}%'")}
        self.row("  of these, in the database 12 s after the outage", sorted(stored - {anna.user}))
        for name, calls in [*live.items(), ("proxy", through)]:
            others = [call for call in calls if call not in gone]
            ended = [(call.ended_by, round(call.ended - self.began, 1)) for call in others if call.ended]
            self.row(f"live calls: {name}", f"{len(others) - len(ended)} of {len(others)} are up" + (f"; ended {ended}" if ended else ""))
        for name in [*live, "proxy"]:
            self.row(f"new calls: {name} (seconds of the outage: status)", spans([(call.invited - self.began, call.status) for call in new if call.kind == name]))
        after = [call for call in held if call.is_up]
        for call in after:
            (self.callers if call in through else self.direct).hang_up(call)
        mine = {sids[call.caller]: call for call in held}
        finals = lambda: of_calls(one for one in self.application.to("/status") if one.sid in mine and one.status in FINAL)
        poll(lambda: len(finals()) == len(mine), 15)
        came = finals()
        self.row("final webhooks: of how many calls; missing; more than one", (len(mine), [(mine[sid].kind, mine[sid].ended_by) for sid in mine if sid not in came], [(mine[sid].kind, len(found)) for sid, found in came.items() if len(found) > 1]))
        delays = [(call.kind, round(came[sids[call.caller]][0].at - call.ended, 2)) for call in gone if call.ended and sids[call.caller] in came]
        self.row("  of calls that ended during: s until the webhook", delays)
        late = [(mine[sid].kind, round(found[0].at - mine[sid].ended, 1)) for sid, found in came.items() if mine[sid].ended and mine[sid] not in gone and found[0].at - mine[sid].ended > 2]
        self.row("  of the others, later than 2 s after the end", late)
        self.requests([node for node in nodes if node.process.is_running()], live, sids, "after")
        open_rows = poll(lambda: int(self.cluster.database.query("SELECT count(*) FROM calls WHERE ended_at IS NULL")[0][0]) == 0, 10)
        self.row("database: all calls have ended", open_rows)
        self.row("end of the outage, s", round(ended_at - self.began, 1))
        print(f"\n== {self.title}")
        print("\n".join(f"{what:<58} {value}" for what, value in self.rows))
        return dict(self.rows)

    def at(self, seconds):
        """Waits until this time of the outage."""
        poll(lambda: time.time() >= self.began + seconds, max(0.1, self.began + seconds - time.time() + 1))

    def requests(self, nodes, live, sids, when):
        """GET of a call, and of a list, at each node; and a redirect of a live call."""
        states = collections.defaultdict(list)
        for node in nodes:
            for owner, calls in live.items():
                status, answer = Rest(node, 4).call(sids[calls[1].caller])
                states["own" if node.name == owner else "other"].append((f"{node.name}→{owner}", status, answer.get("status") if status == 200 else str(answer.get("message", answer))[:50]))
            begun = time.time()
            status, answer = Rest(node, 4).get("/Calls.json", PageSize=50)
            states["list"].append((node.name, status, round(time.time() - begun, 2)))
            if when == "during":
                for owner, calls in live.items():
                    status, answer = Rest(node, 4).call(sids[calls[2].caller], Twiml="<Response><Pause length='300'/></Response>")
                    states["POST own" if node.name == owner else "POST other"].append((f"{node.name}→{owner}", status))
        for kind, found in states.items():
            self.row(f"REST {when}: {kind}", found)


def received(phone):
    """Reads what has come, and returns what nobody has waited for."""
    while message := phone._receive(0.02):
        phone.messages.append(message)
        phone._pending.append(message)
    return phone._pending


def spans(points):
    """Equal values that follow each other as one: "0-3: 200, 4-19: 503"."""
    groups = [(value, [at for at, _ in group]) for value, group in itertools.groupby(points, lambda one: one[1])]
    return ", ".join(f"{times[0]:.0f}-{times[-1]:.0f}: {value}" for value, times in groups)


def test_the_database_is_away(hub, cluster, application):
    with Outage(hub, cluster, application, "the database is away") as one:
        rows = one.run(cluster.database.kill, cluster.database.start)
    assert all("are up" in rows[f"live calls: {name}"] and "ended" not in rows[f"live calls: {name}"] for name in "abc"), rows


def test_the_database_is_frozen(hub, cluster, application):
    with Outage(hub, cluster, application, "the database is frozen") as one:
        rows = one.run(cluster.database.freeze, cluster.database.thaw)
    assert all("ended" not in rows[f"live calls: {name}"] for name in "abc"), rows


def test_the_bus_is_away(hub, cluster, application):
    with Outage(hub, cluster, application, "the bus is away") as one:
        rows = one.run(cluster.bus.kill, cluster.bus.start)
    assert all("ended" not in rows[f"live calls: {name}"] for name in "abc"), rows


def test_a_node_is_cut_off_from_the_database_and_the_bus(hub, cluster, application):
    node = cluster["c"]
    with Outage(hub, cluster, application, "node c is cut off from the database and the bus") as one:
        rows = one.run(lambda: node.cut("database", "bus"), lambda: node.heal("database", "bus"))
    assert rows["nodes that have ended, with their exit codes"] == {"c": 2}, rows


def test_a_node_is_cut_off_from_the_other_nodes(hub, cluster, application):
    node = cluster["c"]
    with Outage(hub, cluster, application, "node c is cut off from the other nodes") as one:
        rows = one.run(lambda: node.cut("nodes"), lambda: node.heal("nodes"))
    assert all("ended" not in rows[f"live calls: {name}"] for name in "abc"), rows
