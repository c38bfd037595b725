"""Pages with Telnyx's WebRTC SDK and an application with Call Control: webhooks, commands, and parameters both ways. The page is in
Chromium, with the published package, through `tandem proxy`. The application is telnyx-python, which verifies each webhook."""

import pytest

from browser_pages import *  # noqa: F403
from browser_pages import DOMAIN, PROMPT, USERS, password, talk
from harness.resources import table
from harness.rtp import tone
from harness.telnyx_app import CONNECTION, NUMBER, serve, state


@pytest.fixture(scope="module")
def library():
    return "telnyx"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    users = [table("endpoints", account="acme", username=user, password=password(user)) for user in USERS]
    yield from serve(start_tandem, module_webapp, "".join([f'[sip.registrar]\ndomains = ["{DOMAIN}"]\n', *users]))


@pytest.fixture
def page(tab):
    """Opens a page that has logged in."""
    return lambda *other, **options: tab(*other).register(**options)


def named(headers):
    return {header["name"]: header["value"] for header in headers}


def test_the_application_gets_the_client_state_and_the_headers_of_a_page_and_each_hold(server, module_webapp, page):
    app, alice = server.telnyx_app, page()
    own = {"clientState": state("of the page"), "customHeaders": [{"name": "X-Plan", "value": "gold"}, {"name": "From", "value": "x"}]}
    alice.do("call", NUMBER, own)
    call = app.wait("call.initiated", client_state=state("of the page"))
    leg = call["call_control_id"]
    assert named(call["custom_headers"]) == {"X-Plan": "gold"}
    assert alice.user in call["from"] and (call["to"], call["direction"]) == (NUMBER, "incoming")
    app.actions.answer(leg, client_state=state("of the application"))
    app.wait("call.answered", leg, client_state=state("of the application"))
    assert alice.wait("answered")[1] == leg
    module_webapp.sound("/tone.wav", tone(PROMPT, 20))
    app.actions.start_playback(leg, audio_url=module_webapp.url + "/tone.wav")
    alice.hears(PROMPT)
    for count in (1, 2):
        alice.do("hold")
        alice.wait("held")
        assert app.wait("call.hold", leg, count=count, client_state=state("of the application"))["to"] == NUMBER
        alice.do("unhold")
        alice.wait("answered")
        app.wait("call.unhold", leg, count=count)
        alice.hears(PROMPT)
    alice.hang_up()
    assert app.wait("call.hangup", leg)["hangup_source"] == "caller"


def test_a_page_gets_the_client_state_and_the_headers_of_the_application(server, page):
    app, alice, bob = server.telnyx_app, page(), page()
    more = {"client_state": state("for the leg"), "custom_headers": [{"name": "X-Order", "value": "17"}]}
    leg = app.client.calls.dial(connection_id=CONNECTION, to=f"sip:{bob.user}@{server.sip}", from_=NUMBER, **more).data.call_control_id
    _, call = bob.wait("incoming")
    assert named(call["headers"]) == {"X-Order": "17"}
    assert (call["control"], call["state"]) == (leg, state("for the leg"))
    bob.do("answer", {"customHeaders": [{"name": "X-Agent", "value": "7"}]})
    bob.wait("answered")
    answered = app.wait("call.answered", leg, client_state=state("for the leg"))
    assert named(answered["custom_headers"]) == {"X-Agent": "7"}
    alice.do("call", NUMBER, {"clientState": state("alice")})
    other = app.wait("call.initiated", client_state=state("alice"))["call_control_id"]
    app.actions.answer(other)
    alice.wait("answered")
    app.actions.bridge(other, call_control_id_to_bridge_with=leg)
    app.wait("call.bridged", leg)
    talk(alice, bob)
    bob.do("hold")
    app.wait("call.hold", leg, client_state=state("for the leg"))
    alice.hears_nothing()
    bob.do("unhold")
    app.wait("call.unhold", leg)
    talk(alice, bob)
    alice.hang_up()
    bob.wait("ended")


def test_a_client_state_that_is_not_base64_is_refused(page):
    alice = page()
    alice.do("call", NUMBER, {"clientState": "***"})
    alice.wait("ended")
    assert any("clientState must be base64" in frame for frame in alice.frames)


def test_an_anonymous_login_is_refused_with_one_error(tab):
    guest = tab()
    guest.start(user=None, password=None, anonymous_login={"target_type": "ai_assistant", "target_id": "assistant-1"})
    failed = guest.wait("failed")[1]
    assert failed["code"] == 46001
    assert any("this server has no anonymous logins" in frame for frame in guest.frames)
