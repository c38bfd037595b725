"""The commands and states that all phones have. A phone is a real program without a screen. Each kind has its own file."""

import struct
import subprocess
import time

import tone

DEADLINE = 10  # seconds until a wait fails
FRESH = 0.4  # seconds of audio that are analysed


class Failed(Exception):
    """A condition did not become true before its deadline."""


class CannotDo(Exception):
    """This kind of phone does not have the feature."""


def wait(failure, condition, seconds=DEADLINE):
    """Returns the first true value of `condition`. Fails with `failure` after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise Failed(failure)


class Phone:
    """A phone of `user` at `address`. Each phone sends its own tone, and writes the received audio to files."""

    kind = "?"
    sends_events = True  # whether the phone sends digits as telephone-events (RFC 4733)
    hears_keys = True  # whether the phone reports received digits
    sends_info = False  # whether the phone can send digits by INFO
    outlives_failed_transfers = True  # whether the call continues when the target of a transfer does not answer
    plays_music = False  # whether a held party hears the phone's tone as music

    def __init__(self, user, address, server, folder, transport="udp", srtp=False, hertz=500, rtp=12000):
        self.user, self.address, self.server = user, address, server
        self.transport, self.srtp, self.hertz = transport, srtp, hertz
        self.proxy = None  # ADDRESS:PORT of an edge proxy on UDP that gets all messages of the phone instead of the server
        self.namespace = None  # the name of the phone's network namespace
        self.rtp = range(rtp, rtp + 2000)
        self.folder = folder / f"{self.kind}-{user}"
        self.folder.mkdir(parents=True, exist_ok=True)
        tone.write(self.folder / "says.wav", hertz)

    # Done: start command mark dial(target) answer hangup decline hold resume press(digits) transfer(target)
    #       consult(target) complete_transfer
    # Seen: registered ringing established ended incoming pressed

    def run(self, *command, **more):
        """Starts a program in the network namespace of the phone."""
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

    def is_idle(self):
        """Whether the phone has reported the end of all its calls. True for a phone without such reports."""
        return True

    def consult(self, _target):
        raise CannotDo(f"{self.kind} has no attended transfer")

    def is_held(self):
        """Whether the phone itself holds the call after a failed transfer."""
        return False

    def recordings(self):
        """The files of the received audio, oldest first: 16-bit mono samples after a header of 44 octets."""
        raise NotImplementedError

    def new_audio(self, before):
        """The samples that were written since `before`, a result of `heard_so_far`."""
        samples = []
        for path in self.recordings():
            data = path.read_bytes()[max(44, before.get(path, 44)):]
            samples += struct.unpack(f"<{len(data) // 2}h", data[: len(data) // 2 * 2])
        return samples

    def heard_so_far(self):
        return {path: path.stat().st_size // 2 * 2 for path in self.recordings()}

    dtls = False  # whether the phone has ICE, and SRTP with the keys of DTLS
    rate = tone.RATE
    deaf = False  # whether the phone has stopped writing the received audio; then the packets on the wire are analysed

    def hears(self, other):
        """Waits until the newest received audio is the tone of the other phone."""
        if self.deaf and (self.srtp or self.dtls):
            raise CannotDo("no longer writes the received audio, and the packets are encrypted")
        before = self.heard_so_far()
        need = int(self.rate * FRESH)

        def fresh():
            if self.deaf:
                return self.server.wire.tone(self.rtp, other.hertz)
            last = self.new_audio(before)[-need:]
            return len(last) == need and tone.share(last, other.hertz, self.rate) > 0.8

        wait(f"{self.user} does not hear {other.user}", fresh)

    def hears_nothing(self):
        """Waits for a second without loud audio."""
        wait(f"{self.user} still hears something", self.is_silent_for_a_second)

    def is_silent_for_a_second(self):
        before = self.heard_so_far()
        time.sleep(1)  # The measured second.
        heard = self.server.wire.heard(self.rtp, 1) if self.deaf else self.new_audio(before)
        # The file grows by blocks of a quarter of a second. If packets arrive only twice a second, a block has older audio.
        return len(heard) <= self.rate / 2 or tone.rms(heard) <= tone.LOUD / 5
