"""Fixtures: the server, phones, and a web application, each ended with the test."""

import itertools

import pytest

from harness.phone import Phone
from harness.rtp import Rtp
from harness.server import Tandem, binary
from harness.webapp import WebApp

SCORES = pytest.StashKey()


def pytest_sessionstart(session):
    if not binary().exists():
        pytest.exit(f"no {binary()}: run cargo build first", returncode=2)


@pytest.fixture(scope="session")
def score(pytestconfig):
    """Keeps a figure for the end of the report: score(group, works, of_how_many)."""
    return lambda *figure: pytestconfig.stash.setdefault(SCORES, []).append(figure)


def pytest_terminal_summary(terminalreporter, config):
    scores = config.stash.get(SCORES, [])
    if not scores:
        return
    terminalreporter.section("operations that answer as published")
    apart = [one for one in scores if one[0] == "refused"]
    scores = [one for one in scores if one not in apart]
    total = ("all in scope", sum(works for _, works, _ in scores), sum(most for *_, most in scores))
    for group, works, most in [*scores, total, *apart]:
        terminalreporter.line(f"{group:15} {works:4} of {most:4}  {100 * works / max(most, 1):5.1f} %")


@pytest.fixture(scope="session")
def start_tandem(tmp_path_factory):
    """Starts servers: start_tandem(resources="TOML"), with at=PATH on the data of one that has ended. Each is checked when it
    ends (see Tandem.stop)."""
    running = []

    def start(resources="", at=None):
        server = Tandem(at or tmp_path_factory.mktemp("tandem"), resources)
        running.append(server)
        return server

    yield start
    faults = []
    for server in running:
        try:
            server.stop()
        except AssertionError as fault:
            faults.append(fault)
    assert not faults, faults


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
