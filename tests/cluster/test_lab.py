"""The lab itself: engines that end and come back, nodes that are cut off, and the balancer."""

import pytest
import requests
import websockets.sync.client
from twilio.twiml.voice_response import VoiceResponse

from harness.phone import callee, caller
from harness.resources import table
from harness.waiting import wait_for
from lab.engines import BUCKET, BUS, DATABASE
from lab.proxies import BALANCER, CARRIER, PROXY, PROXY_INSIDE


def documents():
    dial = VoiceResponse()
    dial.dial("+15550001234", timeout=10)
    return table("numbers", number="610", account="acme", twiml=str(dial))


@pytest.fixture(scope="module")
def cluster(start_cluster):
    return start_cluster(documents(), joined=False, engines=True, haproxy=True)


def test_a_node_is_cut_off_from_each_part_alone_and_from_all(cluster):
    a, b = cluster["a"], cluster["b"]
    places = {"database": (DATABASE, 5432), "bus": (BUS, 4222), "proxy": (PROXY_INSIDE, 8060), "nodes": (b.inside, 8080)}

    def reached(node):
        return {name for name, place in places.items() if node.namespace.can_connect(*place)}

    assert reached(a) == set(places)
    for name in places:
        a.cut(name)
        assert reached(a) == set(places) - {name}
        a.heal(name)
    a.cut("b")
    assert reached(a) == set(places) - {"nodes"}
    a.heal("b")
    a.cut("all")
    assert reached(a) == set() and a.get("/readyz") is None
    # The node itself lives, and reaches itself.
    assert a.namespace.can_connect(a.inside, 8080)
    a.heal("all")
    assert reached(a) == set(places)
    # The others were never cut off.
    assert reached(cluster["c"]) == set(places)


def test_engines_end_freeze_and_come_back_with_their_data(cluster):
    database, bus = cluster.database, cluster.bus
    database.query("CREATE TABLE kept (number INTEGER); INSERT INTO kept VALUES (7)")
    for end in (database.stop, database.kill):
        end()
        assert not cluster["a"].namespace.can_connect(DATABASE, 5432)
        database.start()
        assert database.query("SELECT number FROM kept") == [["7"]]
    database.freeze()
    database.thaw()
    assert database.query("SELECT number FROM kept") == [["7"]]
    for end in (bus.stop, bus.kill):
        end()
        assert not cluster["a"].namespace.can_connect(BUS, 4222)
        bus.start()
    bus.freeze()
    bus.thaw()
    assert bus.connections() == []


def test_the_balancer_leaves_a_dead_node_out_and_takes_it_back(cluster):
    balancer = cluster.haproxy
    wait_for("three nodes", lambda: balancer.status() == {"a": "UP", "b": "UP", "c": "UP"})
    cluster["b"].kill()
    # Also a request that meets the dead node is answered: by another one.
    for _ in range(12):
        assert requests.get(balancer.url + "/readyz", timeout=5).status_code == 200
    wait_for("two nodes", lambda: balancer.status() == {"a": "UP", "b": "DOWN", "c": "UP"}, 5)
    cluster["b"].start()
    wait_for("three nodes", lambda: balancer.status()["b"] == "UP", 5)
    with websockets.sync.client.connect(f"ws://{BALANCER}/sip", subprotocols=["sip"], proxy=None) as socket:
        assert socket.subprotocol == "sip"


def test_a_call_of_a_node_goes_to_the_carrier_directly(cluster, sipp):
    carrier = sipp(callee(), address=CARRIER, port=5060)
    caller_ = sipp(caller("610"), address=f"{CARRIER.rpartition('.')[0]}.202", target=f"{PROXY}:5060")
    caller_.finish()
    carrier.finish()
    invite = carrier.messages()
    assert "Record-Route" not in invite and PROXY not in invite


def test_a_bucket_starts_at_its_address(hub, start_cluster):
    cluster = start_cluster(joined=False, bucket=True, count=1)
    assert cluster["a"].namespace.can_connect(BUCKET, int(cluster.bucket.endpoint.rpartition(":")[2]))
    assert "s3://calls" in cluster["a"].config.read_text()
