"""SignalWire's browser SDK 3.x in Chromium: the published package, through `tandem proxy` and so at SignalWire's own host. Each party
says a tone of its own, and each test says which tones each party hears."""

import pytest

from browser_acts import *  # noqa: F403
from browser_pages import connect, gathers, give_digits, talk
from harness.resources import table
from harness.signalwire import PROJECT, TOKEN, space, subscriber_token


@pytest.fixture(scope="module")
def library():
    return "signalwire"


@pytest.fixture(scope="module")
def address():
    return "/private/{}?channel=audio"


@pytest.fixture(scope="module")
def account():
    return PROJECT, TOKEN


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    paths = {"703": "/gather", "600": "/dial"}
    own = {"account": "space", "provider": "signalwire"}
    numbers = [table("numbers", number=number, voice_url=module_webapp.url + path, **own) for number, path in paths.items()]
    echo = table("numbers", number="702", twiml="<Response><Echo/></Response>", **own)
    return start_tandem(space(module_webapp.url + "/voice") + echo + "".join(numbers))


@pytest.fixture
def app(module_webapp):
    module_webapp.forget()
    return module_webapp


@pytest.fixture(scope="module")
def token(server):
    """Asks for the token of a subscriber."""
    return lambda reference: subscriber_token(server, reference)


@pytest.fixture
def page(tab, token):
    """Opens a page that is online."""

    def make(*other):
        one = tab(*other)
        one.start(token=token(one.user))
        one.do("register")
        one.wait("registered")
        return one

    return make


def test_a_page_calls_a_number_with_variables(app, page):
    alice = page()
    gathers(app)
    alice.do("call", "703", {"plan": "gold"})
    alice.wait("answered")
    give_digits(app, alice)
    request = app.to("/gather")[0]
    assert (request["From"], request["plan"]) == (f"client:{alice.user}", "gold")


def test_a_page_that_rings_declines_and_a_page_that_is_offline_is_not_reachable(page):
    alice, bob = page(), page()
    alice.do("call", f"/private/{bob.user}")
    bob.wait("incoming")
    bob.do("reject")
    alice.wait("failed")
    bob.do("unregister")
    bob.wait("unregistered")
    alice.do("call", f"/private/{bob.user}")
    alice.wait("failed")


def test_two_tabs_of_one_subscriber_ring_together(page):
    alice, bob = page(), page()
    second = page(bob)
    alice.do("call", f"/private/{bob.user}")
    bob.wait("incoming")
    second.answer()
    alice.wait("answered")
    talk(alice, second)
    second.hang_up()
    alice.wait("ended")


def test_a_page_that_mutes_itself_is_told_so(page):
    alice, bob = page(), page()
    connect(alice, bob)
    for one in (alice, bob):
        one.do("mute")
        assert one.wait("updated")[1] is True
    alice.hang_up()
    bob.wait("ended")


def test_either_page_holds_the_call_and_resumes_it(page):
    alice, bob = page(), page()
    connect(alice, bob)
    for one, other in [(alice, bob), (bob, alice)]:
        one.do("hold")
        other.hears_nothing()
        one.do("unhold")
        talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


@pytest.mark.parametrize("side", ["the caller", "the called"])
def test_a_call_goes_on_when_the_socket_is_cut_and_ends_over_the_next_socket(page, side):
    alice, bob = page(), page()
    connect(alice, bob)
    one, other = (alice, bob) if side == "the caller" else (bob, alice)
    one.do("cut")
    talk(alice, bob)
    other.hang_up()
    one.wait("ended", seconds=15)
    # The page is online again without asking for it.
    connect(other, one)
    other.hang_up()


def test_a_page_that_is_reloaded_takes_up_its_call(page, token):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.start(token=token(alice.user))
    alice.do("reattach", bob.address)
    alice.wait("answered")
    talk(alice, bob)
    bob.hang_up()
    alice.wait("ended")


def test_a_token_is_renewed(page, token):
    alice = page()
    alice.do("renew", token(alice.user))
    alice.do("call", "702")
    alice.wait("answered")
    alice.hang_up()


def test_a_token_that_is_not_valid_is_refused_and_the_errors_say_why(server, tab, token, phone_url):
    mallory = tab()
    mallory.page.goto(phone_url)
    forged = token(mallory.user)[:-4] + "AAAA"
    mallory.page.evaluate("token => void window.phone.start({ token, hertz: 500 }).catch(() => window.events.push(['refused', null]))", forged)
    mallory.wait("refused")
    assert "the signature of the token is wrong" in server.log()
