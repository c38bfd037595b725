"""Kamailio with packaging/cluster/kamailio.cfg in front of three nodes. The nodes know of no others: only the proxy is under test."""

import collections
import socket

import pytest
import requests
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from harness.phone import caller, until_told
from harness.resources import table
from harness.waiting import poll, wait_for
from lab.network import INSIDE, OUTSIDE
from lab.proxies import CARRIER, PROXY, PROXY_INSIDE

TARGET = f"{PROXY}:5060"
TRANSPORTS = ["udp", "tcp", "tls", "ws", "wss"]


def documents():
    echo, short = VoiceResponse(), VoiceResponse()
    echo.echo()
    short.pause(1)
    numbers = [("600", echo), ("601", short)]
    return "".join(table("numbers", number=number, account="acme", twiml=str(twiml)) for number, twiml in numbers)


USERS = "".join(table("endpoints", account="acme", username=f"alice-{one}", password="a long password") for one in TRANSPORTS)


@pytest.fixture(scope="module")
def cluster(start_cluster):
    return start_cluster(documents() + USERS, joined=False)


@pytest.fixture(autouse=True)
def all_take_calls(cluster):
    """A test finds three nodes that run, and leaves three."""
    yield
    for node in cluster:
        node.thaw()
        node.heal("all")
        if not node.process.is_running():
            node.start()
        if cluster.kamailio.states()[node.inside].startswith("D"):
            cluster.kamailio.set_state(node, "a")
    for node in cluster:
        cluster.kamailio.wait_takes(node)


def counts(calls):
    """How many calls each node has answered."""
    assert all(call.status == 200 for call in calls), calls
    return collections.Counter(call.node for call in calls)


def test_calls_spread_over_the_nodes(cluster, sipp):
    calls = sipp(caller("600"), address=CARRIER, target=TARGET, calls=30, rate=20).finish()
    assert len(calls) == 30
    # Fewer than 3 of 30 at a node that should get 10: with a probability of 0.0002 for each node.
    assert set(counts(calls)) == {node.inside for node in cluster} and min(counts(calls).values()) >= 3, counts(calls)


def test_after_kill_9_of_a_node_every_new_call_is_answered(cluster, sipp):
    sipp(caller("600"), address=CARRIER, target=TARGET, calls=10, rate=20).finish()
    cluster["b"].kill()
    # Eight seconds of calls, from the moment of the kill.
    running = sipp(caller("600"), address=CARRIER, target=TARGET, calls=80, rate=10)
    cluster.kamailio.wait_takes(cluster["b"], False, 4)
    calls = running.finish()
    shares = counts(calls)
    assert set(shares) == {cluster["a"].inside, cluster["c"].inside}
    late = [call for call in calls if call.seconds > 1]
    print(f"{len(late)} of {len(calls)} calls waited, at most {max(call.seconds for call in calls):.2f} s")
    # One node is asked, it is silent for 1.5 s, and the next one answers.
    assert max(call.seconds for call in calls) < 4
    # As soon as the pings show that the node is dead, it is not asked any more.
    begun = calls[0].invited
    assert all(call.invited - begun < 4 for call in late), [call.invited - begun for call in late]
    # Its calls spread over both others.
    after = collections.Counter(call.node for call in calls if call.invited - begun > 4)
    assert min(after.values()) >= 5, after
    cluster["b"].start()
    cluster.kamailio.wait_takes(cluster["b"])
    assert cluster["b"].inside in counts(sipp(caller("600"), address=CARRIER, target=TARGET, calls=30, rate=20).finish())


def test_a_node_that_the_proxy_cannot_send_to_is_passed_over_at_once(cluster, phone):
    alice, node = phone("alice-udp", "a long password"), cluster["a"]
    for _ in range(4):
        cluster.kamailio.namespace.run("ip", "route", "add", "unreachable", f"{node.inside}/32")
        try:
            # The pings do not know it yet, or they do.
            answers = [alice.call("600") for _ in range(3)]
        finally:
            cluster.kamailio.namespace.run("ip", "route", "del", "unreachable", f"{node.inside}/32")
        assert all(answer.status == 200 and cluster.node_in(answer["Contact"]) is not node for answer in answers)
        cluster.kamailio.wait_takes(node)


def test_without_any_node_calls_are_refused_with_503_and_a_time(cluster, phone):
    alice = phone("alice-udp", "a long password")
    for node in cluster:
        cluster.kamailio.set_state(node, "d")
    answer = alice.call("600")
    assert answer.status == 503 and answer["Retry-After"] == "5"
    alice.request("OPTIONS", f"sip:{PROXY}", "no-node")
    assert alice.wait_final("OPTIONS", "no-node").status == 503
    for node in cluster:
        cluster.kamailio.set_state(node, "a")
    alice.request("OPTIONS", f"sip:{PROXY}", "all-nodes")
    assert alice.wait_final("OPTIONS", "all-nodes").status == 200
    # All nodes die at once, and the pings do not know it yet: one after the other is asked.
    for node in cluster:
        node.kill()
    answer = alice.call("600")
    assert answer.status == 503 and answer["Retry-After"] == "5"


