"""SIP connections and telephony credentials by telnyx-python: phones register with them, numbers ring them, PBXs call by them, and
all of it holds after a restart."""

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta, timezone

import pytest
import telnyx

from harness.party import Party
from harness.phone import callee, caller, domain_caller, free_port, registering, until_told
from harness.resources import carrier, table
from harness.rtp import tone
from harness.telnyx_app import CONNECTION, NUMBER, serve
from harness.waiting import wait_for

CARRIER = free_port()
# With a trunk, who is on this machine may not call as a stranger.
TRUNK = carrier(CARRIER, "+1666", inbound_from=["127.0.0.9/32"])
# With a phone, everybody is asked for a password.
TRUNK += table("endpoints", account="acme", username="desk", password="configured-password")
PASSWORD = "a-long-password"


class Account:
    """The SDK's client of a server, and what these tests do with it."""

    def __init__(self, server, phone, rtp):
        self.server, self.app, self.client = server, server.telnyx_app, server.telnyx_app.client
        self.phone, self.rtp, self.host = phone, rtp, server.sip.rsplit(":", 1)[0]

    def credential_connection(self, user_name, **more):
        made = self.client.credential_connections.create(
            connection_name=user_name, user_name=user_name, password=PASSWORD, **more
        )
        return made.data.id

    def registers(self, username, password, reject=None, port=None):
        scenario = registering(username, password, self.host, reject=reject)
        self.phone(scenario, target=self.server.sip, port=port or free_port()).finish()

    def answers(self, port, **more):
        return Party(self.phone, self.rtp, callee(until_told(), ends="bye", **more), port=port)

    def calls(self, number, username=None, password=PASSWORD, steps="", ends="wait", reject=None):
        """Somebody who calls a number: with a user name, or from the address alone."""
        scenario = domain_caller(number, self.host, username, password, steps, ends, reject)
        if reject:
            return self.phone(scenario, target=self.server.sip).finish()
        return Party(self.phone, self.rtp, scenario, target=self.server.sip)

    def talk(self, calling, called):
        """The called one is heard, and then hangs up."""
        with called.says(tone(800, 0.5)):
            calling.hears(800)
        called.hang_up()
        calling.phone.finish()

    def lead(self, connection):
        """Has the number lead to a connection."""
        [number] = self.client.phone_numbers.list(filter={"phone_number": NUMBER}).data
        assert self.client.phone_numbers.update(number.id, connection_id=connection).data.connection_id == connection


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp, TRUNK)


@pytest.fixture
def account(server, phone, rtp):
    account = Account(server, phone, rtp)
    yield account
    account.lead(CONNECTION)


def test_a_phone_registers_with_created_credentials_and_is_called(account):
    credentials = account.client.telephony_credentials
    connection = account.credential_connection("office1")
    made = credentials.create(connection_id=connection, name="agent").data
    assert made.sip_username.startswith("gencred") and made.resource_id == f"connection:{connection}" and not made.expired
    assert credentials.retrieve(made.id).data == made
    assert [one.id for one in credentials.list(filter={"sip_username": made.sip_username}).data] == [made.id]
    port = free_port()
    account.registers(made.sip_username, "another-password", reject=403)
    account.registers(made.sip_username, made.sip_password, port=port)
    called = account.answers(port)
    to = f"sip:{made.sip_username}@{account.server.sip}"
    leg = account.client.calls.dial(connection_id=CONNECTION, to=to, from_=NUMBER).data.call_control_id
    account.app.wait("call.answered", leg)
    account.app.actions.speak(leg, payload="Hello there.", voice="female")
    account.app.wait("call.speak.ended", leg, status="completed")
    called.hang_up()
    account.app.wait("call.hangup", leg)
    assert credentials.update(made.id, name="other").data.name == "other"
    credentials.delete(made.id)
    account.registers(made.sip_username, made.sip_password, reject=403)
    with pytest.raises(telnyx.NotFoundError):
        credentials.retrieve(made.id)


