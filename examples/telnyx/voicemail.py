"""A message by phone: a caller speaks, and the application calls whom it is for. A person is connected with the caller. An answering
machine hears the message after its beep.

PERSON                                whom messages are for; sip:700@127.0.0.1:5060, who speaks (desk.toml), and 701 is a machine
TELNYX_API_KEY, TELNYX_PUBLIC_KEY     the account; that of desk.toml on this machine (local.py)
PORT                                  5000

What stands behind the semicolon is used when the variable is not set.
"""

import os
import threading

import local

GREETING = "Please speak after the tone, and press the hash key when you are done."


def make(client, person):
    """The application. `app.outcomes`: what became of each message: `connected`, `left` or `nobody`."""
    app, actions = local.Application(client), client.calls.actions
    app.outcomes = []
    messages = {}  # of each caller's leg: the URL of the message
    known = threading.Lock()

    def speak(leg, text, then=""):
        actions.speak(leg, payload=text, voice="female", language="en-US", client_state=local.state(then))

    @app.on("call.initiated")
    def arrived(call):
        if call.direction == "incoming":
            actions.answer(call.call_control_id)

    @app.on("call.answered")
    def answered(call):
        if not local.stated(call):
            speak(call.call_control_id, GREETING, "greeting")

    @app.on("call.speak.ended")
    def spoken(call):
        match local.stated(call):
            case "greeting":
                leg = call.call_control_id
                actions.start_recording(leg, channels="single", format="wav", play_beep=True, max_length=60)
                actions.gather(leg, maximum_digits=1, terminating_digit="#", timeout_millis=60_000, client_state=local.state("message"))
            case "bye":
                actions.hangup(call.call_control_id)

    @app.on("call.gather.ended")
    def spoken_to_the_end(call):
        if call.status != "call_hangup":
            actions.stop_recording(call.call_control_id)
            speak(call.call_control_id, "Thank you. One moment, please.")

    @app.on("call.recording.saved")
    def saved(call):
        """The other one is called; the caller's leg is in the state of that call."""
        leg = call.call_control_id
        with known:
            messages[leg] = call.recording_urls.wav
        client.calls.dial(
            connection_id=call.connection_id, to=person, from_="+15550100001", answering_machine_detection="premium",
            timeout_secs=30, client_state=local.state(leg),
        )

    @app.on("call.machine.premium.detection.ended")
    def detected(call):
        caller = local.stated(call)
        if call.result == "machine":
            return  # its greeting goes on: it is waited for
        app.outcomes.append("connected")
        actions.bridge(call.call_control_id, call_control_id_to_bridge_with=caller)

    @app.on("call.machine.premium.greeting.ended")
    def beep(call):
        actions.start_playback(call.call_control_id, audio_url=messages[local.stated(call)])

    @app.on("call.playback.ended")
    def left(call):
        caller = local.stated(call)
        if caller in messages:
            app.outcomes.append("left")
            actions.hangup(call.call_control_id)
            speak(caller, "Nobody is there. The answering machine has your message. Good bye.", "bye")

    @app.on("call.hangup")
    def over(call):
        caller = local.stated(call)
        if caller in messages and call.hangup_cause in ("timeout", "user_busy", "call_rejected", "not_found"):
            app.outcomes.append("nobody")
            speak(caller, "Nobody can be reached. Good bye.", "bye")

    return app


if __name__ == "__main__":
    make(local.client(), os.environ.get("PERSON", "sip:700@127.0.0.1:5060")).run()
