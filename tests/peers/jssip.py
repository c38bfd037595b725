"""JsSIP, the library of browsers' phones, in Node: over the WebSocket at /sip, with plain RTP (browser/phone.mjs)."""

import json
import pathlib
import shutil
import subprocess
import threading

from phone import Phone
from server import password

FOLDER = pathlib.Path(__file__).resolve().parent / "browser"


class Jssip(Phone):
    kind = "jssip"
    sends_info = True
    sends_events = False
    hears_keys = False

    def start(self, _keys="info"):
        settings = {
            "url": f"ws://{self.server.address}:8080/sip",
            "user": self.user,
            "password": password(self.user),
            "domain": self.server.address,
            "address": self.address,
            "rtp": self.rtp.start,
            "hertz": self.hertz,
            "heard": str(self.folder / "heard"),
            "trace": True,
        }
        self.events, self.since = [], 0
        self.errors = open(self.folder / "trace", "ab")
        script = str(FOLDER / "phone.mjs")
        self.process = self.run("node", script, json.dumps(settings), stdout=subprocess.PIPE, stderr=self.errors)
        threading.Thread(target=self.listen, args=(self.process.stdout, self.events), daemon=True).start()

    def listen(self, lines, events):
        with open(self.folder / "output", "ab") as output:
            for line in lines:
                output.write(line)
                if line.startswith(b"{"):
                    events.append(json.loads(line))

    def command(self, *words):
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()

    def mark(self):
        self.since = len(self.events)

    def seen(self, kind, since=None):
        return any(event["type"] == kind for event in self.events[self.since if since is None else since:])

    def registered(self):
        return self.seen("registered", 0)

    def incoming(self):
        return self.seen("incoming")

    def ringing(self):
        return self.seen("ringing")

    def established(self):
        return self.seen("established")

    def ended(self):
        return self.seen("ended")

    def dial(self, target):
        self.mark()
        self.command("dial", target)

    def answer(self):
        self.command("answer")

    def hangup(self):
        self.command("hangup")

    decline = hangup

    def hold(self):
        self.command("hold")

    def resume(self):
        self.command("resume")

    def press(self, digits):
        self.command("press", digits)

    def pressed(self):
        return "".join(event["key"] for event in self.events[self.since:] if event["type"] == "key")

    def transfer(self, target):
        self.command("transfer", target)

    def consult(self, target):
        self.command("consult", target)

    def complete_transfer(self):
        self.command("complete")

    def recordings(self):
        return sorted(self.folder.glob("heard-*.wav"))


def is_missing():
    return shutil.which("node") is None or not (FOLDER / "node_modules").exists()
