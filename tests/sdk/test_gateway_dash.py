"""The gateway of the call dashboard: pages make calls with it, see their events, and speak and listen."""

import base64
import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.request

import nacl.signing
import numpy
import pytest
import websockets.exceptions

from harness.frontend import Frontend
from harness.party import Party
from harness.phone import callee, free_port, ringing_callee, until_told
from harness.rtp import LINEAR, is_tone, pcmu, tone
from harness.waiting import wait_for

CONNECTION, NUMBER = "1000000000000000001", "+15551230001"
CALLED = [f"+1555200000{place}" for place in range(5)]
SIX = ["call.initiated", "call.answered", "call.hangup", "streaming.started", "streaming.failed", "streaming.stopped"]
OUTSIDE = nacl.signing.SigningKey.generate()


@pytest.fixture(scope="module")
def ports():
    """Where each number leads."""
    return [free_port() for _ in CALLED]


@pytest.fixture(scope="module")
def server(start_tandem, ports):
    trunks = "".join(
        f'[[trunks]]\nname = "to{place}"\nuri = "sip:127.0.0.1:{port}"\nprefixes = ["{number}"]\n'
        for place, (number, port) in enumerate(zip(CALLED, ports))
    )
    extra = [free_port() for _ in range(3)]
    server = start_tandem(
        f"""
[gateways.dash]
application = "{CONNECTION}"
call_events_port = {extra[0]}
audio_stream_port = {extra[1]}
frontend_audio_port = {extra[2]}
stream_host = "voice.example.com"
public_key = "{base64.b64encode(bytes(OUTSIDE.verify_key)).decode()}"

[[applications]]
id = "{CONNECTION}"
account = "acme"
provider = "telnyx"
webhook_url = "http://127.0.0.1:9/unused"

[[numbers]]
number = "{NUMBER}"
account = "acme"
application = "{CONNECTION}"
{trunks}"""
    )
    server.dash_ports = extra
    return server


@pytest.fixture
def page(server):
    """Opens a page's WebSocket: page("/call-events")."""
    opened = []

    def open_(path, port=None, **options):
        host = f"127.0.0.1:{port}" if port else server.http.removeprefix("http://")
        opened.append(Frontend(f"ws://{host}{path}", **options))
        return opened[-1]

    yield open_
    for one in opened:
        one.end()


