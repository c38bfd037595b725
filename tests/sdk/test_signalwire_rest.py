"""SignalWire's Compatibility API by plain HTTP: both prefixes, its ids, its credentials, its signatures."""

import base64
import re
import uuid

import numpy
import pytest
import requests
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from harness.party import Party
from harness.phone import callee, until_told
from harness.rtp import share
from harness.signalwire import KEY, NUMBER, PROJECT, TOKEN, space
from harness.waiting import wait_for

PREFIXES = ["/api/laml/2010-04-01", "/2010-04-01"]
HELLO = "<Response><Say>Hello</Say><Pause length='20'/></Response>"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(space(module_webapp.url + "/voice"))


@pytest.fixture(params=PREFIXES)
def api(server, request):
    """Asks below the project's account: api(method, path, **parameters)."""

    def ask(method, path, credentials=(PROJECT, TOKEN), **parameters):
        url = f"{server.http}{request.param}/Accounts/{PROJECT}{path}"
        where = "params" if method == "GET" else "data"
        return requests.request(method, url, auth=credentials, timeout=10, **{where: parameters})

    return ask


@pytest.fixture
def app(module_webapp):
    """The application, without the check of Twilio's signatures that the fixture of this name has elsewhere."""
    module_webapp.forget()
    module_webapp.on("/voice", (HELLO, 200, {"Content-Type": "text/xml"}))
    module_webapp.on("/status")
    return module_webapp


def call(api, app, **more):
    """A call to the project's own number, answered."""
    events = ["initiated,ringing,answered,completed"]
    made = api("POST", "/Calls.json", To=NUMBER, From=NUMBER, Url=app.url + "/voice",
               StatusCallback=app.url + "/status", StatusCallbackEvent=events, **more)
    assert made.status_code == 201, made.text
    sid = made.json()["sid"]
    for word in ("in-progress", "answered"):
        app.wait("/status", where=lambda one: one["CallStatus"] == word and one["CallSid"] == sid)
    return made.json()


