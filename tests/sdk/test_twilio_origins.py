"""Applications with a public name of their own in their URLs, reached on this machine by [[origins]]: without TLS, without a tunnel,
and without noticing."""

import base64
import json
import signal
from urllib.parse import unquote_plus, urlsplit

import pytest
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, Dial
from werkzeug.datastructures import MultiDict

from harness.phone import callee, caller, until_told
from harness.rtp import pcmu, tone
from harness.waiting import wait_for
from harness.webapp import WebApp
from twilio_app import answering, client

PUBLIC = "https://bot.example"
SOCKETS = "https://bot.example:8443"


def origin(public, local):
    return f'[[origins]]\nfrom = "{public}"\nto = "{local}"\n'


def resources(pages, sockets):
    return (
        origin(PUBLIC, pages.url)
        + origin(SOCKETS, sockets.url.replace("ws://", "http://"))
        + f'[[numbers]]\nnumber = "7*"\naccount = "acme"\nprovider = "twilio"\nvoice_url = "{PUBLIC}/voice"\n'
        + f'status_callback = "{PUBLIC}/status"\n'
    )


def public_url(request):
    """What a framework behind a proxy takes for the URL: the forwarded scheme and the Host."""
    parts = urlsplit(request.url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{request.headers['x-forwarded-proto']}://{request.headers['host']}{parts.path}{query}"


@pytest.fixture
def server(start_tandem, webapp, socketapp):
    return start_tandem(resources(webapp, socketapp))


@pytest.fixture
def call(server, phone, rtp):
    """Calls the number: the phone and its audio."""

    def start(ends="wait"):
        media = rtp()
        steps = until_told() if ends == "bye" else ""
        return phone(caller("700", steps, ends=ends), target=server.sip, media=media), media

    return start


@pytest.fixture
def app(server, webapp):
    """The application; the SDK's validator must take every request for one to its public URL, and for no other."""
    webapp.on("/status")
    yield webapp
    validator = RequestValidator(server.auth_token)
    checked = [request for request in webapp.to() if request.path not in webapp.sounds]
    assert checked
    for request in checked:
        parameters = MultiDict(request.form) if request.method == "POST" else {}
        signature = request.headers["x-twilio-signature"]
        assert request.headers["host"] == request.headers["x-forwarded-host"] == "bot.example"
        assert validator.validate(public_url(request), parameters, signature), request
        assert not validator.validate(request.url, parameters, signature), "signed for the local place"


def test_documents_redirects_files_and_callbacks_use_the_origin_of_the_public_name(app, call):
    app.sound("/hello.wav", tone(900, 1.5))
    app.on("/voice", lambda: ("", 307, {"Location": "/moved?step=2"}))

    def moved(response):
        response.play(f"{PUBLIC}/hello.wav")
        response.redirect("/last", method="GET")

    answering(app, "/moved", moved)
    answering(app, "/last", lambda response: response.hangup())
    handset, media = call()
    media.wait_for_tone(900)
    handset.finish()
    app.wait("/status")
    assert [one.path for one in app.to()] == ["/voice", "/moved", "/hello.wav", "/last", "/status"]
    assert app.to("/moved")[0].args == {"step": ["2"]}


def test_a_stream_url_built_from_the_host_header_reaches_the_application(app, call, socketapp, server):
    def voice(response):
        host = app.to("/voice")[-1].headers["host"]
        connect = Connect()
        connect.stream(url=f"wss://{host}:8443/media-stream?call=1").parameter(name="who", value="me")
        response.append(connect)

    answering(app, "/voice", voice)
    handset, media = call("bye")
    socket = socketapp.take()
    assert (socket.path, socket.headers["Host"]) == ("/media-stream?call=1", "bot.example:8443")
    assert socket.headers["X-Forwarded-Proto"] == "https"
    signature = socket.headers["X-Twilio-Signature"]
    assert RequestValidator(server.auth_token).validate(f"wss://bot.example:8443{socket.path}", {}, signature)
    (start,) = socket.wait("start")
    assert start["start"]["customParameters"] == {"who": "me"}
    socket.wait("media", count=10)
    sid = start["streamSid"]
    payload = base64.b64encode(pcmu(tone(700, 1))).decode()
    socket.send(event="media", streamSid=sid, media={"payload": payload})
    socket.send(event="mark", streamSid=sid, mark={"name": "said"})
    media.wait_for_tone(700)
    socket.wait("mark")
    media.play(tone(500, 0.3))
    handset.hang_up()
    socket.wait("stop")
    heard = b"".join(base64.b64decode(one["media"]["payload"]) for one in socket.of("media"))
    assert pcmu(tone(500, 0.1))[:40] in heard, "what the caller said came to the bot"


def test_a_conversation_uses_the_origin_of_the_public_name(app, call, socketapp, server):
    def voice(response):
        connect = Connect()
        connect.conversation_relay(url="wss://bot.example:8443/relay", welcome_greeting="Hello.")
        response.append(connect)

    answering(app, "/voice", voice)
    handset, media = call("bye")
    socket = socketapp.take()
    (setup,) = socket.wait("setup")
    assert setup["callSid"] == app.to("/voice")[0]["CallSid"]
    signature = socket.headers["X-Twilio-Signature"]
    assert RequestValidator(server.auth_token).validate("wss://bot.example:8443/relay", {}, signature)
    media.wait_for_sound()
    handset.hang_up()


def test_callbacks_of_recordings_and_dials_use_the_origin_of_the_public_name(app, call, phone, rtp):
    other = phone(callee(), media=rtp())

    def voice(response):
        dial = Dial(
            action="/dialled",
            record="record-from-answer",
            recording_status_callback=f"{PUBLIC}/recording",
        )
        dial.sip(other.uri, url="/whisper", status_callback=f"{PUBLIC}/leg", status_callback_event="answered")
        response.append(dial)

    answering(app, "/voice", voice)
    answering(app, "/whisper", lambda response: response.pause(length=1))
    answering(app, "/dialled", lambda response: response.hangup())
    app.on("/leg")
    app.on("/recording")
    handset, media = call("bye")
    app.wait("/leg")
    app.wait("/whisper")
    media.play(tone(500, 1.5))
    handset.hang_up()
    app.wait("/recording")
    app.wait("/status")


def test_changed_origins_apply_to_the_next_request(server, app, call):
    answering(app, "/voice", lambda response: response.hangup())
    handset, _ = call()
    handset.finish()
    app.wait("/status")
    moved = WebApp()
    try:
        answering(moved, "/voice", lambda response: response.hangup())
        config = server.data / "tandem.toml"
        config.write_text(config.read_text().replace(app.url, moved.url))
        server.process.send_signal(signal.SIGHUP)
        wait_for("the reload", lambda: "reloaded:" in server.log())
        assert "restart needed" not in server.log()
        call()[0].finish()
        moved.wait("/voice")
        assert len(app.to("/voice")) == 1
    finally:
        moved.stop()


def test_an_unreachable_origin_is_reported_with_its_address(start_tandem, phone):
    unused = WebApp()
    unused.stop()
    server = start_tandem(
        origin(PUBLIC, unused.url)
        + f'[[numbers]]\nnumber = "7*"\naccount = "acme"\nprovider = "twilio"\nvoice_url = "{PUBLIC}/voice"\n'
    )
    phone(caller("700", until_told()), target=server.sip)
    notifications = client(server)

    def said():
        found = notifications.calls.list()
        return [unquote_plus(one.message_text) for call in found for one in notifications.calls(call.sid).notifications.list()]

    texts = wait_for("a notification", said)
    assert any(f"origins lead to {unused.url}" in text for text in texts), json.dumps(texts)
