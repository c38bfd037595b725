"""Pages that reach the server only through coturn: with the credentials of [ice], by UDP and by TCP."""

import pytest

from browser_pages import *  # noqa: F403
from browser_pages import talk
from harness.turn import Turn
from twilio_app import access_token, answering, client


@pytest.fixture(scope="module")
def library():
    return "twilio"


@pytest.fixture(scope="module")
def turn(tmp_path_factory):
    one = Turn(tmp_path_factory.mktemp("turn"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def server(start_tandem, turn):
    return start_tandem(f"[ice]\nturn = {turn.urls}\nturn_secret = \"{turn.secret}\"\n")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_two_pages_hear_each_other_through_a_turn_server(server, tab, app, turn, transport):
    twilio = client(server)
    key, application = twilio.new_keys.create(), twilio.applications.create(voice_url=app.url + "/voice")
    answering(app, "/voice", lambda response: response.dial().conference("relayed", beep=False))
    servers = [one for one in twilio.tokens.create().ice_servers if one["urls"].endswith(transport)]
    assert len(servers) == 1 and servers[0]["credential"]
    pages = []
    for page in (tab(), tab()):
        token = access_token(server.account_sid, key.sid, key.secret, page.user, outgoing_application_sid=application.sid)
        page.start(token=token, options={})
        page.do("call", "x", {}, {"iceServers": servers, "iceTransportPolicy": "relay"})
        page.wait("answered")
        pages.append(page)
    talk(*pages)
    for page in pages:
        facts = page.facts()
        assert (facts["candidate"], facts["relay"]) == ("relay", transport)
        page.hang_up()
