"""The gateway of a page that has an agent call people: the page sees the call's state, hears its audio and reads what is said."""

import base64
import contextlib
import re

import numpy
import pytest
import requests
import websockets.exceptions

from harness.audio import RATE, chatter
from harness.frontend import Frontend
from harness.models import Engines
from harness.party import Party
from harness.phone import callee, free_port, ringing_callee, until_told
from harness.waiting import wait_for

NUMBER = "+15551230001"
CALLED = [f"+1555200000{place}" for place in range(5)]
HELLO = "Hello! How can I help you today?"


@pytest.fixture(scope="module")
def engines():
    all_three = Engines()
    yield all_three
    all_three.stop()


@pytest.fixture(scope="module")
def ports():
    """Where each number leads."""
    return [free_port() for _ in CALLED]


@pytest.fixture(scope="module")
def start(start_tandem, engines, ports):
    """Starts a server: start("keys of [gateways.starlis]")."""
    trunks = "".join(
        f'[[trunks]]\nname = "to{place}"\nuri = "sip:127.0.0.1:{port}"\nprefixes = ["{number}"]\n'
        for place, (number, port) in enumerate(zip(CALLED, ports))
    )
    return lambda keys: start_tandem(
        f"""
{engines.speech}[gateways.starlis]
{keys}
[[agents]]
name = "caller"
prompt = "You call people."
first_message = "Good morning."
model = {{ url = "{engines.model.url}/v1" }}
[[numbers]]
number = "{NUMBER}"
account = "acme"
provider = "twilio"
voice_url = "http://127.0.0.1:9/unused"
{trunks}"""
    )


@pytest.fixture(scope="module")
def server(start):
    return start("calls_per_minute = 100")


@pytest.fixture
def page():
    """Opens a page's WebSocket: page(server, callSid, user)."""
    opened = []

    def open_(server, call_sid=None, user=None, asks=True, **options):
        query = "&".join(f"{name}={value}" for name, value in (("callSid", call_sid), ("user_id", user)) if value)
        token = options.pop("token", None)
        url = server.http.replace("http", "ws", 1) + f"/frontend-stream?{query}" + (f"&token={token}" if token else "")
        opened.append(Frontend(url, **options))
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            if asks:
                opened[-1].send(event="connect-twilio", callSid=call_sid, user_id=user)
        return opened[-1]

    yield open_
    for one in opened:
        one.end()


def initiate(server, number=CALLED[0], user="user123", **more):
    """The callSid of a call that was made."""
    answer = requests.post(f"{server.http}/outbound-call", json={"user_id": user, "number": number} | more, timeout=10)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["success"], body["message"]) == (True, "Call initiated") and re.fullmatch("CA[0-9a-f]{32}", body["callSid"])
    return body["callSid"]


def end(server, call_sid, user="user123"):
    return requests.post(f"{server.http}/end-call", json={"callSid": call_sid, "user_id": user}, timeout=10)


def status(server, call_sid, user="user123"):
    answer = requests.get(f"{server.http}/call-status", params={"callSid": call_sid, "user_id": user}, timeout=10)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json", answer.text
    return answer.json()


def hears(page, hertz):
    page.hears(hertz, lambda: [one["payload"] for one in page.of("audio")])


