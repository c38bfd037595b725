"""Subaccounts, keys, tokens, addresses and usage by twilio-python; what they do to calls by real ones."""

import base64
import hashlib
import hmac
import sqlite3
from datetime import datetime, timezone

import pytest
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from harness.phone import callee, caller, pause
from harness.waiting import wait_for
from twilio_app import Elsewhere, number, refused, twiml

ICE = """
[ice]
stun = ["stun:stun.example.com:3478"]
turn = ["turn:turn.example.com:3478?transport=udp", "turns:turn.example.com:443"]
turn_secret = "shared"
"""


@pytest.fixture(scope="module")
def server(start_tandem, pages):
    return start_tandem(ICE + number("used", pages, "/used/voice"))


def login(server, username, password, account_sid=None):
    return Client(username, password, account_sid, http_client=Elsewhere(server.http))


def test_a_subaccount_is_created_suspended_and_closed(server, twilio):
    made = twilio.api.accounts.create(friendly_name="Customer 1")
    assert made.sid.startswith("AC") and len(made.auth_token) == 32 and made.status == "active"
    assert made.owner_account_sid == server.account_sid and made.type == "Full"
    own = login(server, made.sid, made.auth_token)
    assert own.api.accounts(made.sid).fetch().friendly_name == "Customer 1"
    assert [one.sid for one in own.api.accounts.list()] == [made.sid]
    assert [one.sid for one in twilio.api.accounts.list()] == [made.sid, server.account_sid]
    assert [one.sid for one in twilio.api.accounts.list(friendly_name="Customer 1")] == [made.sid]
    assert twilio.api.accounts.list(status="suspended") == []
    # Parents act for those below, not the other way round, nor do strangers; and there is one level only.
    assert twilio.api.accounts(made.sid).calls.list() == []
    assert own.calls.list() == []
    refused(lambda: own.api.accounts(server.account_sid).fetch(), 401, 20003)
    refused(lambda: own.api.accounts(server.account_sid).balance.fetch(), 401, 20003)
    refused(lambda: own.api.accounts.create(), 403, 20006)
    refused(lambda: login(server, made.sid, "wrong").balance.fetch(), 401, 20003)
    # It cannot lock itself out, nor can whoever is in the configuration be.
    refused(lambda: own.api.accounts(made.sid).update(status="closed"), 400, 20001)
    refused(lambda: twilio.api.accounts(server.account_sid).update(status="suspended"), 400, 20001)
    refused(lambda: twilio.api.accounts(made.sid).update(status="asleep"), 400, 20001)
    assert twilio.api.accounts(made.sid).update(friendly_name="Customer A").friendly_name == "Customer A"
    # Suspended: it may nothing, and its parent for it only say how it stands.
    assert twilio.api.accounts(made.sid).update(status="suspended").status == "suspended"
    refused(lambda: own.balance.fetch(), 403, 20005)
    refused(lambda: twilio.api.accounts(made.sid).balance.fetch(), 403, 20005)
    assert [one.sid for one in twilio.api.accounts.list(status="suspended")] == [made.sid]
    assert twilio.api.accounts(made.sid).update(status="active").status == "active"
    assert own.calls.list() == []
    twilio.api.accounts(made.sid).update(status="closed")
    refused(lambda: own.balance.fetch(), 401, 20003)
    assert twilio.api.accounts(made.sid).fetch().status == "closed"


def test_calls_of_a_subaccount_belong_to_it_and_are_signed_with_its_token(server, twilio, pages, phone):
    made = twilio.api.accounts.create(friendly_name="Caller")
    answering = phone(callee())
    pages.on("/sub/voice", lambda: twiml(VoiceResponse()))
    call = login(server, made.sid, made.auth_token).calls.create(
        to=answering.uri, from_="+15550001111", url=f"{pages.url}/sub/voice"
    )
    answering.finish()
    (voice,) = pages.wait("/sub/voice")
    assert voice["AccountSid"] == made.sid == call.account_sid
    signature = voice.headers["x-twilio-signature"]
    flat = {name: values[0] for name, values in voice.form.items()}
    assert RequestValidator(made.auth_token).validate(voice.url, flat, signature)
    assert not RequestValidator(server.auth_token).validate(voice.url, flat, signature)
    assert [one.sid for one in twilio.api.accounts(made.sid).calls.list()] == [call.sid]
    assert call.sid not in [one.sid for one in twilio.calls.list()]


