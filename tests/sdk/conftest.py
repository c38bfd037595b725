"""Fixtures: the server, phones, and a web application, each ended with the test."""

import functools
import itertools
import pathlib

import flask
import pytest

from conformance import telnyx_kinds
from harness import nodes, skips
from harness.audio import RATE, speech, write_capture
from harness.browser import Browser
from harness.engines import FileEngine, LiveEngine
from harness.phone import Phone, free_port, play
from harness.rtp import Rtp
from harness.server import Tandem, binary
from harness.socketapp import SocketApp
from harness.webapp import Serving, WebApp
from twilio_app import assert_genuine, client

SCORES = pytest.StashKey()
SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"


def pytest_sessionstart(session):
    if not binary().exists():
        pytest.exit(f"no {binary()}: run cargo build first", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return skips.judge(item.nodeid, (yield), SHARED)


@pytest.fixture(scope="session")
def score(pytestconfig):
    """Keeps a figure for the end of the report: score(group, works, of_how_many)."""
    return lambda *figure: pytestconfig.stash.setdefault(SCORES, []).append(figure)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["scores"] = session.config.stash.get(SCORES, [])
        session.config.workeroutput["telnyx_kinds"] = sorted(telnyx_kinds.SEEN)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Collects the scores of a process of pytest-xdist."""
    scores = getattr(node, "workeroutput", {}).get("scores", [])
    node.config.stash.setdefault(SCORES, []).extend(tuple(one) for one in scores)
    telnyx_kinds.SEEN.update(getattr(node, "workeroutput", {}).get("telnyx_kinds", []))


def pytest_terminal_summary(terminalreporter, config):
    if telnyx_kinds.SEEN:
        terminalreporter.section("webhooks of Telnyx that came as published")
        for line in telnyx_kinds.summary(telnyx_kinds.SEEN):
            terminalreporter.line(line)
    scores = config.stash.get(SCORES, [])
    if not scores:
        return
    terminalreporter.section("operations that answer as published")
    apart = [one for one in scores if one[0] == "refused"]
    scores = [one for one in scores if one not in apart]
    total = ("all in scope", sum(works for _, works, _ in scores), sum(most for *_, most in scores))
    for group, works, most in [*scores, total, *apart]:
        terminalreporter.line(f"{group:15} {works:4} of {most:4}  {100 * works / max(most, 1):5.1f} %")


def pytest_collection_modifyitems(items):
    for item in items if nodes.COUNT > 1 else ():
        if reason := nodes.why_not(item.originalname):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def make_server():
    """What a server is made of: Tandem, or a cluster with TANDEM_TEST_NODES (harness/nodes.py)."""
    if nodes.COUNT == 1:
        yield Tandem
        return
    engines = nodes.Engines()
    yield functools.partial(nodes.Nodes, engines)
    engines.close()


@pytest.fixture(scope="session")
def start_tandem(tmp_path_factory, make_server):
    """Starts servers: start_tandem(resources="TOML"), with at=PATH on the data of one that has ended. Each is checked when it
    ends (see Tandem.stop)."""
    running = []

    def start(resources="", at=None, media=""):
        server = make_server(at or tmp_path_factory.mktemp("tandem"), resources, media)
        running.append(server)
        return server

    yield start
    # All at once: each waits for its peers and its webhooks for a while.
    for server in running:
        server.end()
    faults = []
    for server in running:
        try:
            server.stop()
        except AssertionError as fault:
            faults.append(fault)
    assert not faults, faults


@pytest.fixture(scope="module")
def server(start_tandem):
    """A server with an account and nothing else; files of tests that want more have a fixture of this name."""
    return start_tandem()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium for the tests of a file."""
    one = Browser(tmp_path_factory.mktemp("browser"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def twilio(server):
    """Twilio's client of that server."""
    return client(server)


@pytest.fixture
def phone(tmp_path):
    """Starts SIPp: phone(scenario) waits for calls, phone(scenario, target=server.sip) calls."""
    count = itertools.count()
    running = []

    def start(scenario, **options):
        one = Phone(tmp_path / f"phone{next(count)}", scenario, **options)
        running.append(one)
        return one

    yield start
    for one in running:
        one.stop()


@pytest.fixture(scope="module")
def carrier_port():
    """Where a trunk leads: a phone started there takes its calls."""
    return free_port()


@pytest.fixture
def rtp():
    """Opens RTP sockets: one = rtp(); phone(..., media=one)."""
    opened = []

    def start():
        opened.append(Rtp())
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def webapp():
    """A web application of the test's own."""
    app = WebApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def module_webapp():
    """A web application for a file of tests: numbers in a server's configuration need its address."""
    app = WebApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def pages(module_webapp):
    """The same for a file in which each test has its own folder in it."""
    return module_webapp


@pytest.fixture
def app(server, module_webapp):
    """The same, knowing nothing of earlier tests; every request that it gets must be genuinely Twilio's."""
    module_webapp.forget()
    module_webapp.on("/status")
    yield module_webapp
    assert_genuine(server, module_webapp)


@pytest.fixture
def socketapp():
    """A WebSocket application."""
    app = SocketApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def engine():
    """Takes files and writes down what is said in them, and speaks."""
    one = FileEngine()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def live_engine():
    """Listens."""
    one = LiveEngine()
    yield one
    one.stop()


@pytest.fixture
def talk(tmp_path):
    """Two seconds of speech with silence around it, as a phone plays them; and how long that takes."""
    silence = speech(1) * 0
    milliseconds = write_capture(tmp_path / "talk.pcap", silence[: RATE // 2], speech(2), silence, silence, silence)
    return play(tmp_path / "talk.pcap"), milliseconds


@pytest.fixture(scope="module")
def late():
    """An application that is named later, at a URL that a server's configuration can have."""

    class Late:
        app = staticmethod(flask.Flask("nothing"))

        def __call__(self, environ, start_response):
            return self.app(environ, start_response)

    late = Late()
    serving = Serving(late)
    late.url = serving.url
    yield late
    serving.stop()
