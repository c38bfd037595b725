"""Media streams to the letter: what an application is sent, what it may send, how streams begin and end; and the messages that
applications define themselves."""

import base64
import http.server
import json
import threading

import numpy
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, Start, Stop

from harness.phone import caller, until_told
from harness.rtp import LINEAR, is_tone, pcmu, tone
from harness.waiting import wait_for
from twilio_app import answering, client, number, twiml

FROM = "+15550009999"


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    return start_tandem(
        number("7*", module_webapp, "/voice", f'status_callback = "{module_webapp.url}/status"\n')
        + "[streams]\nidle_seconds = 5\n"
    )


@pytest.fixture
def app(app):
    app.on("/stream")
    return app


@pytest.fixture
def call(server, app, phone, rtp):
    """Calls a number whose document `make` fills: call(make) gives the phone and its audio."""

    def start(make, ends="bye"):
        answering(app, "/voice", make)
        media = rtp()
        steps = until_told() if ends == "bye" else ""
        return phone(caller("700", steps, ends=ends), target=server.sip, media=media), media

    return start


def started(response, url, **attributes):
    start = Start()
    stream = start.stream(url=url, **attributes)
    response.append(start)
    return stream


def linear(frame):
    """The samples of a media message in u-law."""
    return LINEAR[numpy.frombuffer(base64.b64decode(frame["media"]["payload"]), dtype=numpy.uint8)]


def media_of(socket, track):
    return [one for one in socket.of("media") if one["media"]["track"] == track]


