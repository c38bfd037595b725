"""Pages that are phones, for the files of tests of each library: the browser, and what each page says and hears. A file names its
library with a fixture `library`, and says with a fixture `page` how its pages register."""

import contextlib
import itertools

import pytest
import requests

from harness.browser import DOMAIN, SDK, Browser, WebPhone, password
from harness.proxy import Proxy
from harness.resources import table
from harness.rtp import tone
from harness.waiting import wait_for
from twilio_app import answering, number

PROMPT = 1700  # Hz
USERS = [f"user{count}" for count in range(60)]


def resources(webapp):
    """The users, a number that plays back what it hears, one that asks for digits, and one that dials."""
    echo = table("numbers", number="702", account="acme", twiml="<Response><Echo/></Response>")
    users = [table("endpoints", account="acme", username=user, password=password(user)) for user in USERS]
    domain = f'[sip.registrar]\ndomains = ["{DOMAIN}"]\n'
    return "".join([domain, *users, echo, number("703", webapp, "/gather"), number("600", webapp, "/dial")])


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(resources(module_webapp))


@pytest.fixture(scope="module")
def proxy(server):
    """The address of `tandem proxy`: pages of a provider's SDK name no server, and reach the provider's hosts through it."""
    one = Proxy(server)
    yield one.url
    one.stop()


@pytest.fixture(scope="module")
def browser(proxy, tmp_path_factory):
    """A Chromium for the tests of a file."""
    one = Browser(tmp_path_factory.mktemp("pages"), proxy)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def phone_url(browser, library):
    """The URL of the page that is a phone made of the library."""
    return browser.serve("phone", SDK / "pages" / f"{library}.js")


@pytest.fixture(scope="module")
def names():
    """Users that no other test has."""
    return iter(USERS)


@pytest.fixture(scope="module")
def tones():
    """Frequencies, none of them a multiple of another."""
    return itertools.cycle([520, 660, 810, 950, 1130, 1270, 1430, 1570])


@pytest.fixture(scope="module")
def address():
    """How a page names the user of another page when it calls."""
    return "{}"


@pytest.fixture
def tab(browser, phone_url, server, names, tones, address):
    """Makes a page: tab() of a new user, tab(other) of the user of another page in another tab."""
    with contextlib.ExitStack() as opened:

        def make(other=None, server=server, **options):
            context = browser.context(**options)
            opened.callback(context.close)
            user = other.user if other else next(names)
            return WebPhone(context, phone_url, server, user, next(tones), address.format(user))

        yield make


@pytest.fixture(scope="module")
def account(server):
    """The user name and the password of the account."""
    return server.account_sid, server.auth_token


@pytest.fixture
def timeline(server, account):
    """Asks for the lines of the latest call's report."""

    def ask():
        story = requests.get(f"{server.http}/console/calls/last", auth=account, timeout=5).json()
        return "\n".join(line["text"] for line in story["timeline"])

    return ask


def dials(app, *users, sip=(), path="/dial", parameters=(), **options):
    """`path`, which number 600 asks, calls these users and SIP URIs. The pages of the users get the parameters."""

    def document(response):
        dial = response.dial(action="/after", **options)
        for user in users:
            client = dial.client(None if parameters else user)
            if parameters:
                client.identity(user)
            for name, value in parameters:
                client.parameter(name=name, value=value)
        for uri in sip:
            dial.sip(uri)

    answering(app, path, document)
    answering(app, "/after", lambda response: response.hangup())


def gathers(app):
    """/gather plays a tone and asks for four digits, and /digits gets them."""
    app.sound("/prompt.wav", tone(PROMPT, 8))
    answering(app, "/gather", lambda response: response.gather(num_digits=4, timeout=10, action="/digits").play("/prompt.wav"))
    answering(app, "/digits", lambda response: response.hangup())


def give_digits(app, page):
    """A page in a call with /gather sends digits when it hears the tone: digits from before are nobody's."""
    page.hears(PROMPT)
    page.do("digits", "5092")
    (request,) = app.wait("/digits")
    assert request["Digits"] == "5092"
    page.wait("ended")


def talk(one, other):
    """Both hear each other."""
    one.hears(other.hertz)
    other.hears(one.hertz)


def connect(one, other):
    """A page calls another one, and both hear each other."""
    one.do("call", other.address)
    other.answer()
    one.wait("answered")
    talk(one, other)


def restart_ice(one):
    """A page restarts ICE: both sides have new credentials, and are connected again."""
    before = one.facts()
    one.do("restartIce")

    def is_new():
        facts = one.facts()
        return facts["ours"] != before["ours"] and facts["theirs"] != before["theirs"] and facts["ice"] == "connected"

    wait_for("the new connection", is_new)
