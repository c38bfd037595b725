"""Numbers, applications and caller ids made by twilio-python, and the calls that go by them, from and to SIPp phones."""

import signal

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from harness.phone import callee, caller, free_port
from harness.resources import OTHER_SID, OTHER_TOKEN, other_account
from harness.rtp import tone
from harness.server import HOST
from harness.waiting import wait_for
from twilio_app import Elsewhere, assert_genuine, client, twiml

FILE = "+15551239001"  # a number of the file
PHONE = "+14155559999"  # where a phone is
APP = "AP000000000000000000000000000000aa"


@pytest.fixture(scope="module")
def phone_port():
    """Where calls over the trunk go: a phone that takes them must be there."""
    return free_port()


@pytest.fixture(scope="module")
def resources(pages, phone_port):
    return f"""
{other_account()}
[[trunks]]
name = "phone"
uri = "sip:{HOST}:{phone_port}"
inbound_from = ["{HOST}/32"]
prefixes = ["+"]

[[numbers]]
number = "{FILE}"
account = "acme"
provider = "twilio"
voice_url = "{pages.url}/file/voice"
status_callback = "{pages.url}/file/status"

[[applications]]
id = "{APP}"
account = "acme"
provider = "twilio"
webhook_url = "{pages.url}/app/voice"

[[number_pool]]
number = "+14155550100"
last = "+14155550109"
region = "CA"
locality = "San Francisco"

[[number_pool]]
number = "+442071838750"
type = "mobile"
capabilities = ["voice", "sms"]

[[number_pool]]
number = "+18005550100"
type = "toll_free"
"""


@pytest.fixture(scope="module")
def server(start_tandem, resources):
    return start_tandem(resources)


@pytest.fixture(autouse=True)
def fresh(pages):
    """Every test begins with an empty application, and each of its requests was genuine."""
    pages.forget()
    yield


def refused(call):
    """Status and code of the refusal."""
    with pytest.raises(TwilioRestException) as error:
        call()
    return error.value.status, error.value.code


def hears(rtp, phone, server, number, hertz):
    """A phone calls the number, hears the tone and is hung up."""
    media = rtp()
    one = phone(caller(number, ends="wait"), target=server.sip, media=media)
    media.wait_for_tone(hertz)
    one.finish()


def plays(pages, folder, hertz, tmp_path):
    """Has the pages of a folder play this tone to callers."""
    pages.sound(f"/{folder}/tone.wav", tone(hertz, 1))

    def voice():
        response = VoiceResponse()
        response.play("tone.wav")
        return twiml(response)

    pages.on(f"/{folder}/voice", voice)
    pages.on(f"/{folder}/status")


def test_a_number_is_found_purchased_called_updated_and_released(server, twilio, pages, phone, rtp, tmp_path):
    countries = {country.country_code: country for country in twilio.available_phone_numbers.list()}
    assert list(countries) == ["US", "GB"] and countries["GB"].country == "United Kingdom"
    assert list(countries["US"].subresource_uris) == ["local", "toll_free"]
    assert twilio.available_phone_numbers("GB").fetch().country == "United Kingdom"
    local = twilio.available_phone_numbers("US").local
    found = local.list(area_code="415", contains="55501**", in_region="CA", voice_enabled=True, limit=3)
    assert [one.phone_number for one in found] == [f"+1415555010{n}" for n in range(3)]
    assert found[0].friendly_name == "(415) 555-0100" and found[0].locality == "San Francisco"
    assert found[0].capabilities["voice"] is True and found[0].iso_country == "US"
    assert local.list(area_code="510") == [] and local.list(sms_enabled=True) == []
    assert len(twilio.available_phone_numbers("GB").mobile.list()) == 1
    assert len(twilio.available_phone_numbers("US").toll_free.list()) == 1
    assert refused(lambda: twilio.available_phone_numbers("XX").fetch()) == (404, 20404)

    numbers = twilio.incoming_phone_numbers
    taken = numbers.create(phone_number=found[0].phone_number, friendly_name="Desk")
    assert taken.sid.startswith("PN") and taken.phone_number == found[0].phone_number and taken.voice_url == ""
    assert refused(lambda: numbers.create(phone_number=found[0].phone_number)) == (400, 21422)
    assert refused(lambda: numbers.create(phone_number="+14155559998")) == (400, 21422), "not of the pool"
    assert refused(lambda: numbers.create(phone_number="desk")) == (400, 21421)
    assert refused(lambda: numbers.create(area_code="510")) == (400, 21452)
    assert found[0].phone_number not in [one.phone_number for one in local.list()]
    phone(caller(taken.phone_number, reject=404), target=server.sip).finish()

    plays(pages, "taken", 600, tmp_path)
    changed = taken.update(
        voice_url=f"{pages.url}/taken/voice", status_callback=f"{pages.url}/taken/status", voice_method="GET"
    )
    assert changed.sid == taken.sid and changed.voice_method == "GET" and changed.friendly_name == "Desk"
    hears(rtp, phone, server, taken.phone_number, 600)
    (voice,) = pages.to("/taken/voice")
    assert voice.method == "GET" and voice["To"] == taken.phone_number
    (status,) = pages.wait("/taken/status")
    assert status["CallStatus"] == "completed" and status["CallSid"] == voice["CallSid"]
    call = twilio.calls(voice["CallSid"]).fetch()
    assert call.phone_number_sid == taken.sid and call.direction == "inbound"
    assert_genuine(server, pages)

    assert [one.sid for one in numbers.list(phone_number="4155550100")] == [taken.sid]
    assert [one.sid for one in numbers.list(friendly_name="Desk")] == [taken.sid]
    assert [one.sid for one in numbers.local.list(phone_number="415555")] == [taken.sid]
    assert numbers.toll_free.list() == [] and numbers.list(friendly_name="nobody") == []
    free = numbers.toll_free.create(phone_number="+18005550100")
    assert [one.sid for one in numbers.toll_free.list()] == [free.sid] and free.friendly_name == "(800) 555-0100"
    assert numbers(free.sid).delete() is True

    assert taken.delete() is True
    assert refused(lambda: numbers(taken.sid).fetch()) == (404, 20404)
    assert found[0].phone_number in [one.phone_number for one in local.list()]
    phone(caller(taken.phone_number, reject=404), target=server.sip).finish()


