"""SignalWire's Compatibility API by plain HTTP: both prefixes, its ids, its credentials, its signatures."""

import re
import uuid

import pytest
import requests
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from harness.signalwire import KEY, NUMBER, PROJECT, TOKEN, space
from harness.waiting import wait_for

PREFIXES = ["/api/laml/2010-04-01", "/2010-04-01"]
HELLO = "<Response><Say>Hello</Say><Pause length='20'/></Response>"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(space(module_webapp.url + "/voice"))


@pytest.fixture(params=PREFIXES)
def api(server, request):
    """Asks below the project's account: api(method, path, **parameters)."""

    def ask(method, path, credentials=(PROJECT, TOKEN), **parameters):
        url = f"{server.http}{request.param}/Accounts/{PROJECT}{path}"
        where = "params" if method == "GET" else "data"
        return requests.request(method, url, auth=credentials, timeout=10, **{where: parameters})

    return ask


@pytest.fixture
def app(module_webapp):
    """The application, without the check of Twilio's signatures that the fixture of this name has elsewhere."""
    module_webapp.forget()
    module_webapp.on("/voice", (HELLO, 200, {"Content-Type": "text/xml"}))
    module_webapp.on("/status")
    return module_webapp


def call(api, app, **more):
    """A call to the project's own number, answered."""
    events = ["initiated,ringing,answered,completed"]
    made = api("POST", "/Calls.json", To=NUMBER, From=NUMBER, Url=app.url + "/voice",
               StatusCallback=app.url + "/status", StatusCallbackEvent=events, **more)
    assert made.status_code == 201, made.text
    sid = made.json()["sid"]
    app.wait("/status", where=lambda one: one["CallStatus"] == "in-progress" and one["CallSid"] == sid)
    return made.json()


def test_a_call_has_uuids_twins_and_uris_below_the_prefix_and_is_ended_by_request(api, app):
    made = call(api, app)
    sid = made["sid"]
    assert str(uuid.UUID(sid)) == sid and made["account_sid"] == PROJECT
    assert made["uri"] == f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls/{sid}.json"
    assert made["formatted_to"] == made["to_formatted"] == "(555) 123-0001"
    assert made["direction"] == "outbound"
    # A path without .json is JSON, too.
    live = api("GET", f"/Calls/{sid}").json()
    assert (live["status"], live["answered_by"]) == ("in-progress", None)
    assert api("POST", f"/Calls/{sid}", Status="completed").status_code == 200
    wait_for("its end", lambda: api("GET", f"/Calls/{sid}").json()["status"] == "completed")
    listed = api("GET", "/Calls", Status="completed").json()
    assert sid in [one["sid"] for one in listed["calls"]]
    assert listed["first_page_uri"].startswith(f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls.json?")


def test_webhooks_are_signed_with_the_signing_key_in_both_header_fields(api, app):
    sid = call(api, app, MachineDetection="none")["sid"]
    api("POST", f"/Calls/{sid}", Status="completed")
    app.wait("/status", where=lambda one: one["CallStatus"] == "completed" and one["CallSid"] == sid)
    validator = RequestValidator(KEY)
    received = [one for one in app.to("/voice", "/status") if one["CallSid"] == sid]
    assert len(received) >= 4
    for one in received:
        signature = one.headers.get("x-signalwire-signature", "")
        assert signature == one.headers.get("x-twilio-signature")
        assert validator.validate(one.url, MultiDict(one.form), signature), one
        assert one["AccountSid"] == PROJECT and re.fullmatch(r"[0-9a-f-]{36}", one["CallSid"])


def test_queues_applications_and_numbers_are_the_projects_own(api, server):
    queue = api("POST", "/Queues", FriendlyName=f"line {uuid.uuid4()}").json()
    assert api("GET", f"/Queues/{queue['sid']}").json()["friendly_name"] == queue["friendly_name"]
    made = api("POST", "/Applications", FriendlyName="menu", VoiceUrl="https://app.example/voice").json()
    assert api("DELETE", f"/Applications/{made['sid']}").status_code == 204
    numbers = api("GET", "/IncomingPhoneNumbers").json()["incoming_phone_numbers"]
    assert [one["phone_number"] for one in numbers] == [NUMBER]
    twilio = f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Queues.json"
    others = requests.get(twilio, auth=(server.account_sid, server.auth_token), timeout=10).json()
    assert queue["friendly_name"] not in [one["friendly_name"] for one in others["queues"]]


def test_wrong_credentials_and_what_the_api_does_not_have_are_refused(api, server):
    for credentials in [(PROJECT, "wrong"), (server.account_sid, server.auth_token)]:
        assert api("GET", "/Calls", credentials=credentials).status_code == 401
    assert api("GET", "/SIP/Domains").status_code == 404
    assert api("GET", f"/Calls/{uuid.uuid4()}").json()["code"] == 20404


@pytest.mark.parametrize("path", ["/api/relay/rest/phone_numbers", "/api/fabric"])
def test_the_newer_apis_say_that_they_are_not_there_yet(server, path):
    answer = requests.post(server.http + path, json={}, timeout=10)
    assert answer.status_code == 404 and path in answer.json()["errors"][0]["message"]
