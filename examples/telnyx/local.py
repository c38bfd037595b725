"""What the examples use when no variable says otherwise: a Tandem server on this machine, and audio that is made here."""

import base64
import io
import math
import os
import struct
import wave

import flask
import telnyx

RATE = 8000
KEY, PUBLIC_KEY = "KEYexamples", "c2RVeCEeWYZ/+Alox0G6WPfPsUVkLB8xRDGYderpuyY="  # of desk.toml


def client():
    """The SDK's client: for the account in the environment, else for the server of desk.toml on this machine."""
    if "TELNYX_API_KEY" in os.environ:
        return telnyx.Telnyx()
    server = os.environ.get("TANDEM_URL", "http://127.0.0.1:8080")
    return telnyx.Telnyx(api_key=KEY, public_key=PUBLIC_KEY, base_url=server + "/v2")


class Application:
    """A call-control application: takes webhooks at POST /voice, and looks at their signatures. `flask`: for other paths.

    A function that is marked with `@app.on("call.answered")` is called with the payload of each such event.
    """

    def __init__(self, client):
        self.client, self.flask, self._handlers = client, flask.Flask(__name__), {}
        self.flask.post("/voice")(self._take)

    def on(self, event_type):
        return lambda handler: self._handlers.setdefault(event_type, handler)

    def run(self):
        self.flask.run(port=int(os.environ.get("PORT", "5000")), threaded=True)

    def _take(self):
        try:
            event = self.client.webhooks.unwrap(flask.request.get_data(as_text=True), headers=dict(flask.request.headers))
        except Exception as error:
            return str(error), 400
        handler = self._handlers.get(event.data.event_type)
        if handler:
            try:
                handler(event.data.payload)
            except telnyx.UnprocessableEntityError as error:
                # Whoever hung up in this moment can be told nothing any more.
                print(f"{event.data.event_type}: {error}")
        return "", 200


def state(text):
    """A client_state: it comes back with each event of the call."""
    return base64.b64encode(text.encode()).decode()


def stated(payload):
    """What a call's client_state says; empty if it has none."""
    return base64.b64decode(payload.client_state or "").decode()


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
    """Ten seconds of a plain tune, as `playback_content`."""
    return base64.b64encode(tones(*[(hertz, 0.5) for hertz in (392, 494, 587, 494)] * 5)).decode()
