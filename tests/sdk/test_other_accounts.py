"""An account that tries to use the carriers, numbers and places of another account, over REST and SIP."""

import pytest
import requests

from harness import resources
from harness.phone import free_port
from harness.resources import OTHER_SID, OTHER_TOKEN
from harness.signalwire import PROJECT, TOKEN

ACME_SID = "AC00000000000000000000000000000001"
OTHER_KEY = "KEYfedcba9876543210"
ORGANISATION = "a0a047da-b08a-4b22-9e89-88f99c66a65f"  # what Telnyx calls the account in TeXML
BYOC = "BY00000000000000000000000000000001"
CARRIER = "127.0.0.9"
FREE = "+15557770001"
CONNECTION, TEXML = "1000000000000000002", "2000000000000000002"


@pytest.fixture(scope="module")
def carrier_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, carrier_port):
    telnyx = f'telnyx = {{ api_key = "{OTHER_KEY}", signing_seed = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=" }}\n'
    signalwire = f'signalwire = {{ project_id = "{PROJECT}", api_token = "{TOKEN}", signing_key = "PSK_0a1b2c3d4e5f" }}\n'
    by_address = {"inbound_from": [f"{CARRIER}/32"], "byoc": BYOC, "username": "acme", "password": "the carrier's password"}
    return start_tandem(
        resources.other_account(telnyx + signalwire)
        + resources.carrier(carrier_port, host=CARRIER, **by_address)
        + resources.table("trunks", name="named", account="acme", uri="sip:gw.carrier.invalid")
        + resources.table("numbers", number="+15551230001", account="acme", voice_url="http://127.0.0.1:9/x")
        + resources.table("numbers", number="+15551230002", account="other", provider="twilio", voice_url="http://127.0.0.1:9/x")
        + resources.table("applications", id=CONNECTION, account="other", provider="telnyx", webhook_url="http://127.0.0.1:9/x")
        + resources.table("applications", id=TEXML, account="other", provider="texml", webhook_url="http://127.0.0.1:9/x")
    )


def api(server, method, path, sid=OTHER_SID, token=OTHER_TOKEN, **form):
    return requests.request(method, f"{server.http}{path}", data=form or None, auth=(sid, token), timeout=10)


def telnyx(server, path, **body):
    return requests.post(f"{server.http}{path}", json=body, headers={"Authorization": f"Bearer {OTHER_KEY}"}, timeout=10)


def test_a_customer_trunk_cannot_use_the_carrier_of_another_account(server, carrier_port):
    trunk = api(server, "POST", "/v1/Trunks", FriendlyName="mine").json()["sid"]
    place = f"/v1/Trunks/{trunk}/OriginationUrls"
    for uri in (
        f"sip:{CARRIER}:{carrier_port}", f"sip:{CARRIER}", f"sip://{CARRIER};transport=tcp", "sip:gw.carrier.invalid",
        "sip:169.254.169.254:80", "sip:10.0.0.1", "sip:[fd00::1]",
    ):
        made = api(server, "POST", place, Weight=1, Priority=1, Enabled="true", FriendlyName="x", SipUrl=uri)
        assert (made.status_code, made.json()["code"]) == (400, 20001), (uri, made.text)
    good = api(server, "POST", place, Weight=1, Priority=1, Enabled="true", FriendlyName="x", SipUrl="sip:pbx.example.com")
    assert good.status_code == 201, good.text
    changed = api(server, "POST", f"{place}/{good.json()['sid']}", SipUrl=f"sip:{CARRIER}")
    assert changed.status_code == 400
    connection = telnyx(server, "/v2/fqdn_connections", connection_name="mine").json()["data"]["id"]
    for name in ("gw.carrier.invalid", "GW.carrier.invalid"):
        made = telnyx(server, "/v2/fqdns", fqdn=name, dns_record_type="a", connection_id=connection)
        assert made.status_code == 422, made.text
    connection = telnyx(server, "/v2/ip_connections", connection_name="mine").json()["data"]["id"]
    for address in (CARRIER, "10.0.0.1", "169.254.169.254"):
        made = telnyx(server, "/v2/ips", ip_address=address, connection_id=connection)
        assert made.status_code == 422, made.text


