"""The acts of a page whose library speaks SIP. test_browser_LIBRARY.py run these tests, and those of browser_acts.py."""

import pytest

from browser_acts import *  # noqa: F403
from browser_pages import connect, dials, resources, restart_ice, talk
from harness.browser import DOMAIN, password
from harness.party import Party
from harness.phone import callee, caller, free_port, registering, ringing_callee, until_told
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def proxy():
    """None: the page names the server."""


@pytest.fixture
def page(tab):
    """Opens a page that has registered."""
    return lambda *other, **options: tab(*other, **options).register()


@pytest.fixture
def caller_of_600(server, phone, rtp):
    """Starts a phone that calls number 600, and hangs up when the test says so."""
    return lambda: Party(phone, rtp, caller("600", until_told(), ends="bye"), target=server.sip)


@pytest.fixture
def desk_port(server, phone):
    """Registers a desk phone as the user of a page, and returns its port."""

    def register(page):
        port = free_port()
        phone(registering(page.user, password(page.user), DOMAIN), target=server.sip, port=port).finish()
        return port

    return register


def test_a_page_registers_and_is_unreachable_after_it_unregisters(page, tab):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.hang_up()
    bob.wait("ended")
    bob.do("unregister")
    bob.wait("unregistered")
    alice.do("call", bob.user)
    alice.wait("failed")


def test_a_page_with_a_wrong_password_is_refused(tab):
    tab().start(password="wrong").wait("registrationFailed")


def test_a_page_without_the_permission_for_a_microphone_has_candidates_with_names_and_is_heard(page):
    alice = page(microphone=False)
    alice.call("702")
    alice.hears(alice.hertz)
    alice.hang_up()


def test_a_phone_that_hangs_up_ends_the_call_of_a_page(app, page, caller_of_600):
    alice = page()
    dials(app, alice.user)
    desk = caller_of_600()
    alice.answer()
    with desk.sounds(740):
        alice.hears(740)
    desk.hang_up()
    alice.wait("ended")


@pytest.mark.parametrize("ends", ["the caller gives up", "the called page declines"])
def test_either_page_ends_a_call_that_rings(page, ends):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    alice.wait("ringing")
    (alice if ends == "the caller gives up" else bob).do("hangUp")
    alice.wait("failed")
    bob.wait("failed")


def test_a_desk_phone_and_a_page_of_one_user_ring_together_and_the_page_answers(app, page, phone, desk_port, caller_of_600):
    alice = page()
    desk = phone(ringing_callee(), port=desk_port(alice))
    dials(app, alice.user)
    calling = caller_of_600()
    wait_for("ringing at the desk", lambda: "180 Ringing" in desk.messages())
    alice.answer()
    desk.finish()
    with calling.sounds(740):
        alice.hears(740)
        calling.hears(alice.hertz)
    calling.hang_up()
    alice.wait("ended")


def test_a_desk_phone_and_a_page_of_one_user_ring_together_and_the_desk_phone_answers(
    app, page, phone, rtp, desk_port, caller_of_600
):
    alice = page()
    desk = Party(phone, rtp, callee(ring_ms=1500), port=desk_port(alice))
    dials(app, alice.user)
    calling = caller_of_600()
    alice.wait("incoming")
    alice.wait("failed")
    with calling.sounds(740), desk.sounds(1010):
        desk.hears(740)
        calling.hears(1010)
    calling.hang_up()
    desk.phone.finish()


def test_two_tabs_of_one_user_ring_together(page):
    alice, bob = page(), page()
    second = page(bob)
    alice.do("call", bob.user)
    bob.wait("incoming")
    second.answer()
    bob.wait("failed")
    alice.wait("answered")
    talk(alice, second)
    second.hang_up()
    alice.wait("ended")
    # The first tab still rings, when the second one has gone.
    second.page.close()
    connect(alice, bob)
    bob.hang_up()
    alice.wait("ended")


