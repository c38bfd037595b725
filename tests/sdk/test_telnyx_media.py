"""Media that an account keeps on the server, by telnyx-python: uploaded, played by name, and there after a restart."""

import base64
import json
import threading
from datetime import datetime

import numpy
import pytest
import requests
import telnyx
import websockets.sync.server

from harness.audio import wav
from harness.party import Party
from harness.phone import callee, until_told
from harness.rtp import is_tone, tone
from harness.server import API_KEY
from harness.telnyx_app import CONNECTION, NUMBER, serve
from harness.waiting import wait_for


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    yield from serve(start_tandem, module_webapp)


@pytest.fixture
def media(server):
    return server.telnyx_app.client.media


@pytest.fixture
def answered(server, phone, rtp):
    """Calls a phone that answers: the call's id and the phone."""

    def call(server=server, **more):
        party = Party(phone, rtp, callee(until_told(), ends="bye"))
        dialled = server.telnyx_app.client.calls.dial(connection_id=CONNECTION, to=party.uri, from_=NUMBER, **more)
        leg = dialled.data.call_control_id
        server.telnyx_app.wait("call.answered", leg)
        return leg, party

    return call


def upload(server, name=None, samples=None, kind="audio/wav", method="POST", path="", **fields):
    """By multipart form, as curl -F does: the SDK sends JSON only."""
    files = {"media": ("file.wav", wav(samples if samples is not None else tone(440, 0.5)), kind)}
    fields |= {"media_name": name} if name else {}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    return requests.request(method, f"{server.http}/v2/media{path}", files=files, data=fields, headers=headers, timeout=10)


def test_media_are_created_by_url_or_upload_listed_updated_downloaded_and_deleted(server, media, module_webapp):
    module_webapp.on("/greeting.wav", (wav(tone(440, 0.3)), 200, {"content-type": "audio/wav"}))
    made = media.upload(media_url=f"{module_webapp.url}/greeting.wav", media_name="greeting", ttl_secs=3600).data
    assert (made.media_name, made.content_type) == ("greeting", "audio/wav")
    created, expires = map(datetime.fromisoformat, (made.created_at, made.expires_at))
    assert 3595 < (expires - created).total_seconds() < 3605
    sent = upload(server, "up loaded", kind="audio/x-wav")
    assert sent.status_code == 201 and sent.json()["data"]["media_name"] == "up loaded"
    unnamed = upload(server).json()["data"]["media_name"]
    assert len(unnamed) == 36
    assert [one.media_name for one in media.list().data] == [unnamed, "up loaded", "greeting"]
    assert [one.media_name for one in media.list(filter={"content_type": ["audio/x-wav"]}).data] == ["up loaded"]
    assert media.retrieve("up loaded").data.content_type == "audio/x-wav"
    assert media.download("greeting").read() == wav(tone(440, 0.3))

    changed = media.update("greeting", ttl_secs=7200).data
    assert changed.expires_at > made.expires_at and media.download("greeting").read() == wav(tone(440, 0.3))
    assert upload(server, samples=tone(700, 0.1), method="PUT", path="/greeting").status_code == 200
    assert media.download("greeting").read() == wav(tone(700, 0.1))

    for name in ("greeting", "up loaded", unnamed):
        media.delete(name)
    assert media.list().data == []
    assert [file.name for file in (server.data / "media").iterdir()] == []


def test_an_invalid_upload_is_refused_with_one_error(server, media, module_webapp):
    def refusal(answer):
        [error] = answer.json()["errors"]
        return answer.status_code, error["code"], error["source"]["pointer"]

    upload(server, "taken")
    assert refusal(upload(server, "taken")) == (422, "10012", "/media_name")
    assert refusal(upload(server, "a/b")) == (422, "10015", "/media_name")
    assert refusal(upload(server, "short", ttl_secs=0)) == (422, "10033", "/ttl_secs")
    assert refusal(upload(server, "large", samples=[0] * 11_000_000)) == (422, "10015", "/media")
    with pytest.raises(telnyx.UnprocessableEntityError, match="10004"):
        media.upload(media_url=None)
    with pytest.raises(telnyx.BadRequestError, match="90040"):
        media.upload(media_url=f"{module_webapp.url}/nowhere.wav")
    with pytest.raises(telnyx.NotFoundError, match="10005"):
        media.retrieve("unknown")
    media.delete("taken")


