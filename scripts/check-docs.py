#!/usr/bin/env python3
"""Checks the blocks of README.md, docs/ and examples/: `tandem check` accepts every TOML block as pasted, and every shell block runs.

    scripts/check-docs.py [--tandem PROGRAM] [PAGE ...]

A shell block runs in an empty directory, beside the server and the application that STAGE and Application describe. A line that starts a server (`tandem dev`, `serve` or `proxy`) runs in the background until the block ends, in place of
the prepared server. Every other line must exit with 0. A block that cannot run says so in the info string of its fence, with the
reason: ```sh not-run: takes half an hour. The reason does not show on the rendered page.

The script needs a network namespace, a process namespace and a mount namespace (root, or a system that lets users make them).
So the default ports are free, `pidof` finds only the block's server, and no packet leaves the machine.
"""

import argparse
import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^( *)```(\w+)(?: +([^\n]*))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"^tandem (dev|serve|proxy)\b")
PROXY_PORT = 3128
DEADLINE = 60

STAGE = """
[speech]
tts = "espeak"

[[accounts]]
name = "acme"
operator = true
twilio = { account_sid = "AC0000000000000000000000000000d0c5", auth_token = "0123456789abcdef0123456789abcdef" }

[[numbers]]
number = "600"
account = "acme"
voice_url = "http://127.0.0.1:5000/voice"
"""

DOCUMENTS = {
    "/voice": '<Gather numDigits="1" timeout="5" action="/menu"><Say>To leave a message, press one.</Say></Gather>',
    "/menu": '<Record action="/thanks" maxLength="20" finishOnKey="#"/>',
    "/thanks": "<Say>Thank you.</Say>",
}


class Application(http.server.BaseHTTPRequestHandler):
    """A menu with one choice: a message after a beep."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"<Response>{DOCUMENTS.get(self.path, '')}</Response>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def pages():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def blocks(page):
    text = page.read_text()
    for found in FENCE.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[2], found[3] or "", re.sub(f"^{found[1]}", "", found[4], flags=re.MULTILINE)


def certificates(directory):
    """The files that the TOML blocks name, as an operator would have them. Elliptic curve P-256, as STIR needs."""
    for name in ("sti-ca", "shaken", "sip", "ca"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
             "/CN=voice.example.com", "-addext", "subjectAltName=DNS:voice.example.com",
             "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"],
            check=True, capture_output=True)


def check_toml(tandem, text, directory):
    (directory / "block.toml").write_text(text)
    run = subprocess.run([tandem, "check", "--config", "block.toml"], cwd=directory, capture_output=True, text=True, timeout=DEADLINE)
    return [] if run.returncode == 0 else [run.stdout + run.stderr]


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError as error:
        return error.code != 503
    except OSError:
        return False
    return True


class Stage:
    """A directory, an application and a server for one shell block."""

    def __init__(self, tandem, directory):
        self.tandem, self.directory, self.servers = tandem, directory, []
        for name in ("examples", "scripts", "tandem.example.toml"):
            (directory / name).symlink_to(ROOT / name)
        programs = directory / ".bin"
        programs.mkdir()
        (programs / "tandem").symlink_to(tandem)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "TANDEM_"))}
        self.environment["PATH"] = f"{programs}:{self.environment['PATH']}"

    def serve(self, command):
        log = open(self.directory / f"server{len(self.servers)}.log", "w+")
        server = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.directory, env=self.environment, stdout=log, stderr=log)
        self.servers.append(server)
        ready = f"http://127.0.0.1:{PROXY_PORT}/" if command.startswith("tandem proxy") else "http://127.0.0.1:8080/readyz"
        until = time.monotonic() + DEADLINE
        while not answers(ready):
            if server.poll() is not None or time.monotonic() > until:
                log.seek(0)
                return [f"`{command}` did not start:\n{log.read()}"]
            time.sleep(0.05)
        return []

    def run(self, text):
        """The faults of the block's lines."""
        lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip() and not line.lstrip().startswith("#")]
        rest, faults = [], []
        own = any(SERVER.match(line) and not line.startswith("tandem proxy") for line in lines)
        if not own or "tandem.toml" in text:
            (self.directory / "tandem.toml").write_text(STAGE)
        if not own:
            faults += self.serve("tandem serve --config tandem.toml")
            # The report of a call, for the commands that show one.
            rest.append('tandem call 600 --expect speech > .first-call; export CALL="$(tandem calls --json | grep -o \"CA[0-9a-f]*\" | head -n 1)"')
        for line in lines:
            command = re.sub(r"\s+#.*$", "", line)
            if SERVER.match(command):
                # Commands above the server prepare its files.
                faults += self.shell(rest, before=True)
                rest = []
                faults += self.serve(command)
            else:
                rest.append(line)
        return faults + self.shell(rest)

    def shell(self, lines, before=False):
        if not lines:
            return []
        prologue = ["set -euo pipefail"] + ([] if before and not self.servers else ['eval "$(tandem env)"'])
        run = subprocess.run(
            ["bash", "-c", "\n".join(prologue + lines)], cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=DEADLINE)
        return [] if run.returncode == 0 else [f"exit code {run.returncode}:\n{run.stdout}{run.stderr}"]

    def end(self):
        for server in reversed(self.servers):
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                server.wait(DEADLINE)


def alone(arguments):
    """Runs this script again in namespaces of its own. Exits with 0 and says so where the system does not allow it."""
    if os.environ.get("CHECK_DOCS_ALONE"):
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
        import fcntl, socket, struct
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            flags = struct.unpack("16sh", fcntl.ioctl(control, 0x8913, struct.pack("16sh", b"lo", 0)))[1]
            fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", flags | 1))
        return
    unshare = ["unshare", "--net", "--pid", "--fork", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        print("skipped: this system allows no namespaces, so the blocks of the docs do not run here")
        with open(os.environ.get("TANDEM_SKIPPED_TESTS", os.devnull), "a", encoding="utf-8") as file:
            file.write("make check: blocks of the docs\tthis system allows no namespaces\n")
        sys.exit(0)
    sys.exit(subprocess.run([*unshare, sys.executable, __file__, *arguments], env=os.environ | {"CHECK_DOCS_ALONE": "1"}).returncode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "tandem")
    parser.add_argument("pages", nargs="*", type=Path, default=pages())
    arguments = parser.parse_args()
    alone(sys.argv[1:])
    tandem = arguments.tandem.resolve()
    application = http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Application)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    counts, failed = {"toml": 0, "sh": 0, "not run": 0}, 0
    for page in arguments.pages:
        for line, language, marks, text in blocks(page.resolve()):
            if language not in ("toml", "sh"):
                continue
            if marks.startswith("not-run: "):
                counts["not run"] += 1
                continue
            counts[language] += 1
            directory = Path(tempfile.mkdtemp(prefix="tandem-docs-"))
            try:
                if language == "toml":
                    if re.search(r"\.(pem|key)\b", text):
                        certificates(directory)
                    faults = check_toml(tandem, text, directory)
                else:
                    stage = Stage(tandem, directory)
                    try:
                        faults = stage.run(text)
                    except subprocess.TimeoutExpired as late:
                        faults = [f"not done after {late.timeout} s"]
                    finally:
                        stage.end()
            finally:
                shutil.rmtree(directory)
            if faults:
                failed += 1
                print(f"{page.resolve().relative_to(ROOT)}:{line}: this block fails\n" + "\n".join(faults))
    print(f"docs: {counts['toml']} TOML blocks checked, {counts['sh']} shell blocks run, {counts['not run']} marked, {failed} failed")
    sys.exit(1 if failed else 0)


main()