def test_lists_of_numbers_are_paged(twilio):
    numbers = twilio.incoming_phone_numbers
    taken = [numbers.create(area_code="415").sid for _ in range(5)]
    listed = [one.sid for one in numbers.list(phone_number="+1415", page_size=2)]
    assert listed == taken[::-1]
    for one in numbers.stream(phone_number="+1415", page_size=2):
        assert one.delete() is True
    assert numbers.list(phone_number="+1415") == []


def test_a_configured_number_can_be_updated_but_not_deleted(
    server, twilio, pages, phone, rtp, tmp_path
):
    numbers = twilio.incoming_phone_numbers
    (shown,) = numbers.list(phone_number=FILE)
    assert shown.voice_url == f"{pages.url}/file/voice" and shown.date_created is not None
    plays(pages, "file", 500, tmp_path)
    plays(pages, "rest", 700, tmp_path)
    hears(rtp, phone, server, FILE, 500)
    assert refused(shown.delete) == (403, 20006)
    assert refused(lambda: shown.update(account_sid=OTHER_SID))[0] == 403

    assert shown.update(friendly_name="Front").sid == shown.sid
    hears(rtp, phone, server, FILE, 500)
    changed = shown.update(voice_url=f"{pages.url}/rest/voice")
    assert changed.sid == shown.sid and changed.friendly_name == "Front" and changed.date_created is not None
    hears(rtp, phone, server, FILE, 700)
    assert twilio.calls(pages.to("/rest/voice")[0]["CallSid"]).fetch().phone_number_sid == shown.sid

    assert shown.delete() is True, "what was changed"
    assert numbers(shown.sid).fetch().voice_url == f"{pages.url}/file/voice"
    hears(rtp, phone, server, FILE, 500)


def test_an_application_answers_numbers_and_calls(server, twilio, pages, phone, rtp, tmp_path):
    applications = twilio.applications
    plays(pages, "one", 600, tmp_path)
    plays(pages, "two", 800, tmp_path)
    made = applications.create(
        friendly_name="One", voice_url=f"{pages.url}/one/voice", status_callback=f"{pages.url}/one/status"
    )
    assert made.sid.startswith("AP") and made.voice_method == "POST" and made.sms_url is None
    assert {one.sid for one in applications.list()} == {made.sid, APP}
    assert [one.sid for one in applications.list(friendly_name="One")] == [made.sid]
    numbers = twilio.incoming_phone_numbers
    number = numbers.create(area_code="415", voice_url=f"{pages.url}/two/voice", voice_application_sid=made.sid)
    assert number.voice_application_sid == made.sid
    assert refused(lambda: number.update(voice_application_sid="AP" + "0" * 32)) == (400, 21218)
    hears(rtp, phone, server, number.phone_number, 600)
    assert pages.wait("/one/status")[0]["CallStatus"] == "completed"
    assert made.update(voice_url=f"{pages.url}/two/voice").voice_url == f"{pages.url}/two/voice"
    hears(rtp, phone, server, number.phone_number, 800)

    called = phone(callee())
    media_call = twilio.calls.create(
        to=called.uri, from_=number.phone_number, application_sid=made.sid, status_callback=f"{pages.url}/ignored"
    )
    called.finish()
    assert media_call.phone_number_sid == number.sid
    (voice,) = pages.wait("/two/voice", where=lambda one: one["CallSid"] == media_call.sid)
    assert voice["Direction"] == "outbound-api"
    pages.wait("/one/status", where=lambda one: one["CallSid"] == media_call.sid)
    assert not pages.to("/ignored")

    empty = applications.create(friendly_name="Nowhere")
    create = lambda sid: twilio.calls.create(to=called.uri, from_=number.phone_number, application_sid=sid)
    assert refused(lambda: create(empty.sid)) == (400, 21205)
    assert empty.delete() is True and refused(lambda: create(empty.sid)) == (400, 21218)
    assert refused(lambda: applications(APP).delete()) == (403, 20006)
    assert applications(APP).update(friendly_name="Of the file").friendly_name == "Of the file"
    assert applications(APP).fetch().voice_url == f"{pages.url}/app/voice"
    assert applications(APP).delete() is True and applications(APP).fetch().friendly_name == APP
    assert made.delete() is True
    phone(caller(number.phone_number, reject=404), target=server.sip).finish()
    assert number.delete() is True


