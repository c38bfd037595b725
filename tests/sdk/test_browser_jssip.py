"""JsSIP in Chromium: the published package is a phone of the server, and hears and is heard."""

import pytest

from browser_pages import connect
from browser_sip_acts import *  # noqa: F403
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def library():
    return "jssip"


def test_a_browser_that_dies_without_a_goodbye_leaves_the_call_after_30_s(timeline, page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.crash()
    bob.wait("ended", seconds=45)
    wait_for("the reason", lambda: "the far end no longer consents to receive media" in timeline())
