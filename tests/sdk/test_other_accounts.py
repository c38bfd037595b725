"""An account that tries to use the carriers, numbers and places of another account, over REST and SIP."""

import pytest
import requests

from harness.phone import free_port
from harness.waiting import wait_for

ACME_SID = "AC00000000000000000000000000000001"
OTHER_SID, OTHER_TOKEN = "AC00000000000000000000000000000002", "fedcba9876543210fedcba9876543210"
OTHER_KEY = "KEYfedcba9876543210"
BYOC = "BY00000000000000000000000000000001"
CARRIER = "127.0.0.9"
FREE = "+15557770001"


@pytest.fixture(scope="module")
def carrier_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, carrier_port):
    return start_tandem(
        f"""
[[accounts]]
name = "other"
twilio = {{ account_sid = "{OTHER_SID}", auth_token = "{OTHER_TOKEN}" }}
telnyx = {{ api_key = "{OTHER_KEY}", signing_seed = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=" }}

[[trunks]]
name = "carrier"
account = "acme"
uri = "sip:{CARRIER}:{carrier_port}"
inbound_from = ["{CARRIER}/32"]
prefixes = ["+"]
byoc = "{BYOC}"
username = "acme"
password = "the carrier's password"

[[trunks]]
name = "named"
account = "acme"
uri = "sip:gw.carrier.invalid"
"""
    )


def api(server, method, path, sid=OTHER_SID, token=OTHER_TOKEN, **form):
    return requests.request(method, f"{server.http}{path}", data=form or None, auth=(sid, token), timeout=10)


def telnyx(server, path, **body):
    return requests.post(f"{server.http}{path}", json=body, headers={"Authorization": f"Bearer {OTHER_KEY}"}, timeout=10)


def test_a_trunk_of_rest_does_not_lead_to_another_accounts_carrier(server, carrier_port):
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


def test_no_call_of_another_account_reaches_the_carrier(server, carrier_port):
    calls = f"/2010-04-01/Accounts/{OTHER_SID}/Calls.json"
    for to, more in (
        (f"sip:+19005550001@{CARRIER}:{carrier_port}", {}),
        ("sip:+19005550001@gw.carrier.invalid", {}),
        (FREE, {"Byoc": BYOC}),
        (FREE, {}),
    ):
        made = api(server, "POST", calls, To=to, From=FREE, Twiml="<Response><Hangup/></Response>", **more)
        if made.status_code == 201:
            one = f"/2010-04-01/Accounts/{OTHER_SID}/Calls/{made.json()['sid']}.json"
            wait_for("the end", lambda: api(server, "GET", one).json()["status"] == "failed")
        else:
            assert made.status_code == 400, made.text


def test_numbers_are_the_operators_to_give(server):
    made = api(server, "POST", f"/2010-04-01/Accounts/{OTHER_SID}/IncomingPhoneNumbers.json", PhoneNumber=FREE)
    assert (made.status_code, made.json()["code"]) == (400, 21422) and "[[number_pool]]" in made.json()["message"]


def test_ids_of_another_account_are_not_accepted(server):
    domains = f"/2010-04-01/Accounts/{OTHER_SID}/SIP/Domains.json"
    made = api(server, "POST", domains, DomainName="mine.example.com", ByocTrunkSid=BYOC)
    assert (made.status_code, made.json()["code"]) == (400, 21231), made.text
    mine = api(server, "POST", domains.replace(OTHER_SID, ACME_SID), ACME_SID, server.auth_token, DomainName="acme.example.com", ByocTrunkSid=BYOC)
    assert mine.status_code == 201, mine.text
    lists = f"/2010-04-01/Accounts/{OTHER_SID}/SIP/IpAccessControlLists.json"
    one = api(server, "POST", lists, FriendlyName="wide").json()["sid"]
    for address, length in (("10.0.0.0", 1), ("128.0.0.0", 7), ("2000::", 3)):
        made = api(server, "POST", lists.replace(".json", f"/{one}/IpAddresses.json"), FriendlyName="x", IpAddress=address, CidrPrefixLength=length)
        assert made.status_code == 400, made.text


def test_one_account_does_not_take_every_place_of_followed_lists(server):
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