def test_a_stored_file_plays_by_its_name_until_it_expires(server, media, answered):
    app = server.telnyx_app
    upload(server, "short", samples=tone(700, 0.5))
    upload(server, "brief", ttl_secs=1)
    leg, party = answered(media_name="short")
    party.hears(700)
    app.wait("call.playback.ended", leg, media_name="short", status="completed")
    upload(server, "menu", samples=tone(1100, 0.5))
    app.actions.gather_using_audio(leg, media_name="menu", timeout_millis=500, maximum_tries=1)
    party.hears(1100)
    app.wait("call.gather.ended", leg)
    upload(server, "menu", samples=tone(500, 0.5), method="PUT", path="/menu")
    app.actions.start_playback(leg, media_name="menu")
    party.hears(500)
    app.wait("call.playback.ended", leg, media_name="menu", status="completed")
    wait_for("the end of the medium's time", lambda: "brief" not in {one.media_name for one in media.list().data}, 5)
    app.actions.start_playback(leg, media_name="brief")
    app.wait("call.playback.ended", leg, media_name="brief", status="file_not_found")
    party.hang_up()


def test_a_file_is_cached_as_its_headers_permit_unless_cache_audio_is_false(server, answered, module_webapp):
    app, path = server.telnyx_app, "/cached.wav"
    url = module_webapp.url + path
    leg, party = answered()

    def play(hertz, count, **more):
        app.actions.start_playback(leg, audio_url=url, **more)
        party.hears(hertz)
        app.actions.stop_playback(leg)
        assert len(module_webapp.to(path)) == count

    def file(hertz, **headers):
        module_webapp.on(path, (wav(tone(hertz, 5.0)), 200, {"content-type": "audio/wav", **headers}))

    file(440, **{"cache-control": "no-store"})
    play(440, 1)
    file(700, **{"cache-control": "max-age=3600"})
    play(700, 2)
    file(900, **{"cache-control": "max-age=3600"})
    play(700, 2)
    play(900, 3, cache_audio=False)
    play(700, 3, cache_audio=True)
    party.hang_up()


@pytest.mark.parametrize(("rate", "asked"), [(8_000, {}), (16_000, {"stream_bidirectional_sampling_rate": 16_000}),
                                             (22_050, {"stream_bidirectional_sampling_rate": 22_050})])
def test_l16_audio_of_a_stream_is_little_endian_in_both_directions(server, answered, rate, asked):
    heard, said = bytearray(), threading.Event()
    wave = 12_000 * numpy.sin(2 * numpy.pi * 1000 / rate * numpy.arange(5 * rate))
    spoken = base64.b64encode(wave.astype("<i2").tobytes()).decode()

    def talk(socket):
        for message in map(json.loads, socket):
            if message["event"] == "start":
                assert message["start"]["media_format"] == {"encoding": "L16", "sample_rate": 16_000, "channels": 1}
                socket.send(json.dumps({"event": "media", "media": {"payload": spoken}}))
            if message["event"] == "media":
                heard.extend(base64.b64decode(message["media"]["payload"]))
            if len(heard) > 2 * 16_000 * 3:
                said.set()

    with websockets.sync.server.serve(talk, "127.0.0.1", 0) as streams:
        serving = threading.Thread(target=streams.serve_forever)
        serving.start()
        more = {"stream_codec": "L16", "stream_bidirectional_mode": "rtp", "stream_bidirectional_codec": "L16", **asked}
        url = f"ws://127.0.0.1:{streams.socket.getsockname()[1]}/"
        leg, party = answered(stream_url=url, extra_body=more)
        with party.sounds(600):
            party.hears(1000)
            assert said.wait(15)
        party.hang_up()
        server.telnyx_app.wait("call.hangup", leg)
        streams.shutdown()
        serving.join()
    samples = numpy.frombuffer(bytes(heard[-2 * 16_000 * 2 :]), dtype="<i2").astype(float)
    assert is_tone(samples[::2], 600)


def test_a_stored_file_survives_a_restart(start_tandem, module_webapp, answered):
    for server in serve(start_tandem, module_webapp):
        assert upload(server, "kept", samples=tone(900, 0.5)).status_code == 201
        server.stop()
        for again in serve(start_tandem, module_webapp, at=server.data):
            assert [one.media_name for one in again.telnyx_app.client.media.list().data] == ["kept"]
            leg, party = answered(again, media_name="kept")
            party.hears(900)
            again.telnyx_app.wait("call.playback.ended", leg, media_name="kept", status="completed")
            party.hang_up()
