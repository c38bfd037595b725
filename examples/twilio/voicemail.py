"""A menu; a person, or a mailbox whose messages are transcribed.

PERSON  number or SIP URI of whoever answers key 1; extension 700 of a Tandem server here when not set
PORT    5000
"""

import os

import flask
from twilio.twiml.voice_response import Gather, VoiceResponse


def make(person):
    """The application. `app.messages` is what has been left: sid, url, seconds and, once it is there, text."""
    app = flask.Flask(__name__)
    app.messages = {}

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        menu = Gather(num_digits=1, timeout=5, action="/menu")
        menu.say("For a person, press one. To leave a message, press two.")
        response.append(menu)
        response.redirect("/voice")
        return xml(response)

    @app.post("/menu")
    def menu():
        response = VoiceResponse()
        match flask.request.form["Digits"]:
            case "1":
                dial = response.dial(timeout=20, action="/after")
                (dial.sip if person.startswith("sip:") else dial.number)(person)
            case "2":
                mailbox(response)
            case _:
                response.say("There is nothing behind this key.")
                response.redirect("/voice")
        return xml(response)

    @app.post("/after")
    def after():
        response = VoiceResponse()
        if flask.request.form["DialCallStatus"] == "completed":
            response.hangup()
        else:
            response.say("Nobody is there.")
            mailbox(response)
        return xml(response)

    @app.post("/recorded")
    def recorded():
        form = flask.request.form
        message = app.messages.setdefault(form["RecordingSid"], {})
        message.update(url=form["RecordingUrl"], seconds=int(form["RecordingDuration"]), caller=form["From"])
        response = VoiceResponse()
        response.say("Thank you. Good bye.")
        return xml(response)

    @app.post("/transcribed")
    def transcribed():
        form = flask.request.form
        message = app.messages.setdefault(form["RecordingSid"], {})
        message.update(status=form["TranscriptionStatus"], text=form.get("TranscriptionText", ""))
        return "", 204

    @app.get("/messages")
    def messages():
        return flask.jsonify(app.messages)

    return app


def mailbox(response):
    """Asks for a message and takes it."""
    response.say("Please speak after the tone, and press the hash key when you are done.")
    response.record(
        action="/recorded", finish_on_key="#", max_length=60, timeout=10, transcribe=True,
        transcribe_callback="/transcribed",
    )
    response.say("We have not heard anything.")


def xml(response):
    """As a document."""
    return str(response), {"Content-Type": "text/xml"}


if __name__ == "__main__":
    make(os.environ.get("PERSON", "sip:700@127.0.0.1:5060")).run(port=int(os.environ.get("PORT", "5000")))
