"""Calls made and commanded with signalwire-sdk's RestClient, unmodified.

swml_calls.py HOST:PORT PROJECT TOKEN FROM TO APP: APP is the base of the URLs that are told. Lines on standard input say when to go
on; each answer is a line of JSON on standard output.
"""

import json
import sys

from signalwire.rest import RestClient

host, project, token, caller, callee, app = sys.argv[1:]
calling = RestClient(project, token, host=host).calling


def say(**what):
    print(json.dumps(what), flush=True)
    sys.stdin.readline()


wait = {"sections": {"main": [{"set": {"name": "${envs.name}"}}, {"sleep": -1}]}}
call = calling.dial(
    from_=caller, to=callee, swml=wait, status_url=app + "/state", status_events=["ringing", "answered", "ended"],
    extras={"custom_variables": {"name": "Ann"}},
)
say(call=call)  # goes on when the call is answered
one = call["id"]
calling.record(one, control_id="recording", audio={"direction": "both", "format": "wav", "end_silence_timeout": 0},
               status_url=app + "/record")
calling.play(one, control_id="hello", play=[{"type": "tts", "params": {"text": "Hello"}}, {"type": "silence", "params": {"duration": 0.2}}],
             status_url=app + "/play")
calling.collect(one, control_id="digits", digits={"max": 2}, initial_timeout=20, extras={"status_url": app + "/collect"})
say(asked=True)  # ... when keys were pressed
calling.record_stop(one, control_id="recording")
say(stopped=True)  # ... when the recording is whole
moved = calling.update(id=one, swml={"sections": {"main": [{"play": "say:Goodbye"}, {"request": {"url": app + "/moved", "method": "GET"}}, {"sleep": -1}]}})
say(moved=moved)
say(ended=calling.end(one))
