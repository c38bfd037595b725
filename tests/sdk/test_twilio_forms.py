"""The 2010 API as people ask for it without a library: other forms of its answers, and what examples in the field send."""

import csv
import xml.etree.ElementTree as ElementTree

import pytest
import requests

from twilio_app import ended

OWN, TWIML = "+15551230001", "<Response><Reject reason='busy'/></Response>"


@pytest.fixture(scope="module")
def server(start_tandem):
    return start_tandem(f"""
[[numbers]]
number = "{OWN}"
account = "acme"
twiml = "{TWIML}"
""")


@pytest.fixture
def get(server):
    """GETs a path below the account's."""

    def ask(path, accept="*/*"):
        url = f"{server.http}/2010-04-01/Accounts/{server.account_sid}{path}"
        return requests.get(url, auth=(server.account_sid, server.auth_token), headers={"Accept": accept}, timeout=10)

    return ask


@pytest.fixture(scope="module")
def call(twilio):
    """A call from a number that is the account's to another one, ended."""
    made = twilio.calls.create(to=OWN, from_=OWN, twiml="<Response/>")
    return ended(twilio, made.sid)


def test_lists_and_resources_are_available_as_xml_and_csv(get, call):
    for path in ("/Calls.xml", "/Calls"):
        answer = get(path)
        assert answer.headers["content-type"] == "application/xml"
        calls = ElementTree.fromstring(answer.content).find("Calls")
        assert calls.get("pagesize") == "50" and call.sid in [one.findtext("Sid") for one in calls.findall("Call")]
    one = ElementTree.fromstring(get(f"/Calls/{call.sid}.xml").content)
    assert one.findtext("Call/Status") == "busy" and one.findtext("Call/SubresourceUris/Recordings")
    rows = list(csv.DictReader(get("/Calls.csv").text.splitlines()))
    assert {"busy"} == {row["Status"] for row in rows if row["Sid"] == call.sid} and rows[0]["To"] == OWN
    refused = get("/Calls/CA" + "0" * 32 + ".xml")
    assert refused.status_code == 404
    assert ElementTree.fromstring(refused.content).findtext("RestException/Code") == "20404"
    for path, accept in (("/Calls.json", "*/*"), ("/Calls", "application/json")):
        assert call.sid in [one["sid"] for one in get(path, accept).json()["calls"]]


def test_the_version_needs_no_credentials(server):
    answer = requests.get(server.http + "/2010-04-01.json", timeout=10).json()
    assert answer["name"] == "2010-04-01" and answer["subresource_uris"]["accounts"] == "/2010-04-01/Accounts.json"


def test_a_second_plus_in_a_number_is_dropped_with_a_notification(twilio):
    made = twilio.calls.create(to="+" + OWN, from_=OWN, twiml="<Response/>")
    assert made.to == OWN and ended(twilio, made.sid).status == "busy"
    assert [note.error_code for note in twilio.calls(made.sid).notifications.list()] == ["21211"]


def test_a_call_from_a_foreign_number_succeeds_with_a_notification(twilio, call):
    made = twilio.calls.create(to=OWN, from_="+15559990000", twiml="<Response/>")
    ended(twilio, made.sid)
    (note,) = twilio.calls(made.sid).notifications.list()
    assert note.error_code == "21210" and "the+provider+would+refuse+this+%2821210%29" in note.message_text
    assert twilio.calls(call.sid).notifications.list() == []


def test_a_server_without_trunks_offers_example_numbers(twilio):
    first = twilio.available_phone_numbers("US").local.list()[0]
    assert first.phone_number.startswith("+1") and first.phone_number[5:].startswith("55501")
    assert twilio.available_phone_numbers("US").local.list(area_code="212")[0].region == "NY"
    taken = twilio.incoming_phone_numbers.create(phone_number=first.phone_number)
    assert first.phone_number not in [one.phone_number for one in twilio.available_phone_numbers("US").local.list()]
    other = twilio.incoming_phone_numbers.create(phone_number="+442071838750")
    assert taken.delete() and other.delete()
