"""A customer and a helper in a conference; a supervisor can coach the helper, the helper can put the customer on hold.

BASE                                    where this application is reached, as https://app.example; http://127.0.0.1:PORT
FROM                                    the number that calls; +15550100001
HELPER, SUPERVISOR                      numbers or SIP URIs; extension 700 of a Tandem server here
MUSIC                                   URL of what those who wait hear; this application's own tune
TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN   those of the Tandem server here (local.py)
PORT                                    5000

What stands behind the semicolon is used when the variable is not set.
"""

import os

import flask
import local
from twilio.twiml.voice_response import Dial, VoiceResponse

EVENTS = ["start", "end", "join", "leave", "mute", "hold"]


def make(client, base, from_, helper, supervisor, music):
    """The application. `music`: URL of what those who wait hear. `app.events`: what was told of each conference, in order."""
    app = flask.Flask(__name__)
    app.events = {}
    people = {}  # of each conference: label -> call SID

    @app.post("/voice")
    def voice():
        """The customer comes and waits with music; the helper is called when they are there."""
        room = f"help-{flask.request.form['CallSid']}"
        people[room] = {"customer": flask.request.form["CallSid"]}
        response = VoiceResponse()
        dial = Dial(action="/over")
        dial.conference(
            room, start_conference_on_enter=False, end_conference_on_exit=True, beep="false", wait_url="/wait",
            participant_label="customer", status_callback=f"{base}/events", status_callback_event=" ".join(EVENTS),
        )
        response.append(dial)
        return xml(response)

    @app.post("/wait")
    def wait():
        response = VoiceResponse()
        response.play(music)
        return xml(response)

    @app.post("/events")
    def events():
        form = flask.request.form
        room = form["FriendlyName"]
        app.events.setdefault(room, []).append((form["StatusCallbackEvent"], form.get("ParticipantLabel")))
        # The customer is there: now the helper.
        first = form["StatusCallbackEvent"] == "participant-join" and form.get("ParticipantLabel") == "customer"
        if first and "helper" not in people.setdefault(room, {"customer": form["CallSid"]}):
            invited = client.conferences(form["ConferenceSid"]).participants.create(
                from_=from_, to=helper, label="helper", beep="false", end_conference_on_exit=True,
            )
            people[room]["helper"] = invited.call_sid
        return "", 204

    @app.post("/coach/<room>")
    def coach(room):
        """Calls the supervisor in, who hears all and is heard by the helper alone."""
        invited = client.conferences(room_sid(room)).participants.create(
            from_=from_, to=supervisor, label="supervisor", beep="false", coaching=True,
            call_sid_to_coach=people[room]["helper"],
        )
        people[room]["supervisor"] = invited.call_sid
        return flask.jsonify(invited.call_sid)

    @app.post("/join/<room>")
    def join(room):
        """The supervisor is heard by all."""
        client.conferences(room_sid(room)).participants("supervisor").update(coaching=False)
        return "", 204

    @app.post("/hold/<room>/<state>")
    def hold(room, state):
        """The customer is put on hold (on), with music, or comes back (off)."""
        hold = state == "on"
        client.conferences(room_sid(room)).participants("customer").update(
            hold=hold, hold_url=f"{base}/wait", hold_method="POST"
        )
        return "", 204

    @app.post("/over")
    def over():
        response = VoiceResponse()
        response.hangup()
        return xml(response)

    def room_sid(room):
        return client.conferences.list(friendly_name=room, status="in-progress")[0].sid

    return app


def xml(response):
    """As a document."""
    return str(response), {"Content-Type": "text/xml"}


if __name__ == "__main__":
    env = os.environ
    port, person = int(env.get("PORT", "5000")), "sip:700@127.0.0.1:5060"
    people = env.get("HELPER", person), env.get("SUPERVISOR", person)
    base, from_ = env.get("BASE", f"http://127.0.0.1:{port}"), env.get("FROM", "+15550100001")
    app = make(local.client(), base, from_, *people, env.get("MUSIC", "/music.wav"))
    local.with_music(app).run(port=port, threaded=True)
