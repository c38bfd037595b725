"""A hotline in Django: the caller is recorded again and again, each recording is fetched as soon as it is told of and answered
with audio, and a running call is given another document. Relative URLs everywhere, as Django's `reverse` makes them."""

import threading
import uuid

import django
import numpy as np
import pytest
import requests
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import VoiceResponse

from harness.audio import is_heard, read_wav, speech, write_wav
from harness.phone import caller
from harness.rtp import tone
from harness.waiting import wait_for
from harness.webapp import Serving
from twilio_app import client, number

ANSWER, INTERRUPTION = 520, 830  # Hz


class Hotline:
    """What the views share, and what came."""

    def __init__(self):
        self.files, self.sid, self.token = None, None, None
        self.calls, self.chunks, self.statuses, self.recordings = [], [], [], []
        self.genuine = []


HOTLINE = Hotline()


def record(response, call):
    response.record(
        action=reverse("recording", args=[call]), method="POST", max_length=30, play_beep=False, trim="trim-silence",
        timeout=1, recording_status_callback=reverse("recording-status", args=[call]),
        recording_status_callback_method="POST", recording_status_callback_event="in-progress completed",
    )
    return HttpResponse(str(response), content_type="text/xml")


def view(function):
    """Django's own way to take a provider's request, and the SDK's to check it."""

    def checked(request, **captured):
        signature = request.headers.get("X-Twilio-Signature", "")
        validator = RequestValidator(HOTLINE.token)
        HOTLINE.genuine.append(validator.validate(request.build_absolute_uri(), request.POST.dict(), signature))
        return function(request, **captured)

    return csrf_exempt(require_POST(checked))


@view
def voice(request):
    call = uuid.uuid4()
    HOTLINE.calls.append((call, request.POST["CallSid"], request.POST["From"]))
    return record(VoiceResponse(), call)


@view
def recording(request, call):
    # At once: the file must be there before this is asked.
    got = requests.get(request.POST["RecordingUrl"], auth=(HOTLINE.sid, HOTLINE.token), timeout=10)
    HOTLINE.chunks.append((call, got.status_code, got.headers.get("content-type"), got.content))
    response = VoiceResponse()
    response.play("/media/outputs/sample_response.wav")
    return record(response, call)


@view
def recording_status(request, call):
    HOTLINE.recordings.append((call, request.POST["RecordingStatus"], request.POST["RecordingSid"]))
    return HttpResponse(status=404)  # the seed's application has no such page


@view
def status(request):
    HOTLINE.statuses.append((request.POST["CallSid"], request.POST["CallStatus"]))
    return HttpResponse("OK")


def media(request, name):
    return HttpResponse((HOTLINE.files / name).read_bytes(), content_type="audio/wav")


urlpatterns = [
    path("twilio/voice/", voice),
    path("twilio/recording/<uuid:call>/", recording, name="recording"),
    path("twilio/recording-status/<uuid:call>/", recording_status, name="recording-status"),
    path("twilio/status/", status),
    path("media/outputs/<str:name>", media),
]


@pytest.fixture(scope="module")
def hotline(tmp_path_factory):
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="for tests", DEBUG=False)
    django.setup()
    HOTLINE.files = tmp_path_factory.mktemp("outputs")
    write_wav(HOTLINE.files / "sample_response.wav", tone(ANSWER, 1))
    write_wav(HOTLINE.files / "interruption.wav", tone(INTERRUPTION, 1))
    serving = Serving(get_wsgi_application())
    HOTLINE.url = serving.url
    yield HOTLINE
    serving.stop()


@pytest.fixture(scope="module")
def server(start_tandem, hotline):
    server = start_tandem(number("+15551230003", hotline, "/twilio/voice/", f'status_callback = "{hotline.url}/twilio/status/"'))
    hotline.sid, hotline.token = server.account_sid, server.auth_token
    return server


def test_each_recorded_part_is_fetched_and_a_live_call_runs_another_document(server, hotline, phone, rtp):
    media_side = rtp()
    one = phone(caller("+15551230003", ends="wait"), target=server.sip, media=media_side, seconds=60)
    wait_for("the call", lambda: hotline.calls)
    said = [speech(2), speech(3)]
    for index, words in enumerate(said):
        until_recorded(hotline, index + 1)
        media_side.play(words)
        media_side.wait_for_tone(ANSWER, 15)
        assert len(hotline.chunks) == index + 1
    for (call, status_code, kind, content), words in zip(hotline.chunks, said, strict=True):
        assert call == hotline.calls[0][0] and status_code == 200 and kind in ("audio/x-wav", "audio/wav")
        file = hotline.files / "chunk.wav"
        file.write_bytes(content)
        assert is_heard(words, read_wav(file)[0][:, 0])

    # While it records again: the caller hears this at once, and the call ends with the document.
    sid = hotline.calls[0][1]
    until_recorded(hotline, 3)
    # One second of speech before the update: a recording without any audio would be "absent", an event nobody asked for.
    words = speech(3)
    media_side.play(words[:8000])
    speaker = threading.Thread(target=media_side.play, args=(words[8000:],))
    speaker.start()
    chunks = len(hotline.chunks)
    twilio = client(server)
    live = twilio.calls(sid).update(twiml=f"<Response><Play>{hotline.url}/media/outputs/interruption.wav</Play></Response>")
    assert live.status == "in-progress"
    media_side.wait_for_tone(INTERRUPTION)
    speaker.join()
    one.finish()
    wait_for("the status", lambda: hotline.statuses == [(sid, "completed")])
    assert len(hotline.chunks) == chunks, "no action for the recording that was interrupted"
    wait_for("the recordings' ends", lambda: [status for _, status, _ in hotline.recordings].count("completed") == 3)
    kept = twilio.calls(sid).recordings.list()
    assert len(kept) == 3 and np.all([int(one.duration) >= 0 for one in kept])
    assert all(hotline.genuine) and len(hotline.genuine) >= 7
    assert twilio.calls(sid).fetch().status == "completed"


def until_recorded(hotline, count):
    """Waits until the recording of that number runs."""
    started = lambda: [status for _, status, _ in hotline.recordings].count("in-progress") >= count  # noqa: E731
    wait_for(f"recording {count}", started)