def test_a_caller_id_is_verified_by_the_digits_pressed_in_a_call(server, twilio, pages, phone, phone_port, rtp):
    callers = twilio.outgoing_caller_ids
    requests = twilio.validation_requests
    assert refused(lambda: requests.create(phone_number="mine")) == (400, 21401)
    media = rtp()
    one = phone(callee(), media=media, port=phone_port)
    begun = requests.create(phone_number=PHONE, friendly_name="Mine", status_callback=f"{pages.url}/verified")
    pages.on("/verified")
    assert begun.phone_number == PHONE and begun.friendly_name == "Mine" and begun.call_sid.startswith("CA")
    assert len(begun.validation_code) == 6 and begun.validation_code.isdigit()
    media.wait_for_sound()
    media.press("1" + begun.validation_code[:4] + "#")
    media.press(begun.validation_code)
    one.finish()
    (told,) = pages.wait("/verified")
    assert told["VerificationStatus"] == "success" and told["CallSid"] == begun.call_sid and told["To"] == PHONE
    (kept,) = callers.list(phone_number=PHONE)
    assert kept.sid == told["OutgoingCallerIdSid"] and kept.friendly_name == "Mine"
    assert_genuine(server, pages)
    assert twilio.calls(begun.call_sid).fetch().status == "completed"
    assert refused(lambda: requests.create(phone_number=PHONE)) == (400, 21450)
    assert callers(kept.sid).update(friendly_name="Renamed").friendly_name == "Renamed"
    assert [caller.sid for caller in callers.list(friendly_name="Renamed")] == [kept.sid]
    assert callers(kept.sid).delete() is True and callers.list() == []
    assert refused(lambda: callers(kept.sid).fetch()) == (404, 20404)

    one = phone(callee(reject="486 Busy Here"), port=phone_port)
    pages.forget()
    pages.on("/verified")
    again = requests.create(phone_number=PHONE, status_callback=f"{pages.url}/verified", call_delay=1)
    one.finish()
    (told,) = pages.wait("/verified")
    assert told["VerificationStatus"] == "failed" and told["CallStatus"] == "busy" and told["CallSid"] == again.call_sid
    assert told.get("OutgoingCallerIdSid") is None and callers.list() == []


def test_strict_caller_id_permits_only_numbers_of_the_account(start_tandem, resources, phone, phone_port, rtp):
    server = start_tandem(resources + "[twilio]\nstrict_caller_id = true\n")
    twilio = client(server)
    called = phone(callee(), port=free_port())
    create = lambda number: twilio.calls.create(to=called.uri, from_=number, twiml="<Response><Hangup/></Response>")
    assert refused(lambda: create(PHONE)) == (400, 21210)
    media = rtp()
    one = phone(callee(), media=media, port=phone_port)
    begun = twilio.validation_requests.create(phone_number=PHONE)
    media.wait_for_sound()
    media.press(begun.validation_code)
    one.finish()
    sid = twilio.outgoing_caller_ids.list(phone_number=PHONE)[0].sid
    assert create(PHONE).phone_number_sid == sid
    called.finish()