def test_credentials_have_an_expiry_a_connection_and_a_token(account):
    credentials = account.client.telephony_credentials
    connection = account.credential_connection("office2")
    past = (datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat()
    over = credentials.create(connection_id=connection, expires_at=past).data
    assert over.expired
    account.registers(over.sip_username, over.sip_password, reject=403)
    with pytest.raises(telnyx.UnprocessableEntityError, match="10015"):
        credentials.create(connection_id=CONNECTION)
    # Below a connection they go with it.
    made = credentials.create(connection_id=connection).data
    token = credentials.create_token(made.id)
    head, claims, signature = token.split(".")
    padded = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    signed = hmac.new(made.sip_password.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    assert padded(signature) == signed
    claims = json.loads(padded(claims))
    assert claims["sub"] == made.id and claims["exp"] - claims["iat"] == 86_400
    account.client.credential_connections.delete(connection)
    with pytest.raises(telnyx.NotFoundError):
        credentials.retrieve(made.id)


def test_a_number_rings_the_phone_of_its_connection(account):
    connections = account.client.credential_connections
    connection = account.credential_connection("office3")
    status = connections.actions.check_registration_status(connection).data
    assert (status.status, status.sip_username) == ("Not Registered", "office3")
    port = free_port()
    account.registers("office3", PASSWORD, port=port)
    status = connections.actions.check_registration_status(connection).data
    assert (status.status, status.ip_address, status.port, status.transport) == ("Registered", "127.0.0.1", port, "UDP")
    account.lead(connection)
    with pytest.raises(telnyx.UnprocessableEntityError, match="10021"):
        connections.delete(connection)
    other = account.client.telephony_credentials.create(connection_id=connection).data
    called = account.answers(port)
    account.talk(account.calls(NUMBER, other.sip_username, other.sip_password), called)

    connections.update(connection, user_name="office4", password="another-password", active=True)
    account.registers("office3", PASSWORD, reject=403)
    account.registers("office4", "another-password")
    connections.update(connection, active=False)
    account.registers("office4", "another-password", reject=403)


def test_a_phone_calls_over_trunks_within_the_limits_of_its_connection(account):
    profile = account.client.outbound_voice_profiles.create(name="standard", whitelisted_destinations=["DE"]).data.id
    connection = account.credential_connection(
        "office5", outbound={"outbound_voice_profile_id": profile, "channel_limit": 1, "ani_override": NUMBER}
    )
    assert account.client.outbound_voice_profiles.retrieve(profile).data.connections_count == 1
    to = "+16665550001"
    account.calls(to, "office5", reject=403)
    account.client.outbound_voice_profiles.update(profile, name="standard", whitelisted_destinations=["US"])
    called = account.answers(CARRIER)
    calling = account.calls(to, "office5")
    with called.says(tone(800, 0.5)):
        calling.hears(800)
    account.calls(to, "office5", reject=486)
    called.hang_up()
    calling.phone.finish()
    assert f"From: <sip:{NUMBER}@" in called.phone.messages()


def test_a_pbx_is_called_at_its_fqdn_and_calls_with_its_password(account):
    port = free_port()
    connections, fqdns = account.client.fqdn_connections, account.client.fqdns
    made = connections.create(connection_name="pbx", extra_body={"user_name": "pbxone", "password": PASSWORD}).data
    assert made.record_type == "fqdn_connection" and made.active
    host = fqdns.create(connection_id=made.id, fqdn="localhost", dns_record_type="a", port=9).data
    assert (host.fqdn, host.port, host.connection_id) == ("localhost", 9, made.id)
    assert fqdns.update(host.id, port=port).data.port == port
    assert [one.id for one in fqdns.list(filter={"connection_id": made.id}).data] == [host.id]
    account.lead(made.id)
    caller_id = account.client.telephony_credentials.create(connection_id=account.credential_connection("office6")).data
    called = account.answers(port)
    account.talk(account.calls(NUMBER, caller_id.sip_username, caller_id.sip_password), called)

    called = account.answers(CARRIER)
    account.talk(account.calls("+16665550001", "pbxone"), called)
    connections.update(made.id, active=False)
    account.calls("+16665550001", "pbxone", reject=403)
    account.calls(NUMBER, caller_id.sip_username, caller_id.sip_password, reject=404)
    account.lead(CONNECTION)
    assert connections.delete(made.id).data.id == made.id
    with pytest.raises(telnyx.NotFoundError):
        fqdns.retrieve(host.id)


def test_a_pbx_is_identified_and_called_by_its_ip_address(account):
    account.phone(caller("+16665550001", reject=401), target=account.server.sip).finish()
    port = free_port()
    connections, ips = account.client.ip_connections, account.client.ips
    made = connections.create(connection_name="address", outbound={"channel_limit": 0}).data
    one = ips.create(connection_id=made.id, ip_address="127.0.0.1", port=port).data
    with pytest.raises(telnyx.UnprocessableEntityError, match="10012"):
        ips.create(connection_id=made.id, ip_address="127.0.0.1", port=9)
    account.phone(caller("+16665550001", reject=486), target=account.server.sip).finish()
    connections.update(made.id, outbound={"channel_limit": 1})
    called = account.answers(CARRIER)
    account.talk(account.calls("+16665550001"), called)
    account.lead(made.id)
    called = account.answers(port)
    account.talk(account.calls(NUMBER), called)
    account.lead(CONNECTION)
    listed = {row.id: row.record_type for row in account.client.connections.list().data}
    assert listed[made.id] == "ip_connection" and listed[CONNECTION] == "call_control_application"
    assert account.client.connections.retrieve(made.id).data.connection_name == "address"
    ips.delete(one.id)
    account.phone(caller("+16665550001", reject=401), target=account.server.sip).finish()
    connections.delete(made.id)


def test_connections_survive_a_restart(start_tandem, module_webapp, phone, rtp):
    for server in serve(start_tandem, module_webapp, TRUNK):
        account = Account(server, phone, rtp)
        connection = account.credential_connection("office7")
        made = account.client.telephony_credentials.create(connection_id=connection).data
        account.lead(connection)
        server.stop()
        for again in serve(start_tandem, module_webapp, TRUNK, at=server.data):
            account = Account(again, phone, rtp)
            assert account.client.telephony_credentials.retrieve(made.id).data == made
            port = free_port()
            account.registers("office7", PASSWORD, port=port)
            called = account.answers(port)
            account.talk(account.calls(NUMBER, made.sip_username, made.sip_password), called)
            ended = lambda: "Registered" == account.client.credential_connections.actions.check_registration_status(connection).data.status
            wait_for("the registration", ended)
