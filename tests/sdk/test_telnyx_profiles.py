"""Limits by telnyx-python: outbound voice profiles and channel limits refuse calls, and do so after a restart."""

import pytest
import telnyx

from harness.party import Party
from harness.phone import callee, caller, free_port, until_told
from harness.resources import carrier
from harness.telnyx_app import CONNECTION, NUMBER, serve

TRUNK = carrier(free_port())


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp, TRUNK)


class Account:
    """The SDK's client of a server, and what these tests do with it."""

    def __init__(self, server, phone, rtp):
        self.app, self.client = server.telnyx_app, server.telnyx_app.client
        self.phone, self.rtp, self.server = phone, rtp, server

    def profile(self, **more):
        return self.client.outbound_voice_profiles.create(name="standard", **more).data.id

    def application(self, profile=None, outbound=None, **more):
        """The id of an application with these limits; its webhooks come to the one of the configuration."""
        made = self.client.call_control_applications.create(
            application_name="limited",
            webhook_event_url=self.app.url,
            outbound=({"outbound_voice_profile_id": profile} if profile else {}) | (outbound or {}),
            **more,
        )
        return made.data.id

    def calls(self, connection, to=None):
        """A call to a phone that answers: the call's id and the phone."""
        party = Party(self.phone, self.rtp, callee(until_told(), ends="bye"))
        leg = self.dial(connection, to or party.uri)
        self.app.wait("call.answered", leg)
        return leg, party

    def dial(self, connection, to="sip:nobody@127.0.0.1:9"):
        return self.client.calls.dial(connection_id=connection, to=to, from_=NUMBER).data.call_control_id

    def ends(self, leg, party):
        party.hang_up()
        self.app.wait("call.hangup", leg)


@pytest.fixture
def account(server, phone, rtp):
    return Account(server, phone, rtp)


def test_outbound_profiles_are_created_listed_updated_and_deleted(account):
    profiles = account.client.outbound_voice_profiles
    one = profiles.create(name="Office calls", concurrent_call_limit=5, tags=["a"]).data
    assert len(one.id) == 19 and (one.enabled, one.whitelisted_destinations) == (True, ["US", "CA"])
    assert (one.concurrent_call_limit, one.connections_count, one.traffic_type) == (5, 0, "conversational")
    connection = account.application(one.id)
    changed = profiles.update(one.id, name="Office", whitelisted_destinations=["de"]).data
    assert (changed.name, changed.whitelisted_destinations, changed.connections_count) == ("Office", ["de"], 1)
    assert [row.id for row in profiles.list(filter={"name": {"contains": "off"}}).data] == [one.id]
    with pytest.raises(telnyx.UnprocessableEntityError, match="10021"):
        profiles.delete(one.id)
    account.client.call_control_applications.delete(connection)
    assert profiles.delete(one.id).data.id == one.id
    with pytest.raises(telnyx.NotFoundError):
        profiles.retrieve(one.id)
    with pytest.raises(telnyx.UnprocessableEntityError, match="10025"):
        profiles.create(name="ab")
    with pytest.raises(telnyx.UnprocessableEntityError, match="10015"):
        profiles.create(name="abc", whitelisted_destinations=["Germany"])
    with pytest.raises(telnyx.UnprocessableEntityError, match="10006"):
        account.application(one.id)


def test_an_outbound_profile_limits_the_destination_countries_or_all_calls(account):
    profile = account.profile(whitelisted_destinations=["DE"])
    connection = account.application(profile)
    with pytest.raises(telnyx.PermissionDeniedError, match="whitelisted"):
        account.dial(connection, "+14155550100")
    account.dial(connection, "+4930123456")
    account.dial(connection)
    account.client.outbound_voice_profiles.update(profile, name="standard", enabled=False)
    with pytest.raises(telnyx.PermissionDeniedError, match="disabled"):
        account.dial(connection)


def test_the_concurrent_calls_of_an_outbound_profile_are_limited(account):
    profile = account.profile(concurrent_call_limit=1)
    one, other = account.application(profile), account.application(profile)
    first = account.calls(one)
    with pytest.raises(telnyx.UnprocessableEntityError, match="90042"):
        account.dial(other)
    # A transfer is a call, too: it fails, and the call that was to be transferred lives on.
    account.app.actions.transfer(first[0], to="sip:nobody@127.0.0.1:9")
    new = account.app.wait("call.initiated", to="sip:nobody@127.0.0.1:9", connection_id=one)["call_control_id"]
    assert account.app.wait("call.hangup", new)["hangup_cause"] != "normal_clearing"
    assert account.client.calls.retrieve_status(first[0]).data.is_alive
    account.ends(*first)
    account.ends(*account.calls(other))


def test_the_concurrent_calls_of_a_connection_are_limited_in_each_direction(account, phone, rtp):
    connection = account.application(outbound={"channel_limit": 1}, inbound={"channel_limit": 1})
    first = account.calls(connection)
    with pytest.raises(telnyx.UnprocessableEntityError, match="90043"):
        account.dial(connection)
    account.ends(*first)
    [number] = account.client.phone_numbers.list(filter={"phone_number": NUMBER}).data
    account.client.phone_numbers.update(number.id, connection_id=connection)
    caller_one = Party(phone, rtp, caller(NUMBER, until_told()), target=account.server.sip)
    leg = account.app.wait("call.initiated", connection_id=connection, direction="incoming")["call_control_id"]
    account.app.actions.answer(leg)
    account.app.wait("call.answered", leg)
    phone(caller(NUMBER, reject=486), target=account.server.sip).finish()
    caller_one.hang_up()
    account.app.wait("call.hangup", leg)
    again = Party(phone, rtp, caller(NUMBER, ends="cancel"), target=account.server.sip)
    account.app.wait("call.initiated", connection_id=connection, direction="incoming", count=2)
    again.phone.finish()
    account.client.phone_numbers.update(number.id, connection_id=CONNECTION)


def test_limits_survive_a_restart(start_tandem, module_webapp, phone, rtp):
    for server in serve(start_tandem, module_webapp, TRUNK):
        account = Account(server, phone, rtp)
        connection = account.application(account.profile(concurrent_call_limit=0))
        server.stop()
        for again in serve(start_tandem, module_webapp, TRUNK, at=server.data):
            with pytest.raises(telnyx.UnprocessableEntityError, match="90042"):
                Account(again, phone, rtp).dial(connection)
