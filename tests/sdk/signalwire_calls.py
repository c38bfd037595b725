"""SignalWire's Python SDK as it is, through the proxy. Run by test_signalwire_sdk.py; ends with 0 when all held."""

import os
import sys

from signalwire.rest import Client
from twilio.base.exceptions import TwilioRestException

from harness.waiting import wait_for

PHONE, FROM = os.environ["PHONE"], "+15551230001"
client = Client(os.environ["SIGNALWIRE_PROJECT_ID"], os.environ["SIGNALWIRE_API_TOKEN"])  # the space: SIGNALWIRE_SPACE_URL
OVER = {"completed", "busy", "failed", "no-answer", "canceled"}


def until(holds):
    wait_for("the next state of the call", holds, 30)


call = client.calls.create(to=PHONE, from_=FROM, twiml="<Response><Pause length='60'/></Response>")
assert len(call.sid) == 36 and call.direction == "outbound"
until(lambda: client.calls(call.sid).fetch().status == "in-progress")
recording = client.calls(call.sid).recordings.create(recording_channels="dual")
assert client.calls(call.sid).recordings(recording.sid).update(status="stopped").status == "stopped"
assert client.calls(call.sid).update(status="completed").sid == call.sid
until(lambda: client.calls(call.sid).fetch().status in OVER)
assert [one.sid for one in client.recordings.list(call_sid=call.sid)] == [recording.sid]
assert call.sid in [one.sid for one in client.calls.list(to=PHONE, page_size=1, limit=3)]

queue = client.queues.create(friendly_name="line")
assert client.queues(queue.sid).fetch().current_size == 0 and client.queues(queue.sid).delete()
application = client.applications.create(friendly_name="menu", voice_url="https://app.example/voice")
assert client.applications(application.sid).update(friendly_name="other").friendly_name == "other"
assert client.applications(application.sid).delete()
assert [one.phone_number for one in client.incoming_phone_numbers.list()] == [FROM]
try:
    client.calls("00000000-0000-0000-0000-000000000000").fetch()
    sys.exit("a call that nobody made was found")
except TwilioRestException as error:
    assert error.status == 404
