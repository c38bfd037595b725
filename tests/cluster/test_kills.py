"""A steady load of calls of several kinds, while one node after the other is killed and started again. `pytest tests/cluster --kills
MINUTES`. Prints a table, and fails only if calls or webhooks were lost that must not be."""

import collections
import itertools
import threading
import time

import pytest

from harness.resources import table
from harness.waiting import poll, wait_for
from lab.application import FINAL, Application, misplaced, of_calls, repeated
from lab.crowd import Crowd
from lab.network import OUTSIDE
from lab.proxies import CARRIER, PROXY
from lab.rest import Rest

pytestmark = pytest.mark.kills

AT_ONCE, SECONDS = 60, 20.0  # calls at once, and seconds of each
EVERY, AWAY = 60.0, 8.0  # seconds from kill to kill, and until the node is started again
SETTLED = 4.0  # seconds after a kill from which on no call may be refused
PHONE = f"{OUTSIDE}.206"  # the far end of a second trunk
EVENTS = ["initiated", "ringing", "answered", "completed"]
DOCUMENTS = {
    "/gather": "<Response><Gather timeout='120'/></Response>",
    "/record": "<Response><Record playBeep='false' timeout='0' maxLength='300' recordingStatusCallback='/recording'/></Response>",
    "/number": f"<Response><Dial><Number statusCallback='/child' statusCallbackEvent='{' '.join(EVENTS)}'>+15550001234</Number></Dial></Response>",
    "/phone": f"<Response><Dial><Number statusCallback='/child' statusCallbackEvent='{' '.join(EVENTS)}'>+17770001234</Number></Dial></Response>",
    "/conference": "<Response><Dial><Conference>room</Conference></Dial></Response>",
    "/enqueue": "<Response><Enqueue action='/queued'>support</Enqueue><Gather timeout='120'/></Response>",
    "/queue": "<Response><Dial><Queue>support</Queue></Dial><Gather timeout='120'/></Response>",
    "/queued": "<Response><Gather timeout='120'/></Response>",
}
KINDS = {"700": "/gather", "701": "/record", "702": "/number", "703": "/phone", "704": "/conference", "705": "/enqueue", "706": "/queue"}


@pytest.fixture(scope="module")
def application(hub):
    one = Application(DOCUMENTS)
    yield one
    one.close()


@pytest.fixture(scope="module")
def cluster(start_cluster, application):
    numbers = application.numbers(KINDS)
    numbers += table("trunks", name="phone", account="acme", uri=f"sip:{PHONE}:5060", inbound_from=[f"{PHONE}/32"], prefixes=["+1777"])
    return start_cluster(numbers, joined=True)


class Load:
    """Calls through the proxy in a thread of its own, and calls that the nodes are told to make."""

    def __init__(self, hub, cluster, application):
        self.cluster, self.application = cluster, application
        self.callers = Crowd(hub, f"{OUTSIDE}.202", (PROXY, 5060))
        self.callees = [Crowd(hub, CARRIER), Crowd(hub, PHONE)]
        self.made, self.not_made = [], []  # (time, CallSid or (node, status, answer))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._call, self._make)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        """No new calls, and waits until those that are up have ended."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        wait_for("the end of the calls", lambda: not any(call.is_up or call.status is None for call in self.callers.calls), 60)

    def close(self):
        self._over.set()
        for crowd in (self.callers, *self.callees):
            crowd.close()

    def _call(self):
        for number in itertools.cycle(KINDS):
            if self._over.wait(SECONDS / AT_ONCE):
                return
            self.callers.call(number, KINDS[number], SECONDS, speaks=number == "701")

    def _make(self):
        """A call by REST every two seconds, at one node after the other."""
        for node in itertools.cycle(self.cluster):
            if self._over.wait(2):
                return
            url = self.application.url
            form = {"To": "+15550002222", "From": "+15550100000", "Url": url + "/gather", "StatusCallback": url + "/calls"}
            at = time.time()
            status, answer = Rest(node, 3).post("/Calls.json", **form, StatusCallbackEvent=EVENTS, TimeLimit=15)
            if status == 201:
                self.made.append((at, answer["sid"]))
            else:
                self.not_made.append((at, (node.name, status, answer)))


def watch(survivors, name, killed, seconds=8):
    """The seconds from the kill until each other node shows the dead node no more as one that has calls."""
    known = {}
    while len(known) < len(survivors) and time.time() < killed + seconds:
        for node in survivors:
            status, answer = Rest(node, 1).console("/nodes")
            states = [one["state"] for one in answer.get("nodes", []) if one["name"] == name]
            if node.name not in known and status == 200 and not set(states) & {"alive", "silent", "draining"}:
                known[node.name] = round(time.time() - killed, 2)
    return known


def test_nodes_are_killed_under_load(hub, cluster, application, request):
    minutes = request.config.getoption("--kills")
    load = Load(hub, cluster, application)
    kills = []  # (time, node, what the others knew when)
    try:
        begun = time.time()
        victims = itertools.cycle(cluster.nodes.values())
        poll(lambda: False, min(SECONDS + 5, EVERY / 2))  # until the load is whole
        while time.time() < begun + 60 * minutes:
            victim = next(victims)
            killed = time.time()
            victim.kill()
            kills.append((killed, victim, watch([node for node in cluster if node is not victim], victim.name, killed)))
            poll(lambda killed=killed: time.time() > killed + AWAY, AWAY + 1)
            victim.start()
            poll(lambda killed=killed: time.time() > killed + EVERY, max(0, min(killed + EVERY, begun + 60 * minutes + 5) - time.time()))
        load.stop()
        poll(lambda: cluster.database.query("SELECT count(*) FROM calls WHERE ended_at IS NULL") == [["0"]], 25)
        poll(lambda: False, 5)  # for repetitions of webhooks
        rows, faults = judge(load, kills, application, cluster)
    finally:
        load.close()
    print("\n" + "\n".join(f"{what:<62} {value}" for what, value in rows))
    assert not faults, "\n".join(faults)


