"""SignalWire's browser SDK 3.x in Chromium: the published package, through `tandem proxy` and so at SignalWire's own host. Each party
says a tone of its own, and each test says which tones each party hears."""

import contextlib
import itertools

import pytest
import requests

from browser_acts import talk
from harness.browser import SDK, Browser, WebPhone
from harness.party import Party
from harness.phone import caller
from harness.proxy import Proxy
from harness.resources import table
from harness.signalwire import PROJECT, TOKEN, space
from harness.waiting import wait_for
from twilio_app import answering

USERS = itertools.count()


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


def timeline(server):
    """The lines of the latest call's report."""
    story = requests.get(f"{server.http}/console/calls/last", auth=(PROJECT, TOKEN), timeout=5).json()
    return "\n".join(line["text"] for line in story["timeline"])


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    proxy = Proxy(server)
    one = Browser(tmp_path_factory.mktemp("pages"), proxy.url)
    one.serve("phone", SDK / "pages" / "signalwire.js")
    yield one
    one.stop()
    proxy.stop()


@pytest.fixture(scope="module")
def tones():
    return itertools.cycle([520, 660, 810, 950, 1130, 1270, 1430, 1570])


@pytest.fixture(scope="module")
def token(server):
    """Asks for a subscriber's token, as the backend of an application does."""

    def make(reference, **more):
        url = f"{server.http}/api/fabric/subscribers/tokens"
        answer = requests.post(url, json={"reference": reference} | more, auth=(PROJECT, TOKEN), timeout=5)
        assert answer.ok, answer.text
        return answer.json()["token"]

    return make


@pytest.fixture
def tab(browser, server, token, tones):
    """Opens a page: tab() of a new subscriber, tab(other) of the subscriber of another page."""
    with contextlib.ExitStack() as opened:

        def start(other=None):
            context = browser.context()
            opened.callback(context.close)
            user = other.user if other else f"page{next(USERS)}"
            one = WebPhone(context, f"{browser.origin}/phone.html", server, user, next(tones))
            one.token = token(user)
            return one.start(token=one.token)

        yield start


@pytest.fixture
def page(tab):
    """Opens a page that is online."""

    def make(*other):
        one = tab(*other)
        one.do("register")
        one.wait("registered")
        return one

    return make


def dials(app, *users):
    """Number 600 calls these users."""

    def document(response):
        dial = response.dial(action="/after")
        for user in users:
            dial.client(user)

    answering(app, "/dial", document)
    answering(app, "/after", lambda response: response.hangup())


def connect(one, other):
    one.do("call", f"/private/{other.user}?channel=audio")
    other.answer()
    one.wait("answered")
    talk(one, other)


def test_two_pages_call_each_other_and_either_hangs_up(page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.hang_up()
    bob.wait("ended")
    connect(bob, alice)
    alice.hang_up()
    bob.wait("ended")


def test_a_page_calls_a_number_and_hears_itself_and_digits_arrive(app, page):
    alice = page()
    alice.do("call", "702")
    alice.wait("answered")
    alice.hears(alice.hertz)
    alice.hang_up()
    answering(app, "/gather", lambda response: response.gather(num_digits=4, timeout=10, action="/digits"))
    answering(app, "/digits", lambda response: response.hangup())
    alice.do("call", "703", {"plan": "gold"})
    alice.wait("answered")
    alice.do("digits", "5092")
    assert app.wait("/digits")[0]["Digits"] == "5092"
    request = app.to("/gather")[0]
    assert (request["From"], request["plan"]) == (f"client:{alice.user}", "gold")
    alice.wait("ended")


def test_a_phone_calls_a_page(server, app, page, phone, rtp):
    alice = page()
    dials(app, alice.user)
    desk = Party(phone, rtp, caller("600", ends="wait"), target=server.sip)
    alice.answer()
    with desk.sounds(740):
        alice.hears(740)
        desk.hears(alice.hertz)
        alice.do("digits", "17")
        desk.rtp.wait("the digits", lambda: desk.rtp.keys == "17")
    alice.hang_up()
    desk.phone.finish()
    assert app.wait("/after")[0]["DialCallStatus"] == "completed"


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


def test_a_muted_page_is_silent_and_still_hears(page):
    alice, bob = page(), page()
    connect(alice, bob)
    for one, other in [(alice, bob), (bob, alice)]:
        one.do("mute")
        assert one.wait("updated")[1] is True
        other.hears_nothing()
        one.hears(other.hertz)
        one.do("unmute")
        talk(alice, bob)
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
    alice.start(token=alice.token)
    alice.do("reattach", f"/private/{bob.user}?channel=audio")
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


def test_a_token_that_is_not_valid_is_refused_and_the_errors_say_why(server, browser, token, tones):
    with contextlib.closing(browser.context()) as context:
        one = WebPhone(context, f"{browser.origin}/phone.html", server, "mallory", next(tones))
        one.page.goto(f"{browser.origin}/phone.html")
        forged = token("mallory")[:-4] + "AAAA"
        one.page.evaluate("token => void window.phone.start({ token, hertz: 500 }).catch(() => window.events.push(['refused', null]))", forged)
        one.wait("refused")
    assert "the signature of the token is wrong" in server.log()


def test_a_page_that_sends_no_sound_stays_in_the_call_and_the_record_says_so(server, page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("unplug")
    bob.hears_nothing()
    wait_for("the line", lambda: "no audio from the far end: no packet has arrived for 2 s" in timeline(server))
    alice.hears(bob.hertz)
    bob.hang_up()
    alice.wait("ended")
