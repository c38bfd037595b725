"""What the debugger and Voice Insights say of calls: by the SDK as it is, behind `tandem proxy`, and by the provider's own
command-line program where it is installed (TWILIO_CLI names it: `npm install twilio-cli`)."""

import json
import os
import subprocess

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from harness.proxy import Proxy
from harness.skips import OPTIONAL
from harness.waiting import wait_for
from twilio_app import answering, ended, number

ROBOT, DESK = "+15551230001", "+15551230002"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(number(ROBOT, module_webapp, "/robot") + number(DESK, module_webapp, "/desk"))


@pytest.fixture(scope="module")
def proxy(server):
    one = Proxy(server)
    yield one
    one.stop()


@pytest.fixture
def sdk(server, proxy, monkeypatch):
    """The SDK's client with nothing but two variables."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.bundle))
    return Client(server.account_sid, server.auth_token)


@pytest.fixture
def called(app, sdk):
    """A call between two numbers of the server, of which the called one has no document."""
    app.on("/desk", ("not here", 404))
    document = '<Response><Pause length="2"/></Response>'
    call = sdk.calls.create(to=DESK, from_=ROBOT, twiml=document)
    ended(sdk, call.sid)
    (inbound,) = [one for one in sdk.calls.list(to=DESK, limit=2) if one.direction == "inbound"]
    wait_for("the alert", lambda: [one for one in sdk.monitor.alerts.list() if one.resource_sid == inbound.sid])
    return call, inbound


def test_the_debugger_lists_errors_with_their_requests(sdk, called, app):
    _, inbound = called
    (alert,) = [one for one in sdk.monitor.alerts.list() if one.resource_sid == inbound.sid]
    assert (alert.error_code, alert.log_level, alert.request_url) == ("11200", "error", app.url + "/desk")
    assert "404" in alert.alert_text and alert.date_generated == alert.date_created is not None
    whole = sdk.monitor.alerts(alert.sid).fetch()
    assert whole.response_body == "not here" and inbound.sid in whole.request_variables
    assert alert.sid in [one.sid for one in sdk.monitor.alerts.list(log_level="error")]
    assert sdk.monitor.alerts.list(log_level="notice") == []
    assert sdk.monitor.alerts.list(start_date=alert.date_created.replace(year=2100)) == []
    assert sdk.monitor.events.list() == []
    for asked in (sdk.monitor.alerts("NO" + "0" * 32), sdk.insights.v1.calls("CA" + "0" * 32)):
        with pytest.raises(TwilioRestException) as refused:
            asked.fetch()
        assert refused.value.status == 404


def test_insights_describe_a_call_and_its_audio(sdk, app, called):
    def desk(document):
        document.pause(length=1)
        document.say("good morning to all of you")

    answering(app, "/desk", desk)
    call = sdk.calls.create(to=DESK, from_=ROBOT, twiml='<Response><Say>hello there</Say><Pause length="1"/></Response>')
    ended(sdk, call.sid)
    about = sdk.insights.v1.calls(call.sid)
    assert about.fetch().sid == call.sid
    measured = lambda: about.summary().fetch().carrier_edge["metrics"]
    wait_for("the figures", measured)
    summary = about.summary().fetch()
    assert (summary.call_state, summary.processing_state, summary.call_type) == ("completed", "complete", "carrier")
    assert summary.properties["direction"] == "outbound" and summary.duration >= summary.connect_duration
    assert summary._from["caller"] == ROBOT and summary.to["callee"] == DESK
    (metric,) = about.metrics.list()
    assert metric.carrier_edge["metrics"]["outbound"]["packets_sent"] > 0
    names = [one.name for one in about.events.list()]
    assert names[:2] == ["initiated", "ringing"] and "answered" in names
    assert about.events.list(limit=1, page_size=1)[0].name == "initiated"
    assert call.sid in [one.call_sid for one in sdk.insights.v1.call_summaries.list(limit=10)]


def cli(server, proxy, tmp_path, *words):
    environment = {
        **os.environ,
        "HTTPS_PROXY": proxy.url,
        "HTTP_PROXY": proxy.url,
        "NODE_EXTRA_CA_CERTS": str(proxy.ca),
        "TWILIO_ACCOUNT_SID": server.account_sid,
        "TWILIO_AUTH_TOKEN": server.auth_token,
        "HOME": str(tmp_path),
    }
    command = [os.environ["TWILIO_CLI"], *words, "-o", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "[]")


@pytest.mark.skipif("TWILIO_CLI" not in os.environ, reason=f"{OPTIONAL}TWILIO_CLI does not name Twilio's program")
def test_the_twilio_cli_lists_calls_numbers_recordings_and_alerts(server, proxy, sdk, called, tmp_path):
    call, inbound = called
    calls = cli(server, proxy, tmp_path, "api:core:calls:list", "--to", DESK)
    assert {call.sid, inbound.sid} <= {one["sid"] for one in calls}
    numbers = cli(server, proxy, tmp_path, "phone-numbers:list")
    assert {one["phoneNumber"] for one in numbers} >= {ROBOT, DESK}
    assert cli(server, proxy, tmp_path, "api:core:recordings:list") == []
    alerts = cli(server, proxy, tmp_path, "debugger:logs:list")
    assert inbound.sid in {one["resourceSid"] for one in alerts}