def judge(load, kills, application, cluster):
    """The rows of the table, and what must not be."""
    calls, faults, since = load.callers.calls, [], lambda at: min((at - killed for killed, _, _ in kills if killed <= at), default=1e9)
    up = [call for call in calls if call.status == 200]
    refused = [call for call in calls if call.status != 200]
    late = [call for call in refused if since(call.invited) > SETTLED]
    rows = [("kills", len(kills))]
    for killed, victim, known in kills:
        here = [one for crowd in (load.callers, *load.callees) for one in crowd.calls if one.node == victim.inside]
        live = [one for one in here if one.status == 200 and one.decided < killed and (one.ended or 1e12) > killed]
        ended = [round(one.ended - killed, 2) if one.ended_by == "them" else None for one in live]
        never = [one for one in live if one.ended_by != "them" and not (one.ended_by == "us" and one.ended)]
        times = sorted(seconds for seconds in ended if seconds is not None)
        rows.append((f"  node {victim.name}: known to the others after", known))
        rows.append(("    far ends; first and last BYE; without a BYE", (len(live), times[:1], times[-1:], [(one.kind, round(killed - one.decided, 2)) for one in never])))
        slow = [one for one in live if one.ended and one.ended_by == "them" and one.ended - killed > 5]
        if slow:
            faults.append(f"BYE later than 5 s after the kill: {[(one.kind, one.ended - killed) for one in slow]}")
        if [one for one in never if killed - one.decided > 1.5 and (one.ended or 1e12) - killed > 5]:
            faults.append(f"no BYE within 5 s: {[(one.kind, round(killed - one.decided, 2), one.ended_by) for one in never]}")
    rows.append(("calls through the proxy: made, answered, refused", (len(calls), len(up), len(refused))))
    rows.append(("  ended by", dict(collections.Counter(call.ended_by for call in up))))
    rows.append(("  the refused: (s after the kill, status, s until the answer)", [(round(since(call.invited), 2), call.status, round(call.seconds or -1, 2)) for call in refused]))
    rows.append((f"  refused later than {SETTLED:g} s after a kill", len(late)))
    rows.append(("  slowest answer, s", round(max((call.seconds for call in up), default=0), 2)))
    if late:
        faults.append(f"refused later than {SETTLED} s after a kill: {[(since(call.invited), call) for call in late][:5]}")
    unexplained = [(one, at) for at, one in load.not_made if since(at) > AWAY + 4]
    rows.append(("calls by REST: made, refused (those of the dead node too)", (len(load.made), len(load.not_made))))
    rows.append(("  refused while no node was away", unexplained))

    # Each leg that had its first webhook must have exactly one final webhook.
    everything = application.to(None)
    first = {}
    for one in everything:
        if one.sid and one.path in {*KINDS.values(), "/child", "/calls"}:
            first.setdefault(one.sid, one)
    for at, sid in load.made:
        first.setdefault(sid, type(everything[0])(at, "/calls", {"CallSid": sid}))
    finals = of_calls(one for one in everything if one.path in ("/status", "/child", "/calls") and one.status in FINAL)
    lost = {sid: one for sid, one in first.items() if sid not in finals}
    before = {sid: min((killed - one.at for killed, _, _ in kills if killed >= one.at), default=1e9) for sid, one in lost.items()}
    young = [sid for sid in lost if before[sid] < 1.5]
    old = [sid for sid in lost if sid not in young]
    twice = {sid: len(came) for sid, came in finals.items() if len(came) > 1}
    orders = [(path, sid, misplaced(came)) for path in ("/child", "/calls") for sid, came in of_calls(application.to(path)).items() if misplaced(came)]
    again = [(path, sid, repeated(came)) for path in ("/child", "/calls", "/status") for sid, came in of_calls(application.to(path)).items() if repeated(came)]
    rows.append(("results of the queue", dict(collections.Counter(one.form.get("QueueResult") for one in application.to("/queued")))))
    rows.append(("legs with webhooks, with a final webhook", (len(first), len(finals))))
    rows.append(("  lost: of legs that were older than 1.5 s at the kill", len(old)))
    rows.append(("  lost: of legs in their first 1.5 s", [(lost[sid].path, round(before[sid], 2)) for sid in young]))
    rows.append(("  more than one final webhook", len(twice)))
    rows.append(("  webhooks that came twice", again))
    rows.append(("  out of order", orders))
    open_rows = cluster.database.query("SELECT id, status, direction, created_at FROM calls WHERE ended_at IS NULL")
    rows.append(("calls in the database that have not ended", len(open_rows)))
    if old:
        faults.append(f"final webhooks were lost: {[(sid, lost[sid].path, round(before[sid], 2)) for sid in old][:10]}")
    if orders:
        faults.append(f"out of order: {orders[:5]}")
    if twice:
        faults.append(f"more than one final webhook: {twice}")
    if open_rows:
        faults.append(f"not ended in the database: {open_rows[:10]}")
    return rows, faults