def test_numbers_of_a_subaccount_are_reached_over_the_trunk_of_its_parent(start_tandem, resources, pages, phone):
    resources = resources.replace('name = "phone"', 'name = "phone"\naccount = "acme"')
    server = start_tandem(resources)
    twilio = client(server)
    made = twilio.api.v2010.accounts.create(friendly_name="Below")
    below = Client(made.sid, made.auth_token, http_client=Elsewhere(server.http))
    number = twilio.incoming_phone_numbers.create(area_code="415", voice_url=f"{pages.url}/below/voice")
    pages.on("/below/voice", lambda: twiml("<Response><Hangup/></Response>"))
    moved = twilio.incoming_phone_numbers(number.sid).update(account_sid=made.sid)
    assert moved.account_sid == made.sid
    phone(caller(number.phone_number, ends="wait"), target=server.sip).finish()
    assert pages.to("/below/voice")[0]["AccountSid"] == made.sid
    own = below.incoming_phone_numbers.create(area_code="415")
    assert {one.sid for one in below.incoming_phone_numbers.list()} == {number.sid, own.sid}
    assert refused(lambda: below.incoming_phone_numbers(own.sid).update(account_sid=server.account_sid)) == (403, 20006)
    back = twilio.api.v2010.accounts(made.sid).incoming_phone_numbers(own.sid).update(account_sid=server.account_sid)
    assert back.account_sid == server.account_sid
    assert twilio.incoming_phone_numbers(own.sid).fetch().phone_number == own.phone_number


def test_a_reload_keeps_purchased_numbers_and_changes_the_number_pool(start_tandem, resources, pages, phone):
    server = start_tandem(resources)
    twilio = client(server)
    number = twilio.incoming_phone_numbers.create(area_code="415", voice_url=f"{pages.url}/reload/voice")
    (shown,) = twilio.incoming_phone_numbers.list(phone_number=FILE)
    renamed = shown.update(friendly_name="Front", status_callback=f"{pages.url}/reload/status")
    assert renamed.voice_url == f"{pages.url}/file/voice"
    config = server.data / "tandem.toml"
    text = config.read_text().replace("/file/voice", "/reload/file").replace("/app/voice", "/reload/app")
    config.write_text(text + '[[number_pool]]\nnumber = "+12125550100"\n')
    assert twilio.applications(APP).update(friendly_name="Of the file").voice_url == f"{pages.url}/app/voice"
    server.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "reloaded:" in server.log())
    assert "restart needed" not in server.log()
    (found,) = twilio.available_phone_numbers("US").local.list(area_code="212")
    assert found.phone_number == "+12125550100"
    pages.on("/reload/voice", lambda: twiml("<Response><Hangup/></Response>"))
    phone(caller(number.phone_number, ends="wait"), target=server.sip).finish()
    assert pages.to("/reload/voice")[0]["To"] == number.phone_number
    # What REST has not changed of them is what the file says now.
    pages.on("/reload/file", lambda: twiml("<Response><Hangup/></Response>"))
    pages.on("/reload/status")
    phone(caller(FILE, ends="wait"), target=server.sip).finish()
    assert pages.to("/reload/file")[0]["To"] == FILE and pages.wait("/reload/status")[0]["To"] == FILE
    assert renamed.fetch().voice_url == f"{pages.url}/reload/file"
    front = renamed.update(voice_application_sid=APP)
    assert front.voice_application_sid == APP and front.friendly_name == "Front"
    pages.on("/reload/app", lambda: twiml("<Response><Hangup/></Response>"))
    phone(caller(FILE, ends="wait"), target=server.sip).finish()
    assert pages.to("/reload/app")[0]["To"] == FILE


def test_numbers_survive_a_restart_and_the_operator_may_transfer_them(start_tandem, resources, pages, phone):
    resources = resources.replace("[[accounts]]", 'operator = true\n[[accounts]]', 1)
    first = start_tandem(resources)
    twilio = client(first)
    number = twilio.incoming_phone_numbers.create(area_code="415", voice_url=f"{pages.url}/kept/voice")
    application = twilio.applications.create(friendly_name="Kept", voice_url=f"{pages.url}/kept/voice")
    first.stop()

    second = start_tandem(resources, at=first.data)
    twilio = client(second)
    assert twilio.incoming_phone_numbers(number.sid).fetch().voice_url == f"{pages.url}/kept/voice"
    assert twilio.applications(application.sid).fetch().friendly_name == "Kept"
    pages.on("/kept/voice", lambda: twiml("<Response><Hangup/></Response>"))
    phone(caller(number.phone_number, ends="wait"), target=second.sip).finish()
    assert pages.to("/kept/voice")[0]["AccountSid"] == second.account_sid

    other = Client(OTHER_SID, OTHER_TOKEN, http_client=Elsewhere(second.http))
    moved = twilio.incoming_phone_numbers(number.sid).update(account_sid=OTHER_SID)
    assert moved.account_sid == OTHER_SID and moved.sid == number.sid
    assert refused(lambda: twilio.incoming_phone_numbers(number.sid).fetch()) == (404, 20404)
    theirs = other.incoming_phone_numbers(number.sid).fetch()
    assert theirs.phone_number == number.phone_number
    assert refused(lambda: theirs.update(account_sid=second.account_sid)) == (403, 20006)
    phone(caller(number.phone_number, ends="wait"), target=second.sip).finish()
    assert pages.to("/kept/voice")[1]["AccountSid"] == OTHER_SID
