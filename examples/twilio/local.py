"""What the examples use when no variable says otherwise: a Tandem server on this machine, and audio that is made here."""

import io
import math
import os
import struct
import tomllib
import wave
from pathlib import Path

import flask
from twilio.rest import Client

RATE = 8000


def client():
    """The SDK's client: for the account in the environment, else for the one that the Tandem server here made for itself."""
    if "TWILIO_ACCOUNT_SID" in os.environ:
        own = Client()
        server = os.environ.get("TANDEM_URL")  # `tandem env` says it; without it these are Twilio's own credentials
    else:
        account = Path(os.environ.get("TANDEM_DATA_DIR", "data"), "account.toml")
        twilio = tomllib.loads(account.read_text())["twilio"] if account.exists() else {}
        own = Client(twilio.get("account_sid", "AC" + "0" * 32), twilio.get("auth_token", "no server has started here yet"))
        server = os.environ.get("TANDEM_URL", "http://127.0.0.1:8080")
    if server:
        own.api.base_url = server
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


def music():
    """Ten seconds of a plain tune."""
    return tones(*[(hertz, 0.5) for hertz in (440, 554, 659, 554)] * 5)


def with_music(app):
    """The application with /music.wav."""
    tune = music()
    app.add_url_rule("/music.wav", "music", lambda: flask.Response(tune, mimetype="audio/wav"))
    return app