def test_a_page_gets_the_documented_answers_events_and_audio(server, engines, page, phone, rtp, ports):
    assert requests.get(server.http + "/", timeout=10).json() == {"message": "Server is running"}
    engines.ears.hears = lambda samples: "I would like a table."
    called = Party(phone, rtp, callee(ring_ms=1_000), port=ports[0])
    call = initiate(server, prompt="You are a helpful customer service agent", first_message=HELLO)
    wait_for("the ringing", lambda: status(server, call)["status"] == "ringing")
    ringing = status(server, call)
    assert ringing == {
        "success": True, "callSid": call, "status": "ringing", "startTime": None, "endTime": None, "duration": 0,
    }
    # Before the answer it waits.
    browser = page(server, call, "user123")
    engines.voice.wait_until_heard(called.rtp, HELLO)
    with called.sounds(440):
        hears(browser, 440)
    assert all(len(base64.b64decode(one["payload"])) == 160 for one in browser.of("audio"))
    called.rtp.play(numpy.concatenate([chatter(1.0), numpy.zeros(RATE)]))
    assert browser.wait("transcription")[0]["text"] == "I would like a table."
    live = status(server, call)
    assert live["status"] == "in-progress" and live["endTime"] is None and isinstance(live["duration"], int) and live["duration"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", live["startTime"])
    assert end(server, call).json() == {"success": True, "message": "Call ended successfully"}
    assert browser.wait_closed() == (1000, "Call ended")
    called.phone.finish()
    wait_for("the end", lambda: status(server, call)["status"] == "completed")
    over = status(server, call)
    assert over["startTime"] == live["startTime"] and over["endTime"] >= over["startTime"]
    assert {one["event"] for one in browser.messages} == {"audio", "transcription"}
    # Over is over.
    again = end(server, call)
    assert (again.status_code, again.json()["success"]) == (500, False)
    late = page(server, call, "user123")
    assert late.wait_closed() == (1000, "Call ended")


def test_a_page_gets_no_audio_before_its_request(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(), port=ports[0])
    call = initiate(server)
    silent, browser = page(server, call, "user123", asks=False), page(server, call, "user123")
    silent.send(event="something-else")
    silent.send_raw("no JSON")
    with called.sounds(440):
        hears(browser, 440)
        assert silent.messages == []
        silent.send(event="connect-twilio", callSid=call, user_id="a")
        silent.send(event="connect-twilio", callSid=call, user_id="a")
        hears(silent, 440)
    end(server, call)
    called.phone.finish()
    assert silent.wait_closed() == browser.wait_closed() == (1000, "Call ended")


def test_five_concurrent_calls_continue_after_a_page_disconnects(server, page, phone, rtp, ports):
    parties = [Party(phone, rtp, callee(), port=port) for port in ports]
    calls = [initiate(server, number, f"user{place}") for place, number in enumerate(CALLED)]
    pages = [page(server, call, f"user{place}") for place, call in enumerate(calls)]
    gone = page(server, calls[0], "user0")
    gone.wait("audio")
    gone.drop()
    for place, (party, one) in enumerate(zip(parties, pages)):
        with party.sounds(400 + 300 * place):
            hears(one, 400 + 300 * place)
    for place, (call, party) in enumerate(zip(calls, parties)):
        assert end(server, call, f"user{place}").status_code == 200
        party.phone.finish()
    for one in pages:
        assert one.wait_closed() == (1000, "Call ended")


def test_busy_and_cancelled_calls_have_the_statuses_of_the_client(server, phone, ports):
    busy = phone(callee(reject="486 Busy Here"), port=ports[0])
    call = initiate(server)
    wait_for("the refusal", lambda: status(server, call)["status"] == "busy")
    busy.finish()
    ringing = phone(ringing_callee(), port=ports[0])
    call = initiate(server)
    wait_for("the ringing", lambda: status(server, call)["status"] == "ringing")
    assert end(server, call).status_code == 200
    ringing.finish()
    wait_for("the end", lambda: status(server, call)["status"] == "no-answer")
    assert status(server, call)["duration"] == 0


def test_a_hangup_of_the_called_party_closes_the_page(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(until_told(), ends="bye"), port=ports[0])
    call = initiate(server)
    browser = page(server, call, "user123")
    browser.wait("audio")
    called.hang_up()
    assert browser.wait_closed() == (1000, "Call ended")
    called.phone.finish()


def test_an_invalid_request_gets_the_error_text_of_the_backend(server, page):
    for body in ({}, {"user_id": "a"}, {"number": CALLED[0]}, "no object"):
        answer = requests.post(f"{server.http}/outbound-call", json=body, timeout=10)
        assert (answer.status_code, answer.json()) == (400, {"error": "User ID and phone number are required"})
    for number, why in (("12345", "12345 is not a number in E.164 format (e.g., +1234567890)"), ("+4930123456", "no trunk accepts +4930123456")):
        answer = requests.post(f"{server.http}/outbound-call", json={"user_id": "a", "number": number}, timeout=10)
        assert (answer.status_code, answer.json()) == (500, {"success": False, "error": why})
    missing = (400, {"error": "Call SID and User ID are required"})
    for answer in (
        requests.post(f"{server.http}/end-call", json={"callSid": "CA1"}, timeout=10),
        requests.get(f"{server.http}/call-status", params={"callSid": "CA1"}, timeout=10),
    ):
        assert (answer.status_code, answer.json()) == missing
    unknown = "CA" + "0" * 32
    for answer in (end(server, unknown), requests.get(f"{server.http}/call-status?callSid={unknown}&user_id=a", timeout=10)):
        assert (answer.status_code, answer.json()["success"]) == (500, False) and unknown in answer.json()["error"]
    assert page(server, None, "a").wait_closed() == (1008, "Missing callSid or user_id")
    assert page(server, "CA1").wait_closed() == (1008, "Missing callSid or user_id")
    assert page(server, unknown, "a").wait_closed() == (1008, "Call not found")


def test_a_user_has_at_most_three_websockets(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(), port=ports[0])
    call = initiate(server, user="greedy")
    three = [page(server, call, "greedy") for _ in range(3)]
    for one in three:
        one.wait("audio")
    assert page(server, call, "greedy").wait_closed() == (1008, "Too many connections")
    three[0].end()

    def has_room():
        one = page(server, call, "greedy")
        try:
            one.wait("audio", seconds=1)
        except AssertionError:
            return False
        return True

    wait_for("a place", has_room, 10)
    end(server, call, "greedy")
    called.phone.finish()


def test_only_the_user_who_created_a_call_can_access_it(server, page, phone, rtp, ports):
    called = Party(phone, rtp, callee(), port=ports[0])
    call = initiate(server, user="victim")
    page(server, call, "victim").wait("audio")
    for user in ("other", "victim ", "Victim", "gateways.starlis victim"):
        answer = requests.get(f"{server.http}/call-status", params={"callSid": call, "user_id": user}, timeout=10)
        assert (answer.status_code, answer.json()["error"]) == (500, f"The requested call {call} was not found")
        assert end(server, call, user).status_code == 500
        assert page(server, call, user.replace(" ", "%20")).wait_closed() == (1008, "Call not found")
    assert status(server, call, "victim")["status"] == "in-progress"
    assert end(server, call, "victim").status_code == 200
    called.phone.finish()
    wait_for("the end", lambda: status(server, call, "victim")["status"] == "completed")
    assert requests.get(f"{server.http}/call-status", params={"callSid": call, "user_id": "other"}, timeout=10).status_code == 500


def test_a_user_creates_at_most_five_calls_per_minute(start, phone, ports):
    server = start("")
    busy = phone(callee(reject="486 Busy Here"), port=ports[0], calls=6)
    for _ in range(5):
        call = initiate(server)
        wait_for("the refusal", lambda: status(server, call)["status"] == "busy")
    refused = requests.post(f"{server.http}/outbound-call", json={"user_id": "user123", "number": CALLED[0]}, timeout=10)
    assert (refused.status_code, refused.json()) == (429, {"success": False, "error": "Too many requests"})
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    call = initiate(server, user="another")
    wait_for("the refusal", lambda: status(server, call, "another")["status"] == "busy")
    busy.finish()


def test_pages_from_localhost_and_from_configured_origins_are_allowed(server, start, page):
    listed = start('allowed_origins = ["https://app.example.com"]')
    for one, origin in ((server, "http://localhost:5173"), (listed, "https://app.example.com"), (listed, "http://localhost:3000")):
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = requests.options(f"{one.http}/outbound-call", headers=asks, timeout=10)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert answer.headers["Access-Control-Allow-Credentials"] == "true" and answer.headers["Access-Control-Max-Age"] == "86400"
        answer = requests.get(f"{one.http}/call-status", headers={"Origin": origin}, timeout=10)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
    for one, origin in ((server, "https://evil.example"), (listed, "http://localhost:5173"), (server, "null")):
        answer = requests.post(f"{one.http}/outbound-call", json={"user_id": "a", "number": CALLED[0]}, headers={"Origin": origin}, timeout=10)
        assert (answer.status_code, answer.json()) == (403, {"error": "Unauthorized origin"})
        assert "Access-Control-Allow-Origin" not in answer.headers
        with pytest.raises(websockets.exceptions.InvalidStatus):
            page(one, "CA" + "0" * 32, "a", origin=origin)


def test_a_page_cannot_send_a_body_without_a_preflight(server):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        body = '{"user_id": "a", "number": "' + CALLED[0] + '"}'
        answer = requests.post(f"{server.http}/outbound-call", data=body, headers={"Content-Type": kind}, timeout=10)
        assert answer.status_code == 415, answer.text


def test_all_users_share_a_limit_and_only_configured_prefixes_are_called(start, phone, ports):
    server = start(f'total_calls_per_minute = 2\nprefixes = ["{CALLED[0]}"]')
    busy = phone(callee(reject="486 Busy Here"), port=ports[0], calls=2)

    def dial(user, number=CALLED[0]):
        return requests.post(f"{server.http}/outbound-call", json={"user_id": user, "number": number}, timeout=10)

    assert dial("a", CALLED[1]).status_code == 403
    for user in ("b", "c"):
        call = dial(user).json()["callSid"]
        wait_for("the refusal", lambda: status(server, call, user)["status"] == "busy")
    refused = dial("d")
    assert (refused.status_code, refused.json()["error"]) == (429, "Too many requests") and int(refused.headers["Retry-After"]) > 0
    busy.finish()


def test_other_calls_of_the_account_are_not_visible_to_the_gateway(server, phone, ports):
    ringing = phone(ringing_callee(), port=ports[0])
    url = f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Calls.json"
    made = {"To": CALLED[0], "From": NUMBER, "Url": "http://127.0.0.1:9/unused"}
    call = requests.post(url, made, auth=(server.account_sid, server.auth_token), timeout=10).json()["sid"]
    assert end(server, call).status_code == 500
    assert requests.get(f"{server.http}/call-status", params={"callSid": call, "user_id": "a"}, timeout=10).status_code == 500
    requests.post(url.replace(".json", f"/{call}.json"), {"Status": "canceled"}, auth=(server.account_sid, server.auth_token), timeout=10)
    ringing.finish()


def test_a_configured_secret_is_required(start):
    secret = "a-secret-of-the-test"
    server = start(f'secret = "{secret}"')
    path = f"{server.http}/call-status?callSid=CA1&user_id=a"
    assert requests.get(path, timeout=10).status_code == 401
    assert requests.get(path, headers={"Authorization": "Bearer guessed-guessed-guessed"}, timeout=10).status_code == 401
    assert requests.get(path, headers={"Authorization": f"Bearer {secret}"}, timeout=10).status_code == 500
    with pytest.raises(websockets.exceptions.InvalidStatus):
        Frontend(server.http.replace("http", "ws", 1) + "/frontend-stream?callSid=CA1&user_id=a")
    Frontend(server.http.replace("http", "ws", 1) + f"/frontend-stream?callSid=CA1&user_id=a&secret={secret}").end()


def test_a_prompt_starts_an_agent_for_the_call(start, engines, page, phone, rtp, ports):
    server = start('agent = "caller"\ntracks = "both"')
    engines.ears.hears = lambda samples: "Who are you?"
    engines.model.answer = lambda messages: "I am a robot."
    called = Party(phone, rtp, callee(), port=ports[0])
    call = initiate(server, prompt="You sell tables.", first_message="A table?")
    browser = page(server, call, "user123")
    engines.voice.wait_until_heard(called.rtp, "A table?")
    called.rtp.play(numpy.zeros(int(RATE * (engines.voice.seconds_of("A table?") + 0.5))))
    called.rtp.play(numpy.concatenate([chatter(1.0), numpy.zeros(RATE)]))
    engines.voice.wait_until_heard(called.rtp, "I am a robot.")
    asked = [(one["role"], one["content"]) for one in engines.model.asked[-1]["messages"]]
    assert asked == [("system", "You sell tables."), ("assistant", "A table?"), ("user", "Who are you?")]
    # Both tracks: the page hears the agent, too.
    hears(browser, engines.voice.pitch("I am a robot."))
    assert "Who are you?" in [one["text"] for one in browser.wait("transcription")]
    end(server, call)
    called.phone.finish()


def test_tokens_are_required_when_enabled(start, page, phone, rtp, ports):
    server = start('tokens = true\nallowed_origins = ["https://app.example.com"]')

    def token(source="frontend", **headers):
        return requests.post(f"{server.http}/generate-token", json={"source": source}, headers=headers, timeout=10)

    wrong = token("somebody")
    assert (wrong.status_code, wrong.json()["error"]) == (400, 'Invalid source. Must be either "frontend" or "backend"')
    assert token(Origin="https://evil.example.com").status_code == 403
    called = Party(phone, rtp, callee(), port=ports[0])
    wish = {"user_id": "user123", "number": CALLED[0]}

    def dial(given=None, **headers):
        headers |= {"Authorization": f"Bearer {given}"} if given else {}
        answer = requests.post(f"{server.http}/outbound-call", json=wish, headers=headers, timeout=10)
        return answer.status_code, answer.json()

    assert dial() == (401, {"error": "No token provided"})
    assert dial("guessed") == (401, {"error": "Invalid token"})
    good = token().json()["token"]
    assert dial(good, Origin="https://evil.example.com") == (403, {"error": "Unauthorized origin"})
    code, body = dial(good, Origin="http://localhost:3000")
    assert code == 200, body
    assert dial(good) == (401, {"error": "Token has already been used. Please generate a new token."})
    with pytest.raises(websockets.exceptions.InvalidStatus):
        page(server, body["callSid"], "user123")
    page(server, body["callSid"], "user123", token=token().json()["token"]).wait("audio")
    ended = requests.post(
        f"{server.http}/end-call", json={"callSid": body["callSid"], "user_id": "user123"},
        headers={"Authorization": f"Bearer {token('backend').json()['token']}"}, timeout=10,
    )
    assert ended.status_code == 200
    called.phone.finish()