def test_an_api_key_is_accepted_and_its_secret_is_shown_once(server, twilio):
    made = twilio.new_keys.create(friendly_name="ci")
    assert made.sid.startswith("SK") and len(made.secret) >= 32
    assert twilio.keys(made.sid).fetch().friendly_name == "ci"
    assert not hasattr(twilio.keys(made.sid).fetch(), "secret")
    with sqlite3.connect(f"file:{server.data}/tandem.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT details FROM resources WHERE kind = 'key'").fetchall()
    # The secret is stored, because it verifies the access tokens that the key signs.
    assert rows and made.secret in str(rows) and hashlib.sha256(made.secret.encode()).hexdigest() in str(rows)
    by_key = login(server, made.sid, made.secret, server.account_sid)
    assert isinstance(by_key.calls.list(), list)
    assert by_key.balance.fetch().account_sid == server.account_sid
    # A key does not give more keys, nor the account's own token.
    refused(lambda: by_key.new_keys.create(), 401, 20003)
    refused(lambda: by_key.api.accounts(server.account_sid).fetch(), 401, 20003)
    refused(lambda: login(server, made.sid, "wrong", server.account_sid).balance.fetch(), 401, 20003)
    assert twilio.keys(made.sid).update(friendly_name="deploy").friendly_name == "deploy"
    signing = twilio.new_signing_keys.create(friendly_name="old name")
    assert {one.sid for one in twilio.signing_keys.list()} == {one.sid for one in twilio.keys.list()}
    assert twilio.signing_keys(signing.sid).delete() and twilio.keys(made.sid).delete()
    refused(lambda: by_key.balance.fetch(), 401, 20003)
    refused(lambda: twilio.keys(made.sid).fetch(), 404, 20404)


def test_a_token_has_ice_servers_with_verifiable_passwords(server, twilio):
    token = twilio.tokens.create(ttl=600)
    assert token.ttl == "600" and token.account_sid == server.account_sid
    expires, account = token.username.split(":")
    assert account == server.account_sid
    assert 590 <= int(expires) - datetime.now(timezone.utc).timestamp() <= 601
    expected = base64.b64encode(hmac.new(b"shared", token.username.encode(), hashlib.sha1).digest()).decode()
    assert token.password == expected
    stun, turn, turns = token.ice_servers
    assert stun["urls"] == "stun:stun.example.com:3478" and "credential" not in stun
    for one in (turn, turns):
        assert (one["username"], one["credential"]) == (token.username, token.password)
    refused(lambda: twilio.tokens.create(ttl=100_000), 400, 20001)


def test_addresses_are_stored(twilio):
    details = {"street": "4th", "city": "SF", "region": "CA", "postal_code": "94019", "iso_country": "us"}
    made = twilio.addresses.create(customer_name="name", friendly_name="Main", street_secondary="Suite 300", **details)
    assert made.sid.startswith("AD") and made.iso_country == "US" and made.validated is False
    assert made.street_secondary == "Suite 300" and made.emergency_enabled is False
    other = twilio.addresses.create(customer_name="other", **details)
    assert [one.sid for one in twilio.addresses.list(customer_name="name")] == [made.sid]
    assert [one.sid for one in twilio.addresses.list(page_size=1)] == [other.sid, made.sid]
    assert twilio.addresses(made.sid).update(city="LA").city == "LA"
    assert twilio.addresses(made.sid).dependent_phone_numbers.list() == []
    taken = twilio.incoming_phone_numbers.create(phone_number="+15557770009", address_sid=made.sid)
    (dependent,) = twilio.addresses(made.sid).dependent_phone_numbers.list()
    assert dependent.sid == taken.sid and dependent.capabilities["Voice"] is True
    assert twilio.incoming_phone_numbers(taken.sid).delete()
    assert twilio.addresses(made.sid).delete() and twilio.addresses(other.sid).delete()
    refused(lambda: twilio.addresses.create(customer_name="x", **{**details, "iso_country": "USA"}), 400, 20001)
    refused(lambda: twilio.addresses(made.sid).fetch(), 404, 20404)


