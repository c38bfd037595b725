"""What documents make calls do, seen from the phones and from the web application: ends, refusals, dials, prompts."""

import pytest
import requests
from twilio.twiml.voice_response import Dial, Gather, Start

from harness.audio import RATE, likeness, read_wav, speech, write_capture
from harness.phone import callee, caller, pause, play, ringing_callee
from harness.resources import carrier
from harness.waiting import wait_for
from twilio_app import answering, assert_genuine, client, number, twiml

FROM = "+15550001111"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, carrier_port):
    url = module_webapp.url
    more = f'status_callback = "{url}/status"\nfallback_url = "{url}/fallback"\n'
    return start_tandem(number("5*", module_webapp, "/voice", more) + carrier(carrier_port))


@pytest.fixture
def app(server, module_webapp):
    """The web application, knowing nothing of earlier tests; every request must be genuine."""
    module_webapp.forget()
    module_webapp.on("/status")
    yield module_webapp
    assert_genuine(server, module_webapp, bare=["/bare", "/bare/again"])


@pytest.mark.parametrize(
    ("reason", "response", "status"), [("busy", "486", "busy"), ("rejected", "603", "no-answer")]
)
def test_a_rejected_call_gets_its_sip_status_and_is_never_answered(server, app, phone, reason, response, status):
    answering(app, "/voice", lambda document: document.reject(reason=reason))
    phone(caller("500", reject=response), target=server.sip).finish()
    (told,) = app.wait("/status")
    assert told["CallStatus"] == status and told["CallDuration"] == "0"


def test_a_caller_over_tcp_is_served(server, app, phone, tmp_path):
    answering(app, "/voice", lambda document: document.gather(num_digits=2, action="/keys"))
    app.on("/keys", twiml("<Response><Hangup/></Response>"))
    write_capture(tmp_path / "keys.pcap", "   42  ")
    scenario = caller("500", play(tmp_path / "keys.pcap"), ends="wait")
    phone(scenario, target=server.sip_tcp, transport="tcp").finish()
    assert app.to("/keys")[0]["Digits"] == "42"


def test_finish_on_key_ends_a_gather_and_a_gather_without_digits_runs_the_next_verb(server, app, phone, tmp_path):
    def voice(document):
        document.gather(timeout=1, action="/never")
        document.redirect("/again")

    def again(document):
        document.gather(timeout=5, finish_on_key="*", action="/keys")

    def keys(document):
        document.gather(timeout=1, action="/empty", action_on_empty_result=True)

    answering(app, "/voice", voice)
    answering(app, "/again", again)
    answering(app, "/keys", keys)
    answering(app, "/empty", lambda document: document.hangup())
    write_capture(tmp_path / "keys.pcap", " " * 16, "12#3*")
    phone(caller("500", play(tmp_path / "keys.pcap"), ends="wait"), target=server.sip).finish()
    assert not app.to("/never")
    (keys,) = app.to("/keys")
    assert (keys["Digits"], keys["FinishedOnKey"]) == ("12#3", "*")
    (empty,) = app.to("/empty")
    assert empty["Digits"] == ""


def test_the_caller_hears_played_files_and_speech(server, app, phone, tmp_path):
    music = speech(2)
    app.sound("/music.wav", music)

    def voice(document):
        start = Start()
        start.recording(channels="dual", recording_status_callback="/kept", trim="do-not-trim")
        document.append(start)
        document.play("music.wav")
        document.say("Hello.")

    answering(app, "/voice", voice)
    app.on("/kept")
    phone(caller("500", ends="wait"), target=server.sip).finish()
    (kept,) = app.wait("/kept")
    (tmp_path / "call.wav").write_bytes(requests.get(kept["RecordingUrl"], timeout=5).content)
    heard, _ = read_wav(tmp_path / "call.wav")
    told = heard[:, 1]
    _, behind = likeness(music, told)
    assert 0 <= behind < RATE // 4
    alike, _ = likeness(music, told[behind : behind + len(music)])
    print(f"correlation {alike:.4f}, {behind} samples behind")
    assert alike > 0.9
    said = told[behind + len(music) :]
    assert len(said) > RATE // 4 and abs(said.astype(int)).max() > 2000
    assert not heard[:, 0].any()


