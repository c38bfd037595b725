"""One call with Telnyx's Python SDK, of today or of the major version 2, as it is: HTTPS_PROXY and a bundle of authorities bring it
here. Takes its own webhooks and has the SDK look at their signatures. Run by test_telnyx_sdks.py; ends with 0 when all held."""

import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import telnyx

IS_OLD = telnyx.__version__.startswith("2.")
events, refused = queue.Queue(), []


def unwrap(body, headers):
    """The event, or an error of the SDK's."""
    if IS_OLD:
        return telnyx.Webhook.construct_event(body, headers["telnyx-signature-ed25519"], headers["telnyx-timestamp"]).data
    return client.webhooks.unwrap(body, headers=dict(headers)).data


class Webhooks(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        try:
            unwrap(body.replace("event_type", "event_typo"), self.headers)
        except Exception as error:
            refused.append(error)
        event = unwrap(body, self.headers)
        events.put((event["event_type"], event["payload"]) if IS_OLD else (event.event_type, json.loads(body)["data"]["payload"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def wait(kind):
    """The payload of the next event of this kind."""
    while True:
        event, payload = events.get(timeout=20)
        if event == kind:
            return payload


server = ThreadingHTTPServer(("127.0.0.1", 0), Webhooks)
threading.Thread(target=server.serve_forever, daemon=True).start()
dial = {
    "connection_id": os.environ["CONNECTION"], "to": os.environ["PHONE"], "webhook_url": f"http://127.0.0.1:{server.server_port}/",
}
voice = {"voice": "female", "language": "en-US"}
if IS_OLD:
    call = telnyx.Call.create(from_=os.environ["FROM"], **dial)
    leg, act = call.call_control_id, lambda name, **how: getattr(telnyx.Call, f"create_{name}")(call.call_control_id, **how)
else:
    client = telnyx.Telnyx()
    leg = client.calls.dial(from_=os.environ["FROM"], **dial).data.call_control_id
    NAMES = {"record_start": "start_recording", "record_stop": "stop_recording"}
    act = lambda name, **how: getattr(client.calls.actions, NAMES.get(name, name))(leg, **how)

assert wait("call.answered")["call_control_id"] == leg
act("record_start", format="wav", channels="single")
act("gather_using_speak", payload="Two digits, please.", minimum_digits=2, maximum_digits=2, **voice)
print("gathers", flush=True)
assert wait("call.gather.ended")["digits"] == "42"
act("send_dtmf", digits="7")
print("pressed", flush=True)
sys.stdin.readline()  # the phone has heard it
act("record_stop")
assert wait("call.recording.saved")["recording_urls"]["wav"]
act("hangup")
assert wait("call.hangup")["hangup_cause"] == "normal_clearing"
assert len(refused) >= 5, refused
print("done", flush=True)
