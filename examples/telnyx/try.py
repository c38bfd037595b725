"""Starts a Tandem server, one of the examples and phones that call it: python examples/telnyx/try.py callcenter

The terminal shows the server's view of the calls; the phones' follow. Ends with 0 if the phones heard what they expected.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import drive  # noqa: E402

AGENT = "+15550109998"
CALLS = {
    "ivr": [(0, ["--expect", "speech", "--expect", "silence:1", "--press", "1", "--expect", "speech", "--expect", "silence:1",
                 "--press", "2", "--expect", "speech within 20 seconds", "--hangup"])],
    "voicemail": [(0, ["--expect", "speech", "--expect", "tone:1000 within 20 seconds", "--wait", "0.5", "--say", "Please call me back.",
                       "--press", "#", "--expect", "speech", "--expect", "silence:1", "--expect", "speech within 30 seconds", "--hangup"])],
    "callcenter": [
        (0, ["--expect", "tone:392 within 20 seconds", "--expect", "speech within 40 seconds", "--wait", "2", "--hangup"]),
        (8, ["--from", AGENT, "--wait", "4", "--say", "Good morning, this is the agent.", "--wait", "4", "--hangup"]),
    ],
    "conference": [
        (0, ["--expect", "speech", "--press", "4711", "--expect", "tone:392 within 20 seconds",
             "--expect", "speech within 30 seconds", "--hangup"]),
        (10, ["--expect", "speech", "--press", "4711", "--wait", "5", "--say", "Good morning.", "--wait", "3", "--hangup"]),
    ],
    "repeater": [(0, ["--wait", "1", "--say", "Is there an echo in here?", "--expect", "speech", "--wait", "2",
                      "--press", "#", "--expect", "hangup"])],
}
VOICE = dict.fromkeys(CALLS, ["{port}/voice", "--provider", "telnyx"])

if __name__ == "__main__":
    sys.exit(drive.main(__doc__, HERE, "desk.toml", CALLS, VOICE))