def test_a_dialled_number_uses_the_trunk_and_runs_its_whisper_first(server, app, phone, carrier_port):
    called = phone(callee(pause(1500), ends="bye"), port=carrier_port)

    def voice(document):
        dial = Dial(action="/after", caller_id=FROM, answer_on_bridge=True)
        dial.number(
            "+15557654321",
            url="/whisper",
            status_callback="/progress",
            status_callback_event="initiated ringing answered completed",
        )
        document.append(dial)

    answering(app, "/voice", voice)
    answering(app, "/whisper", lambda document: document.play(digits="1"))
    answering(app, "/after", lambda document: document.hangup())
    app.on("/progress")
    phone(caller("500", ends="wait"), target=server.sip).finish()
    called.finish()
    (voice,), (whisper,), (after,) = app.to("/voice"), app.to("/whisper"), app.wait("/after")
    assert whisper["ParentCallSid"] == voice["CallSid"] and whisper["CallSid"] == after["DialCallSid"]
    assert whisper["Direction"] == "outbound-dial" and whisper["To"] == "+15557654321"
    assert after["DialCallStatus"] == "completed" and after["DialBridged"] == "true"
    assert [one["CallStatus"] for one in app.wait("/progress", 4)] == [
        "initiated",
        "ringing",
        "in-progress",
        "completed",
    ]
    assert "INVITE sip:+15557654321@" in called.messages()


def test_an_unanswered_dial_ends_after_its_timeout(server, app, phone):
    called = phone(ringing_callee())

    def voice(document):
        document.dial(timeout=1, action="/after").sip(called.uri)

    answering(app, "/voice", voice)
    answering(app, "/after", lambda document: document.hangup())
    phone(caller("500", ends="wait"), target=server.sip).finish()
    called.finish()
    (after,) = app.wait("/after")
    assert after["DialCallStatus"] == "no-answer" and after["DialBridged"] == "false"


def test_the_first_phone_to_answer_wins_and_the_others_are_cancelled(server, app, phone):
    slow, quick = phone(ringing_callee()), phone(callee(pause(500), ends="bye", ring_ms=300))

    def voice(document):
        dial = Dial(action="/after")
        dial.sip(slow.uri, status_callback="/slow")
        dial.sip(quick.uri, status_callback="/quick")
        document.append(dial)

    answering(app, "/voice", voice)
    answering(app, "/after", lambda document: document.hangup())
    app.on("/slow")
    app.on("/quick")
    phone(caller("500", ends="wait"), target=server.sip).finish()
    slow.finish()
    quick.finish()
    assert app.wait("/slow")[0]["CallStatus"] == "canceled"
    (won,), (after,) = app.wait("/quick"), app.wait("/after")
    assert won["CallStatus"] == "completed" and after["DialCallSid"] == won["CallSid"]


def test_a_hangup_of_the_caller_hangs_up_the_called_phone(server, app, phone):
    called = phone(callee())
    answering(app, "/voice", lambda document: document.dial(action="/after").sip(called.uri, status_callback="/child"))
    answering(app, "/after", lambda document: document.say("Nobody is here any more."))
    app.on("/child")
    phone(caller("500", pause(1000), ends="bye"), target=server.sip).finish()
    called.finish()
    (after,) = app.wait("/after")
    assert after["DialCallStatus"] == "completed" and after["CallStatus"] == "completed"
    assert app.wait("/child")[0]["CallStatus"] == "completed"
    assert app.wait("/status")[0]["CallStatus"] == "completed"


def test_a_caller_who_cancels_while_ringing_is_reported_as_canceled(server, app, phone):
    called = phone(ringing_callee())

    def voice(document):
        document.dial(answer_on_bridge=True).sip(called.uri, status_callback="/child")

    answering(app, "/voice", voice)
    app.on("/child")
    phone(caller("500", ends="cancel"), target=server.sip).finish()
    called.finish()
    assert app.wait("/child")[0]["CallStatus"] == "canceled"
    assert app.wait("/status")[0]["CallStatus"] == "canceled"


def test_a_request_redirects_the_child_of_a_dial_and_the_parent_continues(server, app, phone):
    called = phone(callee())
    answering(app, "/voice", lambda document: document.dial(action="/after").sip(called.uri))
    answering(app, "/after", lambda document: document.pause(length=60))
    answering(app, "/pulled", lambda document: document.pause(length=60))
    calling = phone(caller("500", ends="wait"), target=server.sip)
    (voice,) = app.wait("/voice")
    twilio = client(server)

    def live_child():
        return twilio.calls.list(parent_call_sid=voice["CallSid"], status="in-progress")

    (child,) = wait_for("the child", live_child)
    child.update(url=f"{app.url}/pulled")
    assert app.wait("/pulled")[0]["CallSid"] == child.sid
    (after,) = app.wait("/after")
    assert after["CallSid"] == voice["CallSid"] and after["DialCallStatus"] == "completed"
    for sid in (child.sid, voice["CallSid"]):
        twilio.calls(sid).update(status="completed")
    calling.finish()
    called.finish()


