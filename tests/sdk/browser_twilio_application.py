"""The web application behind the pages with Twilio's SDKs."""

import pytest

from twilio_app import answering, assert_genuine


@pytest.fixture
def app(server, module_webapp):
    """The web application. Every request that it gets must be genuinely Twilio's. In some tests it gets none."""
    module_webapp.forget()
    yield module_webapp
    if module_webapp.to():
        assert_genuine(server, module_webapp)


@pytest.fixture(autouse=True)
def voice(app):
    """The application of the pages: 702 plays back what it hears, 703 asks for digits, and the call of a page is answered when
    the page that it names answers."""

    def document(response):
        to = app.to("/voice")[-1]["To"]
        if to == "702":
            response.echo()
        elif to == "703":
            response.redirect("/gather")
        else:
            response.dial(action="/after", answer_on_bridge=True).client(to.removeprefix("client:"))

    answering(app, "/voice", document)
    answering(app, "/after", lambda response: response.hangup())