def test_a_background_stream_gets_every_frame_of_both_tracks(server, app, socketapp, call):
    def voice(response):
        stream = started(
            response,
            f"{socketapp.url}/audio?token=secret",
            name="mine",
            track="both_tracks",
            status_callback="/stream",
        )
        stream.parameter(name="who", value='me & "you"')
        response.pause(length=20)

    handset, media = call(voice)
    socket = socketapp.take()
    assert socket.path == "/audio?token=secret"
    url = f"{socketapp.url}{socket.path}"
    assert RequestValidator(server.auth_token).validate(url, {}, socket.headers["X-Twilio-Signature"])
    assert socket.headers["User-Agent"] == "Twilio.TmeWs/1.0"
    assert "Origin" not in socket.headers and "Sec-WebSocket-Protocol" not in socket.headers

    (start,) = socket.wait("start")
    (asked,) = app.wait("/voice")
    sid = start["streamSid"]
    connected = {key: value for key, value in socket.messages[0].items() if key != "at"}
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert {key: value for key, value in start.items() if key != "at"} == {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": sid,
        "start": {
            "accountSid": server.account_sid,
            "streamSid": sid,
            "callSid": asked["CallSid"],
            "tracks": ["inbound", "outbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"who": 'me & "you"'},
        },
    }
    socket.wait("media", 10)
    media.play(tone(440, 1))
    media.press("5")
    loud = [linear(one) for one in media_of(socket, "inbound") if numpy.abs(linear(one)).max() > 1000]
    assert len(loud) > 40 and is_tone(numpy.concatenate(loud), 440)
    handset.hang_up()
    (stop,) = socket.wait("stop")
    assert stop["stop"] == {"accountSid": server.account_sid, "callSid": asked["CallSid"]}
    assert socket.wait_closed()[0] == 1000

    numbers = [int(one["sequenceNumber"]) for one in socket.messages[1:]]
    assert numbers == list(range(1, len(numbers) + 1)), "every message after connected is counted"
    assert not socket.of("dtmf"), "keys are told to streams that may speak"
    for track in ("inbound", "outbound"):
        frames = [one["media"] for one in media_of(socket, track)]
        assert len(frames) > 50
        assert [one["chunk"] for one in frames] == [str(count) for count in range(1, len(frames) + 1)]
        times = [int(one["timestamp"]) for one in frames]
        assert times == list(range(times[0], times[0] + 20 * len(times), 20))
        assert all(len(one["payload"]) == 216 for one in frames)

    callbacks = app.wait("/stream", 2)
    assert [one["StreamEvent"] for one in callbacks] == ["stream-started", "stream-stopped"]
    for one in callbacks:
        assert set(one.form) == {"AccountSid", "CallSid", "StreamSid", "StreamName", "StreamEvent", "Timestamp"}
        assert (one["StreamSid"], one["StreamName"], one["CallSid"]) == (sid, "mine", asked["CallSid"])
        assert one["Timestamp"].endswith("Z")


def test_an_application_sends_media_mark_and_clear_and_then_the_document_continues(app, socketapp, call):
    def voice(response):
        connect = Connect()
        connect.stream(url=socketapp.url)
        response.append(connect)
        response.redirect("/next")

    app.on("/next", twiml("<Response><Hangup/></Response>"))
    handset, media = call(voice, ends="wait")
    socket = socketapp.take()
    (start,) = socket.wait("start")
    sid = start["streamSid"]
    socket.send(event="mark", streamSid=sid, mark={"name": "at once"})
    (mark,) = socket.wait("mark")
    assert (mark["mark"], mark["streamSid"]) == ({"name": "at once"}, sid)

    def say(samples, name):
        payload = base64.b64encode(pcmu(samples)).decode()
        socket.send(event="media", streamSid=sid, sequenceNumber="9", media={"payload": payload, "track": "outbound"})
        socket.send(event="mark", streamSid=sid, mark={"name": name})

    # Of any length, in order, in real time.
    say(tone(600, 0.5), "first")
    say(tone(900, 0.53), "second")
    media.wait_for_tone(600)
    media.wait_for_tone(900)
    first, second = socket.wait("mark", 3)[1:]
    assert [first["mark"]["name"], second["mark"]["name"]] == ["first", "second"]
    assert 0.45 < second["at"] - first["at"] < 0.75

    # Ten seconds of which hardly one is heard.
    say(tone(700, 5), "third")
    say(tone(700, 5), "fourth")
    media.wait_for_tone(700)
    socket.send(event="clear", streamSid=sid)
    marks = socket.wait("mark", 5, seconds=2)[3:]
    assert [one["mark"]["name"] for one in marks] == ["third", "fourth"]
    media.wait("silence", lambda: not numpy.any(numpy.abs(LINEAR[numpy.frombuffer(bytes(media._heard[-800:]), dtype=numpy.uint8)]) > 100))

    media.press("9")
    (key,) = socket.wait("dtmf")
    assert key["dtmf"] == {"track": "inbound_track", "digit": "9"}
    socket.close()
    handset.finish()
    assert app.to("/next")


def test_invalid_messages_of_an_application_are_reported_once_and_the_stream_continues(server, app, socketapp, call):
    def voice(response):
        connect = Connect()
        connect.stream(url=socketapp.url, audio_format="audio/x-l16", sample_rate="16000", track="both_tracks")
        response.append(connect)

    handset, _ = call(voice)
    socket = socketapp.take()
    (start,) = socket.wait("start")
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-L16", "sampleRate": 16000, "channels": 1}
    assert start["start"]["tracks"] == ["inbound", "outbound"], "more than the original gives"
    (frame, *_) = socket.wait("media")
    assert len(base64.b64decode(frame["media"]["payload"])) == 640
    for _ in range(3):
        socket.send_raw("nonsense")
        socket.send_raw(b"\x00\x01")
        socket.send(event="dance")
        socket.send(event="clear", streamSid="MZ" + "0" * 32)
        socket.send(event="media", media={"payload": base64.b64encode(b"RIFF\0\0\0\0WAVEfmt ").decode()})
    socket.send(event="mark", mark={"name": "still here"})
    socket.wait("mark")
    handset.hang_up()
    wait_for("both warnings", lambda: all(f"warning {code}: stream" in server.log() for code in (31950, 31951)))
    assert server.log().count("warning 31950: stream") == server.log().count("warning 31951: stream") == 1


@pytest.fixture
def refusing():
    """A web server that opens no WebSocket."""

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    one = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield f"ws://127.0.0.1:{one.server_port}/stream"
    one.shutdown()
    thread.join(5)


def test_a_failed_stream_is_reported_with_its_error_code_and_the_call_continues(app, socketapp, call, refusing):
    def voice(response):
        started(response, "ws://127.0.0.1:9/nobody", name="nobody", status_callback="/stream")
        started(response, refusing, name="refused", status_callback="/stream")
        started(response, socketapp.url, name="broken", status_callback="/stream")
        connect = Connect(action="/after")
        connect.stream(url="ws://127.0.0.1:9/")
        response.append(connect)

    app.on("/after", twiml("<Response><Pause length='5'/></Response>"))
    handset, _ = call(voice)
    socket = socketapp.take()
    socket.wait("start")
    socket.close(1011)
    failed = app.wait("/stream", 3, where=lambda one: one["StreamEvent"] == "stream-error")
    codes = {one["StreamName"]: one["StreamErrorCode"] for one in failed}
    assert codes == {"nobody": "31902", "refused": "31920", "broken": "31921"}
    assert all(one["StreamError"] for one in failed)
    (after,) = app.wait("/after")
    assert after["StreamErrorCode"] == "31902"
    handset.hang_up()


def test_streams_stop_by_name_and_by_request_with_complete_answers(server, app, socketapp, call):
    def voice(response):
        started(response, socketapp.url, name="one", status_callback="/stream")
        response.pause(length=1)
        stop = Stop()
        stop.stream(name="one")
        response.append(stop)
        response.pause(length=20)

    handset, _ = call(voice)
    socket = socketapp.take()
    socket.wait("stop")
    (stopped,) = app.wait("/stream", where=lambda one: one["StreamEvent"] == "stream-stopped")
    assert stopped["StreamName"] == "one"

    live = client(server).calls(stopped["CallSid"])
    parameters = {f"parameter{count}_{part}": f"{part}{count}" for count in range(1, 100) for part in ("name", "value")}
    begun = live.streams.create(url=f"{socketapp.url}/rest", name="two", track="outbound_track", **parameters)
    socket = socketapp.take()
    (start,) = socket.wait("start")
    assert start["start"]["tracks"] == ["outbound"]
    assert start["start"]["customParameters"] == {f"name{count}": f"value{count}" for count in range(1, 100)}
    assert (begun.sid, begun.name, begun.status, begun.call_sid) == (
        start["streamSid"], "two", "in-progress", stopped["CallSid"],
    )
    assert begun.uri.endswith(f"/Calls/{begun.call_sid}/Streams/{begun.sid}.json") and begun.date_updated
    ended = live.streams(begun.sid).update(status="stopped")
    assert (ended.sid, ended.name, ended.status) == (begun.sid, "two", "stopped")
    socket.wait("stop")
    with pytest.raises(TwilioRestException) as gone:
        live.streams(begun.sid).update(status="stopped")
    assert (gone.value.status, gone.value.code) == (404, 20404)
    unnamed = live.streams.create(url=socketapp.url)
    assert unnamed.name is None
    with pytest.raises(TwilioRestException) as wrong:
        live.streams.create(url="http://127.0.0.1/")
    assert (wrong.value.status, wrong.value.code) == (400, 31922)
    handset.hang_up()


def test_a_stream_to_a_hanging_application_times_out(app, socketapp, call, server):
    # It shakes hands, and then neither reads nor answers pings.
    import socket as plain

    import websockets.server

    listener = plain.create_server(("127.0.0.1", 0))
    held = []

    def hang():
        connection, _ = listener.accept()
        protocol = websockets.server.ServerProtocol()
        protocol.receive_data(connection.recv(65536))
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        connection.sendall(b"".join(protocol.data_to_send()))
        held.append(connection)

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()

    def voice(response):
        connect = Connect(action="/after")
        connect.stream(url=f"ws://127.0.0.1:{listener.getsockname()[1]}/", status_callback="/stream")
        response.append(connect)

    app.on("/after", twiml("<Response><Hangup/></Response>"))
    handset, _ = call(voice, ends="wait")
    (failed,) = app.wait("/stream", where=lambda one: one["StreamEvent"] == "stream-error", seconds=20)
    assert failed["StreamErrorCode"] == "31901"
    handset.finish()
    held[0].close()
    listener.close()


def test_user_defined_messages_reach_their_subscribers(server, app, call):
    def voice(response):
        response.say("Hello.")
        response.pause(length=30)

    handset, media = call(voice)
    media.wait_for_sound()
    (asked,) = app.wait("/voice")
    app.on("/told")
    live = client(server).calls(asked["CallSid"])
    subscription = live.user_defined_message_subscriptions.create(callback=f"{app.url}/told", idempotency_key="a")
    assert subscription.sid.startswith("ZY") and len(subscription.sid) == 34
    assert (subscription.account_sid, subscription.call_sid) == (server.account_sid, asked["CallSid"])
    assert subscription.uri.endswith(f"/UserDefinedMessageSubscriptions/{subscription.sid}.json")
    again = live.user_defined_message_subscriptions.create(callback=f"{app.url}/told", idempotency_key="a")
    assert again.sid == subscription.sid

    content = json.dumps({"greeting": "hello", "to": "you & me"})
    message = live.user_defined_messages.create(content=content, idempotency_key="b")
    assert message.sid.startswith("KX") and len(message.sid) == 34 and message.date_created
    assert live.user_defined_messages.create(content=content, idempotency_key="b").sid == message.sid
    live.user_defined_messages.create(content='"second"')
    first, second = app.wait("/told", 2)
    assert set(first.form) == {"AccountSid", "CallSid", "Content", "SequenceNumber", "Timestamp"}
    assert (first["Content"], first["SequenceNumber"], first["CallSid"]) == (content, "1", asked["CallSid"])
    assert (second["Content"], second["SequenceNumber"]) == ('"second"', "2")

    for wrong in ({"content": "no json"}, {"content": ""}):
        with pytest.raises(TwilioRestException) as refused:
            live.user_defined_messages.create(**wrong)
        assert (refused.value.status, refused.value.code) == (400, 20001)
    assert live.user_defined_message_subscriptions(subscription.sid).delete()
    live.user_defined_messages.create(content='"third"')
    with pytest.raises(TwilioRestException) as gone:
        live.user_defined_message_subscriptions(subscription.sid).delete()
    assert gone.value.status == 404
    handset.hang_up()
    app.wait("/status")
    assert len(app.to("/told")) == 2
    with pytest.raises(TwilioRestException) as over:
        live.user_defined_messages.create(content='"late"')
    assert (over.value.status, over.value.code) == (400, 21220)
