"""What the `try.py` of each folder has in common: a Tandem server, an application and phones that call it."""

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

ROOT = Path(__file__).resolve().parent.parent


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


def main(doc, folder, config, calls, served=None):
    """`calls`: of each example, the seconds after which a phone calls, and what it does. `served`: of those that `tandem dev` is not
    given as PORT/voice, its arguments for them, where {port} is the application's."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", choices=calls)
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
        how = [one.format(port=arguments.port) for one in (served or {}).get(arguments.example, ["{port}/voice"])]
        serving = [tandem, "dev", *how, "--config", str(folder / config), "--sip-port", sip, "--http-port", http]
        running.append(subprocess.Popen(serving))
        wait_for("the server", f"http://127.0.0.1:{http}/readyz", running[-1])
        running.append(subprocess.Popen([sys.executable, str(folder / f"{arguments.example}.py")], env=environment))
        wait_for("the application", f"http://127.0.0.1:{arguments.port}/", running[-1])
        phones, began = [], time.monotonic()
        for after, steps in calls[arguments.example]:
            time.sleep(max(0, began + after - time.monotonic()))
            phones.append(subprocess.Popen([tandem, "call", "600", "--config", str(folder / config), *steps]))
        return max(phone.wait(timeout=120) for phone in phones)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
