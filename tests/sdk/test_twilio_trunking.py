"""Elastic SIP trunks by twilio-python: made and changed, and calls that go over them in both directions."""

import pytest
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from harness import resources
from harness.phone import callee, domain_caller, free_port, pause, refer
from harness.waiting import wait_for
from twilio_app import client, refused, twiml

PASSWORD = "IWasAtSignal2018"


class Trunking(TwilioHttpClient):
    """The SDK's own HTTP client, with another origin for this API too."""

    def __init__(self, origin):
        super().__init__(timeout=10)
        self.origin = origin
        self.asked = []

    def request(self, method, url, *args, **kwargs):
        self.asked.append(url)
        for name in ("trunking", "api"):
            url = url.replace(f"https://{name}.twilio.com", self.origin, 1)
        assert url.startswith(self.origin), url
        return super().request(method, url, *args, **kwargs)


@pytest.fixture(scope="module")
def carrier():
    """The port of the carrier that the server's trunk calls."""
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, carrier):
    """Its trunk calls `carrier`, which calls in with a password: whoever calls from 127.0.0.1 is asked for one."""
    return start_tandem(
        resources.carrier(carrier, inbound_from=None, inbound_username="carrier", inbound_password="Carrier-1234")
        + '[sip.bans]\nnever = ["127.0.0.0/8"]\n'
    )


@pytest.fixture(scope="module")
def twilio(server):
    return Client(server.account_sid, server.auth_token, http_client=Trunking(server.http))


def test_a_trunk_is_created_updated_listed_and_deleted(server, twilio):
    trunks = twilio.trunking.v1.trunks
    made = trunks.create(
        friendly_name="Office", domain_name="office.pstn.example.com", disaster_recovery_url="http://127.0.0.1:9/x",
        disaster_recovery_method="GET", transfer_mode="sip-only", secure=True, cnam_lookup_enabled=True,
    )
    assert made.sid.startswith("TK") and made.domain_name == "office.pstn.example.com" and made.secure is True
    assert made.recording == {"mode": "do-not-record", "trim": "do-not-trim"} and made.auth_type_set == []
    assert made.transfer_mode == "sip-only" and made.transfer_caller_id == "from-transferee"
    assert made.url == f"{server.http}/v1/Trunks/{made.sid}" and made.links["origination_urls"].startswith(made.url)
    changed = trunks(made.sid).update(friendly_name="New", disaster_recovery_url="", secure=False)
    assert changed.friendly_name == "New" and changed.disaster_recovery_url is None and changed.secure is False
    assert changed.domain_name == made.domain_name and changed.disaster_recovery_method == "GET"
    refused(lambda: trunks.create(domain_name="OFFICE.pstn.example.com"), 400, 21245)
    refused(lambda: trunks.create(domain_name="127.0.0.1"), 400, 21245)
    refused(lambda: trunks.create(transfer_mode="never"), 400, 20001)
    # A trunk's domain is not a SIP domain, and its name nobody else's.
    assert client(server).api.v2010.accounts(server.account_sid).sip.domains.list() == []
    refused(lambda: client(server).api.v2010.accounts(server.account_sid).sip.domains.create("office.pstn.example.com"), 400, 21232)
    others = [trunks.create(friendly_name=str(n)) for n in range(4)]
    assert [one.sid for one in trunks.list(page_size=2)] == [one.sid for one in reversed([made, *others])]
    recording = trunks(made.sid).recordings()
    assert recording.fetch().mode == "do-not-record"
    assert recording.update(mode="record-from-answer-dual").trim == "do-not-trim"
    assert trunks(made.sid).fetch().recording == {"mode": "record-from-answer-dual", "trim": "do-not-trim"}
    for one in [made, *others]:
        assert trunks(one.sid).delete()
    refused(lambda: trunks(made.sid).fetch(), 404, 20404)