def test_a_request_for_a_call_to_a_forbidden_address_is_refused_in_every_dialect(server, carrier_port):
    """No call is created: the answer is the provider's error for a number that no trunk accepts."""
    calls = f"/2010-04-01/Accounts/{OTHER_SID}/Calls.json"
    document = "<Response><Hangup/></Response>"
    before = api(server, "GET", calls).json()["calls"]
    for to in (
        f"sip:+19005550001@{CARRIER}:{carrier_port}", "sip:+19005550001@gw.carrier.invalid", "sip:x@10.0.0.1",
        "sip:x@169.254.169.254:80;transport=tcp", "sip:x@[fd00::1]", "sips:x@192.168.1.1",
    ):
        made = api(server, "POST", calls, To=to, From=FREE, Twiml=document)
        assert (made.status_code, made.json()["code"]) == (400, 21214) and "may not go" in made.json()["message"], made.text
        made = telnyx(server, f"/v2/texml/Accounts/{ORGANISATION}/Calls", ApplicationSid=TEXML, To=to, From=FREE, Texml=document)
        assert made.status_code in (400, 422) and "may not go" in made.text, made.text
        made = telnyx(server, "/v2/calls", connection_id=CONNECTION, to=to, **{"from": FREE})
        fault = made.json()["errors"][0]
        assert (made.status_code, fault["code"], fault["source"]["pointer"]) == (422, "10002", "/to"), made.text
        assert "may not go" in fault["detail"]
        path = f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls.json"
        made = api(server, "POST", path, PROJECT, TOKEN, To=to, From=FREE, Laml=document)
        assert made.status_code in (400, 422) and "may not go" in made.text, made.text
        params = {"from": FREE, "to": to, "swml": "sections: {main: [hangup]}"}
        made = requests.post(
            f"{server.http}/api/calling/calls", json={"command": "dial", "params": params}, auth=(PROJECT, TOKEN), timeout=10
        )
        fault = made.json()["errors"][0]
        assert (made.status_code, fault["code"], fault["attribute"]) == (422, "invalid_sip_destination", "to"), made.text
    # The same answer as for a number that no trunk of the account accepts.
    for more in ({"Byoc": BYOC}, {}):
        made = api(server, "POST", calls, To=FREE, From=FREE, Twiml=document, **more)
        assert (made.status_code, made.json()["code"]) == (400, 21214), made.text
    assert api(server, "GET", calls).json()["calls"] == before
    # The account of the trunk may call there, and any account may call a public address (this one is for documentation).
    acme = calls.replace(OTHER_SID, ACME_SID)
    made = api(server, "POST", acme, ACME_SID, server.auth_token, To=f"sip:x@{CARRIER}:{carrier_port}", From=FREE, Twiml=document)
    assert made.status_code == 201, made.text


def test_an_account_takes_only_numbers_of_the_number_pool(server):
    made = api(server, "POST", f"/2010-04-01/Accounts/{OTHER_SID}/IncomingPhoneNumbers.json", PhoneNumber=FREE)
    assert (made.status_code, made.json()["code"]) == (400, 21422) and "[[number_pool]]" in made.json()["message"]


def test_ids_of_another_account_are_not_accepted(server):
    def of(sid, path):
        return f"/2010-04-01/Accounts/{sid}/{path}"

    def acme(path, **form):
        made = api(server, "POST", path, ACME_SID, server.auth_token, **form)
        assert made.status_code == 201, made.text
        return made.json()["sid"]

    address = {
        "CustomerName": "A", "Street": "1 Main", "City": "Bern", "Region": "BE", "PostalCode": "3000", "IsoCountry": "CH",
    }
    theirs = {
        "address": acme(of(ACME_SID, "Addresses.json"), **address),
        "application": acme(of(ACME_SID, "Applications.json"), FriendlyName="a", VoiceUrl="http://127.0.0.1:9/x"),
        "trunk": acme("/v1/Trunks", FriendlyName="t"),
        "users": acme(of(ACME_SID, "SIP/CredentialLists.json"), FriendlyName="u"),
        "networks": acme(of(ACME_SID, "SIP/IpAccessControlLists.json"), FriendlyName="n"),
        "number": api(server, "GET", of(ACME_SID, "IncomingPhoneNumbers.json"), ACME_SID, server.auth_token)
        .json()["incoming_phone_numbers"][0]["sid"],
    }
    number = api(server, "GET", of(OTHER_SID, "IncomingPhoneNumbers.json")).json()["incoming_phone_numbers"][0]["sid"]
    number = of(OTHER_SID, f"IncomingPhoneNumbers/{number}.json")
    made = api(server, "POST", of(OTHER_SID, "SIP/Domains.json"), DomainName="mine.example.com")
    domain = of(OTHER_SID, f"SIP/Domains/{made.json()['sid']}")
    trunk = f"/v1/Trunks/{api(server, 'POST', '/v1/Trunks', FriendlyName='mine').json()['sid']}"
    calls = {"To": "sip:x@127.0.0.1", "From": FREE}
    for path, form, status, code in (
        (number, {"AddressSid": theirs["address"]}, 400, 20001),
        (number, {"EmergencyAddressSid": theirs["address"]}, 400, 20001),
        (number, {"IdentitySid": "PN" + "1" * 32}, 400, 20001),
        (number, {"BundleSid": "x"}, 400, 20001),
        (number, {"TrunkSid": theirs["trunk"]}, 400, 20001),
        (number, {"VoiceApplicationSid": theirs["application"]}, 400, 21218),
        (number, {"SmsApplicationSid": theirs["application"]}, 400, 21218),
        (of(OTHER_SID, "Calls.json"), {**calls, "ApplicationSid": theirs["application"]}, 400, 21218),
        (of(OTHER_SID, "SIP/Domains.json"), {"DomainName": "b.example.com", "ByocTrunkSid": BYOC}, 400, 21231),
        (f"{domain}.json", {"ByocTrunkSid": BYOC}, 400, 21231),
        (f"{domain}.json", {"EmergencyCallerSid": theirs["number"]}, 400, 21231),
        (f"{domain}/Auth/Calls/CredentialListMappings.json", {"CredentialListSid": theirs["users"]}, 400, 21231),
        (f"{domain}/Auth/Calls/IpAccessControlListMappings.json", {"IpAccessControlListSid": theirs["networks"]}, 400, 21231),
        (f"{domain}/Auth/Registrations/CredentialListMappings.json", {"CredentialListSid": theirs["users"]}, 400, 21231),
        (f"{trunk}/CredentialLists", {"CredentialListSid": theirs["users"]}, 400, 20001),
        (f"{trunk}/IpAccessControlLists", {"IpAccessControlListSid": theirs["networks"]}, 400, 20001),
        (f"{trunk}/PhoneNumbers", {"PhoneNumberSid": theirs["number"]}, 400, 20001),
    ):
        made = api(server, "POST", path, **form)
        assert (made.status_code, made.json()["code"]) == (status, code), (path, form, made.text)
    # The ids of the own account are taken, and an empty value clears the setting.
    own = api(server, "POST", of(OTHER_SID, "Addresses.json"), **address).json()["sid"]
    assert api(server, "POST", number, AddressSid=own).json()["address_sid"] == own
    assert not api(server, "POST", number, AddressSid="").json()["address_sid"]
    acme(of(ACME_SID, "SIP/Domains.json"), DomainName="acme.example.com", ByocTrunkSid=BYOC)


