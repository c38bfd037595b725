"""A menu by key or word; callers wait in a queue with music until an agent, who calls the same number, takes them.

AGENTS                                       numbers of agents, separated by commas; +15550109998. All others are callers
SIGNALWIRE_PROJECT_ID, SIGNALWIRE_API_TOKEN, SIGNALWIRE_SPACE_URL   for /waiting; the server of space.toml (local.py)
PORT                                         5000

What stands behind the semicolon is used when the variable is not set.
"""

import os

import flask
import local
from signalwire.voice_response import Dial, Gather, VoiceResponse

QUEUES = {"1": "sales", "2": "support"}


def make(client, agents):
    """The application. `app.choices`: how callers chose, `dtmf` or `speech`, and what. `app.left`: how each left the queue."""
    app = flask.Flask(__name__)
    app.choices, app.left = [], {}

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        if flask.request.form["From"] in agents:
            response.redirect("/agent")
            return local.xml(response)
        menu = Gather(input="dtmf speech", num_digits=1, timeout=6, action="/chosen", hints="sales, support")
        menu.say("For sales press one. For support press two.")
        response.append(menu)
        response.redirect("/voice")
        return local.xml(response)

    @app.post("/chosen")
    def chosen():
        form = flask.request.form
        if form["input_type"] == "speech":
            said = form["SpeechResult"].lower()
            queue = next((name for name in QUEUES.values() if name in said), None)
        else:
            queue = QUEUES.get(form["Digits"])
        app.choices.append((form["input_type"], queue))
        response = VoiceResponse()
        if queue:
            response.say(f"You are in the queue for {queue}.")
            response.enqueue(queue, wait_url="/wait", action="/left")
        else:
            response.say("There is no such department.")
            response.redirect("/voice")
        return local.xml(response)

    @app.post("/wait")
    def wait():
        response = VoiceResponse()
        response.play("/music.wav")
        return local.xml(response)

    @app.post("/left")
    def left():
        form = flask.request.form
        app.left[form["CallSid"]] = form["QueueResult"]
        response = VoiceResponse()
        response.hangup()
        return local.xml(response)

    @app.post("/agent")
    def agent():
        """Whoever waits longest, in either queue."""
        waiting = [queue for queue in queues() if queue.current_size]
        response = VoiceResponse()
        if waiting:
            dial = Dial(action="/agent")
            dial.queue(waiting[0].friendly_name)
            response.append(dial)
        else:
            response.say("Nobody is waiting.")
            response.pause(length=2)
            response.redirect("/agent")
        return local.xml(response)

    @app.get("/waiting")
    def waiting():
        return flask.jsonify({queue.friendly_name: queue.current_size for queue in queues()})

    def queues():
        return [queue for queue in client.queues.list() if queue.friendly_name in QUEUES.values()]

    return app


if __name__ == "__main__":
    agents = os.environ.get("AGENTS", "+15550109998").split(",")
    local.with_music(make(local.client(), agents)).run(port=int(os.environ.get("PORT", "5000")), threaded=True)
