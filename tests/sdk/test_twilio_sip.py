"""SIP domains, their lists and mappings by twilio-python, and phones that feel each change at once."""

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client
from twilio.twiml.voice_response import Dial, VoiceResponse

from harness.phone import callee, domain_caller, free_port, pause, registering
from twilio_app import Elsewhere, assert_genuine, client, twiml

PASSWORD = "IWasAtSignal2018"
# With a trunk of its own the server takes nobody on this machine for a trunk.
TRUNK = """
[[trunks]]
name = "elsewhere"
inbound_from = ["127.0.68.1/32"]
[[endpoints]]
account = "acme"
username = "desk"
password = "so that somebody has one"
[sip.bans]
never = ["127.0.0.0/8"]
"""


@pytest.fixture(scope="module")
def server(start_tandem):
    return start_tandem(TRUNK)


@pytest.fixture(scope="module")
def sip(server):
    return client(server).api.v2010.accounts(server.account_sid).sip


def refused(call, code):
    """What the server says to a request that it must refuse."""
    with pytest.raises(TwilioRestException) as fault:
        call()
    assert fault.value.code == code, fault.value
    return fault.value


def test_a_domain_is_created_updated_listed_and_deleted(sip):
    made = sip.domains.create(
        domain_name="Office.Example.com",
        friendly_name="Office",
        voice_url="http://127.0.0.1:9/voice",
        voice_method="GET",
        voice_status_callback_url="http://127.0.0.1:9/status",
        sip_registration=True,
    )
    assert made.sid.startswith("SD") and made.domain_name == "office.example.com" and made.sip_registration is True
    assert (made.voice_method, made.voice_fallback_method, made.voice_fallback_url) == ("GET", "POST", None)
    assert made.auth_type == "" and made.secure is False and made.date_created is not None
    changed = sip.domains(made.sid).update(voice_url="", friendly_name="New", sip_registration=False)
    assert changed.voice_url in (None, "") and changed.friendly_name == "New" and changed.sip_registration is False
    assert changed.voice_status_callback_url == "http://127.0.0.1:9/status" and changed.voice_method == "GET"
    refused(lambda: sip.domains.create(domain_name="OFFICE.example.com"), 21232)
    for name in ["localhost", "127.0.0.1", "a..b", "x_y.example.com", "-a.example.com", "2.3"]:
        refused(lambda name=name: sip.domains.create(domain_name=name), 21232)
    refused(lambda: sip.domains.create(domain_name="b.example.com", voice_url="/relative"), 21231)
    others = [sip.domains.create(domain_name=f"d{n}.example.com") for n in range(4)]
    listed = [one.sid for one in sip.domains.list(page_size=2)]
    assert listed == [one.sid for one in reversed([made, *others])]
    for one in [made, *others]:
        assert sip.domains(one.sid).delete()
    assert refused(lambda: sip.domains(made.sid).fetch(), 20404).status == 404


def test_credential_lists_and_ip_access_control_lists_and_their_entries_work(sip):
    users = sip.credential_lists.create(friendly_name="staff")
    assert users.subresource_uris["credentials"].endswith(f"/SIP/CredentialLists/{users.sid}/Credentials.json")
    assert sip.credential_lists(users.sid).update(friendly_name="crew").friendly_name == "crew"
    alice = sip.credential_lists(users.sid).credentials.create(username="alice", password=PASSWORD)
    assert alice.credential_list_sid == users.sid and not hasattr(alice, "password")
    refused(lambda: sip.credential_lists(users.sid).credentials.create(username="alice", password=PASSWORD), 21243)
    refused(lambda: sip.credential_lists(users.sid).credentials.create(username="bob", password="short"), 21243)
    refused(lambda: sip.credential_lists(users.sid).credentials.create(username="b" * 33, password=PASSWORD), 21243)
    assert [one.username for one in sip.credential_lists(users.sid).credentials.list()] == ["alice"]
    office = sip.ip_access_control_lists.create(friendly_name="office")
    address = sip.ip_access_control_lists(office.sid).ip_addresses.create(friendly_name="gw", ip_address="192.0.2.1")
    assert address.cidr_prefix_length == 32 and address.ip_access_control_list_sid == office.sid
    wider = sip.ip_access_control_lists(office.sid).ip_addresses(address.sid).update(cidr_prefix_length=24)
    assert (wider.ip_address, wider.cidr_prefix_length, wider.friendly_name) == ("192.0.2.1", 24, "gw")
    refused(lambda: sip.ip_access_control_lists(users.sid).fetch(), 20404)
    assert sip.credential_lists(users.sid).credentials(alice.sid).delete()
    assert sip.ip_access_control_lists(office.sid).ip_addresses(address.sid).delete()
    assert sip.credential_lists(users.sid).delete() and sip.ip_access_control_lists(office.sid).delete()
    refused(lambda: sip.credential_lists(users.sid).fetch(), 20404)


