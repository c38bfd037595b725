"""Pages that reach the server only through coturn: with the credentials of [ice], by UDP and by TCP."""

import pytest
from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from browser_acts import talk
from harness.browser import SDK, Browser, WebPhone
from harness.proxy import Proxy
from harness.turn import Turn
from twilio_app import answering, client


@pytest.fixture(scope="module")
def turn(tmp_path_factory):
    one = Turn(tmp_path_factory.mktemp("turn"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def server(start_tandem, turn):
    return start_tandem(f"[ice]\nturn = {turn.urls}\nturn_secret = \"{turn.secret}\"\n")


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    proxy = Proxy(server)
    one = Browser(tmp_path_factory.mktemp("pages"), proxy.url)
    one.serve("phone", SDK / "pages" / "twilio.js")
    yield one
    one.stop()
    proxy.stop()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_two_pages_hear_each_other_through_a_turn_server(server, browser, app, turn, transport):
    twilio = client(server)
    key, application = twilio.new_keys.create(), twilio.applications.create(voice_url=app.url + "/voice")
    answering(app, "/voice", lambda response: response.dial().conference("relayed", beep=False))
    servers = [one for one in twilio.tokens.create().ice_servers if one["urls"].endswith(transport)]
    assert len(servers) == 1 and servers[0]["credential"]
    pages = []
    for user, hertz in [(f"alice-{transport}", 520), (f"bob-{transport}", 810)]:
        token = AccessToken(server.account_sid, key.sid, key.secret, identity=user)
        token.add_grant(VoiceGrant(outgoing_application_sid=application.sid))
        page = WebPhone(browser.context(), f"{browser.origin}/phone.html", server, user, hertz)
        page.start(token=token.to_jwt(), options={})
        page.do("call", "x", {}, {"iceServers": servers, "iceTransportPolicy": "relay"})
        page.wait("answered")
        pages.append(page)
    talk(*pages)
    for page in pages:
        facts = page.facts()
        assert (facts["candidate"], facts["relay"]) == ("relay", transport)
        page.hang_up()
        page.page.context.close()
