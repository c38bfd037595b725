"""SignalWire's browser SDK 1.5 in Chromium: the published package. Pages with `Relay` have a token, and reach SignalWire's own host through
`tandem proxy`. Pages with `Verto` have the password of a SIP user. Each party says a tone of its own, and each test says which tones each
party hears."""

import json

import pytest
import requests

from browser_pages import DOMAIN, PROMPT, connect, gathers, give_digits, password, talk
from browser_verto_acts import *  # noqa: F403
from harness.resources import table
from harness.rtp import tone
from harness.signalwire import PROJECT, TOKEN, relay_token, space, subscriber_token
from harness.waiting import wait_for

USERS = [f"user{count}" for count in range(100)]  # each test runs for both classes


@pytest.fixture(scope="module")
def names():
    """Users that no other test has."""
    return iter(USERS)


@pytest.fixture(scope="module")
def library():
    return "signalwire1"


@pytest.fixture(scope="module")
def account():
    return PROJECT, TOKEN


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    own = {"account": "space", "provider": "signalwire"}
    paths = {"703": "/gather", "600": "/dial", "705": "/early"}
    numbers = [table("numbers", number=number, voice_url=module_webapp.url + path, **own) for number, path in paths.items()]
    echo = table("numbers", number="702", twiml="<Response><Echo/></Response>", **own)
    users = [table("endpoints", account="space", username=user, password=password(user)) for user in USERS]
    domain = f'[sip.registrar]\ndomains = ["{DOMAIN}"]\n'
    return start_tandem("".join([domain, space(module_webapp.url + "/voice"), *users, echo, *numbers]))


@pytest.fixture
def app(module_webapp):
    module_webapp.forget()
    return module_webapp


@pytest.fixture(params=["Relay", "Verto"])
def sdk_class(request):
    """The class of the SDK."""
    return request.param


@pytest.fixture
def login(server, sdk_class):
    """Returns the settings with which a page of a user logs in."""

    def settings(user):
        return {"project": PROJECT, "token": relay_token(server, user)["jwt_token"]} if sdk_class == "Relay" else {}

    return settings


@pytest.fixture
def page(tab, login):
    """Opens a page that has logged in."""

    def make(*other):
        one = tab(*other)
        return one.register(**login(one.user))

    return make


def test_a_page_calls_a_number_with_variables(app, page):
    alice = page()
    gathers(app)
    alice.do("call", "703", {"plan": "gold"})
    alice.wait("answered")
    give_digits(app, alice)
    request = app.to("/gather")[0]
    assert alice.user in request["From"] and request["plan"] == "gold"


def test_a_page_hears_early_media_and_then_the_call(app, page):
    alice = page()
    app.sound("/early.wav", tone(PROMPT, 3))
    steps = [{"play": {"url": f"{app.url}/early.wav", "auto_answer": False}}, {"answer": {}}, {"echo": {}}]
    app.on("/early", (json.dumps({"sections": {"main": steps}}), 200))
    alice.do("call", "705")
    alice.wait("early")
    alice.hears(PROMPT)
    alice.wait("answered")
    alice.hears(alice.hertz)
    alice.hang_up()


@pytest.mark.parametrize("ends", ["the caller gives up", "the called page declines"])
def test_either_page_ends_a_call_that_rings(page, ends):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    (alice if ends == "the caller gives up" else bob).do("hangUp")
    ended = alice.wait("ended")[1]
    bob.wait("ended")
    assert ends == "the caller gives up" or ended == {"cause": "USER_BUSY", "code": 17}


def test_a_call_to_nobody_has_its_cause(page):
    alice = page()
    alice.do("call", "999")
    assert alice.wait("ended")[1] == {"cause": "UNALLOCATED_NUMBER", "code": 1}


@pytest.mark.parametrize("side", ["the caller", "the called"])
def test_a_call_goes_on_when_the_socket_is_cut_and_ends_over_the_next_socket(page, side):
    alice, bob = page(), page()
    connect(alice, bob)
    one, other = (alice, bob) if side == "the caller" else (bob, alice)
    one.do("cut")
    one.wait("disconnected")
    talk(alice, bob)
    one.wait("registered")
    talk(alice, bob)
    one.hang_up()
    other.wait("ended")
    # The page can be called again.
    connect(other, one)
    other.hang_up()
    one.wait("ended")


def test_a_call_that_rings_when_the_socket_is_cut_is_answered_over_the_next_socket(page):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    bob.do("cut")
    bob.wait("registered")
    bob.do("answer")
    bob.wait("answered")
    alice.wait("answered")
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_a_call_whose_caller_loses_its_socket_is_given_up_and_the_page_learns_it_over_the_next_socket(page):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    alice.do("cut")
    bob.wait("ended")
    assert alice.wait("ended")[1]["cause"] == "ORIGINATOR_CANCEL"


def test_a_page_that_is_reloaded_takes_up_its_call(page, login):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.start(**login(alice.user))
    alice.wait("answered", seconds=15)
    talk(alice, bob)
    bob.hang_up()
    alice.wait("ended")


def test_conferences_with_events_are_refused_with_one_error(page):
    alice = page()
    alice.do("subscribe", "conference-liveArray.room")
    assert alice.wait("refused")[1] == {"code": -32601, "message": "this server has no conferences with events for pages, and no video"}


def test_a_wrong_password_is_refused_once(server, tab):
    alice = tab().start(password="wrong")
    assert alice.wait("failed")[1] == {"code": -32001, "message": "Authentication Failure"}
    wait_for("the log", lambda: f'no user "{alice.user}" has this password' in server.log())


def test_a_token_is_renewed_by_the_backend_and_by_the_page(server, tab):
    alice = tab()
    first = relay_token(server, alice.user, expires_in=1)
    alice.register(project=PROJECT, token=first["jwt_token"])
    url = f"{server.http}/api/relay/rest/jwt"
    renewed = requests.put(url, json={"refresh_token": first["refresh_token"]}, auth=(PROJECT, TOKEN), timeout=5).json()
    alice.do("renew", renewed["jwt_token"])
    alice.do("call", "702")
    alice.wait("answered")
    alice.hears(alice.hertz)
    alice.hang_up()
    refused = requests.put(url, json={"refresh_token": first["jwt_token"]}, auth=(PROJECT, TOKEN), timeout=5)
    assert refused.status_code == 422 and refused.json()["errors"][0]["attribute"] == "refresh_token"


@pytest.mark.parametrize("why", ["the signature of the token is wrong", "the token is of another kind", "the token is of another project"])
def test_a_token_that_is_not_valid_is_refused_once_and_the_errors_say_why(server, tab, why):
    mallory = tab()
    token, project = relay_token(server, mallory.user)["jwt_token"], PROJECT
    if "signature" in why:
        token = token[:-4] + "AAAA"
    elif "kind" in why:
        token = subscriber_token(server, mallory.user)
    else:
        project = "another"
    mallory.start(project=project, token=token)
    code, message = mallory.wait("failed")[1].values()
    assert code == -32002 and why in message
    wait_for("the log", lambda: f'token of project "{project}"' in server.log() and why in server.log())
