"""Pages whose audio goes through the UDP port or the TCP port that all of them share."""

import re

import pytest
import requests

from browser_pages import *  # noqa: F403
from browser_pages import connect, resources, talk
from harness.phone import free_port
from harness.waiting import wait_for

COUNTERS = re.compile(r"^tandem_ice_port_(\w+)_total (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def library():
    return "jssip"


@pytest.fixture(scope="module")
def proxy():
    """None: the page names the server."""


@pytest.fixture(scope="module")
def shared():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, shared):
    media = f"ice_udp_port = {shared}\nice_tcp_port = {shared}\nworkers = 2"
    return start_tandem(resources(module_webapp), media=media)


@pytest.fixture
def page(tab):
    return lambda **options: tab().register(**options)


def counters(server):
    found = requests.get(f"{server.http}/metrics", timeout=5).text
    return {name: int(count) for name, count in COUNTERS.findall(found)}


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_pages_hear_each_other_through_the_shared_port(server, page, shared, protocol):
    pages = [page(usesUdp=protocol == "udp") for _ in range(4)]
    calls = [pages[:2], pages[2:]]
    for one, other in calls:
        connect(one, other)
    for one, other in calls:
        talk(one, other)
    for one in pages:
        facts = one.facts()
        assert (facts["protocol"], facts["port"]) == (protocol, shared)
    assert counters(server)["lost"] == 0
    for one, other in calls:
        one.hang_up()
        other.wait("ended")


def test_a_page_without_udp_and_one_with_udp_hear_each_other_and_the_page_restarts_ice(page, shared):
    alice, bob = page(usesUdp=False), page()
    connect(alice, bob)
    ours = alice.facts()["ours"]
    alice.do("restartIce")
    wait_for("another connection", lambda: alice.facts()["ours"] != ours)
    talk(alice, bob)
    assert [one.facts()["protocol"] for one in (alice, bob)] == ["tcp", "udp"]
    bob.hang_up()
    alice.wait("ended")