def test_origination_urls_and_lists_of_a_trunk_are_created_updated_and_deleted(server, twilio):
    trunk = twilio.trunking.v1.trunks.create(friendly_name="lists")
    one = twilio.trunking.v1.trunks(trunk.sid)
    url = one.origination_urls.create(weight=1, priority=2, enabled=True, friendly_name="a", sip_url="sip:pbx.example.com")
    assert url.sid.startswith("OU") and (url.weight, url.priority, url.enabled) == (1, 2, True)
    assert one.origination_urls(url.sid).update(enabled=False, priority=9).priority == 9
    assert one.origination_urls(url.sid).fetch().enabled is False
    refused(lambda: one.origination_urls.create(1, 1, True, "x", "http://pbx"), 400, 20001)
    assert [each.sid for each in one.origination_urls.list()] == [url.sid]
    sip = client(server).api.v2010.accounts(server.account_sid).sip
    users, office = sip.credential_lists.create(friendly_name="users"), sip.ip_access_control_lists.create(friendly_name="gw")
    for lists, name, of in [
        (one.credentials_lists, "credential_list_sid", users),
        (one.ip_access_control_lists, "ip_access_control_list_sid", office),
    ]:
        made = lists.create(**{name: of.sid})
        assert made.sid == of.sid and made.trunk_sid == trunk.sid and made.friendly_name == of.friendly_name
        refused(lambda lists=lists, name=name, of=of: lists.create(**{name: of.sid}), 400, 20001)
        assert [each.sid for each in lists.list()] == [of.sid]
        assert lists(of.sid).fetch().url.endswith(of.sid)
    assert one.fetch().auth_type_set == ["IP_ACL", "CREDENTIAL_LIST"] and one.fetch().auth_type == "IP_ACL,CREDENTIAL_LIST"
    assert one.credentials_lists(users.sid).delete() and one.origination_urls(url.sid).delete()
    refused(lambda: one.credentials_lists(users.sid).fetch(), 404, 20404)
    twilio.trunking.v1.trunks(trunk.sid).delete()


def test_a_pbx_calls_through_its_trunk_and_is_recorded(server, twilio, carrier, phone):
    trunk = twilio.trunking.v1.trunks.create(friendly_name="pbx", domain_name="pbx.pstn.example.com")
    one = twilio.trunking.v1.trunks(trunk.sid)
    sip = client(server).api.v2010.accounts(server.account_sid).sip
    users = sip.credential_lists.create(friendly_name="pbx")
    sip.credential_lists(users.sid).credentials.create(username="pbx1", password=PASSWORD)
    name, number = trunk.domain_name, "+15557770001"
    # Nobody may call before a list says who.
    phone(domain_caller(number, name, "pbx1", PASSWORD, reject=403), target=server.sip).finish()
    one.credentials_lists.create(credential_list_sid=users.sid)
    one.recordings().update(mode="record-from-answer")
    answering = phone(callee(), port=carrier)
    phone(domain_caller(number, name, "pbx1", PASSWORD, pause(400), ends="bye"), target=server.sip).finish()
    answering.finish()
    assert f"INVITE sip:{number}@127.0.0.1" in answering.messages()
    calls = wait_for("the call's record", lambda: [call for call in twilio.calls.list(to=number) if call.trunk_sid])
    (call,) = [call for call in calls if call.direction.startswith("trunking")]
    assert call.trunk_sid == trunk.sid and call.direction == "trunking-terminating" and call.status == "completed"
    (recording,) = wait_for("its recording", lambda: [
        each for each in twilio.recordings.list(call_sid=call.sid) if each.status == "completed"
    ])
    assert recording.source == "Trunking" and recording.channels == 1
    phone(domain_caller(number, name, "pbx1", "Wrong" + PASSWORD, reject=403), target=server.sip).finish()

    # Its calls are not transferred unless the trunk says so.
    answering = phone(callee(), port=carrier)
    asks = refer(number, name, "pbx1", f"sip:+15557770003@{name}", 403)
    phone(domain_caller(number, name, "pbx1", PASSWORD, asks), target=server.sip).finish()
    answering.finish()

    # By its address alone, once that is what is asked for.
    one.credentials_lists(users.sid).delete()
    office = sip.ip_access_control_lists.create(friendly_name="gw")
    sip.ip_access_control_lists(office.sid).ip_addresses.create(friendly_name="gw", ip_address="127.0.0.1")
    one.ip_access_control_lists.create(ip_access_control_list_sid=office.sid)
    one.recordings().update(mode="do-not-record")
    busy = phone(callee(reject="486 Busy Here"), port=carrier)
    phone(domain_caller(number, name, reject=486), target=server.sip).finish()
    busy.finish()
    twilio.trunking.v1.trunks(trunk.sid).delete()
    phone(domain_caller(number, name, "pbx1", PASSWORD, reject=403), target=server.sip).finish()


