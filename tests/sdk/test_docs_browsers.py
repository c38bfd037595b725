"""The pages of docs/browsers.md, as they stand there: each calls and is called, and hears and is heard."""

import re

import pytest

from browser_acts import resources
from harness.browser import DOMAIN, SDK, Browser, bundle, is_tone, password
from harness.server import ROOT
from harness.waiting import wait_for

PAGES = re.findall(r"^```html\n(.*?)^```$", (ROOT / "docs" / "browsers.md").read_text(), re.MULTILINE | re.DOTALL)
TITLES = [re.search("<title>(.*)</title>", page)[1] for page in PAGES]


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(resources(module_webapp))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("pages"))
    yield one
    one.stop()


def published(page, server, user):
    """The page for a user of this server, as HTML text and script."""
    for ours, theirs in {
        "wss://voice.example.com": server.http.replace("http", "ws", 1),
        "voice.example.com": DOMAIN,
        "a long random one": password(user),
        "alice": user,
    }.items():
        page = page.replace(ours, theirs)
    html, script = re.fullmatch(r'(.*)<script type="module">\n(.*)</script>\n', page, re.DOTALL).groups()
    return html, script


class Opened:
    """A page of the documentation, of which a test presses the buttons."""

    def __init__(self, browser, server, number, user, hertz, directory):
        html, script = published(PAGES[number], server, user)
        (directory / f"{user}.js").write_text(script)
        browser.serve(user, directory / f"{user}.js", html)
        bundle(SDK / "pages" / "probe.js", directory / "probe.js", "iife")
        self.user, self.hertz = user, hertz
        self.page = browser.context().new_page()
        self.page.add_init_script(path=directory / "probe.js")
        # The phone of the page asks for the microphone at its first call.
        self.page.goto(f"{browser.origin}/{user}.html")
        self.page.evaluate("window.speak", hertz)
        self.shows("registered")

    def press(self, button):
        self.page.click(f"#{button}")

    def shows(self, text):
        wait_for(f"{text!r} on the page", lambda: text in self.page.text_content("#state"))

    def hears(self, hertz):
        wait_for(f"{hertz} Hz", lambda: is_tone(self.page.evaluate("window.hears()"), hertz))


@pytest.mark.parametrize("number", range(len(PAGES)), ids=TITLES)
def test_a_page_of_the_documentation_calls_and_is_called(browser, server, number, tmp_path):
    assert TITLES == ["JsSIP", "SIP.js"] and all(len(page.splitlines()) <= 40 for page in PAGES)
    alice = Opened(browser, server, number, f"user{2 * number}", 520, tmp_path)
    bob = Opened(browser, server, number, f"user{2 * number + 1}", 660, tmp_path)
    alice.page.fill("#to", "702")
    alice.press("call")
    alice.shows("in a call")
    alice.hears(520)
    alice.press("end")
    alice.shows("Terminated")
    alice.page.fill("#to", bob.user)
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
