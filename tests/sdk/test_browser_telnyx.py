"""Telnyx's WebRTC SDK in Chromium: the published package, through `tandem proxy` and so at Telnyx's own host. Each party says a tone
of its own, and each test says which tones each party hears."""

import pytest
import telnyx

from browser_pages import connect, restart_ice, talk
from browser_verto_acts import *  # noqa: F403
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def library():
    return "telnyx"


@pytest.fixture
def page(tab):
    """Opens a page that has logged in."""
    return lambda *other, **options: tab(*other).register(**options)


@pytest.fixture(scope="module")
def credentials(server):
    """The telephony credentials of a connection of the account: credentials.create() makes one."""
    client = telnyx.Telnyx(api_key=server.api_key, base_url=server.http + "/v2")
    made = client.credential_connections.create(connection_name="pages", user_name="pages", password="of-the-pages")

    class Credentials:
        create = staticmethod(lambda: client.telephony_credentials.create(connection_id=made.data.id).data)
        token = staticmethod(lambda credential: client.telephony_credentials.create_token(credential.id))
        delete = staticmethod(lambda credential: client.telephony_credentials.delete(credential.id))

    return Credentials


def test_a_token_is_renewed_in_mid_call_and_the_next_login_uses_the_new_one(tab, credentials):
    alice, bob = tab(), tab()
    credential = credentials.create()
    alice.register(user=None, password=None, login_token=credentials.token(credential))
    bob.register()
    connect(alice, bob)
    alice.do("login", credentials.token(credential))
    talk(alice, bob)
    alice.do("cut")
    alice.wait("recovering", seconds=20)
    alice.wait("answered")
    talk(alice, bob)
    # Pages call a credential by its SIP user name.
    bob.hang_up()
    alice.wait("ended")
    bob.do("call", credential.sip_username)
    alice.answer()
    bob.wait("answered")
    talk(alice, bob)
    bob.hang_up()
    alice.wait("ended")


def test_a_token_that_is_forged_or_of_a_deleted_credential_is_refused_and_the_errors_say_why(server, tab, credentials):
    credential = credentials.create()
    token = credentials.token(credential)
    forged = tab().start(user=None, password=None, login_token=token[:-6] + "AAAAAA")
    assert forged.wait("failed")[1]["code"] == 46001
    wait_for("the log", lambda: "the signature of the token is wrong" in server.log())
    credentials.delete(credential)
    late = tab().start(user=None, password=None, login_token=token)
    assert late.wait("failed")[1]["code"] == 46001
    wait_for("the log", lambda: "the credential of the token was deleted" in server.log())


def test_a_wrong_password_is_refused(server, tab):
    alice = tab().start(password="wrong")
    assert alice.wait("failed")[1]["code"] == 46001
    wait_for("the log", lambda: "has this password" in server.log())


@pytest.mark.parametrize("ends", ["the caller gives up", "the called page declines"])
def test_either_page_ends_a_call_that_rings(page, ends):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    (alice if ends == "the caller gives up" else bob).do("hangUp")
    alice.wait("ended")
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


def test_a_call_whose_caller_loses_its_socket_is_given_up_and_the_page_learns_it_over_the_next_socket(page):
    alice, bob = page(), page()
    alice.do("call", bob.user)
    bob.wait("incoming")
    alice.do("cut")
    bob.wait("ended")
    alice.wait("ended")


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
