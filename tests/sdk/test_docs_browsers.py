"""The pages of docs/browsers.md, as they stand there: each calls and is called, and hears and is heard."""

import re

import pytest

from browser_pages import *  # noqa: F403
from browser_pages import resources
from harness.browser import DOMAIN, is_tone, password
from harness.resources import table
from harness.server import ROOT
from harness.signalwire import ACCOUNT, subscriber_token
from harness.waiting import wait_for
from twilio_app import access_token, client

PAGES = re.findall(r"^```html\n(.*?)^```$", (ROOT / "docs" / "browsers.md").read_text(), re.MULTILINE | re.DOTALL)
TITLES = [re.search("<title>(.*)</title>", page)[1] for page in PAGES]
PHRASES = {"Twilio": "client:", "SignalWire": "/private/"}  # before the name of a called page


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    echo = table("numbers", number="704", account="space", provider="signalwire", twiml="<Response><Echo/></Response>")
    return start_tandem(resources(module_webapp) + ACCOUNT + echo)


@pytest.fixture(scope="module")
def token(server, module_webapp):
    """Makes the token of a page of this SDK."""
    twilio = client(server)
    key, application = twilio.new_keys.create(), twilio.applications.create(voice_url=module_webapp.url + "/voice")

    def make(title, user):
        if title == "Twilio":
            grant = {"incoming_allow": True, "outgoing_application_sid": application.sid}
            return access_token(server.account_sid, key.sid, key.secret, user, **grant)
        return subscriber_token(server, user)

    return make


@pytest.fixture
def voice(module_webapp):
    """The application of Twilio's pages: it calls the page that is named, or plays back what it hears."""

    def view():
        to = module_webapp.to("/voice")[-1]["To"]
        dial = f"<Dial answerOnBridge='true'><Client>{to.removeprefix('client:')}</Client></Dial>"
        return f"<Response>{dial if to.startswith('client:') else '<Echo/>'}</Response>", {"Content-Type": "text/xml"}

    module_webapp.forget()
    module_webapp.on("/voice", view)


def published(page, server, user):
    """The page for a user of this server, as HTML text and script."""
    for ours, theirs in {
        "wss://voice.example.com": server.http.replace("http", "ws", 1),
        "voice.example.com": DOMAIN,
        "a long random one": password(user),
        "alice": user,
        'fetch("token")': f'fetch("{user}.token")',
    }.items():
        page = page.replace(ours, theirs)
    html, script = re.fullmatch(r'(.*)<script type="module">\n(.*)</script>\n', page, re.DOTALL).groups()
    return html, script


class Opened:
    """A page of the documentation, of which a test presses the buttons."""

    def __init__(self, browser, server, number, user, hertz, directory, token):
        if 'fetch("token")' in PAGES[number]:
            browser.publish(f"{user}.token", token(TITLES[number], user))
        html, script = published(PAGES[number], server, user)
        (directory / f"{user}.js").write_text(script)
        url = browser.serve(user, directory / f"{user}.js", html)
        self.user, self.hertz = user, hertz
        self.page = browser.context().new_page()
        self.page.add_init_script(path=browser.probe())
        # The phone of the page asks for the microphone at its first call.
        self.page.goto(url)
        self.page.evaluate("window.speak", hertz)
        self.shows("registered")

    def press(self, button):
        self.page.click(f"#{button}")

    def shows(self, text):
        wait_for(f"{text!r} on the page", lambda: text in self.page.text_content("#state"))

    def hears(self, hertz):
        wait_for(f"{hertz} Hz", lambda: is_tone(self.page.evaluate("window.hears()"), hertz))


@pytest.mark.parametrize("number", range(len(PAGES)), ids=TITLES)
def test_a_page_of_the_documentation_calls_and_is_called(browser, server, number, tmp_path, token, voice):
    assert TITLES == ["JsSIP", "SIP.js", "Twilio", "Telnyx", "SignalWire"]
    assert all(len(page.splitlines()) <= 40 for page in PAGES)
    alice = Opened(browser, server, number, f"user{2 * number}", 520, tmp_path, token)
    bob = Opened(browser, server, number, f"user{2 * number + 1}", 660, tmp_path, token)
    alice.page.fill("#to", "704" if TITLES[number] == "SignalWire" else "702")
    alice.press("call")
    alice.shows("in a call")
    alice.hears(520)
    alice.press("end")
    alice.shows("Terminated")
    alice.page.fill("#to", PHRASES.get(TITLES[number], "") + bob.user)
    alice.press("call")
    bob.shows(f"{alice.user} calls")
    bob.press("answer")
    alice.shows("in a call")
    alice.hears(660)
    bob.hears(520)
    bob.press("end")
    alice.shows("Terminated")
    for one in (alice, bob):
        one.page.context.close()