def test_usage_counts_past_calls_and_fires_triggers(server, twilio, pages, phone):
    def figures(records):
        return {one.category: (int(one.count), int(one.usage)) for one in records.list()}

    before = figures(twilio.usage.records.today)
    trigger = twilio.usage.triggers.create(
        callback_url=f"{pages.url}/used/trigger", trigger_value="+2", usage_category="calls-inbound",
        trigger_by="count", recurring="daily", friendly_name="two calls",
    )
    assert trigger.date_fired is None and trigger.current_value == str(before["calls-inbound"][0])
    assert trigger.trigger_value == str(before["calls-inbound"][0] + 2)
    pages.on("/used/trigger")
    pages.on("/used/voice", "<Response><Pause length='1'/></Response>")
    phone(caller("used", ends="wait"), target=server.sip).finish()
    wait_for("the first call's usage", lambda: figures(twilio.usage.records.today)["calls-inbound"][0] == before["calls-inbound"][0] + 1)
    assert twilio.usage.triggers(trigger.sid).fetch().date_fired is None
    phone(caller("used", pause(100), ends="bye"), target=server.sip).finish()
    (fired,) = pages.wait("/used/trigger")
    assert fired["UsageTriggerSid"] == trigger.sid and fired["UsageCategory"] == "calls-inbound"
    assert fired["CurrentValue"] == trigger.trigger_value == fired["TriggerValue"]
    flat = {name: values[0] for name, values in fired.form.items()}
    assert RequestValidator(server.auth_token).validate(fired.url, flat, fired.headers["x-twilio-signature"])
    assert twilio.usage.triggers(trigger.sid).fetch().date_fired is not None
    # Once a day is once.
    phone(caller("used", pause(100), ends="bye"), target=server.sip).finish()
    now = {}

    def counted():
        now.update(figures(twilio.usage.records.today))
        return now["calls-inbound"][0] == before["calls-inbound"][0] + 3

    wait_for("the third call's usage", counted)
    assert now["calls-inbound"][1] == before["calls-inbound"][1] + 3, "each is a minute that was begun"
    assert now["calls"][0] == now["calls-inbound"][0] + now["calls-outbound"][0]
    assert len(pages.to("/used/trigger")) == 1
    for records in (twilio.usage.records, twilio.usage.records.all_time, twilio.usage.records.this_month,
                    twilio.usage.records.daily, twilio.usage.records.monthly, twilio.usage.records.yearly):
        assert figures(records)["calls-inbound"] == now["calls-inbound"], records
    assert figures(twilio.usage.records.yesterday)["calls-inbound"] == (0, 0)
    (one,) = twilio.usage.records.today.list(category="calls-inbound")
    assert one.count_unit == "calls" and one.usage_unit == "minutes" and one.start_date == one.end_date
    (messages,) = twilio.usage.records.list(category="sms")
    assert messages.count == "0"
    assert twilio.usage.triggers.list(usage_category="calls") == []
    assert twilio.usage.triggers(trigger.sid).update(friendly_name="x").friendly_name == "x"
    assert twilio.usage.triggers(trigger.sid).delete()


def test_resources_of_other_products_are_refused_with_one_error(twilio):
    for call in [
        lambda: twilio.messages.create(to="+15550001111", from_="+15550002222", body="hello"),
        lambda: twilio.messages("MM" + "0" * 32).fetch(),
        lambda: twilio.short_codes("SC" + "0" * 32).fetch(),
        lambda: twilio.connect_apps("CN" + "0" * 32).fetch(),
        lambda: twilio.recordings("RE" + "0" * 32).add_on_results("XR" + "0" * 32).fetch(),
    ]:
        refused(call, 403, 20006)


def test_a_number_is_transferred_to_a_subaccount(server, twilio):
    made = twilio.api.accounts.create(friendly_name="heir")
    number = twilio.incoming_phone_numbers.create(phone_number="+15557770010")
    moved = twilio.incoming_phone_numbers(number.sid).update(account_sid=made.sid)
    assert moved.account_sid == made.sid
    refused(lambda: twilio.incoming_phone_numbers(number.sid).fetch(), 404, 20404)
    own = login(server, made.sid, made.auth_token)
    assert own.incoming_phone_numbers(number.sid).fetch().phone_number == "+15557770010"
    assert twilio.api.accounts(made.sid).incoming_phone_numbers(number.sid).delete()
