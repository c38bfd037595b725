"""Twilio's Voice SDK in Chromium: the published package, with not one option changed, through `tandem proxy`. Each party says a tone
of its own, and each test says which tones each party hears."""

import json

import pytest
import requests

from browser_acts import *  # noqa: F403
from browser_pages import PROMPT, connect, dials, gathers, give_digits, restart_ice, talk
from browser_twilio_application import *  # noqa: F403
from harness.rtp import tone
from harness.waiting import wait_for
from twilio_app import access_token, answering, client, number


@pytest.fixture(scope="module")
def library():
    return "twilio"


@pytest.fixture(scope="module")
def address():
    return "client:{}"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number("600", module_webapp, "/dial"))


@pytest.fixture(scope="module")
def key(server):
    """An API key of the account."""
    return client(server).new_keys.create(friendly_name="pages")


@pytest.fixture(scope="module")
def application(server, module_webapp):
    """The TwiML application that pages call."""
    return client(server).applications.create(voice_url=module_webapp.url + "/voice", friendly_name="pages")


@pytest.fixture
def token(server, key, application):
    """Makes an access token."""

    def make(identity, secret=key.secret, account=server.account_sid, incoming=True, outgoing=application.sid, ttl=3600, **params):
        grant = {"incoming_allow": incoming, "outgoing_application_sid": outgoing, "outgoing_application_params": params or None}
        return access_token(account, key.sid, secret, identity, ttl, **grant)

    return make


@pytest.fixture
def start(tab, token):
    """Opens a page with its token, which has these grants."""

    def make(*other, options=None, **grants):
        one = tab(*other)
        return one.start(token=token(one.user, **grants), options=options or {})

    return make


@pytest.fixture
def page(start):
    """Opens a page that has registered."""

    def make(*other, **options):
        one = start(*other, **options)
        one.do("register")
        one.wait("registered")
        return one

    return make


def test_a_page_registers_with_its_token_and_is_unreachable_after_it_unregisters(app, page):
    alice, bob = page(), page()
    assert alice.do("identity") == alice.user
    connect(alice, bob)
    alice.hang_up()
    bob.wait("ended")
    bob.do("unregister")
    bob.wait("unregistered")
    alice.do("call", bob.address)
    alice.wait("ended", "failed")
    assert app.wait("/after")[-1]["DialCallStatus"] == "no-answer"


def test_a_page_calls_an_application_which_gets_the_parameters_of_the_page_and_of_the_token(server, app, application, page):
    alice = page(plan="gold", own="signed")
    answering(app, "/voice", lambda response: response.dial().conference("room", beep=False))
    alice.do("call", "+15550009999", {"own": "forged", "colour": "dark blue+"})
    _, sid = alice.wait("answered")
    request = app.to("/voice")[-1]
    assert (request["From"], request["Caller"], request["To"]) == (f"client:{alice.user}", f"client:{alice.user}", "+15550009999")
    assert (request["plan"], request["own"], request["colour"]) == ("gold", "signed", "dark blue+")
    assert (request["ApplicationSid"], request["Direction"], request["CallStatus"]) == (application.sid, "inbound", "ringing")
    assert request["CallSid"] == sid
    call = client(server).calls(sid)
    assert call.fetch().status == "in-progress"
    call.update(status="completed")
    alice.wait("ended")


def test_two_pages_in_a_conference_hear_each_other(app, page):
    answering(app, "/voice", lambda response: response.dial().conference("meeting", beep=False))
    alice, bob = page(), page()
    for one in (alice, bob):
        one.do("call", "meeting")
        one.wait("answered")
    talk(alice, bob)
    for one in (alice, bob):
        one.hang_up()


def test_a_page_gets_the_parameters_of_the_application_and_the_caller(app, page):
    alice, bob = page(), page()
    dials(app, bob.user, path="/voice", answer_on_bridge=True, parameters=[("name", "Ann Ü & co"), ("order", "1+1")])
    alice.do("call", "support")
    _, call = bob.wait("incoming")
    assert (call["from"], call["to"]) == (f"client:{alice.user}", f"client:{bob.user}")
    assert call["own"] == {"name": "Ann Ü & co", "order": "1+1"}
    bob.do("answer")
    bob.wait("answered")
    talk(alice, bob)
    bob.hang_up()
    alice.wait("ended")


def test_a_rest_call_rings_at_a_page(server, app, page):
    alice = page()
    gathers(app)
    call = client(server).calls.create(to=f"client:{alice.user}?greeting=hello", from_="+15550001111", url=app.url + "/gather")
    _, incoming = alice.wait("incoming")
    assert (incoming["from"], incoming["sid"], incoming["own"]) == ("+15550001111", call.sid, {"greeting": "hello"})
    alice.do("answer")
    alice.wait("answered")
    give_digits(app, alice)


def test_a_call_that_rings_is_refused_or_given_up_or_ignored(server, app, page):
    alice, bob = page(), page()
    dials(app, bob.user, path="/voice", answer_on_bridge=True, timeout=3)
    for act, at_bob, status in [("reject", "rejected", "busy"), ("ignore", None, "no-answer")]:
        app.forget()
        dials(app, bob.user, path="/voice", answer_on_bridge=True, timeout=3)
        alice.do("call", "x")
        bob.wait("incoming")
        bob.do(act)
        if at_bob:
            bob.wait(at_bob)
        assert app.wait("/after")[0]["DialCallStatus"] == status
        alice.wait("ended", "failed")
    alice.do("call", "x")
    bob.wait("incoming")
    alice.do("hangUp")
    bob.wait("cancelled")
    alice.wait("ended")


