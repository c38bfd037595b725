"""baresip, controlled by its module ctrl_tcp (JSON in netstrings)."""

import ctypes
import json
import shutil
import socket
import threading

from phone import Phone, wait
from server import password

CONTROL_PORT = 4444
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(namespace):
    """Creates the next sockets of this thread in this network namespace. Has no effect without the permission."""
    LIBC.setns(namespace.fileno(), 0)



class Baresip(Phone):
    kind = "baresip"
    program = "baresip"
    outlives_failed_transfers = False

    def start(self, _keys="rtp"):
        tls = self.transport == "tls"
        port = 5061 if tls else 5060
        lines = [
            "poll_method epoll",
            f"sip_listen {self.address}:5060",
            f"sip_cafile {self.server.certificate}",
            "sip_trans_bsize 128",
            f"audio_source aufile,{self.folder}/says.wav",
            "audio_player aubridge,ear",
            "audio_alert aufile,/dev/null",
            "audio_channels 1",
            f"rtp_ports {self.rtp.start}-{self.rtp.stop - 1}",
            "jitter_buffer_delay 1-5",
            f"snd_path {self.folder}",
            f"net_interface {self.address}",
            "module_path /usr/lib/baresip/modules",
            "rtcp_mux yes",
            *(f"module {name}.so" for name in ("g711", "aufile", "aubridge", "sndfile", "srtp", "ice", "dtls_srtp")),
            *(f"module_app {name}.so" for name in ("account", "menu", "contact", "ctrl_tcp")),
            f"ctrl_tcp_listen {self.address}:{CONTROL_PORT}",
        ]
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        account = (
            f"<sip:{self.user}@{self.server.address}:{port};transport={self.transport}>;auth_pass=\"{password(self.user)}\""
            f";regint=60;audio_codecs=PCMU,PCMA;call_transfer=yes"
        )
        if self.proxy:
            account += f';outbound="sip:{self.proxy};transport=udp"'
        if self.srtp:
            account += ";mediaenc=srtp-mand"
        if self.dtls:
            account += ";mediaenc=dtls_srtp;medianat=ice"
        (self.folder / "accounts").write_text(account + "\n")
        (self.folder / "contacts").write_text("")
        self.events = []
        self.output = open(self.folder / "output", "ab")
        self.process = self.run(self.program, "-f", str(self.folder), "-s", stdout=self.output, stderr=self.output)
        self.control = wait("baresip's control port", self.connect)
        threading.Thread(target=self.listen, daemon=True).start()

    def connect(self):
        home = open("/proc/self/ns/net")
        if self.namespace:
            with open(f"/run/netns/{self.namespace}") as other:
                enter(other)
        try:
            return socket.create_connection((self.address, CONTROL_PORT), timeout=1)
        except OSError:
            return None
        finally:
            enter(home)
            home.close()

    def listen(self):
        self.control.settimeout(None)
        pending = b""
        while True:
            try:
                more = self.control.recv(65536)
            except OSError:
                return
            if not more:
                return
            pending += more
            while b":" in pending:
                length, rest = pending.split(b":", 1)
                if len(rest) <= int(length):
                    break
                pending = rest[int(length) + 1:]
                self.events.append(json.loads(rest[: int(length)]))

    def command(self, name, params=""):
        text = json.dumps({"command": name, "params": params}).encode()
        self.control.sendall(b"%d:%s," % (len(text), text))

    def stop(self):
        super().stop()
        self.control.close()

    def seen(self, kind, since=0):
        return next((event for event in self.events[since:] if event.get("type") == kind), None)

    def mark(self):
        """A call begins."""
        self.deaf = False
        self.since = len(self.events)

    since = 0

    def registered(self):
        # The response to the first REGISTER may be older than the control connection. The next check reads the reply.
        self.command("reginfo")
        return any("mOK " in event.get("data", "") or event.get("type") == "REGISTER_OK" for event in self.events)

    def is_idle(self):
        types = [event.get("type") for event in self.events]
        return types.count("CALL_CLOSED") >= types.count("CALL_INCOMING") + types.count("CALL_OUTGOING")

    def incoming(self):
        return self.seen("CALL_INCOMING", self.since)

    def ringing(self):
        return self.seen("CALL_RINGING", self.since)

    def established(self):
        return self.seen("CALL_ESTABLISHED", self.since)

    def ended(self):
        event = self.seen("CALL_CLOSED", self.since)
        return event and (event.get("param") or "closed")

    def dial(self, target):
        self.mark()
        self.command("dial", target)

    def answer(self):
        self.command("accept")

    def hangup(self):
        self.command("hangup")

    decline = hangup

    def hang_up_all(self):
        if not self.ended():
            self.hangup()

    def hold(self):
        # Its recorder is gone after a hold of its own (https://github.com/baresip/baresip/issues/1496).
        self.deaf = True
        self.command("hold")

    def resume(self):
        self.command("resume")

    def press(self, digits):
        for digit in digits:
            self.command("sndcode", digit)

    def pressed(self):
        return "".join(event.get("param", "") for event in self.events[self.since:] if event.get("type") == "CALL_DTMF_START")

    def transfer(self, target):
        self.command("transfer", f"sip:{target}@{self.server.address}")

    def recordings(self):
        return sorted(self.folder.glob("dump-*-dec.wav"))


def is_missing():
    return shutil.which(Baresip.program) is None
