"""Starts a Tandem server, one of the examples and a phone that calls it: python examples/twilio/try.py voicemail

The terminal shows the server's view of the call; the phone's follows. Ends with 0 if the phone heard what it expected.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AGENT = "+15550109998"
CALLS = {
    # Of each example: the seconds after which a phone calls, and what it does.
    "voicemail": [(0, ["--expect", "speech", "--press", "2", "--expect", "tone within 20 seconds",
                       "--say", "Please call me back.", "--press", "#", "--expect", "speech", "--expect", "hangup"])],
    "forwarding": [(0, ["--expect", "speech within 30 seconds", "--wait", "6", "--say", "Thank you", "--hangup"])],
    "conference": [(0, ["--expect", "tone within 20 seconds", "--expect", "speech within 30 seconds"])],
    "callcenter": [
        (0, ["--expect", "tone within 20 seconds", "--expect", "speech within 40 seconds", "--wait", "2", "--hangup"]),
        (8, ["--from", AGENT, "--wait", "4", "--say", "Good morning, this is the agent.", "--wait", "4", "--hangup"]),
    ],
    "parrot": [(0, ["--expect", "tone", "--say", "Is there an echo in here?", "--expect", "speech", "--wait", "2",
                    "--press", "#", "--expect", "hangup"])],
}


def find_tandem():
    """The program: $TANDEM, one that was built here, or one on the PATH."""
    built = [ROOT / "target" / kind / "tandem" for kind in ("release", "debug")]
    found = [os.environ.get("TANDEM"), *filter(Path.exists, built), shutil.which("tandem")]
    return next((str(path) for path in found if path), None) or sys.exit("no tandem: cargo build --release")


def wait_for(what, url, process):
    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"{what} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{what} did not start")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", choices=CALLS)
    parser.add_argument("--port", type=int, default=5000, help="the application's")
    parser.add_argument("--sip-port", type=int, default=5060)
    parser.add_argument("--http-port", type=int, default=8080)
    arguments = parser.parse_args()
    tandem, sip, http = find_tandem(), str(arguments.sip_port), str(arguments.http_port)
    server = f"127.0.0.1:{sip}"
    person = f"sip:700@{server}"
    environment = os.environ | {
        "PORT": str(arguments.port), "TANDEM_URL": f"http://127.0.0.1:{http}", "PERSON": person, "HELPER": person, "SUPERVISOR": person,
    }
    running = []
    try:
        serving = [tandem, "dev", f"{arguments.port}/voice", "--config", str(HERE / "person.toml"), "--sip-port", sip, "--http-port", http]
        running.append(subprocess.Popen(serving))
        wait_for("the server", f"http://127.0.0.1:{http}/readyz", running[-1])
        running.append(subprocess.Popen([sys.executable, str(HERE / f"{arguments.example}.py")], env=environment))
        wait_for("the application", f"http://127.0.0.1:{arguments.port}/", running[-1])
        phones, began = [], time.monotonic()
        for after, steps in CALLS[arguments.example]:
            time.sleep(max(0, began + after - time.monotonic()))
            phones.append(subprocess.Popen([tandem, "call", "600", "--server", server, *steps]))
        return max(phone.wait(timeout=120) for phone in phones)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
