"""Starts a Tandem server, one of the examples and a phone that calls it: python examples/twilio/try.py voicemail

The terminal shows the server's view of the call; the phone's follows. Ends with 0 if the phone heard what it expected.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import drive  # noqa: E402

AGENT = "+15550109998"
CALLS = {
    "voicemail": [(0, ["--expect", "speech", "--press", "2", "--expect", "tone within 20 seconds",
                       "--say", "Please call me back.", "--press", "#", "--expect", "speech", "--expect", "problem stt-off", "--expect", "hangup"])],
    "forwarding": [(0, ["--expect", "speech within 30 seconds", "--wait", "6", "--say", "Thank you", "--hangup"])],
    "conference": [(0, ["--expect", "tone within 20 seconds", "--expect", "speech within 30 seconds"])],
    "callcenter": [
        (0, ["--expect", "tone within 20 seconds", "--expect", "speech within 40 seconds", "--wait", "2", "--hangup"]),
        (8, ["--from", AGENT, "--wait", "4", "--say", "Good morning, this is the agent.", "--wait", "4", "--hangup"]),
    ],
    "parrot": [(0, ["--expect", "tone", "--say", "Is there an echo in here?", "--expect", "speech", "--wait", "2",
                    "--press", "#", "--expect", "hangup"])],
}

if __name__ == "__main__":
    sys.exit(drive.main(__doc__, HERE, "person.toml", CALLS))
