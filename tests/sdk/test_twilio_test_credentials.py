"""Twilio's test credentials: the documented numbers give their results, and nothing is called or stored."""

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from harness.server import ACCOUNT_SID, AUTH_TOKEN

TEST_SID = "AC000000000000000000000000000000ff"
TEST_TOKEN = "fedcba9876543210fedcba9876543210"
VALID = "+15005550006"
URL = "http://127.0.0.1:9/voice"


@pytest.fixture(scope="module")
def server(start_tandem):
    # The basic settings have the account; the variables add the second pair.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_ACCOUNTS__0__TWILIO__TEST_ACCOUNT_SID", TEST_SID)
        patch.setenv("TANDEM_ACCOUNTS__0__TWILIO__TEST_AUTH_TOKEN", TEST_TOKEN)
        yield start_tandem()


def sdk(server, sid=TEST_SID, token=TEST_TOKEN):
    client = Client(sid, token)
    client.api.base_url = server.http
    return client


@pytest.fixture
def test_client(server):
    return sdk(server)


def code(act):
    with pytest.raises(TwilioRestException) as caught:
        act()
    return caught.value.status, caught.value.code


@pytest.mark.parametrize(
    ("to", "sender", "expected"),
    [
        ("+15005550001", VALID, 21217),
        ("+15005550002", VALID, 21214),
        ("+15005550003", VALID, 21215),
        ("+15005550004", VALID, 21216),
        ("+14108675310", "+15005550001", 21212),
        ("+14108675310", "+15551230001", 21210),
    ],
)
def test_calls_fail_as_documented(test_client, to, sender, expected):
    assert code(lambda: test_client.calls.create(to=to, from_=sender, url=URL)) == (400, expected)


def test_a_valid_call_is_answered_and_not_made(test_client, server):
    call = test_client.calls.create(to="+14108675310", from_=VALID, url=URL)
    assert (call.status, call.account_sid, call.to, call._from) == ("queued", TEST_SID, "+14108675310", VALID)
    assert call.sid.startswith("CA") and call.direction == "outbound-api"
    assert sdk(server, ACCOUNT_SID, AUTH_TOKEN).calls.list() == []
    # The input is checked as that of a real call.
    assert code(lambda: test_client.calls.create(to="+14108675310", from_=VALID))[0] == 400


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({"phone_number": "+15005550000"}, 21422),
        ({"phone_number": "+15005550001"}, 21421),
        ({"phone_number": "+15551230001"}, 21421),
        ({"area_code": "533"}, 21452),
        ({"area_code": "415"}, 21452),
    ],
)
def test_numbers_fail_as_documented(test_client, what, expected):
    assert code(lambda: test_client.incoming_phone_numbers.create(**what)) == (400, expected)


def test_a_valid_number_is_answered_and_not_taken(test_client, server):
    for what in [{"phone_number": VALID}, {"area_code": "500"}]:
        number = test_client.incoming_phone_numbers.create(voice_url=URL, **what)
        assert (number.phone_number, number.voice_url, number.account_sid) == (VALID, URL, TEST_SID)
    assert sdk(server, ACCOUNT_SID, AUTH_TOKEN).incoming_phone_numbers.list() == []


def test_other_resources_and_wrong_tokens_are_refused(test_client, server):
    assert code(lambda: test_client.calls("CA" + "0" * 32).fetch()) == (403, 20008)
    assert code(lambda: test_client.recordings("RE" + "0" * 32).fetch()) == (403, 20008)
    assert code(lambda: test_client.messages.create(to=VALID, from_=VALID, body="Hello")) == (403, 20008)
    assert code(lambda: sdk(server, token=AUTH_TOKEN).calls.create(to=VALID, from_=VALID, url=URL)) == (401, 20003)
    # The credentials of one account do not reach the other.
    assert code(lambda: test_client.api.accounts(ACCOUNT_SID).calls.create(to=VALID, from_=VALID, url=URL)) == (401, 20003)
