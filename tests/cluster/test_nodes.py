"""Three nodes with [cluster], a PostgreSQL and a NATS server, behind Kamailio: what clients, phones and callers see of them."""

import contextlib
import io
import math
import subprocess
import time
import wave

import pytest

from harness.resources import table
from harness.server import binary
from harness.waiting import poll, wait_for
from lab import desk
from lab.application import FINAL, Application, misplaced, of_calls, repeated
from lab.crowd import Crowd
from lab.network import INSIDE, OUTSIDE
from lab.node import DOMAIN
from lab.proxies import CARRIER, PROXY
from lab.rest import Rest

DIRECT = f"{INSIDE}.241"  # a carrier that sends to a node that it chooses
VIA_PROXY = (PROXY, 5060)
CALLER = f"{OUTSIDE}.202"

DOCUMENTS = {
    "/hold": "<Response><Gather timeout='120'/></Response>",
    "/client": "<Response><Dial timeout='20' action='/dialled'><Client statusCallback='/child' statusCallbackEvent='initiated ringing answered completed'>alice</Client></Dial></Response>",
    "/sip": f"<Response><Dial timeout='20' action='/dialled'><Sip>sip:alice@{DOMAIN}</Sip></Dial></Response>",
    "/record": "<Response><Record playBeep='false' timeout='0' maxLength='300' recordingStatusCallback='/recording' action='/recorded'/></Response>",
    "/conference": "<Response><Dial><Conference statusCallback='/room' statusCallbackEvent='start end join leave'>room</Conference></Dial></Response>",
    "/queue": "<Response><Enqueue action='/left'>waiting</Enqueue></Response>",
    "/outside": "<Response><Dial action='/dialled'><Number statusCallback='/child' statusCallbackEvent='initiated ringing answered completed'>+15550001234</Number></Dial></Response>",
}


@pytest.fixture(scope="module")
def application(hub):
    one = Application(DOCUMENTS)
    yield one
    one.close()


def resources(application):
    numbers = {"600": "/hold", "610": "/client", "611": "/sip", "620": "/record", "630": "/conference", "640": "/queue", "650": "/outside"}
    text = "".join(
        table("numbers", number=number, account="acme", voice_url=application.url + path, status_callback=application.url + "/status")
        for number, path in numbers.items()
    )
    text += table("trunks", name="direct", account="acme", uri=f"sip:{DIRECT}:5060", inbound_from=[f"{DIRECT}/32"])
    text += table("number_pool", number="+15550100000", last="+15550100099")
    users = ["alice", "bob", "erin", "carol-udp", "carol-tcp", *(f"dora{number}" for number in range(4))]
    return text + "".join(table("endpoints", account="acme", username=user, password=desk.password(user), voice_url=application.url + "/client") for user in users)


@pytest.fixture(scope="module")
def cluster(start_cluster, application):
    return start_cluster(resources(application), joined=True)


@pytest.fixture(autouse=True)
def fresh(request):
    """A test finds an application that has received nothing, and three nodes that take calls. It leaves three."""
    if "cluster" not in request.fixturenames:
        yield
        return
    application, cluster = request.getfixturevalue("application"), request.getfixturevalue("cluster")
    application.documents = dict(DOCUMENTS)
    application.webhooks.clear()
    yield
    for node in cluster:
        if not node.process.is_running():
            node.start()
    for node in cluster:
        cluster.kamailio.wait_takes(node)


