"""The acts of a page whose library speaks Verto. test_browser_LIBRARY.py run these tests, and those of browser_acts.py."""

import pytest

from browser_acts import *  # noqa: F403
from browser_pages import connect, talk

# From now on, a socket that the page closes is closed for the page alone: the server goes on sending, and nothing arrives.
HIDE_CLOSES = """() => {
  WebSocket.prototype.close = function () {
    const { onclose } = this;
    this.onclose = this.onmessage = null;
    Object.defineProperty(this, "readyState", { value: WebSocket.CLOSED });
    onclose(new CloseEvent("close", { code: 3001 }));
  };
}"""


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


@pytest.mark.parametrize("when", ["the server knows it", "the server does not know it"])
def test_a_call_that_ends_while_the_socket_is_cut_ends_at_the_page(page, when):
    alice, bob = page(), page()
    connect(alice, bob)
    if when == "the server does not know it":
        alice.page.evaluate(HIDE_CLOSES)
    alice.do("cut")
    bob.hang_up()
    assert alice.wait("ended", seconds=15)[1]["cause"] == "NORMAL_CLEARING"
