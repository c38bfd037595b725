"""What the examples use when no variable says otherwise: a Tandem server on this machine, and audio that is made here."""

import io
import math
import os
import struct
import wave

import flask
from signalwire.rest import Client

RATE = 8000
PROJECT, TOKEN = "6b2d7f6e-3c55-4d2c-9a37-0c1d6f3f9a10", "PTexamples"  # those of space.toml


def client():
    """The SDK's client: for the project and the space in the environment, else for the server of space.toml on this machine."""
    space = os.environ.get("SIGNALWIRE_SPACE_URL")
    project, token = os.environ.get("SIGNALWIRE_PROJECT_ID", PROJECT), os.environ.get("SIGNALWIRE_API_TOKEN", TOKEN)
    own = Client(project, token, signalwire_space_url=space or "localhost")
    if not space:
        own.api.base_url = os.environ.get("TANDEM_URL", "http://127.0.0.1:8080")
    return own


def tones(*notes):
    """A WAV file (8 kHz, 16 bit, one channel) of these notes: Hz and seconds each."""
    samples = [
        int(6000 * math.sin(2 * math.pi * hertz * index / RATE)) for hertz, seconds in notes for index in range(int(seconds * RATE))
    ]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return out.getvalue()


def with_music(app):
    """The application with /music.wav, ten seconds of a plain tune."""
    tune = tones(*[(hertz, 0.5) for hertz in (392, 494, 587, 494)] * 5)
    app.add_url_rule("/music.wav", "music", lambda: flask.Response(tune, mimetype="audio/wav"))
    return app


def xml(response):
    """A document as the answer to a request."""
    return str(response), {"Content-Type": "application/xml"}
