"""Telnyx's WebRTC SDK in Chromium: the published package, through `tandem proxy` and so at Telnyx's own host. Each party says a tone
of its own, and each test says which tones each party hears."""

import contextlib
import itertools

import pytest
import requests

from browser_acts import last_timeline, resources, talk
from harness.browser import SDK, Browser, WebPhone, password
from harness.party import Party
from harness.phone import caller, until_told
from harness.proxy import Proxy
from harness.waiting import wait_for
from twilio_app import answering

USERS = itertools.count()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(resources(module_webapp))


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    proxy = Proxy(server)
    one = Browser(tmp_path_factory.mktemp("pages"), proxy.url)
    one.serve("phone", SDK / "pages" / "telnyx.js")
    yield one
    one.stop()
    proxy.stop()


@pytest.fixture(scope="module")
def tones():
    return itertools.cycle([520, 660, 810, 950, 1130, 1270, 1430, 1570])


@pytest.fixture
def tab(browser, server, tones):
    """Opens a page: tab() of a new user, tab(other) of the user of another page."""
    with contextlib.ExitStack() as opened:

        def start(other=None, **options):
            context = browser.context()
            opened.callback(context.close)
            user = other.user if other else f"user{next(USERS)}"
            return WebPhone(context, f"{browser.origin}/phone.html", server, user, next(tones)).start(**options)

        yield start


@pytest.fixture
def page(tab):
    """Opens a page that has logged in."""

    def make(*other, **options):
        one = tab(*other, **options)
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
    one.do("call", other.user)
    other.answer()
    one.wait("answered")
    talk(one, other)


def test_a_page_calls_a_number_and_hears_itself(page):
    alice = page()
    alice.do("call", "702")
    alice.wait("answered")
    alice.hears(alice.hertz)
    alice.hang_up()


def test_two_pages_call_each_other_and_either_hangs_up(page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.hang_up()
    bob.wait("ended")
    connect(bob, alice)
    alice.hang_up()
    bob.wait("ended")


def test_a_wrong_password_is_refused(server, tab):
    alice = tab(password="wrong")
    assert alice.wait("failed")[1]["code"] == 46001
    assert "has this password" in server.log()


def test_a_phone_calls_a_page_and_digits_of_the_page_arrive(server, app, page, phone, rtp):
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


def test_digits_of_a_page_reach_a_gather(app, page):
    answering(app, "/gather", lambda response: response.gather(num_digits=4, timeout=10, action="/digits"))
    answering(app, "/digits", lambda response: response.hangup())
    alice = page()
    alice.do("call", "703")
    alice.wait("answered")
    alice.do("digits", "5092")
    assert app.wait("/digits")[0]["Digits"] == "5092"
    alice.wait("ended")


@pytest.mark.parametrize("ends", ["the caller gives up", "the called page declines"])
def test_either_page_ends_a_call_that_rings(page, ends):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    (alice if ends == "the caller gives up" else bob).do("hangUp")
    alice.wait("ended")
    bob.wait("ended")


def test_two_tabs_of_one_user_ring_together(page):
    alice, bob = page(), page()
    second = page(bob)
    alice.do("call", bob.user)
    bob.wait("incoming")
    second.answer()
    assert bob.wait("ended")[1]["cause"] == "LOSE_RACE"
    alice.wait("answered")
    talk(alice, second)
    second.hang_up()
    alice.wait("ended")


def test_a_muted_page_is_silent_and_still_hears(page):
    alice, bob = page(), page()
    connect(alice, bob)
    for one, other in [(alice, bob), (bob, alice)]:
        one.do("mute")
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
        one.wait("held")
        other.hears_nothing()
        one.do("unhold")
        one.wait("answered")
        talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


@pytest.mark.parametrize("side", ["the caller", "the called"])
def test_a_call_goes_on_when_the_socket_is_cut_and_is_attached_over_the_next_socket(page, side):
    alice, bob = page(), page()
    connect(alice, bob)
    one, other = (alice, bob) if side == "the caller" else (bob, alice)
    one.do("cut")
    one.wait("recovering", seconds=20)
    one.wait("answered")
    talk(alice, bob)
    other.hang_up()
    one.wait("ended")


@pytest.mark.parametrize("side", ["the caller", "the called"])
def test_a_page_that_is_reloaded_takes_up_its_call(page, side):
    alice, bob = (page(hangupOnBeforeUnload=False) for _ in range(2))
    connect(alice, bob)
    one, other = (alice, bob) if side == "the caller" else (bob, alice)
    one.start(hangupOnBeforeUnload=False)
    one.wait("answered", seconds=20)
    talk(alice, bob)
    other.hang_up()
    one.wait("ended")


def test_a_call_that_ends_while_the_socket_is_cut_ends_at_the_page(page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("cut")
    bob.hang_up()
    assert alice.wait("ended", seconds=15)[1]["cause"] == "NORMAL_CLEARING"


def test_ice_restarts_in_mid_call(page):
    alice, bob = page(), page()
    connect(alice, bob)
    before = alice.facts()
    alice.do("restartIce")
    wait_for("the new connection", lambda: alice.facts()["ours"] != before["ours"] and alice.facts()["ice"] == "connected")
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_a_call_that_is_refused_has_its_cause(page):
    alice = page()
    alice.do("call", "nobody")
    assert alice.wait("ended")[1] == {"cause": "UNALLOCATED_NUMBER", "code": 404}


def test_a_page_that_sends_no_sound_stays_in_the_call_and_the_record_says_so(server, page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("unplug")
    bob.hears_nothing()
    wait_for("the line", lambda: "no audio from the far end: no packet has arrived for 2 s" in last_timeline(server))
    alice.hears(bob.hertz)
    bob.hang_up()
    alice.wait("ended")
