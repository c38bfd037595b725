"""SIP endpoints of SignalWire's project REST: made by JSON, and used by phones that register and call."""

import uuid

import pytest
import requests

from harness.phone import callee, domain_caller, free_port, registering
from harness.signalwire import NUMBER, PROJECT, TOKEN, space
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(
        space(module_webapp.url + "/voice")
        # With a trunk, who is on this machine may not call as a stranger.
        + '[[trunks]]\nname = "far"\naccount = "space"\nuri = "sip:192.0.2.1"\ninbound_from = ["192.0.2.1/32"]\nprefixes = ["+999"]\n'
        '[[endpoints]]\naccount = "space"\nusername = "desk"\npassword = "configured-password"\n'
    )


@pytest.fixture
def api(server):
    def ask(method, path="", credentials=(PROJECT, TOKEN), **body):
        url = f"{server.http}/api/relay/rest/endpoints/sip{path}"
        return requests.request(method, url, auth=credentials, json=body or None, timeout=10)

    return ask


@pytest.fixture
def app(module_webapp):
    module_webapp.forget()
    for path in ("/voice", "/phone"):
        module_webapp.on(path, ("<Response><Hangup/></Response>", 200, {"Content-Type": "text/xml"}))
    return module_webapp


def test_a_created_endpoint_registers_is_called_and_its_calls_reach_its_application(server, api, app, phone):
    name, password = f"u{uuid.uuid4().hex[:8]}", "a-long-password"
    made = api("POST", username=name, password=password, call_handler="laml_webhooks", call_request_url=app.url + "/phone")
    assert made.status_code == 201, made.text
    one = made.json()
    assert one["type"] == "sip_endpoint" and one["username"] == name and "password" not in one
    assert api("GET", "/" + one["id"]).json() == one

    host, port = server.sip.rsplit(":", 1)[0], free_port()
    phone(registering(name, "another-password", host, reject=403), target=server.sip).finish()
    phone(registering(name, password, host), target=server.sip, port=port).finish()
    answering = phone(callee(), port=port)
    calls = f"{server.http}/api/laml/2010-04-01/Accounts/{PROJECT}/Calls.json"
    call = {"To": f"client:{name}", "From": NUMBER, "Laml": "<Response><Hangup/></Response>"}
    assert requests.post(calls, data=call, auth=(PROJECT, TOKEN), timeout=10).status_code == 201
    answering.finish()

    phone(domain_caller("100", host, name, password, ends="wait"), target=server.sip).finish()
    (told,) = app.wait("/phone")
    assert told["To"] == "100" and told["AccountSid"] == PROJECT

    # Another handler holds for the next call; a phone without it calls the project's own numbers.
    changed = api("PUT", "/" + one["id"], call_handler="passthrough", caller_id=NUMBER)
    assert changed.status_code == 200 and changed.json()["caller_id"] == NUMBER
    phone(domain_caller(NUMBER, host, name, password, ends="wait"), target=server.sip).finish()
    wait_for("the number's application", lambda: app.to("/voice"))
    assert api("DELETE", "/" + one["id"]).status_code == 204
    assert api("GET", "/" + one["id"]).status_code == 404
    phone(registering(name, password, host, reject=403), target=server.sip).finish()


def test_an_invalid_endpoint_is_refused_and_list_pages_have_links(api):
    def refused(status, **wanted):
        answer = api("POST", **wanted)
        assert answer.status_code == status, answer.text
        (error,) = answer.json()["errors"]
        return error["code"]

    assert refused(422, username="x1") == "missing_required_parameter"
    assert refused(422, username="a b", password="long-enough") == "invalid_parameter"
    assert refused(422, username="desk", password="long-enough") == "value_taken"
    assert refused(422, username="x1", password="long-enough", call_handler="video_room") == "invalid_parameter"
    assert refused(422, username="x1", password="long-enough", call_handler="laml_webhooks") == "missing_required_parameter"
    assert api("GET", credentials=(PROJECT, "wrong")).status_code == 401

    for one in api("GET").json()["data"]:
        assert api("DELETE", "/" + one["id"]).status_code == 204
    made = [api("POST", username=f"page{number}", password="long-enough").json()["id"] for number in range(3)]
    assert api("POST", username="PAGE1", password="long-enough").json()["errors"][0]["code"] == "value_taken"
    first = api("GET", "?page_size=2").json()
    assert [one["id"] for one in first["data"]] == made[:0:-1] and "prev" not in first["links"]
    second = api("GET", first["links"]["next"].removeprefix("/api/relay/rest/endpoints/sip")).json()
    assert [one["id"] for one in second["data"]] == made[:1] and "next" not in second["links"]