def test_the_network_of_an_access_list_has_a_maximum_size(server):
    lists = f"/2010-04-01/Accounts/{OTHER_SID}/SIP/IpAccessControlLists.json"
    one = api(server, "POST", lists, FriendlyName="wide").json()["sid"]
    for address, length in (("10.0.0.0", 1), ("128.0.0.0", 7), ("2000::", 3)):
        made = api(server, "POST", lists.replace(".json", f"/{one}/IpAddresses.json"), FriendlyName="x", IpAddress=address, CidrPrefixLength=length)
        assert made.status_code == 400, made.text


def test_the_number_of_followed_lists_of_an_account_is_limited(server):
    followed = []
    try:
        for place in range(9):
            answer = requests.get(f"{server.http}/console/calls?follow=true", auth=(OTHER_SID, OTHER_TOKEN), stream=True, timeout=10)
            followed.append(answer)
            assert answer.status_code == (200 if place < 8 else 503), place
        assert int(followed[-1].headers["Retry-After"]) > 0
        acme = requests.get(f"{server.http}/console/calls?follow=true", auth=(ACME_SID, server.auth_token), stream=True, timeout=10)
        followed.append(acme)
        assert acme.status_code == 200
    finally:
        for one in followed:
            one.close()


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("DELETE", "/v2/calls", "POST"),
        ("PUT", "/v2/recordings", "GET,HEAD"),
        ("PATCH", "/v2/texml_applications", "GET,HEAD,POST"),
        ("POST", "/v2/texml_applications/1", "GET,HEAD,PATCH,DELETE"),
        ("PUT", f"/v2/texml/Accounts/{ORGANISATION}/Calls", "GET,HEAD,POST"),
        ("PUT", f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls.json", "GET,HEAD,POST"),
        ("DELETE", "/api/relay/rest/endpoints/sip", "GET,HEAD,POST"),
        ("PUT", "/v1/Trunks", "GET,HEAD,POST"),
        ("PUT", "/console/calls", "GET,HEAD"),
        ("POST", "/healthz", "GET,HEAD"),
    ],
)
def test_every_api_answers_405_with_the_allowed_methods(server, method, path, wanted):
    """RFC 9110 15.5.6, in each router."""
    auth = (PROJECT, TOKEN) if path.startswith("/api/") else (OTHER_SID, OTHER_TOKEN)
    headers = {}
    if path.startswith("/v2/"):
        auth, headers = None, {"Authorization": f"Bearer {OTHER_KEY}"}
    answer = requests.request(method, f"{server.http}{path}", auth=auth, headers=headers, timeout=10)
    assert answer.status_code == 405 and answer.headers["Allow"].replace(" ", "") == wanted, (answer, answer.headers)