def test_calls_to_a_number_go_to_the_pbx_and_otherwise_to_the_disaster_recovery_url(server, twilio, pages, phone):
    trunk = twilio.trunking.v1.trunks.create(friendly_name="in", disaster_recovery_url=f"{pages.url}/in/recovery")
    one = twilio.trunking.v1.trunks(trunk.sid)
    number = twilio.incoming_phone_numbers.create(phone_number="+15557770002", voice_url=f"{pages.url}/in/never")
    bound = one.phone_numbers.create(phone_number_sid=number.sid)
    assert bound.sid == number.sid and bound.trunk_sid == trunk.sid and bound.phone_number == "+15557770002"
    assert [each.sid for each in one.phone_numbers.list()] == [number.sid]
    assert twilio.incoming_phone_numbers(number.sid).fetch().trunk_sid == trunk.sid
    refused(lambda: one.phone_numbers.create(phone_number_sid="PN" + "0" * 32), 400, 20001)
    failing, answering = phone(callee(reject="503 Service Unavailable")), phone(callee(pause(300), ends="bye"))
    first = one.origination_urls.create(weight=1, priority=10, enabled=True, friendly_name="a", sip_url=failing.uri)
    second = one.origination_urls.create(weight=1, priority=20, enabled=True, friendly_name="b", sip_url=answering.uri)

    def carrier_calls(**how):
        return phone(domain_caller(number.phone_number, "127.0.0.1", "carrier", "Carrier-1234", **how), target=server.sip)

    carrier_calls(ends="wait").finish()
    failing.finish()
    answering.finish()
    assert f"INVITE sip:{number.phone_number}@127.0.0.1:{answering.port}" in answering.messages()
    calls = wait_for("the call's record", lambda: [each for each in twilio.calls.list() if each.trunk_sid == trunk.sid])
    assert [each.direction for each in calls] == ["trunking-originating"]

    # Nobody is there: the document, which is no refusal.
    pages.on("/in/recovery", lambda: twiml(VoiceResponse()))
    for url in (first, second):
        one.origination_urls(url.sid).update(enabled=False)
    carrier_calls(ends="wait").finish()
    (recovery,) = pages.wait("/in/recovery")
    assert recovery["To"] == number.phone_number
    # Without a trunk the number's own application decides again.
    assert one.phone_numbers(number.sid).delete()
    assert twilio.incoming_phone_numbers(number.sid).fetch().trunk_sid in (None, "")
    pages.on("/in/never", lambda: twiml(VoiceResponse()))
    carrier_calls(ends="wait").finish()
    assert len(pages.wait("/in/never")) == 1
    # A trunk that is gone takes its numbers with it no more.
    one.phone_numbers.create(phone_number_sid=number.sid)
    one.delete()
    assert twilio.incoming_phone_numbers(number.sid).fetch().trunk_sid in (None, "")
    assert twilio.incoming_phone_numbers(number.sid).delete()
