"""What every phone can be asked to do. A phone is a real program without a screen; each kind has a file of its own."""

import struct
import subprocess
import time

import tone

PATIENCE = 10  # seconds for whatever is waited for
FRESH = 0.4  # seconds of audio that are looked at


class Failed(Exception):
    """It did not do what was waited for."""


class CannotDo(Exception):
    """This kind of phone has no command for it."""


def wait(what, condition, patience=PATIENCE):
    """The first true value of `condition`."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise Failed(what)


class Phone:
    """A phone of `user` at `address`. Its tone is its own; what it hears is written to files while it hears it."""

    kind = "?"
    sends_events = True  # whether it sends keys as RFC 4733 has it
    hears_keys = True  # whether it tells of the other's keys
    sends_info = False  # whether it can send keys by INFO
    outlives_failed_transfers = True  # whether its call goes on when who it was sent to does not answer
    plays_music = False  # whether whom it holds hears its tone all the same, as music

    def __init__(self, user, address, server, folder, transport="udp", srtp=False, hertz=500, rtp=12000):
        self.user, self.address, self.server = user, address, server
        self.transport, self.srtp, self.hertz = transport, srtp, hertz
        self.proxy = None  # ADDRESS:PORT of an edge proxy on UDP that all it says goes to, instead of the server
        self.namespace = None  # the network namespace that it lives in, by name
        self.rtp = range(rtp, rtp + 2000)
        self.folder = folder / f"{self.kind}-{user}"
        self.folder.mkdir(parents=True, exist_ok=True)
        tone.write(self.folder / "says.wav", hertz)

    # Done: start command mark dial(target) answer hangup decline hold resume press(digits) transfer(target)
    #       consult(target) complete_transfer
    # Seen: registered ringing established ended incoming pressed

    def run(self, *command, **more):
        """Starts a program where the phone lives."""
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return subprocess.Popen([*inside, *command], stdin=subprocess.PIPE, **more)

    def stop(self):
        if self.process.poll() is None:
            self.command("quit")
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def hang_up_all(self):
        self.hangup()

    def consult(self, _target):
        raise CannotDo(f"{self.kind} has no attended transfer")

    def is_held(self):
        """Whether it holds the call after a transfer that failed, by itself."""
        return False

    def recordings(self):
        """Files of raw PCM with what it heard, 16 bits mono with a header of 44 octets, oldest first."""
        raise NotImplementedError

    def new_audio(self, before):
        """Samples written since `before`, which `heard_so_far` gave."""
        samples = []
        for path in self.recordings():
            data = path.read_bytes()[max(44, before.get(path, 44)):]
            samples += struct.unpack(f"<{len(data) // 2}h", data[: len(data) // 2 * 2])
        return samples

    def heard_so_far(self):
        return {path: path.stat().st_size // 2 * 2 for path in self.recordings()}

    rate = tone.RATE
    deaf = False  # whether it no longer writes down what it hears; then the wire is listened to

    def hears(self, other):
        """Waits until the last of what it heard is the other's tone."""
        if self.deaf and self.srtp:
            raise CannotDo("no longer writes down what it hears, and the wire is encrypted")
        before = self.heard_so_far()
        need = int(self.rate * FRESH)

        def fresh():
            if self.deaf:
                return self.server.wire.tone(self.rtp, other.hertz)
            last = self.new_audio(before)[-need:]
            return len(last) == need and tone.share(last, other.hertz, self.rate) > 0.8

        wait(f"{self.user} does not hear {other.user}", fresh)

    def hears_nothing(self):
        """After a second to settle, nothing loud is heard for another."""
        time.sleep(1)
        before = self.heard_so_far()
        time.sleep(1)
        heard = self.server.wire.heard(self.rtp, 1) if self.deaf else self.new_audio(before)
        # Its file grows by blocks of a quarter of a second: where packets come twice a second, what it heard before turns up now.
        loudest = tone.rms(heard) if len(heard) > self.rate / 2 else 0
        if loudest > tone.LOUD / 5:
            raise Failed(f"{self.user} still hears something (rms {loudest:.0f})")
