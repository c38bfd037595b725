"""Call Control applications that an account makes by telnyx-python: they make and receive calls as those of the configuration do."""

import pytest
import telnyx

from harness.party import Party
from harness.phone import callee, until_told
from harness.telnyx_app import CONNECTION, NUMBER, TelnyxApp, serve


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp)


@pytest.fixture
def applications(server):
    return server.telnyx_app.client.call_control_applications


def test_applications_are_created_listed_updated_and_deleted(applications, server):
    made = applications.create(
        application_name="Sales desk",
        webhook_event_url="http://127.0.0.1:9/one",
        webhook_timeout_secs=5,
        inbound={"channel_limit": 10},
        first_command_timeout=True,
    ).data
    assert len(made.id) == 19 and made.id.isdigit() and made.record_type == "call_control_application"
    assert (made.active, made.inbound.channel_limit, made.first_command_timeout_secs) == (True, 10, 30)
    assert (made.webhook_api_version, made.dtmf_type, made.outbound.channel_limit) == ("2", "RFC 2833", None)
    changed = applications.update(
        made.id, application_name="Sales", webhook_event_url="http://127.0.0.1:9/two", tags=["a"], active=False
    ).data
    assert (changed.application_name, changed.webhook_event_url) == ("Sales", "http://127.0.0.1:9/two")
    assert (changed.tags, changed.active, changed.inbound.channel_limit, changed.webhook_timeout_secs) == (["a"], False, 10, 5)
    assert applications.retrieve(made.id).data == changed
    # The one of the configuration is listed, too.
    assert {one.id for one in applications.list().data} == {made.id, CONNECTION}
    assert [one.id for one in applications.list(filter={"application_name": {"contains": "sal"}}).data] == [made.id]
    assert applications.delete(made.id).data.id == made.id
    with pytest.raises(telnyx.NotFoundError, match="10005"):
        applications.retrieve(made.id)


def test_an_invalid_application_is_refused(applications):
    url = "http://127.0.0.1:9/"
    with pytest.raises(telnyx.UnprocessableEntityError, match="10004"):
        applications.create(application_name="", webhook_event_url=url)
    with pytest.raises(telnyx.UnprocessableEntityError, match="10003"):
        applications.create(application_name="a", webhook_event_url="nowhere")
    with pytest.raises(telnyx.UnprocessableEntityError, match="10038"):
        applications.create(application_name="a", webhook_event_url=url, webhook_api_version="1")
    shown = applications.retrieve(CONNECTION).data
    assert (shown.id, shown.application_name) == (CONNECTION, CONNECTION)
    with pytest.raises(telnyx.PermissionDeniedError, match="configuration file"):
        applications.update(CONNECTION, application_name="a", webhook_event_url=url)
    with pytest.raises(telnyx.PermissionDeniedError, match="configuration file"):
        applications.delete(CONNECTION)


def test_a_created_application_works_after_a_restart(start_tandem, module_webapp, phone, rtp):
    def call(server, connection):
        party = Party(phone, rtp, callee(until_told(), ends="bye"))
        made = server.telnyx_app.client.calls.dial(connection_id=connection, to=party.uri, from_=NUMBER)
        other.client = server.telnyx_app.client
        answered = other.wait("call.answered", made.data.call_control_id)
        assert answered["connection_id"] == connection
        party.hang_up()
        other.wait("call.hangup", made.data.call_control_id)
        assert server.telnyx_app.told(made.data.call_control_id) == []

    class Other(TelnyxApp):
        PATH = "/other"

    other = Other(module_webapp)
    for server in serve(start_tandem, module_webapp):
        applications = server.telnyx_app.client.call_control_applications
        one = applications.create(application_name="other", webhook_event_url=other.url).data.id
        call(server, one)
        server.stop()
        for again in serve(start_tandem, module_webapp, at=server.data):
            call(again, one)
            applications = again.telnyx_app.client.call_control_applications
            applications.update(one, application_name="other", webhook_event_url=other.url, active=False)
            with pytest.raises(telnyx.UnprocessableEntityError, match="10015"):
                again.telnyx_app.client.calls.dial(connection_id=one, to="sip:a@127.0.0.1:9", from_=NUMBER)
    assert not other.refused
