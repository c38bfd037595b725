"""Telnyx's WebRTC SDK in Chromium: the published package, through `tandem proxy` and so at Telnyx's own host. Each party says a tone
of its own, and each test says which tones each party hears."""

import pytest

from browser_acts import *  # noqa: F403
from browser_pages import connect, restart_ice, talk


@pytest.fixture(scope="module")
def library():
    return "telnyx"


@pytest.fixture
def page(tab):
    """Opens a page that has logged in."""
    return lambda *other, **options: tab(*other).register(**options)


def test_a_wrong_password_is_refused(server, tab):
    alice = tab().start(password="wrong")
    assert alice.wait("failed")[1]["code"] == 46001
    assert "has this password" in server.log()


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
    restart_ice(alice)
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_a_call_that_is_refused_has_its_cause(page):
    alice = page()
    alice.do("call", "nobody")
    assert alice.wait("ended")[1] == {"cause": "UNALLOCATED_NUMBER", "code": 404}
