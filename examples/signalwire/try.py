"""Starts a Tandem server, one of the examples and phones that call it: python examples/signalwire/try.py callcenter

The terminal shows the server's view of the calls; the phones' follow. Ends with 0 if the phones heard what they expected.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import drive  # noqa: E402

AGENT = "+15550109998"
SWML = ["http://swml:example@127.0.0.1:{port}/voice", "--provider", "swml"]
CALLS = {
    "ivr": [(0, ["--expect", "speech", "--expect", "silence:1", "--press", "1", "--expect", "speech", "--expect", "silence:1",
                 "--press", "2", "--expect", "speech", "--expect", "tone:440 within 20 seconds", "--expect", "speech within 20 seconds", "--hangup"])],
    "voicemail": [(0, ["--expect", "speech", "--expect", "tone:1000 within 20 seconds", "--wait", "0.5", "--say", "Please call me back.",
                       "--press", "#", "--expect", "speech", "--expect", "hangup"])],
    "callcenter": [
        (0, ["--expect", "speech", "--press", "2", "--expect", "tone:392 within 20 seconds",
             "--expect", "speech within 40 seconds", "--wait", "2", "--expect", "problem stt-off", "--hangup"]),
        (10, ["--from", AGENT, "--wait", "3", "--say", "Good morning, this is the agent.", "--wait", "3", "--hangup"]),
    ],
    "conference": [
        (0, ["--expect", "speech", "--press", "4711", "--expect", "tone:392 within 20 seconds",
             "--expect", "speech within 30 seconds", "--hangup"]),
        (10, ["--expect", "speech", "--press", "4711", "--wait", "5", "--say", "Good morning.", "--wait", "3", "--hangup"]),
    ],
    "counter": [(0, ["--expect", "speech", "--expect", "silence:1", "--say", "One", "--expect", "tone:880",
                     "--wait", "1", "--say", "Two", "--expect", "tone:880", "--wait", "2", "--press", "#",
                     "--expect", "speech", "--expect", "hangup"])],
}

if __name__ == "__main__":
    sys.exit(drive.main(__doc__, HERE, "space.toml", CALLS, {"ivr": SWML, "voicemail": SWML}))
