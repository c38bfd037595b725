"""A call-control application: the SDK's client and the webhooks that came, every one of them verified by the SDK."""

import base64
import threading

import flask
import pytest
import telnyx

from conformance import telnyx_kinds

from .party import Party
from .phone import callee
from .server import API_KEY
from .webapp import WebApp


CONNECTION, NUMBER = "1000000000000000001", "+15551230001"
TEXML, TEXML_NUMBER = "2000000000000000001", "+15551230002"


def serve(start_tandem, webapp, more="", at=None):
    """A server with a number of such an application's, which is its `telnyx_app`; the SDK is told of both by the environment. For a
    fixture: yields the server. `more`: settings beside these; `at`: the data of a server that has ended."""
    app = TelnyxApp(webapp)
    server = start_tandem(
        f"""
[[applications]]
id = "{CONNECTION}"
account = "acme"
provider = "telnyx"
webhook_url = "{app.url}"

[[numbers]]
number = "{NUMBER}"
account = "acme"
application = "{CONNECTION}"
{more}""",
        at=at,
    )
    server.telnyx_app = app
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TELNYX_BASE_URL", server.http + "/v2")
        environment.setenv("TELNYX_API_KEY", API_KEY)
        environment.setenv("TELNYX_PUBLIC_KEY", server.telnyx_public_key())
        app.connect()
    yield server


def texml_number(webapp):
    """The settings of a number of a TeXML application, whose documents come from `/voice` of the web application."""
    return f"""
[[applications]]
id = "{TEXML}"
account = "acme"
provider = "texml"
webhook_url = "{webapp.url}/voice"

[[numbers]]
number = "{TEXML_NUMBER}"
account = "acme"
application = "{TEXML}"
"""


def called_party(app, phone, rtp):
    """Somebody who has been called and has answered."""
    party = Party(phone, rtp, callee())
    party.leg = app.client.calls.dial(connection_id=CONNECTION, to=party.uri, from_=NUMBER).data.call_control_id
    app.wait("call.answered", party.leg)
    return party


def state(text):
    """A client_state."""
    return base64.b64encode(text.encode()).decode()


class TelnyxApp:
    """Takes webhooks at `url`. `actions` is the SDK's client.calls.actions."""

    PATH = "/telnyx"

    def __init__(self, webapp: WebApp):
        self.url = webapp.url + self.PATH
        self.client = None
        self._changed = threading.Condition()
        self._events = []
        self.refused = []  # webhooks that the SDK did not accept, and why
        webapp.on(self.PATH, self._take)

    def connect(self):
        """Once the environment says where the server is, and its key: nothing else is told to the SDK."""
        self.client = telnyx.Telnyx(max_retries=0)
        self.actions = self.client.calls.actions

    def wait(self, event_type, leg=None, seconds=10, count=1, **payload):
        """Waits for the first (or `count`th) such event, of this leg, with these members; returns its payload."""

        def found():
            events = [event for event in self._events if event["event_type"] == event_type]
            events = [event["payload"] for event in events if leg in (None, event["payload"].get("call_control_id"))]
            events = [event for event in events if payload.items() <= event.items()]
            return events[count - 1] if len(events) >= count else None

        with self._changed:
            if not self._changed.wait_for(found, seconds):
                raise AssertionError(f"waited {seconds:g} s for {event_type} {payload}; came: {self.told(leg)}")
            return found()

    def told(self, leg=None):
        """The types of the events of a leg, in order."""
        return [event["event_type"] for event in self.events(leg)]

    def events(self, leg=None):
        """The events of a leg (`data` of the webhooks), in order."""
        with self._changed:
            return [event for event in self._events if leg in (None, event["payload"].get("call_control_id"))]

    def _take(self):
        request = flask.request
        body = request.get_data(cache=True).decode()
        try:
            event = self.client.webhooks.unwrap(body, headers=dict(request.headers))
            # Verifying, the SDK takes any shape; this holds it against its types.
            type(event).model_validate_json(body)
            wrong = telnyx_kinds.faults(request.get_json()["data"])
            assert not wrong, wrong
        except Exception as error:  # whatever it is, the test is to see it
            self.refused.append((error, dict(request.headers), body))
        else:
            with self._changed:
                # As it came, not as the SDK's types would have it.
                self._events.append(request.get_json()["data"])
                self._changed.notify_all()
        return "", 200