def test_either_page_holds_the_call_and_resumes_it(page):
    alice, bob = page(), page()
    connect(alice, bob)
    for one, other in [(alice, bob), (bob, alice)]:
        one.do("hold")
        one.hears_nothing()
        other.hears_nothing()
        one.do("unhold")
        talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_both_pages_hold_the_call_and_resume_it(page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("hold")
    bob.do("hold")
    alice.hears_nothing()
    bob.hears_nothing()
    alice.do("unhold")
    alice.hears_nothing()
    bob.do("unhold")
    talk(alice, bob)
    bob.hang_up()
    alice.wait("ended")


@pytest.mark.parametrize("transferor", ["caller", "called"])
def test_a_page_transfers_a_call_blind(page, transferor):
    alice, bob, carol = page(), page(), page()
    connect(alice, bob)
    one, other = (alice, bob) if transferor == "caller" else (bob, alice)
    one.do("transfer", carol.user)
    carol.answer()
    one.wait("transferred")
    one.wait("ended")
    talk(other, carol)
    carol.hang_up()
    other.wait("ended")


def test_a_page_transfers_a_call_after_it_has_asked_the_target(page):
    alice, bob, carol = page(), page(), page()
    connect(alice, bob)
    alice.do("hold")
    alice.do("call", carol.user)
    carol.answer()
    alice.wait("answered")
    talk(alice, carol)
    alice.do("transferTo", 1, 0)
    alice.wait("transferred")
    talk(bob, carol)
    alice.wait("ended")
    alice.wait("ended")
    bob.hang_up()
    carol.wait("ended")


def test_a_page_transfers_a_phone_to_another_page(app, page, caller_of_600):
    alice, bob = page(), page()
    dials(app, alice.user)
    calling = caller_of_600()
    alice.answer()
    alice.do("transfer", bob.user)
    bob.answer()
    alice.wait("transferred")
    alice.wait("ended")
    with calling.sounds(740):
        bob.hears(740)
        calling.hears(bob.hertz)
    calling.hang_up()
    bob.wait("ended")


def test_a_failed_transfer_leaves_the_call(page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.do("transfer", "nobody")
    alice.wait("transferFailed")
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


@pytest.mark.parametrize("ends", ["the page", "the far end"])
def test_a_call_goes_on_when_the_socket_is_cut_and_ends_over_the_next_socket(page, ends):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.wait("connected")
    alice.do("cut")
    alice.wait("disconnected")
    talk(alice, bob)
    alice.wait("registered")
    talk(alice, bob)
    one, other = (alice, bob) if ends == "the page" else (bob, alice)
    one.hang_up()
    other.wait("ended")


def test_a_call_that_came_in_goes_on_over_the_next_socket(page):
    alice, bob = page(), page()
    connect(alice, bob)
    bob.do("cut")
    bob.wait("registered")
    # Each side asks for something over the new socket.
    bob.do("hold")
    alice.hears_nothing()
    bob.do("unhold")
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_ice_restarts_in_mid_call(page):
    alice, bob = page(), page()
    connect(alice, bob)
    for one in (alice, bob):
        restart_ice(one)
        talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_a_page_that_is_reloaded_leaves_the_call_and_the_record_says_why(timeline, page):
    alice, bob = page(), page()
    connect(alice, bob)
    alice.register()
    bob.wait("ended", seconds=45)
    # A browser that ends its page too fast for the close_notify of DTLS is known by its missing consent.
    reasons = ("the far end has closed its media connection", "the far end no longer consents to receive media")
    wait_for("the reason", lambda: any(reason in timeline() for reason in reasons))
    # And the page is at once a phone again.
    connect(bob, alice)
    bob.hang_up()
    alice.wait("ended")


def test_a_page_speaks_opus_with_a_phone_that_speaks_pcmu(start_tandem, app, page, phone, rtp, module_webapp):
    server = start_tandem(resources(module_webapp), media='codecs = ["opus", "pcmu"]')
    alice = page(server=server)
    desk = Party(phone, rtp, callee())
    dials(app, sip=[desk.uri])
    alice.call("600")
    with desk.sounds(740):
        alice.hears(740)
        desk.hears(alice.hertz)
        facts = alice.facts()
        assert facts["sends"] == facts["receives"] == "audio/opus", facts
        alice.do("digits", "17")
        desk.rtp.wait("the digits", lambda: desk.rtp.keys == "17")
    alice.hang_up()
    desk.phone.finish()