def test_a_call_has_signalwires_ids_fields_and_uris_and_is_ended_by_request(api, app):
    made = call(api, app)
    sid = made["sid"]
    assert str(uuid.UUID(sid)) == sid and made["account_sid"] == PROJECT
    assert made["uri"] == f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls/{sid}.json"
    assert made["formatted_to"] == made["to_formatted"] == "(555) 123-0001"
    assert made["direction"] == "outbound"
    # A path without .json is JSON, too.
    live = api("GET", f"/Calls/{sid}").json()
    assert (live["status"], live["answered_by"]) == ("in-progress", None)
    assert live["subresource_uris"].keys() == {"notifications", "recordings"}, "all that SignalWire publishes"
    assert api("POST", f"/Calls/{sid}", Status="completed").status_code == 200
    wait_for("its end", lambda: api("GET", f"/Calls/{sid}").json()["status"] == "completed")
    listed = api("GET", "/Calls", Status="completed").json()
    assert sid in [one["sid"] for one in listed["calls"]]
    assert listed["first_page_uri"].startswith(f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls.json?")


def test_webhooks_are_signed_with_the_signing_key_in_both_header_fields(api, app):
    sid = call(api, app, MachineDetection="none")["sid"]
    api("POST", f"/Calls/{sid}", Status="completed")
    app.wait("/status", where=lambda one: one["CallStatus"] == "completed" and one["CallSid"] == sid)
    validator = RequestValidator(KEY)
    received = [one for one in app.to("/voice", "/status") if one["CallSid"] == sid]
    assert len(received) >= 4
    for one in received:
        signature = one.headers.get("x-signalwire-signature", "")
        assert signature == one.headers.get("x-twilio-signature")
        assert validator.validate(one.url, MultiDict(one.form), signature), one
        assert one["AccountSid"] == PROJECT and re.fullmatch(r"[0-9a-f-]{36}", one["CallSid"])


def test_queues_applications_and_numbers_belong_to_their_project(api, server):
    queue = api("POST", "/Queues", FriendlyName=f"line {uuid.uuid4()}").json()
    assert api("GET", f"/Queues/{queue['sid']}").json()["friendly_name"] == queue["friendly_name"]
    made = api("POST", "/Applications", FriendlyName="menu", VoiceUrl="https://app.example/voice").json()
    assert api("DELETE", f"/Applications/{made['sid']}").status_code == 204
    numbers = api("GET", "/IncomingPhoneNumbers").json()["incoming_phone_numbers"]
    assert [one["phone_number"] for one in numbers] == [NUMBER]
    twilio = f"{server.http}/2010-04-01/Accounts/{server.account_sid}/Queues.json"
    others = requests.get(twilio, auth=(server.account_sid, server.auth_token), timeout=10).json()
    assert queue["friendly_name"] not in [one["friendly_name"] for one in others["queues"]]


def test_wrong_credentials_and_unknown_resources_are_refused(api, server):
    for credentials in [(PROJECT, "wrong"), (server.account_sid, server.auth_token)]:
        assert api("GET", "/Calls", credentials=credentials).status_code == 401
    assert api("GET", "/SIP/Domains").status_code == 404
    assert api("GET", f"/Calls/{uuid.uuid4()}").json()["code"] == 20404


@pytest.mark.parametrize("path", ["/api/relay/rest/phone_numbers", "/api/fabric"])
def test_unsupported_newer_apis_answer_404_with_a_message(server, path):
    answer = requests.post(server.http + path, json={}, timeout=10)
    assert answer.status_code == 404 and path in answer.json()["errors"][0]["message"]


def test_the_audio_of_a_conference_is_streamed_until_stop_or_end(api, app, phone, rtp, socketapp):
    room = "<Response><Dial><Conference>room</Conference></Dial></Response>"
    first, second = (Party(phone, rtp, callee(until_told())) for _ in range(2))
    for one in (first, second):
        assert api("POST", "/Calls", To=one.uri, From=NUMBER, Laml=room).status_code == 201
    with first.sounds(440), second.sounds(1000):
        first.hears(1000)
        (conference,) = api("GET", "/Conferences", Status="in-progress").json()["conferences"]
        streams = f"/Conferences/{conference['sid']}/Streams"
        asked = {"Url": socketapp.url, "StatusCallback": app.url + "/status", "StreamCodec": "L16@16000h", "Parameter1.Name": "desk",
                 "Parameter1.Value": "2", "AuthorizationBearerToken": "abc"}
        made, last = (api("POST", streams, Name=name, **asked).json() for name in ("tap", "last"))
        assert (made["conference_sid"], made["status"], made["name"]) == (conference["sid"], "in-progress", "tap")
        sockets = [socketapp.take() for _ in range(2)]
        by_id = {one.wait("start")[0]["start"]["streamSid"]: one for one in sockets}
        socket = by_id[made["sid"]]
        start = socket.of("start")[0]["start"]
        assert (start["callSid"], start["tracks"], start["customParameters"]) == (conference["sid"], ["inbound"], {"desk": "2"})
        assert start["mediaFormat"]["sampleRate"] == 16000 and socket.headers["Authorization"] == "Bearer abc"

        def heard():
            payload = b"".join(base64.b64decode(one["media"]["payload"]) for one in socket.of("media")[-25:])
            return numpy.frombuffer(payload, dtype="<i2")[::2]

        wait_for("both tones in the stream", lambda: min(share(heard(), hertz) for hertz in (440, 1000)) > 0.3)
    assert api("POST", f"{streams}/{made['sid']}", Status="stopped").json()["status"] == "stopped"
    socket.wait("stop")
    assert socket.wait_closed()[0] == 1000
    assert api("POST", f"{streams}/{made['sid']}", Status="stopped").status_code == 404
    api("POST", f"/Conferences/{conference['sid']}", Status="completed")
    assert by_id[last["sid"]].wait("stop")
    assert api("POST", streams, **asked).status_code == 400, "the conference is over"
    for stream in (made, last):
        for event in ("stream-started", "stream-stopped"):
            (told,) = app.wait("/status", where=lambda one: (one.get("StreamSid"), one.get("StreamEvent")) == (stream["sid"], event))
            assert told["ConferenceSid"] == conference["sid"]


@pytest.mark.parametrize(("codec", "rate"), [("L16@24000h", 24_000), ("L16@16000h", 16_000), ("L16", 8_000)])
def test_l16_audio_of_a_stream_has_the_sample_rate_of_its_start_message(api, phone, rtp, socketapp, codec, rate):
    party = Party(phone, rtp, callee(until_told(), ends="bye"))
    stream = f"<Response><Connect><Stream url='{socketapp.url}' codec='{codec}'/></Connect></Response>"
    assert api("POST", "/Calls", To=party.uri, From=NUMBER, Laml=stream).status_code == 201
    socket = socketapp.take()
    start = socket.wait("start")[0]["start"]
    assert start["mediaFormat"]["sampleRate"] == rate
    spoken = (12_000 * numpy.sin(2 * numpy.pi * 1000 / rate * numpy.arange(5 * rate))).astype("<i2").tobytes()
    payload = base64.b64encode(spoken).decode()
    socket.send(event="media", streamSid=start["streamSid"], media={"payload": payload})

    def heard():
        payload = b"".join(base64.b64decode(one["media"]["payload"]) for one in socket.of("media")[-25:])
        return numpy.frombuffer(payload, dtype="<i2")

    with party.sounds(600):
        party.hears(1000)
        # share() takes samples of 8 kHz: a tone of samples at another rate has another frequency.
        wait_for("the tone in 25 frames of 20 ms", lambda: len(heard()) == 25 * rate // 50 and share(heard(), 600 * 8_000 / rate) > 0.9)
    party.hang_up()


def test_a_subproject_has_its_own_account(api, server):
    root = server.http + "/api/laml/2010-04-01/Accounts"
    made = requests.post(root, auth=(PROJECT, TOKEN), data={"FriendlyName": "Branch"}, timeout=10).json()
    assert (made["friendly_name"], made["owner_account_sid"], made["subproject"]) == ("Branch", PROJECT, True)
    own = (made["sid"], made["auth_token"])
    assert made["signing_key"].startswith("PSK_")
    seen = requests.get(f"{root}/{made['sid']}", auth=own, timeout=10).json()
    assert (seen["sid"], seen["subproject"], seen["signing_key"]) == (made["sid"], True, made["signing_key"])
    assert requests.get(f"{root}/{PROJECT}/Calls", auth=own, timeout=10).status_code in (401, 403)
    queue = requests.post(f"{root}/{made['sid']}/Queues", auth=own, data={"FriendlyName": "branch"}, timeout=10).json()
    assert queue["account_sid"] == made["sid"]
    assert made["sid"] in [one["sid"] for one in requests.get(root, auth=(PROJECT, TOKEN), timeout=10).json()["accounts"]]
    again = requests.post(root, auth=own, data={"FriendlyName": "deeper"}, timeout=10)
    assert again.status_code == 403, "one level"