@pytest.fixture
def crowd(hub):
    """Starts crowds: crowd(address, target)."""
    opened = []

    def start(address=CALLER, target=VIA_PROXY, **options):
        opened.append(Crowd(hub, address, target, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def sip(node):
    return node.inside, 5060


def answered(call, seconds=10):
    wait_for(f"an answer to {call.number}", lambda: call.status is not None, seconds)
    assert call.status == 200, call
    return call


def sid_of(application, call, path):
    return application.wait(path, From=call.caller)[0].sid


def knows_all(cluster, count=3):
    """Waits until each living node sees this number of living nodes with their SIP addresses, and has renewed its lease since then:
    with a renewal, a node reads the rows of the others."""

    def renewals(rest):
        """The nodes that rest knows, with their last renewal in seconds since 1970; or None if they are not complete."""
        rows = rest.console("/nodes")[1].get("nodes", [])
        now = time.time()
        if sum(one["state"] == "alive" and bool(one["sip"]) for one in rows) == count:
            return {one["name"]: now - one["renewed_seconds_ago"] for one in rows}
        return None

    living = [node for node in cluster if node.process.is_running()]
    for node in living:
        rest = Rest(node)
        complete = wait_for(f"{count} nodes at {node.name}", lambda rest=rest: renewals(rest))
        wait_for(f"two renewals of {node.name}", lambda rest=rest, then=complete[node.name]: (renewals(rest) or {}).get(node.name, 0) > then + 1.5)


# Requests


def test_the_state_of_a_call_is_the_same_at_every_node(cluster, application, crowd):
    call = answered(crowd().call("600"))
    sid = sid_of(application, call, "/hold")
    for node in cluster:
        status, state = Rest(node).call(sid)
        assert (status, state.get("status")) == (200, "in-progress"), (node.name, status, state)
    for node in cluster:
        # The database has a live call after at most one second.
        found = poll(lambda node=node: [one for one in Rest(node).get("/Calls.json", PageSize=1000)[1].get("calls", []) if one["sid"] == sid], 3)
        assert found and found[0]["status"] == "in-progress", (node.name, found)


def test_every_node_redirects_a_call_of_any_node(cluster, application, crowd):
    call = answered(crowd().call("600"))
    sid = sid_of(application, call, "/hold")
    for number, node in enumerate(cluster):
        path = f"/next{number}"
        application.documents[path] = "<Response><Pause length='60'/></Response>"
        status, state = Rest(node).call(sid, Url=application.url + path)
        assert status == 200, (node.name, status, state)
        application.wait(path, CallSid=sid)
        status, state = Rest(node).call(sid, Twiml=f"<Response><Redirect>{application.url}/hold?round={number}</Redirect></Response>")
        assert status == 200, (node.name, status, state)
        application.wait("/hold", CallSid=sid, round=str(number))


def test_every_node_ends_a_call_of_any_node(cluster, application, crowd):
    callers = crowd()
    for node in cluster:
        # One call of each node.
        for owner in cluster:
            call = answered(until_node(callers, owner, "600"))
            sid = sid_of(application, call, "/hold")
            status, state = Rest(node).call(sid, Status="completed")
            assert (status, state.get("status")) == (200, "completed"), (node.name, owner.name, status, state)
            wait_for("the BYE", lambda call=call: call.ended_by == "them")
            application.wait("/status", CallSid=sid, CallStatus="completed")
            for other in cluster:
                assert Rest(other).call(sid)[1].get("status") == "completed", (node.name, owner.name, other.name)
    for webhooks in of_calls(application.to("/status")).values():
        assert len(webhooks) == 1, webhooks


def until_node(callers, node, number, **options):
    """Calls through the proxy until the call is at this node; the others are hung up."""
    for _ in range(40):
        call = answered(callers.call(number, **options))
        if call.node == node.inside:
            return call
        callers.hang_up(call)
    raise AssertionError(f"no call reaches node {node.name}")


def test_a_call_that_one_node_makes_by_rest_is_known_to_the_others_in_order(cluster, application, crowd):
    carrier = crowd(CARRIER)
    events = ["initiated", "ringing", "answered", "completed"]
    for node in cluster:
        form = {"To": "+15550001111", "From": "+15550100000", "Url": application.url + "/hold", "StatusCallback": application.url + "/calls"}
        status, made = Rest(node).post("/Calls.json", **form, StatusCallbackEvent=events)
        assert status == 201, (status, made)
        application.wait("/calls", CallSid=made["sid"], CallStatus="in-progress")
        for other in cluster:
            assert Rest(other).call(made["sid"])[1].get("status") == "in-progress"
        carrier.hang_up(carrier.calls[-1])
        application.wait("/calls", CallSid=made["sid"], CallStatus="completed")
        webhooks = application.to("/calls", CallSid=made["sid"])
        assert [one.status for one in webhooks] == ["initiated", "ringing", "in-progress", "completed"], webhooks
        assert [one.form["SequenceNumber"] for one in webhooks] == ["0", "1", "2", "3"], webhooks


# Phones


def wait_registered(cluster, user, place, is_there=True, seconds=3):
    """Waits until every node knows, or does not know any more, a contact of the user whose address or port is in it."""

    def known(node):
        phones = Rest(node).console("/phones")[1].get("phones", [])
        return any(str(place) in one["contact"] + one["source"] for phone in phones if phone["username"] == user for one in phone["contacts"])

    for node in cluster:
        wait_for(f"node {node.name} to know {user}", lambda node=node: known(node) == is_there, seconds)


@pytest.fixture
def desk_phone(hub, tmp_path, cluster):
    """Starts baresips: desk_phone("alice", node, transport)."""
    if desk.is_missing():
        pytest.skip("missing: baresip (scripts/packages.sh peers)")
    opened = []

    def start(user, node, transport="udp", number=150, **options):
        hub.add(OUTSIDE, f"{OUTSIDE}.{number}")
        folder = tmp_path / f"{user}{len(opened)}"
        folder.mkdir()
        opened.append(desk.desk_phone(user, f"{OUTSIDE}.{number}", node, folder, cluster.kamailio.certificate, transport, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.stop()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_at_one_node_is_called_from_the_others(cluster, application, crowd, desk_phone, transport):
    knows_all(cluster)
    alice = desk_phone("alice", cluster["a"], transport)
    wait_registered(cluster, "alice", alice.address)
    callers = crowd(DIRECT)
    rounds = [(node, number) for node in (cluster["b"], cluster["c"], cluster["a"]) for number in ("610", "611")]
    for at, (node, number) in enumerate(rounds):
        alice.mark()
        call = answered(callers.call(number, target=sip(node)))
        wait_for(f"alice to ring, called with {number} at node {node.name}", alice.incoming)
        alice.answer()
        wait_for("alice to be in a call", alice.established)
        if at % 2:
            alice.hangup()
            # The Dial ends, and the document with it.
            wait_for("the end of the caller", lambda call=call: call.ended)
            assert call.ended_by == "them"
        else:
            callers.hang_up(call)
            wait_for("the end of alice's call", alice.ended)
        wait_for("the end of the call", lambda call=call: call.ended)
        sid = sid_of(application, call, "/client" if number == "610" else "/sip")
        application.wait("/status", CallSid=sid, CallStatus="completed")
    for webhooks in of_calls(application.to("/child")).values():
        assert not misplaced(webhooks) and not repeated(webhooks), webhooks


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_phones_at_two_nodes_hear_each_other(cluster, desk_phone, transport):
    alice = desk_phone("alice", cluster["a"], transport)
    bob = desk_phone("bob", cluster["b"], transport, number=151, hertz=900)
    wait_registered(cluster, "alice", alice.address)
    bob.dial(f"sip:600@{cluster['b'].inside}")  # the document of bob's calls: it calls alice
    wait_for("alice to ring", alice.incoming)
    alice.answer()
    wait_for("alice to be in a call", alice.established)
    alice.hears(bob)
    bob.hears(alice)
    bob.hangup()
    wait_for("the end of alice's call", alice.ended)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_that_registers_elsewhere_is_called_there_and_one_that_is_gone_is_not(cluster, application, crowd, desk_phone, transport):
    desk_phone("alice", cluster["a"], transport).stop()
    alice = desk_phone("alice", cluster["b"], transport)
    wait_registered(cluster, "alice", alice.address)
    callers = crowd(DIRECT)
    for node in (cluster["a"], cluster["c"]):
        alice.mark()
        call = answered(callers.call("610", target=sip(node)))
        wait_for(f"alice to ring, called at node {node.name}", alice.incoming)
        alice.answer()
        wait_for("alice to be in a call", alice.established)
        callers.hang_up(call)
        wait_for("the end of alice's call", alice.ended)
    alice.stop()
    wait_registered(cluster, "alice", alice.address, is_there=False)
    for node in cluster:
        call = callers.call("610", target=sip(node))
        begun = time.time()
        wait_for(f"the end of a call to nobody at node {node.name}", lambda call=call: call.ended or call.status not in (None, 200), 10)
        sid = sid_of(application, call, "/client")
        dialled = application.wait("/dialled", CallSid=sid)[0]
        print(f"a phone that has unregistered ({transport}), called at node {node.name}: {dialled.form.get('DialCallStatus')} after {time.time() - begun:.2f} s")
        assert dialled.form["DialCallStatus"] in ("no-answer", "failed"), dialled


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_that_moves_to_another_node_without_unregistering_is_called_once(cluster, application, crowd, phone, transport):
    # The same Contact, as of a phone behind an SRV record whose first server has failed.
    user = f"carol-{transport}"
    first = phone(user, desk.password(user), transport=transport, proxy=cluster["a"].inside)
    first.register()
    second = phone(user, desk.password(user), transport=transport, proxy=cluster["b"].inside)
    second.contact = first.contact
    second.register()
    wait_registered(cluster, user, second.port)
    application.documents["/client"] = f"<Response><Dial timeout='8' action='/dialled'><Client>{user}</Client></Dial></Response>"
    callers = crowd(DIRECT)
    for node in (cluster["a"], cluster["c"], cluster["b"]):
        call = callers.call("610", target=sip(node))
        try:
            # Whoever has the newer flow is called, and nobody else.
            invite = second.wait_request("INVITE")
            second.reply(invite, "486 Busy Here")
            second.wait_request("ACK")
            sid = sid_of(application, call, "/client")
            assert application.wait("/dialled", CallSid=sid)[0].form["DialCallStatus"] == "busy", node.name
        except AssertionError:
            poll(lambda: first._receive(0.2) and None, 1)
            print(f"called at {node.name}; the first phone has received", [one.start for one in first.messages], "the second", [one.start for one in second.messages])
            for other in cluster:
                print(other.name, Rest(other).console("/phones"))
            print(cluster.database.query("SELECT * FROM bindings"))
            raise


@pytest.mark.parametrize("user", [f"dora{number}" for number in range(4)])
def test_a_phone_is_called_from_the_other_nodes_as_soon_as_it_has_registered(cluster, application, crowd, phone, user):
    knows_all(cluster)
    application.documents["/client"] = f"<Response><Dial timeout='5' action='/dialled'><Client>{user}</Client></Dial></Response>"
    dora, callers, calls, invite = phone(user, desk.password(user), proxy=cluster["a"].inside), crowd(DIRECT), [], None
    dora.register()
    begun = time.time()
    while time.time() < begun + 5 and not invite:
        calls.append((round(time.time() - begun, 2), callers.call("610", target=sip(cluster["b"]))))
        sid = sid_of(application, calls[-1][1], "/client")
        # The INVITE, or the end of the Dial.
        while not application.to("/dialled", CallSid=sid) and not invite:
            if message := dora._receive(0.02):
                invite = message if message.start.startswith("INVITE") else None
    dora.reply(invite, "486 Busy Here")
    dora.wait_request("ACK")
    print(f"calls after the 200 of REGISTER, s: {[at for at, _ in calls]}; the last one reached the phone")
    assert calls[-1][0] < 1.5, calls


def test_a_phone_that_registers_at_a_node_that_has_just_started_is_called_from_the_others(cluster, application, crowd, phone):
    application.documents["/client"] = "<Response><Dial timeout='5' action='/dialled'><Client>erin</Client></Dial></Response>"
    cluster["a"].kill()
    cluster["a"].start()
    erin = phone("erin", desk.password("erin"), proxy=cluster["a"].inside)
    erin.register()
    callers = crowd(DIRECT)

    def invited():
        callers.call("610", target=sip(cluster["b"]))
        with contextlib.suppress(AssertionError):
            return erin.wait_request("INVITE", 1)

    # A node takes calls 2 s after its start, when the others know it and its phones.
    invite = wait_for("a call of node b for the phone of node a", invited, 6)
    erin.reply(invite, "486 Busy Here")
    erin.wait_request("ACK")


def test_a_node_that_has_just_started_calls_the_phones_of_the_others_at_once(cluster, application, crowd, phone):
    application.documents["/client"] = "<Response><Dial timeout='5' action='/dialled'><Client>bob</Client></Dial></Response>"
    bob = phone("bob", desk.password("bob"), proxy=cluster["a"].inside)
    cluster["b"].kill()
    bob.register()
    cluster["b"].start()
    crowd(DIRECT).call("610", target=sip(cluster["b"]))
    invite = bob.wait_request("INVITE", 4)
    bob.reply(invite, "486 Busy Here")
    bob.wait_request("ACK")


# Recordings


def recorded(cluster, application, callers, node, seconds=3):
    """A recording of a tone that was made at this node: its path of the API."""
    call = answered(callers.call("620", speaks=True, target=sip(node)))
    begun = time.time()
    wait_for("seconds of audio", lambda: time.time() - begun > seconds, seconds + 2)
    callers.hang_up(call)
    sid = sid_of(application, call, "/record")
    done = application.wait("/recording", CallSid=sid)[0]
    assert done.form["RecordingStatus"] == "completed", done
    return f"/Recordings/{done.form['RecordingSid']}"


def check_audio(rest, path):
    """The recording as WAV and MP3, whole and in part. Returns what was wrong."""
    faults = []
    whole = rest.media(path + ".wav")
    if whole.status_code != 200:
        return [f".wav: {whole.status_code} {whole.text[:200]}"]
    with wave.open(io.BytesIO(whole.content)) as file:
        seconds = file.getnframes() / file.getframerate()
    if not 2 < seconds < 5:
        faults.append(f".wav has {seconds} s")
    if not max(whole.content[44:][:80_000]) > 0:
        faults.append(".wav is silent")
    compressed = rest.media(path + ".mp3")
    if compressed.status_code != 200 or len(compressed.content) < 4000:
        faults.append(f".mp3: {compressed.status_code} {compressed.content[:100]!r}")
    for suffix, all_of_it in ((".wav", whole), (".mp3", compressed)):
        part = rest.media(path + suffix, Range="bytes=1000-1999")
        if part.status_code != 206 or part.content != all_of_it.content[1000:2000]:
            faults.append(f"Range of {suffix}: {part.status_code}, {len(part.content)} octets, {part.headers.get('Content-Range')}")
        part = rest.media(path + suffix, Range="bytes=-100")
        if part.status_code != 206 or part.content != all_of_it.content[-100:]:
            faults.append(f"Range of the end of {suffix}: {part.status_code}, {len(part.content)} octets")
    return faults


def test_a_recording_is_played_by_every_node_without_a_bucket(cluster, application, crowd):
    callers = crowd(DIRECT)
    path = recorded(cluster, application, callers, cluster["a"])
    for name in ("b", "c", "a"):
        assert check_audio(Rest(cluster[name]), path) == [], name
    cluster["a"].kill()
    begun = time.time()
    seen = []
    while time.time() < begun + 6:
        for name in ("b", "c"):
            answer = Rest(cluster[name]).media(path + ".wav")
            if not seen or (name, answer.status_code) not in [one[1:3] for one in seen]:
                seen.append((round(time.time() - begun, 2), name, answer.status_code, answer.text[:200] if answer.status_code != 200 else ""))
    print("the recording of a node that was killed, at b and c, both of which have a copy:", seen)
    assert all(status in (200, 404, 503) for _, _, status, _ in seen), seen


# Settings


def test_a_number_that_one_node_makes_is_used_by_the_others_within_3_s(cluster, application, crowd):
    callers = crowd(DIRECT)
    times = []
    for at, node in enumerate(cluster):
        number = f"+1555010001{at}"
        status, made = Rest(node).post("/IncomingPhoneNumbers.json", PhoneNumber=number, VoiceUrl=application.url + "/hold")
        made_at = time.time()
        assert status == 201, made
        for other in cluster:
            if other is node:
                continue

            def is_used(other=other, number=number):
                call = callers.call(number, seconds=0.1, target=sip(other))
                wait_for("an answer", lambda: call.status is not None)
                return call.status == 200

            took = poll(is_used, 10) and time.time() - made_at
            times.append((f"number made at {node.name}, used by {other.name}", took))
        # Its voice URL changes.
        application.documents[f"/changed{at}"] = DOCUMENTS["/hold"]
        status, _ = Rest(node).post(f"/IncomingPhoneNumbers/{made['sid']}.json", VoiceUrl=f"{application.url}/changed{at}")
        assert status == 200
        made_at = time.time()
        for other in cluster:
            if other is node:
                continue

            def is_changed(other=other, number=number, at=at):
                call = callers.call(number, seconds=0.1, target=sip(other))
                wait_for("an answer", lambda: call.status is not None)
                return poll(lambda: application.to(f"/changed{at}", From=call.caller) or application.to("/hold", From=call.caller), 3)[0].path != "/hold"

            took = poll(is_changed, 10) and time.time() - made_at
            times.append((f"URL changed at {node.name}, used by {other.name}", took))
    report(times)


def test_an_application_that_one_node_makes_is_used_by_the_others_within_3_s(cluster, application, crowd):
    carrier, times = crowd(CARRIER), []
    for node in cluster:
        status, made = Rest(node).post("/Applications.json", FriendlyName=f"of {node.name}", VoiceUrl=application.url + "/hold")
        made_at = time.time()
        assert status in (200, 201), made
        for other in cluster:
            form = {"To": "+15550001111", "From": "+15550100000", "ApplicationSid": made["sid"]}
            took = poll(lambda other=other, form=form: Rest(other).post("/Calls.json", **form)[0] == 201, 10) and time.time() - made_at
            times.append((f"application made at {node.name}, used by {other.name}", took))
    wait_for("the calls", lambda: len(application.to("/hold")) >= 9)
    for call in carrier.calls:
        carrier.hang_up(call)
    report(times)


def report(times):
    for what, took in times:
        print(f"{what}: {took if not took else round(took, 2)} s")
    assert all(took and took < 3 for _, took in times), times


# Deaths


@pytest.mark.parametrize("name", ["a", "b"])
def test_when_a_node_is_killed_its_calls_end_everywhere(cluster, application, crowd, phone, name):
    knows_all(cluster)
    victim = cluster[name]
    survivors = [node for node in cluster if node is not victim]
    # The phone registers at a node that stays.
    alice = phone("alice", desk.password("alice"), proxy=survivors[0].inside)
    alice.register()
    wait_registered(cluster, "alice", alice.port)
    carrier, callers, direct = crowd(CARRIER), crowd(), crowd(DIRECT)
    calls = [until_node(callers, victim, number) for number in ("600", "640")]
    calls += [answered(direct.call("620", speaks=True, target=sip(victim)))]
    calls += [answered(direct.call(number, target=sip(victim))) for number in ("630", "630", "650", "600")]
    calls += [direct.call("610", target=sip(victim))]
    invite = alice.wait_request("INVITE")
    alice.reply(invite, "200 OK", body=f"v=0\r\no=p 1 1 IN IP4 {alice.address}\r\ns=-\r\nc=IN IP4 {alice.address}\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n")
    alice.wait_request("ACK")
    form = {"To": "+15550001111", "From": "+15550100000", "Url": application.url + "/hold", "StatusCallback": application.url + "/calls"}
    events = ["initiated", "ringing", "answered", "completed"]
    made = [Rest(victim).post("/Calls.json", **form, StatusCallbackEvent=events)[1]["sid"] for _ in range(3)]
    for sid in made:
        application.wait("/calls", CallSid=sid, CallStatus="in-progress")
    wait_for("the child of 650", lambda: application.to("/child", CallStatus="in-progress", To="+15550001234"))
    far_ends = calls + [call for call in carrier.calls if call.is_up]
    assert len(far_ends) == 8 + 4, far_ends
    paths = {"600": "/hold", "640": "/queue", "620": "/record", "630": "/conference", "650": "/outside", "610": "/client"}
    sids = [sid_of(application, call, paths[call.number]) for call in calls] + made
    children = {one.sid for one in application.to("/child")}
    # The database has each call after one second.
    rows = f"SELECT count(*) FROM calls WHERE status = 'in-progress' OR status = 'active' OR ended_at IS NULL"
    wait_for("all rows", lambda: int(cluster.database.query(rows)[0][0]) >= len(sids) + len(children), 5)

    killed = time.time()
    victim.kill()
    known, new = {}, []
    next_call = killed
    while time.time() < killed + 12:
        for node in survivors:
            if node.name not in known and name not in [one["name"] for one in Rest(node, 1).console("/nodes")[1].get("nodes", [{"name": name}]) if one["state"] in ("alive", "silent", "draining")]:
                known[node.name] = time.time() - killed
        if time.time() >= next_call:
            new.append(callers.call("600", seconds=0.3))
            next_call += 0.2
        time.sleep(0.02)  # the pace of the calls
    bye = alice.wait_request("BYE", 1)
    alice.reply(bye, "200 OK")

    took = sorted((call.ended - killed if call.ended else math.inf, call.kind or call.number) for call in far_ends)
    print(f"\nkilled {name}; the others knew after {known}")
    print("BYE after", [(round(seconds, 2), kind) for seconds, kind in took])
    refused = [(round(call.invited - killed, 2), call.status, round(call.seconds or -1, 2)) for call in new if call.status != 200]
    print(f"new calls: {len(new)}, not answered (s after the kill, status, s until the answer): {refused}")
    print("slowest new call", round(max(call.seconds or 99 for call in new), 2))
    faults = []
    if took[-1][0] > 5:
        faults.append(f"a far end had no BYE within 5 s: {took}")
    if [one for one in refused if one[0] > 4]:
        faults.append(f"refused later than 4 s after the kill: {refused}")
    finals = of_calls(one for one in application.to(None) if one.path in ("/status", "/calls", "/child") and one.status in FINAL)
    for sid in [*sids, *children]:
        came = finals.get(sid, [])
        if len(came) != 1:
            faults.append(f"{sid} has {len(came)} final webhooks: {came}")
        elif came[0].at - killed > 6:
            faults.append(f"{sid}: the final webhook came after {came[0].at - killed:.1f} s")
    for path in ("/calls", "/child"):
        for sid, webhooks in of_calls(application.to(path)).items():
            if misplaced(webhooks) or repeated(webhooks):
                faults.append(f"{path} {sid}: {[(one.status, one.form['SequenceNumber']) for one in webhooks]}")
    for node in survivors:
        for sid in [*sids, *children]:
            status, state = Rest(node).call(sid)
            if state.get("status") not in ("completed", "failed"):
                faults.append(f"node {node.name} says of {sid}: {status} {state.get('status', state)}")
    print("final:", {sid: [(one.status, round(one.at - killed, 2)) for one in finals.get(sid, [])] for sid in [*sids, *children]})
    print("recording:", [(one.form.get("RecordingStatus"), round(one.at - killed, 2)) for one in application.to("/recording")])
    print("room:", [(one.form.get("StatusCallbackEvent"), round(one.at - killed, 2)) for one in application.to("/room")])
    print("queue:", [(one.form.get("QueueResult"), round(one.at - killed, 2)) for one in application.to("/left")])
    assert not faults, "\n".join(faults)


# Drains


def tandem(node, *words):
    """Runs the command line program with the configuration of a node, in its network."""
    return subprocess.run(node.namespace.command(str(binary()), *words, "--config", str(node.config)), capture_output=True, text=True, timeout=20)


def test_a_drained_node_gets_nothing_new_and_keeps_its_calls(cluster, application, crowd):
    knows_all(cluster)
    a, b = cluster["a"], cluster["b"]
    callers = crowd()
    held = until_node(callers, b, "600")
    begun = time.time()
    done = tandem(a, "drain", "b")
    assert done.returncode == 0, (done.stdout, done.stderr)
    cluster.kamailio.wait_takes(b, False, 5)
    print(f"Kamailio sends nothing to the drained node after {time.time() - begun:.2f} s")
    calls = [callers.call("600", seconds=0.2) for _ in range(30)]
    for call in calls:
        assert answered(call).node != b.inside, call
    assert held.is_up and not b.is_ready()
    listed = tandem(a, "nodes")
    assert "draining" in listed.stdout, listed
    # A request within the call still reaches the drained node.
    sid = sid_of(application, held, "/hold")
    assert Rest(a).call(sid)[1]["status"] == "in-progress"
    callers.hang_up(held)
    wait_for("the end", lambda: held.ended)
    assert held.ended_by == "us"
    assert application.wait("/status", CallSid=sid)[0].status == "completed"
    done = tandem(cluster["c"], "drain", "b", "--resume")
    assert done.returncode == 0, (done.stdout, done.stderr)
    cluster.kamailio.wait_takes(b)
    until_node(callers, b, "600")


# Last, because the cluster is another one


@pytest.fixture(scope="module")
def stored(start_cluster, application):
    """A cluster with a bucket."""
    return start_cluster(resources(application), joined=True, bucket=True)


def test_a_recording_is_played_by_every_node_with_a_bucket_and_while_the_bucket_is_away(stored, application, crowd):
    application.documents, callers = dict(DOCUMENTS), crowd(DIRECT)
    path = recorded(stored, application, callers, stored["a"])
    for name in ("b", "c", "a"):
        assert check_audio(Rest(stored[name]), path) == [], name
    stored.bucket.stop()
    waiting = recorded(stored, application, callers, stored["a"])
    for name in ("b", "c", "a"):
        assert check_audio(Rest(stored[name]), waiting) == [], name
    print("a recording of before the outage, at nodes c and b:", [Rest(stored[name]).media(path + ".wav").status_code for name in "cb"])
    stored.bucket.start()
    for name in ("b", "c", "a"):
        assert check_audio(Rest(stored[name]), waiting) == [], name