def post(server, path, body=None, raw=None, method="POST", **headers):
    """(status, JSON, headers) of a request to the gateway."""
    data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
    headers = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{server.http}/api/calls/telnyx/{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def initiate(server, number=CALLED[0], agent="agent-123"):
    """The `data` of a call that was made."""
    status, body, _ = post(server, "initiate", {"to": number, "from": NUMBER, "agentId": agent})
    assert (status, body["success"]) == (201, True), body
    return body["data"]


def about(call):
    """Whether a message of /call-events is about this call."""
    return lambda message: message.get("payload", {}).get("call_control_id") == call["callId"]


def kinds(watcher, call):
    return [one["type"] for one in watcher.messages if about(call)(one)]


def hears(page, hertz, seconds=10, where=lambda frame: True):
    """Waits until the last 100 ms that a page got are this tone."""
    page.hears(hertz, lambda: [one["media"]["payload"] for one in page.of("media") if where(one)], seconds)


def test_a_page_gets_the_documented_answers_events_and_audio(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(ring_ms=300), port=ports[0])
    made = initiate(server)
    assert made["callId"].startswith("v3:") and made["status"] == "initiated" and made["direction"] == "outbound-dial"
    assert made["streamUrl"] == "wss://voice.example.com/audio-stream"
    record = made["dbRecord"]
    assert re.fullmatch("[0-9a-f]{24}", record["_id"]) and record["agent"] == "agent-123" and record["provider"] == "telnyx"
    assert (record["call_id"], record["stream_url"], record["status"]) == (made["callId"], made["streamUrl"], "initiated")
    # The ports that pages have in their sources, and a subprotocol that must be agreed to.
    events = page("/call-events", port=server.dash_ports[0], protocols=["echo-protocol", "other"])
    assert events.protocol == "echo-protocol"
    assert events.wait("welcome")[0]["message"] == "Connected to call events WebSocket"
    audio = page("/frontend-audio", port=server.dash_ports[2])
    assert audio.wait("connected")[0]["config"] == {"format": "PCMU", "sampleRate": 8000, "channels": 1}

    (answered,) = events.wait("call.answered", where=about(made))
    payload = answered["payload"]
    assert (payload["to"], payload["from"], payload["connection_id"]) == (CALLED[0], NUMBER, CONNECTION)
    assert json.loads(base64.b64decode(payload["client_state"]))["agentId"] == "agent-123"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", answered["occurred_at"]) and answered["id"]
    (start,) = audio.wait("start")
    assert start["start"]["call_control_id"] == made["callId"]
    assert start["start"]["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    assert (start["start"]["sample_rate"], start["start"]["channels"]) == (8000, 1)

    with called.sounds(440), audio.sounds(1000):
        hears(audio, 440)
        called.hears(1000)
        frame = audio.of("media")[-1]
        assert (frame["stream_id"], frame["media"]["track"]) == (start["stream_id"], "inbound")
        assert len(base64.b64decode(frame["media"]["payload"])) == 160
        # Muted, the called party hears nothing of the page.
        assert post(server, f"{made['callId']}/mute")[1] == {
            "success": True,
            "data": {"success": True, "message": "Call muted successfully", "data": {"data": {"result": "ok"}}},
        }
        called.rtp.wait("silence", lambda: not is_tone(LINEAR[numpy.frombuffer(called.rtp._heard[-1600:], dtype=numpy.uint8)], 1000))
        encoded = made["callId"].replace(":", "%3A")
        assert post(server, f"{encoded}/unmute")[1]["data"]["message"] == "Call unmuted successfully"
        called.hears(1000)

    assert post(server, "end", {"call_control_id": made["callId"]})[:2] == (200, {"data": {"result": "ok"}})
    (over,) = events.wait("call.hangup", where=about(made))
    assert isinstance(over["payload"]["duration_seconds"], int)
    (stop,) = audio.wait("stop")
    assert stop["stream_id"] == start["stream_id"]
    called.phone.finish()
    # The page came after call.initiated, or before: nothing is told twice, nothing else is told.
    assert [one for one in kinds(events, made) if one != "call.initiated"] == [
        "call.answered", "streaming.started", "streaming.stopped", "call.hangup",
    ]
    order = [one["event"] for one in audio.messages if one["event"] != "media"]
    assert order == ["connected", "start", "stop"]


def test_a_page_connected_before_the_call_gets_every_event_on_every_path(server, page, phone, rtp, ports):
    watchers = [page("/call-events"), page("/api/call-events"), page("/call-events", port=server.dash_ports[2])]
    called = Party(phone, rtp, callee(until_told(), ends="bye"), port=ports[0])
    made = initiate(server)
    for watcher in watchers:
        watcher.wait("streaming.started", where=about(made))
    called.hang_up()
    for watcher in watchers:
        (over,) = watcher.wait("call.hangup", where=about(made))
        assert over["payload"]["hangup_source"] == "callee"
    called.phone.finish()
    told = [[one for one in watcher.messages if about(made)(one)] for watcher in watchers]
    without_time = [[{key: value for key, value in one.items() if key != "at"} for one in each] for each in told]
    assert without_time[0] == without_time[1] == without_time[2]
    assert [one["type"] for one in told[0]][0] == "call.initiated" and {one["type"] for one in told[0]} <= set(SIX)


def test_five_concurrent_calls_each_have_a_page_that_names_its_call(server, page, phone, rtp, ports):
    parties = [Party(phone, rtp, callee(ring_ms=300), port=port) for port in ports]
    made = [initiate(server, number, f"agent-{place}") for place, number in enumerate(CALLED)]
    pages = [page(f"/frontend-audio?call_control_id={one['callId']}") for one in made]
    tones = [400, 700, 1000, 1300, 1600]
    for one in parties:
        one.rtp.wait("a first packet", lambda one=one: one.rtp._remote)
    with contextlib.ExitStack() as speaking:
        for party, one, hertz in zip(parties, pages, tones):
            speaking.enter_context(party.sounds(hertz))
            speaking.enter_context(one.sounds(hertz + 100))
        for party, one, hertz in zip(parties, pages, tones):
            hears(one, hertz)
            party.hears(hertz + 100)
    for call, party in zip(made, parties):
        assert post(server, "end", {"call_control_id": call["callId"]})[0] == 200
        party.phone.finish()
    for call, one in zip(made, pages):
        one.wait("stop")
        assert {frame["stream_id"] for frame in one.of("media")} == {one.of("stop")[0]["stream_id"]}


def test_pages_that_name_no_call_are_bound_to_the_newest_call_at_their_connection(server, page, phone, rtp, ports):
    first = Party(phone, rtp, callee(ring_ms=300), port=ports[0])
    one = initiate(server, CALLED[0])
    page_of_one = page("/frontend-audio")
    page_of_one.wait("connected")
    second = Party(phone, rtp, callee(ring_ms=300), port=ports[1])
    other = initiate(server, CALLED[1])
    page_of_other = page("/frontend-audio")
    for party in (first, second):
        party.rtp.wait("a first packet", lambda party=party: party.rtp._remote)
    with page_of_one.sounds(500), page_of_other.sounds(900), first.sounds(1200):
        first.hears(500)
        second.hears(900)
        # Both hear both calls; stream_id tells them apart.
        for each in (page_of_one, page_of_other):
            stream = {start["stream_id"] for start in each.of("start") if start["start"]["call_control_id"] == one["callId"]}
            hears(each, 1200, where=lambda frame: not stream or frame["stream_id"] in stream)
    for call, party in ((one, first), (other, second)):
        post(server, "end", {"call_control_id": call["callId"]})
        party.phone.finish()


def test_slow_and_disconnected_pages_do_not_delay_others(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(ring_ms=300), port=ports[0])
    made = initiate(server)
    good = page("/frontend-audio")
    vanishing = page("/frontend-audio")
    # Never reads: its socket fills, then its queue.
    host, port = server.http.removeprefix("http://").split(":")
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((host, int(port)))
    slow.sendall(
        b"GET /frontend-audio HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    good.wait("start")
    with called.sounds(440), good.sounds(1000):
        vanishing.wait("media", 5)
        vanishing.drop()
        # Garbage gets an error, to who sent it alone, and the call goes on.
        good.send_raw("no JSON")
        assert good.wait("error")[0]["payload"]["code"] == 100003
        good.send(event="media", media={"payload": "%%%"})
        assert good.wait("error", 2)[1]["payload"]["code"] == 100004
        good.send(event="dance")
        good.wait("media", len(good.of("media")) + 100)
    frames = good.of("media")
    numbers = [int(frame["media"]["chunk"]) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "none is missing"
    slow.close()
    post(server, "end", {"call_control_id": made["callId"]})
    called.phone.finish()


def test_a_page_that_connects_during_the_call_gets_audio_without_start(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(ring_ms=300), port=ports[0])
    early = page("/frontend-audio")
    made = initiate(server)
    early.wait("media")
    late = page("/frontend-audio")
    with called.sounds(440):
        hears(late, 440)
    assert not late.of("start")
    post(server, "end", {"call_control_id": made["callId"]})
    called.phone.finish()


def test_busy_and_unanswered_calls_are_reported(server, page, phone, ports):
    events = page("/call-events")
    busy = phone(callee(reject="486 Busy Here"), port=ports[0])
    made = initiate(server)
    (over,) = events.wait("call.hangup", where=about(made))
    assert (over["payload"]["hangup_cause"], over["payload"]["duration_seconds"]) == ("user_busy", 0)
    busy.finish()
    ringing = phone(ringing_callee(), port=ports[0])
    made = initiate(server)
    events.wait("call.initiated", where=about(made))
    wait_for("the INVITE", lambda: "INVITE" in ringing.messages())
    assert post(server, "end", {"call_control_id": made["callId"]})[0] == 200
    events.wait("call.hangup", where=about(made))
    ringing.finish()
    assert "call.answered" not in kinds(events, made)


@pytest.mark.parametrize(
    "path, body, error",
    [
        ("initiate", {}, "Please provide to, from, and agentId"),
        ("initiate", {"to": CALLED[0], "from": NUMBER}, "Please provide to, from, and agentId"),
        (
            "initiate", {"to": "15552000000", "from": NUMBER, "agentId": 7},
            "Failed to initiate Telnyx call: Destination number must be in E.164 format (e.g., +1234567890)",
        ),
        (
            "initiate", {"to": "+1555x", "from": NUMBER, "agentId": 7},
            "Failed to initiate Telnyx call: The 'to' parameter must be in E164 format.",
        ),
        ("initiate", {"to": "+4930123456", "from": NUMBER, "agentId": 7}, "Failed to initiate Telnyx call: no trunk accepts +4930123456"),
        ("end", {}, "Please provide call_control_id in request body"),
        ("end", {"call_control_id": "v3:nobody"}, "Failed to end call: The call_control_id provided was not valid."),
        ("v3:nobody/mute", None, "Failed to mute call: The call_control_id provided was not valid."),
        ("v3:nobody/unmute", None, "Failed to unmute call: The call_control_id provided was not valid."),
    ],
)
def test_an_invalid_request_gets_the_error_text_of_the_backend(server, path, body, error):
    assert post(server, path, body)[:2] == (400, {"success": False, "error": error})


def test_an_ended_call_refuses_commands(server, page, phone, ports):
    events = page("/call-events")
    busy = phone(callee(reject="486 Busy Here"), port=ports[0])
    made = initiate(server)
    events.wait("call.hangup", where=about(made))
    busy.finish()
    detail = "This call is no longer active and can't receive commands."
    assert post(server, "end", {"call_control_id": made["callId"]})[1]["error"] == f"Failed to end call: {detail}"
    assert post(server, f"{made['callId']}/mute")[1]["error"] == f"Failed to mute call: {detail}"


def test_a_body_that_is_no_json_is_refused(server):
    status, body, _ = post(server, "end", raw=b"{")
    assert status == 400 and body["error"].startswith("The body is not JSON")


def test_pages_from_localhost_are_allowed(server):
    request = urllib.request.Request(
        f"{server.http}/api/calls/telnyx/initiate", method="OPTIONS",
        headers={
            "Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-own",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
        assert answer.headers["Access-Control-Allow-Headers"] == "content-type, x-own"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    _, _, headers = post(server, "end", {}, Origin="http://localhost:5173")
    assert headers["Access-Control-Allow-Origin"] == "http://localhost:5173"


def test_a_page_of_a_foreign_origin_is_refused(server, page):
    for origin in ("https://evil.example", "http://localhost.evil.example", "null"):
        status, body, headers = post(server, "initiate", {"to": CALLED[0], "from": NUMBER, "agentId": "a"}, Origin=origin)
        assert (status, body) == (403, {"success": False, "error": "Unauthorized origin"})
        assert "Access-Control-Allow-Origin" not in headers
        for path, port in (("/call-events", server.dash_ports[0]), ("/frontend-audio", server.dash_ports[2]), ("/api/call-events", None)):
            with pytest.raises(websockets.exceptions.InvalidStatus):
                page(path, port=port, origin=origin)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        status, body, _ = post(server, "end", {"call_control_id": "v3:x"}, Content_Type=kind)
        assert status == 415 and not body["success"]
    page("/call-events", origin="http://localhost:3000").wait("welcome")


def sign(body, at=None):
    """Headers of a webhook."""
    timestamp = str(int(time.time() if at is None else at))
    signature = OUTSIDE.sign(timestamp.encode() + b"|" + body).signature
    return {"telnyx_signature_ed25519": base64.b64encode(signature).decode(), "telnyx_timestamp": timestamp}


def test_webhooks_and_audio_of_an_external_provider_reach_the_pages(server, page):
    events, audio = page("/call-events"), page("/frontend-audio")
    events.wait("welcome")
    audio.wait("connected")
    payload = {"call_control_id": "v3:outside", "to": CALLED[0], "from": NUMBER}
    data = {"record_type": "event", "event_type": "call.answered", "id": "e-1", "occurred_at": "2024-01-01T12:00:00Z"}
    body = json.dumps({"data": data | {"payload": payload}}).encode()
    assert post(server, "webhook", raw=body, **sign(body))[:2] == (200, {"received": True})
    (told,) = events.wait("call.answered", where=lambda one: one["payload"]["call_control_id"] == "v3:outside")
    assert (told["id"], told["occurred_at"], told["payload"]) == ("e-1", "2024-01-01T12:00:00Z", payload)
    other = json.dumps({"data": data | {"event_type": "call.dtmf.received", "payload": payload}}).encode()
    assert post(server, "webhook", raw=other, **sign(other))[0] == 200
    assert post(server, "webhook", raw=body)[:2] == (400, {"error": "Missing signature headers"})
    forged = post(server, "webhook", raw=body + b" ", **sign(body))
    assert forged[:2] == (400, {"error": "Webhook verification failed: the signature does not match"})
    old = post(server, "webhook", raw=body, **sign(body, time.time() - 3_600))
    assert old[:2] == (400, {"error": "Webhook verification failed: the timestamp differs too much from the server's clock"})

    outside = page("/audio-stream", port=server.dash_ports[1], user_agent_header="Telnyx/1.0")
    assert outside.wait("connected")[0]["version"] == "1.0.0"
    start = {"call_control_id": "v3:outside", "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}}
    outside.send(event="start", sequence_number="1", stream_id="s-1", start=start)
    sent = base64.b64encode(pcmu(tone(440, 0.02))).decode()
    for track in ("inbound", "outbound", "inbound"):
        outside.send(event="media", stream_id="s-1", media={"track": track, "chunk": "1", "timestamp": "160", "payload": sent})
    audio.wait("media", 2)
    audio.send(event="media", media={"payload": sent})
    assert outside.wait("media")[0]["media"] == {"payload": sent}
    outside.send(event="stop", stream_id="s-1")
    audio.wait("stop")
    assert [one["event"] for one in audio.messages] == ["connected", "start", "media", "media", "stop"]
    assert not events.of("call.dtmf.received")


def test_an_unauthenticated_audio_stream_is_refused(server, page):
    stranger = page("/audio-stream")
    assert stranger.wait_closed()[0] == 1008
    with pytest.raises(websockets.exceptions.InvalidStatus):
        page("/no-such-path")