def test_redirecting_the_parent_of_a_dial_ends_the_dial(server, app, phone):
    called = phone(callee())
    answering(app, "/voice", lambda document: document.dial(action="/after").sip(called.uri, status_callback="/child"))
    answering(app, "/elsewhere", lambda document: document.hangup())
    app.on("/child")
    calling = phone(caller("500", ends="wait"), target=server.sip)
    (voice,) = app.wait("/voice")
    twilio = client(server)
    wait_for("the child", lambda: twilio.calls.list(parent_call_sid=voice["CallSid"], status="in-progress"))
    twilio.calls(voice["CallSid"]).update(url=f"{app.url}/elsewhere")
    app.wait("/elsewhere")
    calling.finish()
    called.finish()
    assert app.wait("/child")[0]["CallStatus"] == "completed"
    # The document of the answer is not run.
    assert app.wait("/after")[0]["DialCallStatus"] == "completed"


def test_send_digits_reaches_the_menu_of_the_called_party(server, app):
    def voice(document):
        document.append(Gather(num_digits=4, action="/keys"))

    answering(app, "/voice", voice)
    answering(app, "/keys", lambda document: document.hangup())
    answering(app, "/sent", lambda document: document.pause(length=30))
    app.on("/progress")
    client(server).calls.create(
        to=f"sip:500@{server.sip}",
        from_=FROM,
        url=f"{app.url}/sent",
        send_digits="w12*#",
        status_callback=f"{app.url}/progress",
    )
    (keys,) = app.wait("/keys")
    assert keys["Digits"] == "12*" and keys["FinishedOnKey"] == "#"
    assert app.wait("/progress")[0]["CallStatus"] == "completed"


def test_an_invalid_document_is_replaced_by_the_fallback(server, app, phone):
    answers = iter(["<Response><Say>unfinished", "<Other/>", ""])
    codes = []

    def fallback():
        codes.append(app.to("/fallback")[-1]["ErrorCode"])
        return twiml("<Response><Hangup/></Response>")

    app.on("/fallback", fallback)
    for answer in answers:
        app.on("/voice", lambda answer=answer: (answer, {"Content-Type": "text/xml"}))
        phone(caller("500", ends="wait"), target=server.sip).finish()
    assert codes == ["12100", "12102", "11770"]


@pytest.mark.parametrize("prompt", ["R&D", 'say "hello"', "a < b"])
def test_a_document_with_an_unescaped_parameter_is_invalid(server, app, phone, prompt):
    stream = f'<Stream url="wss://app.example/stream"><Parameter name="prompt" value="{prompt}"/></Stream>'
    app.on("/voice", (f"<Response><Connect>{stream}</Connect></Response>", {"Content-Type": "text/xml"}))
    app.on("/fallback", twiml("<Response><Hangup/></Response>"))
    phone(caller("500", ends="wait"), target=server.sip).finish()
    assert app.to("/fallback")[-1]["ErrorCode"] == "12100"


@pytest.mark.parametrize("status", [301, 302, 303])
def test_each_redirect_is_signed_for_its_own_url(server, app, phone, status):
    # The validator judges each of them when the test ends.
    app.on("/voice", lambda: ("", status, {"Location": "/bare"}))
    app.on("/bare", lambda: ("", status, {"Location": "/bare/again?a=b%20c&d="}))
    answering(app, "/bare/again", lambda document: document.hangup())
    phone(caller("500", ends="wait"), target=server.sip).finish()
    (voice,), (bare,), (again,) = app.to("/voice"), app.to("/bare"), app.to("/bare/again")
    assert (voice.method, bare.method, again.method) == ("POST", "GET", "GET")
    assert bare.url == f"{app.url}/bare" and again.url == f"{app.url}/bare/again?a=b%20c&d="


def test_a_document_request_is_repeated_according_to_its_url_fragment(server, app, phone):
    answers = iter([("", 503), ("", 503), twiml("<Response><Hangup/></Response>")])
    app.on("/again", lambda: next(answers))
    answering(app, "/voice", lambda document: document.redirect("/again#rc=2&rp=5xx"))
    phone(caller("500", ends="wait"), target=server.sip).finish()
    tokens = [request.headers["i-twilio-idempotency-token"] for request in app.to("/again")]
    assert len(tokens) == 3 and len(set(tokens)) == 1 and not app.to("/fallback")


def test_a_redirect_of_the_application_is_followed_and_relative_urls_resolve_against_it(server, app, phone):
    app.on("/voice", lambda: ("", 307, {"Location": "/moved/here"}))
    answering(app, "/moved/here", lambda document: document.redirect("next", method="GET"))
    answering(app, "/moved/next", lambda document: document.hangup())
    phone(caller("500", ends="wait"), target=server.sip).finish()
    (here,), (next_,) = app.to("/moved/here"), app.to("/moved/next")
    assert here.method == "POST" and here["CallSid"] == next_["CallSid"] and next_.method == "GET"