def test_two_tabs_of_one_user_ring_together(page):
    alice, bob = page(), page()
    second = page(bob)
    alice.do("call", f"client:{bob.user}")
    _, first_call = bob.wait("incoming")
    _, second_call = second.wait("incoming")
    assert first_call["sid"] == second_call["sid"]
    second.do("answer")
    second.wait("answered")
    bob.wait("cancelled")
    alice.wait("answered")
    talk(alice, second)
    second.hang_up()
    alice.wait("ended")


@pytest.mark.parametrize("side", ["the caller", "the called"])
def test_a_call_goes_on_when_the_socket_is_cut_and_is_taken_up_over_the_next_socket(page, side):
    options = {"maxCallSignalingTimeoutMs": 30_000}
    alice, bob = page(options=options), page(options=options)
    connect(alice, bob)
    one, other = (alice, bob) if side == "the caller" else (bob, alice)
    one.do("cut")
    one.wait("reconnecting")
    talk(alice, bob)
    one.wait("reconnected")
    talk(alice, bob)
    other.hang_up()
    one.wait("ended")


def test_ice_restarts_in_mid_call(page):
    alice, bob = page(), page()
    connect(alice, bob)
    restart_ice(alice)
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


@pytest.mark.parametrize("side", ["the caller", "the called"])
def test_a_page_that_is_reloaded_takes_up_its_call_with_the_connect_token(token, page, side):
    alice, bob = page(), page()
    connect(alice, bob)
    one, other = (alice, bob) if side == "the caller" else (bob, alice)
    resumes = one.do("connectToken")
    one.start(token=token(one.user), options={})
    one.do("resume", resumes)
    one.wait("answered", "reconnected")
    talk(alice, bob)
    other.hang_up()
    one.wait("ended")


def test_messages_go_between_a_page_and_the_application(server, app, page):
    alice = page()
    answering(app, "/voice", lambda response: response.dial().conference("alone", beep=False))
    app.on("/messages")
    alice.do("call", "x")
    _, sid = alice.wait("answered")
    call = client(server).calls(sid)
    call.user_defined_message_subscriptions.create(callback=app.url + "/messages")
    alice.do("say", {"hello": "server"})
    alice.wait("messageSent")
    assert json.loads(app.wait("/messages")[0]["Content"]) == {"hello": "server"}
    call.user_defined_messages.create(content=json.dumps({"hello": "page"}))
    assert alice.wait("message")[1] == {"hello": "page"}
    alice.hang_up()


def test_a_page_without_permission_for_incoming_calls_only_calls(app, page):
    alice, bob = page(), page(incoming=False)
    dials(app, bob.user)
    connect(bob, alice)
    bob.hang_up()
    alice.wait("ended")
    alice.do("call", bob.address)
    alice.wait("ended", "failed")
    assert app.wait("/after", 2)[-1]["DialCallStatus"] == "no-answer"


@pytest.mark.parametrize(
    "grants, code, reason",
    [
        ({"secret": "x" * 64}, 20151, "the signature is wrong"),
        ({"account": "AC" + "9" * 32}, 20151, "another account"),
        ({"ttl": -600}, 20104, "expired"),
        ({"ttl": 100_000}, 53000, "more than 24 hours"),
    ],
)
def test_a_token_that_is_not_valid_is_refused_and_the_errors_say_why(server, start, grants, code, reason):
    alice = start(**grants)
    alice.page.evaluate("void window.phone.register()")
    assert alice.wait("deviceFailed")[1]["code"] == code
    errors = requests.get(f"{server.http}/console/errors", auth=(server.account_sid, server.auth_token), timeout=5).text
    assert reason in errors or reason in server.log(), errors


def test_a_token_is_renewed_and_expires_without_ending_the_call(server, token, page):
    alice, bob = page(ttl=14), page()
    connect(alice, bob)
    alice.wait("tokenWillExpire")
    alice.do("updateToken", token(alice.user, ttl=12))
    wait_for("the end of the first token", lambda: alice.has("deviceFailed"), 30)
    assert alice.wait("deviceFailed")[1]["code"] == 20104
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_a_page_without_an_application_may_not_call(server, page):
    alice = page(outgoing=None)
    alice.do("call", "x")
    assert alice.wait("failed")[1]["code"] == 31005
    alice.wait("ended")


def test_a_preflight_measures_the_sound_of_the_application(app, start, token):
    alice = start()
    app.sound("/test.wav", tone(PROMPT, 8))
    answering(app, "/voice", lambda response: response.play("/test.wav"))
    alice.do("preflight", token(alice.user), {})
    alice.wait("connected")
    _, report = alice.wait("completed", seconds=20)
    assert report["sid"] == app.to("/voice")[0]["CallSid"]
    assert (report["quality"], report["turn"], report["timing"]) == ("excellent", False, ["dtls", "ice", "peerConnection", "signaling"])
    assert report["samples"] >= 5 and report["heard"] > 0 and "insights-connection-error" not in report["warnings"]


def test_a_preflight_with_a_sound_instead_of_the_microphone_hears_its_echo(app, start, token):
    alice = start()
    answering(app, "/voice", lambda response: response.echo())
    alice.do("preflight", token(alice.user), {"fakeMicInput": True})
    alice.wait("connected")
    _, report = alice.wait("completed", seconds=40)
    assert report["quality"] == "excellent" and report["heard"] > 0


def test_a_preflight_with_a_token_that_is_not_valid_fails_with_the_code(start, token):
    alice = start()
    alice.do("preflight", token(alice.user, secret="x" * 64), {})
    assert alice.wait("preflightFailed")[1]["code"] == 20151
