"""The acts of a page that are the same for each library. test_browser_LIBRARY.py run these tests, in Chromium. Each party says a
tone of its own, and each test says which tones each party hears."""

from browser_pages import *  # noqa: F403
from browser_pages import connect, dials, gathers, give_digits, talk
from harness.party import Party
from harness.phone import caller
from harness.waiting import wait_for


def test_two_pages_call_each_other_and_either_hangs_up(page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.hang_up()
    bob.wait("ended")
    connect(bob, alice)
    alice.hang_up()
    bob.wait("ended")


def test_a_page_hears_its_own_tone_from_an_echo(page):
    alice = page()
    alice.call("702")
    alice.hears(alice.hertz)
    alice.hang_up()


def test_digits_of_a_page_reach_a_gather(app, page):
    gathers(app)
    alice = page()
    alice.call("703")
    give_digits(app, alice)


def test_a_phone_calls_a_page_and_both_hear_each_other(server, app, page, phone, rtp):
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


def test_a_page_that_sends_no_sound_stays_in_the_call_and_the_record_says_so(timeline, page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("unplug")
    bob.hears_nothing()
    wait_for("the line", lambda: "no audio from the far end: no packet has arrived for 2 s" in timeline())
    alice.hears(bob.hertz)
    bob.hang_up()
    alice.wait("ended")