def test_a_node_that_is_cut_off_or_frozen_gets_no_calls_until_it_is_back(cluster, sipp):
    node = cluster["c"]
    for leave, come_back in ((lambda: node.cut("proxy"), lambda: node.heal("proxy")), (node.freeze, node.thaw)):
        leave()
        calls = sipp(caller("600"), address=CARRIER, target=TARGET, calls=20, rate=10).finish()
        assert node.inside not in counts(calls)
        assert not cluster.kamailio.takes(node)
        come_back()
        cluster.kamailio.wait_takes(node)


def test_set_state_takes_a_node_out_and_back_in_at_once_and_its_calls_go_on(cluster, sipp):
    node = cluster["a"]
    held = [sipp(caller("600", until_told()), address=CARRIER, target=TARGET) for _ in range(12)]
    here = [one for one in held if one.wait_answered()[0].node == node.inside]
    assert here
    cluster.kamailio.set_state(node, "d")
    assert cluster.kamailio.states()[node.inside].startswith("D")
    calls = sipp(caller("600"), address=CARRIER, target=TARGET, calls=20, rate=20).finish()
    assert node.inside not in counts(calls)
    # Each BYE goes to the node of its call, also to the one that takes no new calls.
    for one in held:
        one.tell()
        one.finish()
    assert cluster.kamailio.states()[node.inside].startswith("D")
    cluster.kamailio.set_state(node, "a")
    calls = sipp(caller("600"), address=CARRIER, target=TARGET, calls=30, rate=20).finish()
    assert node.inside in counts(calls)


def test_a_node_that_drains_answers_503_and_the_next_node_takes_the_call(cluster, sipp):
    node = cluster["a"]
    held = [sipp(caller("600", until_told()), address=CARRIER, target=TARGET) for _ in range(12)]
    here = [one for one in held if one.wait_answered()[0].node == node.inside]
    assert here
    node.drain()
    wait_for("a node that refuses calls", lambda: not node.is_ready())
    calls = sipp(caller("600"), address=CARRIER, target=TARGET, calls=20, rate=20).finish()
    assert node.inside not in counts(calls)
    for one in held:
        one.tell()
        one.finish()
    wait_for("the end of the drained node", lambda: not node.process.is_running(), 20)


def test_a_request_within_a_call_of_a_dead_node_is_answered_by_a_living_node(cluster, phone):
    alice = phone("alice-udp", "a long password")
    answer = alice.call("600")
    assert answer.status == 200
    cluster.node_in(answer["Contact"]).kill()
    assert alice.hang_up(answer).status == 481


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_phone_registers_through_the_proxy_and_is_called_and_calls_through_it(cluster, phone, transport):
    alice = phone(f"alice-{transport}", "a long password", transport=transport, trust=cluster.kamailio.certificate)
    path = alice.register()["Path"]
    assert path.startswith("<sip:") and f"@{PROXY_INSIDE};" in path and ";ob" in path, path
    call_by_rest(cluster, f"alice-{transport}")
    invite = alice.wait_request("INVITE")
    assert f"{PROXY}" in invite.all("Record-Route")[0] and len(invite.all("Via")) == 2
    alice.reply(invite, "200 OK", body="v=0\r\no=p 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n")
    alice.wait_request("ACK")
    alice.reply(alice.wait_request("BYE"), "200 OK")
    # A call of the phone, which the node ends: the BYE has only the flow of the INVITE.
    assert alice.call("601").status == 200
    alice.reply(alice.wait_request("BYE"), "200 OK")


def call_by_rest(cluster, user):
    """Has each node call a phone. Only the node that has its registration can."""
    for node in cluster:
        client = Client(node.account_sid, node.auth_token)
        client.http_client.session.mount("https://api.twilio.com", _Here(node.http))
        client.calls.create(to=f"client:{user}", from_="client:test", twiml="<Response><Hangup/></Response>")


class _Here(requests.adapters.HTTPAdapter):
    """Sends the requests for the provider to a server of ours."""

    def __init__(self, url):
        super().__init__()
        self._url = url

    def send(self, request, **options):
        request.url = request.url.replace("https://api.twilio.com", self._url)
        return super().send(request, **options)


def test_after_a_restart_of_the_proxy_a_phone_on_udp_is_called_without_a_new_registration(cluster, phone):
    alice = phone("alice-udp", "a long password")
    alice.register()
    cluster.kamailio.process.kill()
    cluster.kamailio.start()
    call_by_rest(cluster, "alice-udp")
    alice.reply(alice.wait_request("INVITE"), "486 Busy Here")
    alice.wait_request("ACK")


def test_a_phone_whose_connection_is_closed_is_unreachable_at_once(cluster, phone):
    alice = phone("alice-tcp", "a long password", transport="tcp")
    path = alice.register()["Path"]
    alice.close()
    # Within the deadline of the proxy for phones (8 s), and not after it.
    node = cluster["a"]
    probe = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("{node.inside}", 0)); s.settimeout(4)
