"""An account's numbers by telnyx-python: moved to another application, forwarded, and so after a restart."""

import pytest
import telnyx

from harness.party import Party
from harness.phone import callee, caller, free_port, until_told
from harness.resources import carrier
from harness.rtp import tone
from harness.telnyx_app import CONNECTION, NUMBER, TelnyxApp, serve
from twilio_app import client

TAKEN = "+15557770001"
CARRIER = free_port()
TRUNK = carrier(CARRIER, "+1666")


class Other(TelnyxApp):
    """Another application."""

    PATH = "/other"


@pytest.fixture(scope="module")
def other(module_webapp):
    return Other(module_webapp)


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, other):
    for server in serve(start_tandem, module_webapp, TRUNK):
        other.client = server.telnyx_app.client
        yield server


@pytest.fixture
def numbers(server):
    return server.telnyx_app.client.phone_numbers


@pytest.fixture
def made(server, other):
    """The id of an application that the account has made."""
    return make(server, other)


def make(server, other, **more):
    applications = server.telnyx_app.client.call_control_applications
    return applications.create(application_name="other", webhook_event_url=other.url, **more).data.id


def id_of(server, number):
    [found] = server.telnyx_app.client.phone_numbers.list(filter={"phone_number": number}).data
    return found.id


@pytest.fixture
def calls(phone, rtp):
    """Somebody calls a number, is answered by an application, and hangs up."""

    def call(server, app, number, connection):
        known = sum(one["event_type"] == "call.initiated" and one["payload"]["to"] == number for one in app.events())
        party = Party(phone, rtp, caller(number, until_told()), target=server.sip)
        initiated = app.wait("call.initiated", to=number, count=known + 1)
        assert initiated["connection_id"] == connection
        server.telnyx_app.client.calls.actions.answer(initiated["call_control_id"])
        app.wait("call.answered", initiated["call_control_id"])
        party.rtp.play(tone(440, 0.3))
        party.hang_up()
        app.wait("call.hangup", initiated["call_control_id"])
        return initiated["call_control_id"]

    return call


def test_a_number_reaches_its_new_application_on_the_next_call(server, numbers, made, other, calls):
    number = id_of(server, NUMBER)
    shown = numbers.retrieve(number).data
    assert (shown.phone_number, shown.connection_id, shown.status) == (NUMBER, CONNECTION, "active")
    calls(server, server.telnyx_app, NUMBER, CONNECTION)
    moved = numbers.update(number, connection_id=made, tags=["moved"], customer_reference="desk 1").data
    assert (moved.connection_id, moved.connection_name, moved.tags) == (made, "other", ["moved"])
    calls(server, other, NUMBER, made)
    with pytest.raises(telnyx.UnprocessableEntityError, match="10021"):
        server.telnyx_app.client.call_control_applications.delete(made)
    assert [one.id for one in numbers.list(filter={"connection_id": made}).data] == [number]
    assert [one.id for one in numbers.list(filter={"customer_reference": "desk 1"}).data] == [number]
    # The file's number goes back to what the file says.
    assert numbers.update(number, connection_id="").data.connection_id == CONNECTION
    calls(server, server.telnyx_app, NUMBER, CONNECTION)
    server.telnyx_app.client.call_control_applications.delete(made)


def test_a_purchased_number_is_unreachable_without_a_connection_and_can_be_deleted(server, numbers, made, other, calls, phone):
    client(server).incoming_phone_numbers.create(phone_number=TAKEN)
    number = id_of(server, TAKEN)
    assert numbers.retrieve(number).data.connection_id is None
    phone(caller(TAKEN, reject=404), target=server.sip).finish()
    numbers.update(number, connection_id=made)
    calls(server, other, TAKEN, made)
    with pytest.raises(telnyx.UnprocessableEntityError, match="10015"):
        numbers.update(number, connection_id="1234567890123456789")
    assert numbers.delete(number).data.status == "deleted"
    with pytest.raises(telnyx.NotFoundError):
        numbers.retrieve(number)
    with pytest.raises(telnyx.PermissionDeniedError, match="configuration file"):
        numbers.delete(id_of(server, NUMBER))


def test_a_forwarded_number_reaches_no_application(server, numbers, phone, rtp):
    number = id_of(server, NUMBER)
    forwarding = {"forwards_to": "+16665550001", "forwarding_type": "always"}
    voice = numbers.voice.update(number, call_forwarding=forwarding).data
    assert voice.call_forwarding.forwards_to == "+16665550001" and voice.phone_number == NUMBER
    assert numbers.retrieve(number).data.call_forwarding_enabled is True
    before = len(server.telnyx_app.events())
    called = Party(phone, rtp, callee(until_told(), ends="bye"), port=CARRIER)
    calling = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    with called.says(tone(800, 0.5)):
        calling.hears(800)
    called.hang_up()
    calling.phone.finish()
    assert len(server.telnyx_app.events()) == before
    numbers.voice.update(number, call_forwarding={"call_forwarding_enabled": False})
    assert numbers.voice.retrieve(number).data.call_forwarding.forwards_to == "+16665550001"
    assert numbers.voice.list(filter={"phone_number": NUMBER}).data[0].call_forwarding.call_forwarding_enabled is False
    with pytest.raises(telnyx.UnprocessableEntityError, match="10038"):
        numbers.voice.update(number, call_forwarding={"forwarding_type": "on-failure"})
    with pytest.raises(telnyx.UnprocessableEntityError, match="10016"):
        numbers.voice.update(number, call_forwarding={"forwards_to": "nobody"})


def test_a_number_with_call_recording_records_from_the_answer(server, numbers, calls):
    number = id_of(server, NUMBER)
    recording = {"inbound_call_recording_enabled": True, "inbound_call_recording_channels": "dual"}
    numbers.voice.update(number, call_recording=recording)
    assert numbers.retrieve(number).data.call_recording_enabled
    app = server.telnyx_app
    leg = calls(server, app, NUMBER, CONNECTION)
    saved = app.wait("call.recording.saved", leg)
    assert (saved["channels"], saved["format"]) == ("dual", "wav") and "wav" in saved["recording_urls"]
    numbers.voice.update(number, call_recording={"inbound_call_recording_enabled": False})
    assert numbers.retrieve(number).data.call_recording_enabled is False


def test_a_call_without_a_first_command_in_time_is_ended(server, numbers, other, phone, rtp):
    connection = make(server, other, first_command_timeout=True, first_command_timeout_secs=1)
    number = id_of(server, NUMBER)
    numbers.update(number, connection_id=connection)
    party = Party(phone, rtp, caller(NUMBER, reject=480), target=server.sip)
    leg = other.wait("call.initiated", connection_id=connection)["call_control_id"]
    assert other.wait("call.hangup", leg)["hangup_cause"] == "timeout"
    party.phone.finish()
    numbers.update(number, connection_id="")


def test_a_number_keeps_its_connection_after_a_restart(start_tandem, module_webapp, other, calls):
    for server in serve(start_tandem, module_webapp):
        other.client = server.telnyx_app.client
        made = make(server, other)
        number = id_of(server, NUMBER)
        server.telnyx_app.client.phone_numbers.update(number, connection_id=made)
        server.stop()
        for again in serve(start_tandem, module_webapp, at=server.data):
            other.client = again.telnyx_app.client
            assert again.telnyx_app.client.phone_numbers.retrieve(number).data.connection_id == made
            calls(again, other, NUMBER, made)
