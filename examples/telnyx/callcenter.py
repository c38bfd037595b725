"""Callers wait in a queue with music until an agent, who calls the same number, takes them. A supervisor is called for each talk: listens,
and presses 1 to listen, 2 to speak to the agent alone, 3 to speak to both.

AGENTS                                numbers of agents, separated by commas; +15550109998. All others are callers
SUPERVISOR                            whom to call; nobody when not set
TELNYX_API_KEY, TELNYX_PUBLIC_KEY     the account; that of desk.toml on this machine (local.py)
PORT                                  5000
"""

import os

import flask
import local

QUEUE = "support"
ROLES = {"1": "monitor", "2": "whisper", "3": "barge"}


def make(client, agents, supervisor=None):
    """The application. `app.roles`: those that supervisors have taken, one after the other."""
    app, actions = local.Application(client), client.calls.actions
    app.roles = []

    def speak(leg, text, then):
        actions.speak(leg, payload=text, voice="female", language="en-US", client_state=local.state(then))

    @app.on("call.initiated")
    def arrived(call):
        if call.direction == "incoming":
            actions.answer(call.call_control_id, client_state=local.state("agent" if call.from_ in agents else "caller"))

    @app.on("call.answered")
    def answered(call):
        leg = call.call_control_id
        match local.stated(call):
            case "agent":
                take(leg)
            case "caller":
                actions.enqueue(leg, queue_name=QUEUE)
                actions.start_playback(leg, playback_content=local.music(), loop="infinity")

    def take(agent):
        """Whoever waits longest."""
        first = next(iter(waiting()), None)
        if first:
            actions.bridge(agent, call_control_id_to_bridge_with=first)
        else:
            speak(agent, "Nobody is waiting.", "agent")

    def waiting():
        """The calls in the queue, which comes to be with the first of them."""
        if any(queue.name == QUEUE for queue in client.queues.list()):
            return [call.call_control_id for call in client.queues.calls.list(QUEUE)]
        return []

    @app.on("call.speak.ended")
    def spoken(call):
        if local.stated(call) == "agent":
            take(call.call_control_id)

    @app.on("call.bridged")
    def bridged(call):
        if supervisor and local.stated(call) == "agent":
            client.calls.dial(
                connection_id=call.connection_id, to=supervisor, from_="+15550100001", supervise_call_control_id=call.call_control_id,
                supervisor_role="monitor", client_state=local.state("supervisor"),
            )
            app.roles.append("monitor")

    @app.on("call.dtmf.received")
    def pressed(call):
        role = ROLES.get(call.digit)
        if role and local.stated(call) == "supervisor":
            actions.switch_supervisor_role(call.call_control_id, role=role)
            app.roles.append(role)

    @app.flask.get("/waiting")
    def shown():
        return flask.jsonify(waiting())

    return app


if __name__ == "__main__":
    agents = os.environ.get("AGENTS", "+15550109998").split(",")
    make(local.client(), agents, os.environ.get("SUPERVISOR")).run()