s.sendto(b"OPTIONS sip:alice@192.0.2.1 SIP/2.0\\r\\nVia: SIP/2.0/UDP {node.inside};branch=z9hG4bKx;rport\\r\\nRoute: {path}\\r\\n"
  b"From: <sip:a@b>;tag=1\\r\\nTo: <sip:alice@192.0.2.1>\\r\\nCall-ID: closed\\r\\nCSeq: 1 OPTIONS\\r\\nMax-Forwards: 70\\r\\nContent-Length: 0\\r\\n\\r\\n",
  ("{PROXY_INSIDE}", 5060))
print(s.recv(4096).decode().splitlines()[0])
"""
    answer = poll(lambda: node.namespace.run("python3", "-c", probe).startswith("SIP/2.0 430"), 10)
    assert answer


def test_the_proxy_relays_to_nobody_but_nodes(cluster, phone, hub):
    victim = f"{OUTSIDE}.191"
    hub.add(OUTSIDE, victim)
    stranger = phone("stranger")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ears:
        ears.bind((victim, 5060))
        ears.setblocking(False)
        ways = [
            (f"sip:x@{victim}", None, ()),
            (f"sip:x@{victim}", None, (f"<sip:{PROXY};lr>",)),
            (f"sip:x@{victim}", None, (f"<sip:{PROXY};lr>", f"<sip:{victim};lr>")),
            (f"sip:x@{PROXY}", None, (f"<sip:{PROXY};lr;received=sip:{victim}:5060>",)),
            (f"sip:x@{victim}", ";tag=dialog", (f"<sip:{PROXY};lr>",)),
            (f"sip:x@{victim}", ";tag=dialog", (f"<sip:{PROXY};lr>", f"<sip:{victim};lr>")),
            (f"sip:x@{victim}", ";tag=dialog", ()),
            (f"sip:{cluster['a'].inside}:5060", ";tag=dialog", (f"<sip:{PROXY};lr>", f"<sip:{victim};lr>")),
        ]
        for number, (uri, tag, routes) in enumerate(ways):
            for method in ("OPTIONS", "INVITE", "MESSAGE"):
                call_id = f"relay-{number}-{method}"
                stranger.request(method, uri, call_id, f"<{uri}>{tag or ''}", routes=routes)
                answer = stranger.wait_final(method, call_id)
                # A node may say what it can do.
                assert answer.status >= 400 or method == "OPTIONS", (uri, routes, answer)
        with pytest.raises(BlockingIOError):
            ears.recv(4096)


def test_only_nodes_use_json_rpc_and_the_inside_addresses(cluster, hub, phone):
    request = {"jsonrpc": "2.0", "method": "dispatcher.list", "id": 1}
    assert requests.post(cluster.kamailio.url, json=request, timeout=5).status_code == 200
    with pytest.raises(requests.RequestException):
        requests.post(f"http://{PROXY}:8060/RPC", json=request, timeout=5)
    # SIP of somebody else at the inside address gets no answer. A request that is sent later to the outside address gets one.
    neighbour, stranger = phone("stranger", proxy=PROXY_INSIDE, address=f"{INSIDE}.254"), phone("stranger")
    neighbour.request("OPTIONS", f"sip:{PROXY_INSIDE}", "inside")
    stranger.request("OPTIONS", f"sip:{PROXY}", "outside")
    assert stranger.wait_final("OPTIONS", "outside").status == 200
    with pytest.raises(AssertionError, match="waited"):
        neighbour.wait_final("OPTIONS", "inside", 0.1)
    # Somebody who has found a way to the inside address.
    namespace = hub.namespace("stranger", inside=["10.99.0.1"])
    try:
        cluster.kamailio.namespace.run("ip", "route", "add", "10.99.0.0/24", "dev", "inside")
        namespace.run("ip", "route", "add", f"{INSIDE}.0/24", "dev", "inside")
        status = namespace.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", "{}", cluster.kamailio.url)
        assert status == "403"
    finally:
        namespace.close()
        cluster.kamailio.namespace.run("ip", "route", "del", "10.99.0.0/24", "dev", "inside")


def test_carriers_come_from_the_trusted_address_and_phones_need_their_password(cluster, phone, sipp):
    # The trunk of the nodes has inbound_from = the trusted address.
    assert counts(sipp(caller("600"), address=CARRIER, target=TARGET).finish())
    # The BYE of the node goes to the Contact of the carrier, through the proxy.
    assert counts(sipp(caller("601", ends="wait"), address=CARRIER, target=TARGET).finish())
    stranger = phone("stranger")
    uri = f"sip:600@{PROXY}"
    stranger.request("INVITE", uri, "stranger-1", body="v=0\r\n")
    assert stranger.wait_final("INVITE", "stranger-1").status in (401, 403)