def test_every_kind_of_mapping_is_created_listed_and_deleted(sip):
    domain = sip.domains.create(domain_name="mapped.example.com")
    users = sip.credential_lists.create(friendly_name="users")
    office = sip.ip_access_control_lists.create(friendly_name="office")
    one = sip.domains(domain.sid)
    for mappings, created in [
        (one.auth.calls.credential_list_mappings, {"credential_list_sid": users.sid}),
        (one.auth.calls.ip_access_control_list_mappings, {"ip_access_control_list_sid": office.sid}),
        (one.auth.registrations.credential_list_mappings, {"credential_list_sid": users.sid}),
    ]:
        (sid,) = created.values()
        assert mappings.create(**created).sid == sid
        refused(lambda: mappings.create(**created), 21231)
        assert [each.sid for each in mappings.list()] == [sid]
        assert mappings(sid).fetch().friendly_name in ("users", "office")
    # The older paths say the same of calls.
    assert one.credential_list_mappings(users.sid).fetch().sid == users.sid
    assert [each.sid for each in one.ip_access_control_list_mappings.list()] == [office.sid]
    assert one.fetch().auth_type == "IP_ACL,CREDENTIAL_LIST"
    assert one.credential_list_mappings(users.sid).delete()
    refused(lambda: one.auth.calls.credential_list_mappings(users.sid).fetch(), 20404)
    assert one.auth.registrations.credential_list_mappings(users.sid).fetch().sid == users.sid
    assert one.fetch().auth_type == "IP_ACL"
    refused(lambda: one.credential_list_mappings.create(credential_list_sid=office.sid), 21231)
    assert sip.ip_access_control_lists(office.sid).delete()
    assert one.fetch().auth_type == "" and one.ip_access_control_list_mappings.list() == []
    sip.domains(domain.sid).delete()


def test_a_phone_registers_at_a_domain_and_calls_and_is_called(server, sip, pages, phone):
    name = "phones.example.com"
    domain = sip.domains.create(
        domain_name=name, voice_url=f"{pages.url}/phones/voice", sip_registration=True,
        voice_status_callback_url=f"{pages.url}/phones/status",
    )
    users = sip.credential_lists.create(friendly_name="phones")
    alice = sip.credential_lists(users.sid).credentials.create(username="alice", password=PASSWORD)
    port = free_port()
    one = sip.domains(domain.sid)
    # Nobody may, before the list is mapped.
    phone(registering("alice", PASSWORD, name, reject=403), target=server.sip, port=port).finish()
    one.auth.registrations.credential_list_mappings.create(credential_list_sid=users.sid)
    phone(registering("alice", PASSWORD, name), target=server.sip, port=port).finish()
    phone(registering("alice", "Wrong" + PASSWORD, name, reject=403), target=server.sip).finish()

    # She is called by an application ...
    pages.on("/phones/hello", lambda: twiml(VoiceResponse()))
    answering = phone(callee(), port=port)
    call = client(server).calls.create(to=f"sip:alice@{name}", from_="+15550001111", url=f"{pages.url}/phones/hello")
    answering.finish()
    assert pages.wait("/phones/hello")[0]["CallSid"] == call.sid

    # ... and what she calls is the voice URL's, once her list is mapped for calls too.
    pages.on("/phones/voice", lambda: twiml(VoiceResponse()))
    pages.on("/phones/status")
    phone(domain_caller("100", name, "alice", PASSWORD, reject=403), target=server.sip).finish()
    one.auth.calls.credential_list_mappings.create(credential_list_sid=users.sid)
    phone(domain_caller("100", name, "alice", PASSWORD, ends="wait"), target=server.sip).finish()
    (voice,), (status,) = pages.wait("/phones/voice"), pages.wait("/phones/status")
    assert voice["From"] == f"sip:alice@{name}" and voice["To"] == f"sip:100@{name}"
    assert voice["SipDomain"] == name and voice["SipDomainSid"] == domain.sid
    assert status["CallStatus"] == "completed"

    # Another URL holds for the next call, and another password too.
    one.update(voice_url=f"{pages.url}/phones/dial")
    sip.credential_lists(users.sid).credentials(alice.sid).update(password="Other" + PASSWORD)
    answering = phone(callee(pause(200), ends="bye"), port=port)

    def dial():
        response = VoiceResponse()
        to = Dial(action=f"{pages.url}/phones/after")
        to.sip(f"sip:alice@{name}")
        response.append(to)
        return twiml(response)

    pages.on("/phones/dial", dial)
    pages.on("/phones/after", lambda: twiml(VoiceResponse()))
    phone(domain_caller("100", name, "alice", PASSWORD, reject=403), target=server.sip).finish()
    phone(domain_caller("100", name, "alice", "Other" + PASSWORD, ends="wait"), target=server.sip).finish()
    answering.finish()
    assert pages.wait("/phones/after")[0]["DialCallStatus"] == "completed"
    assert_genuine(server, pages)

    # Without the credential nobody gets in.
    sip.credential_lists(users.sid).credentials(alice.sid).delete()
    phone(domain_caller("100", name, "alice", "Other" + PASSWORD, reject=403), target=server.sip).finish()
    sip.domains(domain.sid).delete()


