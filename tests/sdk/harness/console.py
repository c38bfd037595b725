"""The web console in Chromium, as its users have it."""

import re
from pathlib import Path

from playwright.sync_api import expect

AXE = Path(__file__).resolve().parents[3] / "console/node_modules/axe-core/axe.min.js"
PHONE = {"width": 360, "height": 740}  # a telephone
PAGES = ["live", "calls", "problems", "numbers", "applications", "agents", "trunks", "phones", "accounts", "explain?to=%2B15551230001", "figures", "changes"]
SECONDS = 10_000


class Console:
    """A browser at the console of a server. `page` is Playwright's page."""

    def __init__(self, context, server):
        self.server = server
        self.base = f"{server.http}/console/"
        self.context, self.page = context, context.new_page()
        self.page.set_default_timeout(SECONDS)
        # What the browser complains about: faults of scripts, and what the content security policy refuses.
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._note)

    def _note(self, message):
        # The browser reports refused requests itself; tests of a refusal look at the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def open(self, page="live"):
        """Opens a page, signed in or not."""
        self.page.goto(f"{self.base}#/{page}")
        self.page.reload()
        return self

    def sign_in(self, user=None, password=None):
        """Fills the form in and sends it."""
        self.page.get_by_label("User name or account SID").fill(user or self.server.account_sid)
        self.page.get_by_label("Password or auth token").fill(password or self.server.auth_token)
        self.page.get_by_role("button", name="Sign in").click()
        return self

    def sees(self, text, within=None):
        """Waits until a text is shown. `within` is a part of the page."""
        expect((within or self.page).get_by_text(text).first).to_be_visible(timeout=SECONDS)
        return self

    def heading(self, text):
        """Waits for the heading of a page, which begins with this text."""
        expect(self.page.get_by_role("heading", level=1, name=re.compile(f"^{re.escape(text)}"))).to_be_visible(timeout=SECONDS)
        return self

    def rows(self, table):
        """The rows of a table, without its head."""
        return self.page.get_by_role("table", name=table).locator("tbody tr")

    def violations(self):
        """What axe finds wrong with the page: rule and place."""
        if "axe" not in self.page.evaluate("Object.keys(window).filter((name) => name === 'axe')"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]

    def is_too_wide(self):
        """Whether the page has to be moved sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
