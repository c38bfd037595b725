"""The acts of a page whose library speaks Verto. test_browser_LIBRARY.py run these tests, and those of browser_acts.py."""

from browser_acts import *  # noqa: F403
from browser_pages import connect, talk


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
