import application
import pytest


@pytest.fixture(scope="session")
def app():
    server = application.start()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def tandem_base_url(app):
    return app.url
