"""SIPp at an address in the hub: callers and callees with the scenarios of harness.phone, and what came of each call."""

import contextlib
import dataclasses
import datetime
import itertools
import re
import socket

from harness.waiting import wait_for

from .network import INSIDE
from .process import Process

_PORTS = itertools.cycle(range(10_000, 20_000, 4))
_MESSAGE = re.compile(r"^-{20,} (\S+ \S+)\n(UDP|TCP) message (sent|received) [^\n]*:\n\n(.*?)(?=^-{20,} |\Z)", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass
class Call:
    """A call that SIPp has made. Times are seconds since 1970; `status` is that of the final response to the last INVITE, or None;
    `node` is the address of the node that has answered, or None."""

    sip_call_id: str
    invited: float
    status: int | None = None
    answered: float | None = None
    node: str | None = None

    @property
    def seconds(self):
        """The time from the INVITE to its final response, or None."""
        return self.answered and self.answered - self.invited


class Sipp:
    """A SIPp process at `address`, which is an address of the hub."""

    def __init__(self, directory, scenario, address, target=None, calls=1, rate=None, seconds=60, transport="udp", port=None):
        """With a target ("HOST:PORT") it makes `calls` calls, `rate` a second, or (without a rate) one after the other. Without a
        target it waits for calls."""
        self.address, self.port, audio = address, port or next(_PORTS), next(_PORTS)
        self._directory = directory
        directory.mkdir(parents=True)
        (directory / "scenario.xml").write_text(scenario)
        command = ["sipp", *([target] if target else []), "-sf", "scenario.xml", "-i", address, "-p", self.port, "-mi", address]
        command += ["-mp", audio, "-m", calls, "-nostdin", "-timeout", seconds, "-timeout_error", "-trace_err", "-trace_msg"]
        command += ["-error_file", "errors.log", "-message_file", "messages.log", "-nd", "-t", {"udp": "u1", "tcp": "t1"}[transport]]
        command += ["-r", rate, "-l", calls] if rate else ["-l", 1 if target else calls]
        self.process = Process("SIPp", command, directory / "out.log", directory=directory)
        self.process.start()
        if not target:
            self._wait_bound(transport)

    def messages(self):
        """Its SIP messages so far, as SIPp writes them."""
        file = self._directory / "messages.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def calls(self):
        """Every call that it has made, in the order of their INVITEs."""
        calls = {}
        for at, _, direction, message in _MESSAGE.findall(self.messages()):
            name = re.search(r"^(?:Call-ID|i): *(\S+)", message, re.MULTILINE | re.IGNORECASE)[1]
            is_invite = re.search(r"^CSeq: *\d+ INVITE", message, re.MULTILINE | re.IGNORECASE)
            if direction == "sent" and message.startswith("INVITE "):
                calls.setdefault(name, Call(name, _time(at)))
            elif direction == "received" and is_invite and name in calls and message.startswith("SIP/2.0 "):
                status = int(message.split()[1])
                if status >= 200 and calls[name].answered is None:
                    calls[name].status, calls[name].answered = status, _time(at)
                    contact = re.search(rf"^Contact:.*?({re.escape(INSIDE)}\.\d+)", message, re.MULTILINE | re.IGNORECASE)
                    calls[name].node = contact and contact[1]
        return list(calls.values())

    def wait_answered(self, count=1, seconds=20):
        """Waits until so many calls have a final response, and returns these calls."""

        def answered():
            self.process.is_running() or self._fail()
            return [call for call in self.calls() if call.answered]

        wait_for(f"{count} answered calls", lambda: len(answered()) >= count, seconds)
        return answered()

    def tell(self):
        """Lets its call go on after until_told(): an INFO that nobody but SIPp sees."""
        (name,) = {call.sip_call_id for call in self.calls()}
        info = (
            f"INFO sip:x@{self.address} SIP/2.0\r\nVia: SIP/2.0/UDP {self.address}:9;branch=z9hG4bKtell\r\nFrom: <sip:test@{self.address}>;tag=1"
            f"\r\nTo: <sip:x@{self.address}>\r\nCall-ID: {name}\r\nCSeq: 1 INFO\r\nContent-Length: 0\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(info.encode(), (self.address, self.port))

    def finish(self, seconds=60):
        """Waits for the end of its calls, each of which must have gone as the scenario says. Returns the calls."""
        wait_for("the end of SIPp", lambda: not self.process.is_running(), seconds)
        if self.process.running.returncode != 0:
            self._fail()
        return self.calls()

    def close(self):
        """Ends it at once."""
        self.process.kill()

    def _fail(self):
        errors = self._directory / "errors.log"
        shown = errors.read_text(errors="replace") if errors.exists() else self.process.log()
        raise AssertionError(f"SIPp ended with {self.process.running.returncode}\n{shown[-6000:]}\n{self.messages()[-6000:]}")

    def _wait_bound(self, transport):
        line = f":{self.port:04X} "

        def bound():
            with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{transport}") as table:
                return any(line in row for row in table)

        wait_for("SIPp's socket", lambda: self.process.check() and bound())


def _time(text):
    """The seconds since 1970 of SIPp's local time, with microseconds."""
    return datetime.datetime.strptime(text[:26], "%Y-%m-%d %H:%M:%S.%f").timestamp()
