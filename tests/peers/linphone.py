"""Linphone's console (linphonec), controlled by its standard input. It plays a file, and records to files."""

import re
import shutil
import subprocess
import threading
import time

from phone import Phone, wait
from server import password

SETTINGS = """
[sip]
bind_address={address}
default_proxy=0
keepalive_period=600000
guess_hostname=0
contact="{user}" <sip:{user}@{address}>
sip_port={udp}
sip_tcp_port={tcp}
sip_tls_port={tls}
media_encryption={encryption}
root_ca={certificate}
verify_server_certs=1
verify_server_cn=0
use_info={info}
use_rfc2833={rfc2833}
[rtp]
audio_rtp_port={rtp}
audio_adaptive_jitt_comp_enabled=1
rtcp_mux={dtls}
[sound]
echocancellation=0
echolimiter=0
[net]
mtu=1300
dns_srv_enabled=0
firewall_policy={policy}
[proxy_0]
reg_proxy=<sip:{proxy};transport={transport}>
reg_route=<sip:{proxy};transport={transport};lr>
reg_identity="{user}" <sip:{user}@{server}>
reg_expires=60
reg_sendregister=1
publish=0
[auth_info_0]
username={user}
passwd={password}
realm=tandem
"""


class Linphone(Phone):
    kind = "linphone"
    program = "linphonec"
    sends_info = True
    plays_music = True

    def start(self, keys="rtp"):
        tls = self.transport == "tls"
        ports = {"udp": 0, "tcp": 0, "tls": 0, self.transport: 5060}
        (self.folder / "rc").write_text(
            SETTINGS.format(
                address=self.address, user=self.user, password=password(self.user), server=self.server.address,
                proxy=self.proxy or f"{self.server.address}:{5061 if tls else 5060}", transport=self.transport, rtp=self.rtp.start, certificate=self.server.certificate,
                encryption="dtls" if self.dtls else "srtp" if self.srtp else "none",
                dtls=int(self.dtls), policy="ice" if self.dtls else "none", info=int(keys == "info"), rfc2833=int(keys == "rtp"), **ports,
            )
        )
        (self.folder / ".local/share/linphone").mkdir(parents=True, exist_ok=True)
        (self.folder / "log").unlink(missing_ok=True)
        self.lines, self.since = [], 0
        self.process = self.run(
            self.program, "-c", str(self.folder / "rc"), "-d", "6", "-l", str(self.folder / "log"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder,
            env={"HOME": str(self.folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"},
        )
        threading.Thread(target=self.listen, daemon=True).start()
        self.command("soundcard use files")
        self.command(f"play {self.folder}/says.wav")
        self.takes += 1
        self.command(f"record {self.folder}/heard-{self.takes}.wav")

    def listen(self):
        with open(self.folder / "output", "ab") as output:
            for line in self.process.stdout:
                output.write(line)
                output.flush()
                self.lines.append(line.decode(errors="replace").strip())

    def command(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    takes = 0

    # The standard output has few details. The log has each change of a state.

    def log(self, since=None):
        try:
            return (self.folder / "log").read_bytes()[self.since if since is None else since:].decode(errors="replace")
        except OSError:
            return ""

    def mark(self):
        self.since = len(self.log(0).encode())

    def call_was(self, state):
        return re.search(rf"moving from state \S+ to \[?LinphoneCall{state}\b", self.log())

    def registered(self):
        return "to [LinphoneRegistrationOk]" in self.log(0)

    def is_idle(self):
        log = self.log(0)
        began = len(re.findall(r"moving from state \S+ to \[?LinphoneCall(?:IncomingReceived|OutgoingInit)\b", log))
        return len(re.findall(r"moving from state \S+ to \[?LinphoneCallReleased\b", log)) >= began

    def incoming(self):
        return self.call_was("IncomingReceived")

    def ringing(self):
        return self.call_was("OutgoingRinging")

    def established(self):
        return self.call_was("StreamsRunning")

    def ended(self):
        return self.call_was("End") or self.call_was("Error") or self.call_was("Released")

    def dial(self, target):
        self.mark()
        self.command(f"call sip:{target}@{self.server.address}")

    def answer(self):
        self.command("answer")

    def hangup(self):
        self.command("terminate")

    decline = hangup

    def hang_up_all(self):
        self.command("terminate all")

    def hold(self):
        self.command("pause")

    def resume(self):
        self.command(f"resume {self.number()}")

    def number(self):
        """Of the latest call."""
        return max((int(number) for line in self.lines for number in re.findall(r"[Cc]all (\d+)", line)), default=1)

    def press(self, digits):
        for digit in digits:
            self.command(digit)
            time.sleep(0.3)  # The pause between two presses of a person.

    def pressed(self):
        return "".join(re.findall(r"Receiving tone (.)", "\n".join(self.lines)))

    def transfer(self, target):
        self.command(f"transfer sip:{target}@{self.server.address}")

    def consult(self, target):
        self.first = self.number()
        self.command("pause")
        wait("the first call is not held", lambda: self.call_was("Paused"))
        self.command(f"call sip:{target}@{self.server.address}")

    def complete_transfer(self):
        self.command(f"transfer {self.first} --to-call {self.number()}")

    def recordings(self):
        return sorted(self.folder.glob("heard-*.wav"))


def is_missing():
    return shutil.which(Linphone.program) is None
