"""The plugin: the fixture `tandem`, and the tests of `*.tandem.toml` as items."""

import pytest

from . import cases
from .server import Tandem

SUFFIX = ".tandem.toml"


def pytest_addoption(parser):
    parser.addini("tandem_base_url", "address of the application for the tests of *.tandem.toml", default="")
    group = parser.getgroup("tandem")
    group.addoption("--tandem-base-url", default=None, help="address of the application for the tests of *.tandem.toml")


@pytest.fixture(scope="session")
def tandem_config():
    """More TOML for the server of the fixture `tandem`. Override it in conftest.py."""
    return ""


@pytest.fixture(scope="session")
def tandem(tmp_path_factory, tandem_config):
    """A Tandem server on free ports, for the whole session."""
    server = Tandem(tmp_path_factory.mktemp("tandem"), tandem_config)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tandem_base_url(pytestconfig):
    """The address of the application for the tests of `*.tandem.toml`: the option, the setting of pytest, or the file's own. Override
    it in conftest.py with a fixture that starts the application."""
    return pytestconfig.getoption("--tandem-base-url") or pytestconfig.getini("tandem_base_url") or None


@pytest.fixture(scope="session")
def tandem_auth_token():
    """The auth token that signs the requests of these tests. The default is the account of the file, or TWILIO_AUTH_TOKEN."""
    return None


def pytest_collect_file(file_path, parent):
    if file_path.name.endswith(SUFFIX):
        return CaseFile.from_parent(parent, path=file_path)
    return None


class CaseFile(pytest.File):
    def collect(self):
        try:
            names = cases.names(self.path)
        except cases.Failed as failed:
            raise self.CollectError(str(failed)) from None
        for name in names:
            yield Case.from_parent(self, name=name, callobj=_case(self.path, name))


def _case(path, name):
    def case(tandem_base_url, tandem_auth_token):
        cases.run_case(path, name, tandem_base_url, tandem_auth_token)

    return case


class Case(pytest.Function):
    """One test of a file. It is a function, so it gets fixtures."""

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: {self.name}"

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, cases.Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo)
