"""What the Twilio tests share: the client pointed at a server of ours, and the check of every request it sent."""

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse
from werkzeug.datastructures import MultiDict

from harness.waiting import wait_for

FINAL = ("completed", "busy", "failed", "no-answer", "canceled")


class Elsewhere(TwilioHttpClient):
    """The SDK's own HTTP client, with another origin."""

    def __init__(self, origin):
        super().__init__(timeout=10)
        self.origin = origin

    def request(self, method, url, *args, **kwargs):
        assert url.startswith("https://api.twilio.com/")
        return super().request(method, url.replace("https://api.twilio.com", self.origin, 1), *args, **kwargs)


def client(server):
    """The SDK's client, unmodified but for where it sends its requests."""
    return Client(server.account_sid, server.auth_token, http_client=Elsewhere(server.http))


def access_token(account, key, secret, identity, ttl=3600, **grant):
    """The token of a page: `key` and `secret` are an API key, `grant` has the options of its VoiceGrant, `ttl` is in seconds."""
    token = AccessToken(account, key, secret, identity=identity, ttl=ttl)
    token.add_grant(VoiceGrant(**grant))
    return token.to_jwt()


def ended(twilio, sid):
    """Waits for the end of a call and returns it."""
    return wait_for("the call's end", lambda: [call for call in [twilio.calls(sid).fetch()] if call.status in FINAL])[0]


def refused(call, status, code):
    """What the server says to a request that it must refuse."""
    with pytest.raises(TwilioRestException) as fault:
        call()
    assert (fault.value.status, fault.value.code) == (status, code), fault.value


def assert_genuine(server, webapp, bare=()):
    """The SDK's validator accepts every request that has come, and none with another URL. Sounds are left out: an announcement
    to all is no call's, so they are asked for without a signature. Those for `bare` came by a redirect that leaves no
    parameters."""
    validator = RequestValidator(server.auth_token)
    received = [request for request in webapp.to() if request.path not in webapp.sounds]
    assert received
    for request in received:
        parameters = MultiDict(request.form) if request.method == "POST" else {}
        signature = request.headers.get("x-twilio-signature", "")
        assert validator.validate(request.url, parameters, signature), f"not genuine: {request}"
        assert not validator.validate(request.url + "x", parameters, signature)
        if request.path in bare:
            assert request.method == "GET" and not request.body and "AccountSid" not in request.args
        else:
            assert request["AccountSid"] == server.account_sid
    return received


def twiml(response):
    """A VoiceResponse, or text, as a view's answer."""
    return str(response), {"Content-Type": "text/xml"}


def answering(app, path, make):
    """`path` answers with the document that `make` fills."""

    def view():
        response = VoiceResponse()
        make(response)
        return twiml(response)

    app.on(path, view)


def number(name, webapp, path, more=""):
    """[[numbers]] of which `path` is the voice URL."""
    return f"""
[[numbers]]
number = "{name}"
account = "acme"
provider = "twilio"
voice_url = "{webapp.url}{path}"
{more}
"""
