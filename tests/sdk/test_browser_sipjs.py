"""SIP.js in Chromium: the published package is a phone of the server, and hears and is heard."""

import pytest

from browser_pages import talk
from browser_sip_acts import *  # noqa: F403


@pytest.fixture(scope="module")
def library():
    return "sipjs"


def test_a_caller_whose_socket_is_cut_while_the_called_page_rings_gets_the_answer_over_the_next_socket(page):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    alice.do("cut")
    alice.wait("disconnected")
    alice.wait("registered")
    bob.do("answer")
    bob.wait("answered")
    alice.wait("answered")
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")
