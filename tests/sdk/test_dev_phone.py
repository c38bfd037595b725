"""The page /dev/phone of `tandem dev` in Chromium: it calls the application, hears it, sends it keys, and says how each call ended."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tomllib

import pytest
import requests

from harness.browser import Browser, is_tone
from harness.phone import free_port
from harness.rtp import tone
from harness.server import HOST, binary
from harness.waiting import wait_for
from twilio_app import answering, twiml

HERTZ = 660  # of the page's microphone
PROMPT = 1700  # Hz
KEYS = "5092*#"
ECHO = twiml("<Response><Echo/></Response>")


class Dev:
    """A running `tandem dev`."""

    def __init__(self, directory, url, *options):
        self.data = directory / "data"
        self.log = directory / "dev.log"
        http, sip = free_port(), free_port()
        self.origin = f"http://{HOST}:{http}"
        command = [str(binary()), "dev", url, "--http-port", str(http), "--sip-port", str(sip), *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        environment |= {"TANDEM_DATA_DIR": str(self.data), "NO_COLOR": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the start", lambda: self.process.poll() is not None or self.shows("Calls are shown here"), 30)
        printed = re.search(rf"{re.escape(self.origin)}/dev/phone#[0-9a-f]{{32}}$", self.log.read_text(), re.MULTILINE)
        assert printed, self.log.read_text()
        self.page = printed[0]

    def shows(self, text):
        return text in self.log.read_text()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0, self.log.read_text()


@pytest.fixture(scope="module")
def dev(module_webapp, tmp_path_factory):
    one = Dev(tmp_path_factory.mktemp("dev"), f"{module_webapp.url}/voice")
    yield one
    one.stop()


@pytest.fixture
def app(module_webapp):
    module_webapp.forget()
    return module_webapp


class Opened:
    """The page in a tab."""

    def __init__(self, page, address):
        self.page = page
        self.console = []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        page.goto(address)
        self.is_ready()

    def is_ready(self):
        wait_for("the number", lambda: self.page.get_attribute("#to", "placeholder"))

    def call(self):
        self.page.click("#button")
        self.has("#state", "In the call")

    def has(self, selector, text, seconds=20):
        shown = []

        def is_there():
            shown[:] = self.page.locator(selector).all_inner_texts()
            return any(text in one for one in shown)

        try:
            wait_for(f"{text!r} in {selector}", is_there, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {shown}; {self.page.inner_text('main')}; console: {self.console}") from None

    def hears(self, hertz):
        wait_for(f"{hertz} Hz", lambda: is_tone(self.page.evaluate("() => window.hears()"), hertz))

    def is_calm(self):
        """The browser complains about nothing: no script failed, and the policy of the page has blocked nothing."""
        assert not [line for line in self.console if line.startswith(("error", "warning"))], self.console


@pytest.fixture
def phone(browser, dev):
    """Opens the page, with a microphone that is a tone."""
    with contextlib.ExitStack() as opened:

        def make(**options):
            context = browser.context(**options)
            opened.callback(context.close)
            page = context.new_page()
            page.add_init_script(path=browser.probe())
            one = Opened(page, dev.page)
            page.evaluate("hertz => window.speak(hertz)", HERTZ)
            return one

        yield make


def test_the_page_hears_the_application_and_its_keys_arrive(app, phone):
    app.sound("/prompt.wav", tone(PROMPT, 20))
    answering(app, "/voice", lambda response: response.gather(num_digits=6, finish_on_key="", timeout=20, action="/digits").play("/prompt.wav"))
    app.on("/digits", ECHO)
    one = phone()
    assert one.page.get_attribute("#to", "placeholder") == "+15550100001"
    one.call()
    one.hears(PROMPT)
    for key in KEYS[:3]:
        one.page.click(f"#keypad [data-key='{key}']")
    for key in KEYS[3:]:
        one.page.keyboard.press(key)
    (request,) = app.wait("/digits")
    assert (request["Digits"], request["From"], request["To"]) == (KEYS, "+15550109999", "+15550100001")
    one.has("#keys", f"Keys sent: {KEYS}")
    one.hears(HERTZ)
    wait_for("both levels", lambda: all(int(one.page.get_attribute(f"#{meter}", "aria-valuenow")) > 30 for meter in ["mine", "theirs"]))
    assert one.page.inner_text("#time") != ""
    one.page.click("#button")
    one.has("#words", "You hung up.")
    one.has("#command", f"tandem show {request['CallSid']}")
    one.is_calm()


def test_the_page_says_that_the_application_hung_up_and_can_call_again(app, phone):
    answering(app, "/voice", lambda response: (response.pause(length=1), response.hangup()))
    one = phone()
    for _ in range(2):
        one.page.focus("#button")
        one.page.keyboard.press("Enter")
        one.has("#words", "The application hung up.")
        assert one.page.get_attribute("#result", "data-kind") == "ok"
    one.is_calm()


def test_the_page_names_the_error_of_the_application_with_advice(app, phone):
    app.on("/voice", ("broken", 500))
    one = phone()
    one.page.click("#button")
    one.has("#words", "The application sent no usable document, so Tandem hung up.", seconds=40)
    assert one.page.get_attribute("#result", "data-kind") == "failed"
    one.has("#problems", "Error 11200: ")
    one.has("#problems", "What to do: ")
    one.has("#state", "The call failed")


def test_the_page_says_that_nobody_has_a_number(phone):
    one = phone()
    one.page.fill("#to", "699")
    one.page.click("#button")
    one.has("#words", "Tandem refused the call: no application has this number.")
    one.has("#problems", "What to do: ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "The browser did not allow the microphone."),
        ("NotFoundError", "The browser found no microphone."),
        ("NotReadableError", "The microphone does not work."),
    ],
)
def test_a_page_without_a_microphone_says_what_to_do(phone, name, words):
    one = phone()
    one.page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('test', name); }; }", name
    )
    one.page.click("#button")
    one.has("#words", words)
    one.has("#detail", "microphone")
    one.has("#does", "Call")


def test_a_closed_tab_leaves_no_call_behind(app, dev, phone):
    app.on("/voice", ECHO)
    one = phone()
    one.call()
    before = dev.log.read_text()
    one.page.close()
    wait_for("the end", lambda: "ended: " in dev.log.read_text()[len(before) :])


def test_a_page_that_was_left_shows_the_end_of_its_call(app, dev, phone):
    app.on("/voice", ECHO)
    one = phone()
    one.call()
    before = dev.log.read_text()
    # The browser keeps the page for the back button.
    one.page.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    wait_for("the end", lambda: "ended: " in dev.log.read_text()[len(before) :])
    one.page.evaluate("() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    one.has("#words", "You left the page, so the call has ended.")
    assert one.page.get_attribute("#result", "data-kind") == "ok"
    one.has("#does", "Call")
    one.call()
    one.page.click("#button")
    one.has("#words", "You hung up.")
    one.is_calm()


def test_a_page_without_the_key_says_what_to_open(dev, browser):
    context = browser.context()
    try:
        page = context.new_page()
        for address in (f"{dev.origin}/dev/phone", f"{dev.origin}/dev/phone#{'0' * 32}"):
            page.goto("about:blank")
            page.goto(address)
            wait_for("the advice", lambda: "Open the address that tandem dev prints, key included." in page.inner_text("#words"))
            assert page.is_disabled("#button") and not page.get_attribute("#to", "placeholder")
            assert page.locator("#numbers option").count() == 0
        one = Opened(page, dev.page)  # in the same tab, which the browser does not load again for another fragment
        assert page.is_enabled("#button")
        page.goto(f"{dev.origin}/dev/phone")
        one.is_ready()
    finally:
        context.close()


def test_an_application_that_sends_commands_answers_and_hangs_up(app, browser, tmp_path):
    app.on("/voice")
    own = Dev(tmp_path, f"{app.url}/voice", "--provider", "telnyx")
    context = browser.context()
    try:
        page = context.new_page()
        page.add_init_script(path=browser.probe())
        one = Opened(page, own.page)
        page.evaluate("hertz => window.speak(hertz)", HERTZ)
        page.click("#button")
        call = json.loads(app.wait("/voice")[0].body)["data"]["payload"]
        assert (call["from"], call["to"]) == ("+15550109999", "+15550100001")
        assert page.get_attribute("#status", "data-state") == "calling"
        key = tomllib.loads((own.data / "account.toml").read_text())["telnyx"]["api_key"]

        def command(action):
            url = f"{own.origin}/v2/calls/{call['call_control_id']}/actions/{action}"
            requests.post(url, headers={"Authorization": f"Bearer {key}"}, json={}, timeout=5).raise_for_status()

        command("answer")
        one.has("#state", "In the call")
        command("hangup")
        one.has("#words", "The application hung up.")
    finally:
        own.stop()
        context.close()


def test_the_page_says_that_the_server_is_gone(app, browser, tmp_path):
    app.on("/voice", ECHO)
    own = Dev(tmp_path, f"{app.url}/voice")
    context = browser.context()
    try:
        one = Opened(context.new_page(), own.page)
        one.call()
        own.process.kill()
        own.process.wait()
        one.has("#words", "The connection to tandem dev was lost")
        one.page.click("#button")
        one.has("#words", "The connection to tandem dev was lost")
    finally:
        own.process.kill()
        context.close()
