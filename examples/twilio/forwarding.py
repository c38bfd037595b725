"""Calls forwarded to a person, who hears first who it is and may decline.

PERSON  number or SIP URI; extension 700 of a Tandem server here when not set
PORT    5000
"""

import os

import flask
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse


def make(person):
    """The application. `app.outcomes`: how each call went, by its SID."""
    app = flask.Flask(__name__)
    app.outcomes = {}

    @app.post("/voice")
    def voice():
        response = VoiceResponse()
        dial = Dial(timeout=20, answer_on_bridge=True, action="/after")
        place = dial.sip if person.startswith("sip:") else dial.number
        place(person, url="/whisper", method="POST")
        response.append(dial)
        return xml(response)

    @app.post("/whisper")
    def whisper():
        """Heard by the person alone; the caller still hears ringing."""
        response = VoiceResponse()
        question = Gather(num_digits=1, timeout=6, action="/decide")
        question.say(f"Somebody calls from {' '.join(flask.request.form['From'])}. Press one to take the call.")
        response.append(question)
        response.hangup()
        return xml(response)

    @app.post("/decide")
    def decide():
        response = VoiceResponse()
        if flask.request.form["Digits"] != "1":
            response.hangup()
        # An empty document: the whisper is over, the two are joined.
        return xml(response)

    @app.post("/after")
    def after():
        form = flask.request.form
        app.outcomes[form["CallSid"]] = form["DialCallStatus"], form.get("DialBridged")
        response = VoiceResponse()
        if form.get("DialBridged") != "true":
            response.say("Nobody can take your call. Please try again later.")
        response.hangup()
        return xml(response)

    return app


def xml(response):
    """As a document."""
    return str(response), {"Content-Type": "text/xml"}


if __name__ == "__main__":
    make(os.environ.get("PERSON", "sip:700@127.0.0.1:5060")).run(port=int(os.environ.get("PORT", "5000")))