def test_a_domain_accepts_calls_from_the_addresses_of_its_access_list(server, sip, pages, phone):
    name = "peers.example.com"
    domain = sip.domains.create(domain_name=name, voice_url=f"{pages.url}/peers/voice")
    office = sip.ip_access_control_lists.create(friendly_name="office")
    address = sip.ip_access_control_lists(office.sid).ip_addresses.create(friendly_name="gw", ip_address="127.0.0.1")
    pages.on("/peers/voice", lambda: twiml(VoiceResponse()))
    sip.domains(domain.sid).auth.calls.ip_access_control_list_mappings.create(ip_access_control_list_sid=office.sid)
    phone(domain_caller("+15550002", name, ends="wait"), target=server.sip).finish()
    (voice,) = pages.wait("/peers/voice")
    assert voice["SipDomain"] == name and voice["SipSourceIp"] == "127.0.0.1"
    # Encrypted calls only: a call over UDP is refused.
    sip.domains(domain.sid).update(secure=True)
    phone(domain_caller("+15550002", name, reject=403), target=server.sip).finish()
    sip.domains(domain.sid).update(secure=False)
    sip.ip_access_control_lists(office.sid).ip_addresses(address.sid).update(ip_address="192.0.2.1")
    phone(domain_caller("+15550002", name, reject=403), target=server.sip).finish()


def test_a_domain_of_a_suspended_account_refuses_calls(server, pages, phone):
    parent = client(server)
    made = parent.api.accounts.create(friendly_name="below")
    own = Client(made.sid, made.auth_token, http_client=Elsewhere(server.http)).api.v2010.accounts(made.sid)
    name = "below.example.com"
    domain = own.sip.domains.create(domain_name=name, voice_url=f"{pages.url}/below/voice")
    office = own.sip.ip_access_control_lists.create(friendly_name="office")
    own.sip.ip_access_control_lists(office.sid).ip_addresses.create(friendly_name="gw", ip_address="127.0.0.1")
    own.sip.domains(domain.sid).auth.calls.ip_access_control_list_mappings.create(ip_access_control_list_sid=office.sid)
    pages.on("/below/voice", lambda: twiml(VoiceResponse()))
    phone(domain_caller("100", name, ends="wait"), target=server.sip).finish()
    parent.api.accounts(made.sid).update(status="suspended")
    phone(domain_caller("100", name, reject=403), target=server.sip).finish()
    parent.api.accounts(made.sid).update(status="active")
    phone(domain_caller("100", name, ends="wait"), target=server.sip).finish()
    assert [one["AccountSid"] for one in pages.wait("/below/voice", 2)] == [made.sid] * 2
    # What is the parent's is not seen from below, nor the other way round.
    assert [one.sid for one in own.sip.domains.list()] == [domain.sid]
    assert domain.sid not in [one.sid for one in parent.api.v2010.accounts(server.account_sid).sip.domains.list()]
    refused(lambda: parent.api.v2010.accounts(server.account_sid).sip.domains(domain.sid).fetch(), 20404)
