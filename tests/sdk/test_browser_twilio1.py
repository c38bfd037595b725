"""Twilio's Client SDK 1.15 (`twilio-client`) in Chromium: the published package, through `tandem proxy` and so at Twilio's own hosts, with
capability tokens. Each party says a tone of its own, and each test says which tones each party hears."""

import pytest
from twilio.jwt.client import ClientCapabilityToken

from browser_acts import *  # noqa: F403
from browser_pages import connect, dials, talk
from browser_twilio_application import *  # noqa: F403
from harness.waiting import wait_for
from twilio_app import access_token, client, number


@pytest.fixture(scope="module")
def library():
    return "twilio1"


@pytest.fixture(scope="module")
def address():
    return "client:{}"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number("600", module_webapp, "/dial"))


@pytest.fixture(scope="module")
def application(server, module_webapp):
    """The TwiML application that pages call."""
    return client(server).applications.create(voice_url=module_webapp.url + "/voice", friendly_name="pages")


@pytest.fixture
def token(server, application):
    """Makes a capability token."""

    def make(identity, secret=server.auth_token, ttl=3600, incoming=True, **parameters):
        token = ClientCapabilityToken(server.account_sid, secret, ttl=ttl)
        token.allow_client_outgoing(application.sid, **parameters)
        if incoming:
            token.allow_client_incoming(identity)
        return token.to_jwt()

    return make


@pytest.fixture
def page(tab, token):
    """Opens a page that is ready."""

    def make(*other, options=None, **grants):
        one = tab(*other)
        return one.register(token=token(one.user, **grants), options=options or {})

    return make


def test_a_page_calls_with_parameters_of_its_own_and_of_its_token(app, application, page):
    alice = page(plan="gold")
    alice.do("call", "702", {"colour": "dark blue+"})
    _, sid = alice.wait("answered")
    request = app.to("/voice")[-1]
    assert (request["From"], request["To"], request["ApplicationSid"]) == (f"client:{alice.user}", "702", application.sid)
    assert (request["plan"], request["colour"], request["CallSid"]) == ("gold", "dark blue+", sid)
    alice.hears(alice.hertz)
    alice.hang_up()


def test_a_page_that_is_called_gets_the_parameters_of_the_application(app, page):
    alice, bob = page(), page()
    dials(app, bob.user, path="/voice", answer_on_bridge=True, parameters=[("name", "Ann Ü & co")])
    alice.do("call", "support")
    _, call = bob.wait("incoming")
    assert (call["from"], call["to"], call["own"]) == (f"client:{alice.user}", f"client:{bob.user}", {"name": "Ann Ü & co"})
    bob.do("answer")
    bob.wait("answered")
    talk(alice, bob)
    bob.hang_up()
    alice.wait("ended")


def test_a_page_rejects_a_call_and_a_caller_gives_up(app, page):
    alice, bob = page(), page()
    alice.do("call", bob.address)
    bob.wait("incoming")
    bob.do("reject")
    assert app.wait("/after")[-1]["DialCallStatus"] == "busy"
    alice.wait("ended", "failed")
    alice.do("call", bob.address)
    bob.wait("incoming")
    alice.do("hangUp")
    bob.wait("cancelled")


def test_a_page_is_ready_at_the_host_of_the_option_chunderw_and_calls_with_an_access_token(server, application, tab):
    key = client(server).new_keys.create(friendly_name="pages")
    alice = tab()
    grant = {"incoming_allow": True, "outgoing_application_sid": application.sid}
    token = access_token(server.account_sid, key.sid, key.secret, alice.user, **grant)
    alice.register(token=token, options={"chunderw": "chunderw-vpc-gll-us1.twilio.com"})
    alice.call("702")
    alice.hears(alice.hertz)
    alice.hang_up()


def test_a_page_whose_socket_is_cut_is_ready_again(page):
    alice, bob = page(), page()
    alice.do("cut")
    alice.wait("unregistered")
    alice.wait("registered", seconds=20)
    connect(bob, alice)
    bob.hang_up()
    alice.wait("ended")


@pytest.mark.parametrize("ends", ["the page", "the other"])
def test_a_call_goes_on_when_the_socket_is_cut_and_ends_over_the_next_socket(page, ends):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("cut")
    alice.wait("unregistered")
    talk(alice, bob)
    alice.wait("registered", seconds=20)
    one, other = (alice, bob) if ends == "the page" else (bob, alice)
    one.hang_up()
    other.wait("ended", seconds=5)


def test_two_tabs_of_one_user_ring_together(page):
    alice, bob = page(), page()
    second = page(bob)
    alice.do("call", bob.address)
    bob.wait("incoming")
    second.answer()
    bob.wait("cancelled")
    alice.wait("answered")
    talk(alice, second)
    second.hang_up()
    alice.wait("ended")


def test_a_token_that_is_not_valid_is_refused_and_the_errors_say_why(server, tab, token):
    mallory = tab()
    mallory.start(token=token(mallory.user, secret="x" * 32), options={})
    assert mallory.wait("deviceFailed")[1]["code"] == 31201
    wait_for("the log", lambda: f"{server.account_sid}: the signature is wrong" in server.log())
    late = tab()
    late.start(token=token(late.user, ttl=-60), options={})
    assert late.wait("deviceFailed")[1]["code"] == 31205


def test_a_token_is_renewed(page, token):
    alice, bob = page(ttl=60), page()
    alice.do("updateToken", token(alice.user))
    connect(bob, alice)
    bob.hang_up()
    alice.wait("ended")
