"""Rooms behind a number of four digits: the first in a room waits with music, and whoever runs the room sees and mutes people by REST.

SIGNALWIRE_PROJECT_ID, SIGNALWIRE_API_TOKEN, SIGNALWIRE_SPACE_URL   those of the server of space.toml when not set (local.py)
PORT                                                                5000
"""

import os

import flask
import local
from signalwire.voice_response import Dial, Gather, VoiceResponse


def make(client):
    """The application. `app.events`: of each room, what was told of it, in order."""
    app = flask.Flask(__name__)
    app.events = {}

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        gather = Gather(num_digits=4, timeout=8, action="/room")
        gather.say("Please enter the number of your room.")
        response.append(gather)
        response.say("Good bye.")
        return local.xml(response)

    @app.post("/room")
    def room():
        number = flask.request.form["Digits"]
        response = VoiceResponse()
        if len(number) < 4:
            response.redirect("/voice")
            return local.xml(response)
        response.say("You are being connected.")
        dial = Dial()
        dial.conference(
            f"room-{number}", beep="onEnter", wait_url="/wait", status_callback=f"/events/{number}",
            status_callback_event="start end join leave mute",
        )
        response.append(dial)
        return local.xml(response)

    @app.post("/wait")
    def wait():
        response = VoiceResponse()
        response.play("/music.wav")
        return local.xml(response)

    @app.post("/events/<number>")
    def events(number):
        app.events.setdefault(number, []).append(flask.request.form["StatusCallbackEvent"])
        return "", 204

    @app.get("/rooms/<number>")
    def people(number):
        return flask.jsonify([{"call": one.call_sid, "muted": one.muted} for one in participants(number).list()])

    @app.post("/rooms/<number>/<call>/<state>")
    def mute(number, call, state):
        """state: muted or heard."""
        participants(number)(call).update(muted=state == "muted")
        return "", 204

    @app.delete("/rooms/<number>")
    def end(number):
        client.conferences(sid(number)).update(status="completed")
        return "", 204

    def sid(number):
        found = client.conferences.list(friendly_name=f"room-{number}", status="in-progress")
        return found[0].sid if found else flask.abort(404)

    def participants(number):
        return client.conferences(sid(number)).participants

    return app


if __name__ == "__main__":
    local.with_music(make(local.client())).run(port=int(os.environ.get("PORT", "5000")), threaded=True)
