"""A menu: opening hours, a person, or three tries and good bye.

PERSON                                whom 2 is for; sip:700@127.0.0.1:5060, who speaks (desk.toml)
TELNYX_API_KEY, TELNYX_PUBLIC_KEY     the account; that of desk.toml on this machine (local.py)
PORT                                  5000

What stands behind the semicolon is used when the variable is not set.
"""

import os

import local

MENU = "For our opening hours press one. To talk to somebody press two."
HOURS = "We are here from nine to five."


def make(client, person):
    """The application. `app.choices`: what callers pressed."""
    app, actions = local.Application(client), client.calls.actions
    app.choices = []

    def ask(leg, more=""):
        actions.gather_using_speak(
            leg, payload=f"{more} {MENU}".strip(), voice="female", language="en-US", maximum_digits=1, maximum_tries=3,
            timeout_millis=4000, valid_digits="12", invalid_payload="Sorry?",
        )

    @app.on("call.initiated")
    def arrived(call):
        if call.direction == "incoming":
            actions.answer(call.call_control_id, client_state=local.state("caller"))

    @app.on("call.answered")
    def answered(call):
        if local.stated(call) == "caller":  # and not whom the call is transferred to
            ask(call.call_control_id)

    @app.on("call.gather.ended")
    def chosen(call):
        if call.status == "call_hangup":
            return
        app.choices.append(call.digits)
        if call.digits == "1":
            ask(call.call_control_id, HOURS)
        elif call.digits == "2":
            actions.transfer(call.call_control_id, to=person, from_=call.from_)
        else:
            actions.speak(
                call.call_control_id, payload="Good bye.", voice="female", language="en-US", client_state=local.state("bye")
            )

    @app.on("call.speak.ended")
    def spoken(call):
        if local.stated(call) == "bye":
            actions.hangup(call.call_control_id)

    return app


if __name__ == "__main__":
    make(local.client(), os.environ.get("PERSON", "sip:700@127.0.0.1:5060")).run()
