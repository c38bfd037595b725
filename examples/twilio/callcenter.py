"""Callers wait in a queue with music and hear their place; agents who call in take them one after the other.

AGENTS                                  numbers or SIP users that are agents, separated by commas; +15550109998. All others are callers
MUSIC                                   URL of what waiting callers hear; this application's own tune
TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN   for /waiting; those of the Tandem server here (local.py)
PORT                                    5000

What stands behind the semicolon is used when the variable is not set.
"""

import os

import flask
import local
from twilio.twiml.voice_response import Dial, VoiceResponse

QUEUE = "support"


def make(client, agents, music):
    """The application. `app.left`: how each caller left the queue, by call SID: result and seconds."""
    app = flask.Flask(__name__)
    app.left, app.places = {}, []

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        if flask.request.form["From"] in agents:
            response.redirect("/agent")
        else:
            response.say("All agents are busy.")
            response.enqueue(QUEUE, wait_url="/wait", action="/left")
        return xml(response)

    @app.post("/wait")
    def wait():
        """Again and again while a caller waits."""
        place = flask.request.form["QueuePosition"]
        app.places.append((flask.request.form["CallSid"], int(place)))
        response = VoiceResponse()
        response.say(f"You are number {place}.")
        response.play(music)
        return xml(response)

    @app.post("/left")
    def left():
        form = flask.request.form
        app.left[form["CallSid"]] = form["QueueResult"], int(form["QueueTime"])
        response = VoiceResponse()
        response.hangup()
        return xml(response)

    @app.post("/agent")
    def agent():
        response = VoiceResponse()
        dial = Dial(action="/agent/next")
        dial.queue(QUEUE, url="/connecting")
        response.append(dial)
        return xml(response)

    @app.post("/connecting")
    def connecting():
        """What the caller hears before an agent does."""
        response = VoiceResponse()
        response.say("An agent takes your call now.")
        return xml(response)

    @app.post("/agent/next")
    def following():
        response = VoiceResponse()
        response.say("The next one.")
        response.redirect("/agent")
        return xml(response)

    @app.get("/waiting")
    def waiting():
        queues = [queue for queue in client.queues.list() if queue.friendly_name == QUEUE]
        members = client.queues(queues[0].sid).members.list() if queues else []
        return flask.jsonify([{"call": one.call_sid, "place": one.position, "seconds": one.wait_time} for one in members])

    return app


def xml(response):
    """As a document."""
    return str(response), {"Content-Type": "text/xml"}


if __name__ == "__main__":
    env = os.environ
    app = make(local.client(), env.get("AGENTS", "+15550109998").split(","), env.get("MUSIC", "/music.wav"))
    local.with_music(app).run(port=int(env.get("PORT", "5000")))
