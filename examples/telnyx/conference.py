"""A room behind four digits; its people can be listed and muted.

PIN                                   the four digits; 4711
TELNYX_API_KEY, TELNYX_PUBLIC_KEY     the account; that of desk.toml on this machine (local.py)
PORT                                  5000

GET /people lists the room, POST /people/LEG/mute and /people/LEG/unmute silence somebody.
"""

import os
import threading

import flask
import local

ROOM = "meeting"


def make(client, pin):
    """The application. `app.events`: what was told of the room, without `conference.`."""
    app, actions, conferences = local.Application(client), client.calls.actions, client.conferences
    app.events, people, room = [], {}, {}
    entering = threading.Lock()

    @app.on("call.initiated")
    def arrived(call):
        actions.answer(call.call_control_id)

    @app.on("call.answered")
    def answered(call):
        actions.gather_using_speak(
            call.call_control_id, payload="Please type the four digits.", voice="female", language="en-US", minimum_digits=4,
            maximum_digits=4, maximum_tries=3, timeout_millis=8000,
        )

    @app.on("call.gather.ended")
    def typed(call):
        leg = call.call_control_id
        if call.status == "call_hangup":
            return
        if call.digits != pin:
            actions.speak(leg, payload="That is wrong.", voice="female", language="en-US", client_state=local.state("bye"))
            return
        with entering:
            if "id" in room:
                actions.stop_playback(room["first"])
                conferences.actions.join(room["id"], call_control_id=leg, beep_enabled="on_enter")
            else:
                # Whoever is alone hears a tune.
                room.update(id=conferences.create(call_control_id=leg, name=ROOM, beep_enabled="never").data.id, first=leg)
                actions.start_playback(leg, playback_content=local.music(), loop="infinity")

    @app.on("call.speak.ended")
    def spoken(call):
        if local.stated(call) == "bye":
            actions.hangup(call.call_control_id)

    @app.on("conference.participant.joined")
    def joined(member):
        app.events.append("participant.joined")
        people[member.call_control_id] = "heard"

    @app.on("conference.participant.left")
    def left(member):
        app.events.append("participant.left")
        people.pop(member.call_control_id, None)

    @app.on("conference.ended")
    def ended(_):
        app.events.append("ended")
        room.clear()

    @app.flask.get("/people")
    def listed():
        return flask.jsonify([{"leg": leg, "is": how} for leg, how in people.items()])

    @app.flask.post("/people/<leg>/<how>")
    def silence(leg, how):
        if how == "mute":
            conferences.actions.mute(room["id"], call_control_ids=[leg])
        else:
            conferences.actions.unmute(room["id"], call_control_ids=[leg])
        people[leg] = "silent" if how == "mute" else "heard"
        return "", 204

    return app


if __name__ == "__main__":
    make(local.client(), os.environ.get("PIN", "4711")).run()
