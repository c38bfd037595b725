"""Two networks that exist only for the tests. The inside network joins the nodes, the engines and the proxy. The outside network
joins the nodes, the proxy, phones and carriers: SIP goes through the proxy, audio goes to the nodes.

    namespace of a node   ──┬── inside 10.77.0.0/24 ──┬──   the hub: the test itself, the engines, phones, carriers
    namespace of the proxy ─┴── outside 10.78.0.0/24 ─┴──

The hub is a namespace without a name, which the test process enters. So the test can use every address, and nothing of the
machine's own network. The other namespaces have names with the id of this process.
"""

import ctypes
import os
import subprocess
from pathlib import Path

INSIDE, OUTSIDE = "10.77.0", "10.78.0"
PREFIX = "tandem-lab-"
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*words):
    """Runs `ip` with these words. Raises CalledProcessError with its error."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hub:
    """Both networks. The calling thread is in the hub until `close`, and so are its processes and the threads that it starts."""

    def __init__(self):
        remove_leftovers()
        self._home = open("/proc/thread-self/ns/net")  # kept open until close()
        if _LIBC.unshare(_NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), "unshare of the network")
        self._count = 0
        ip("link", "set", "lo", "up")
        for name, network in (("inside", INSIDE), ("outside", OUTSIDE)):
            ip("link", "add", name, "type", "bridge")
            ip("link", "set", name, "up")
            ip("addr", "add", f"{network}.254/24", "dev", name)

    def add(self, network, address):
        """Gives the hub a further address, for an engine, a phone or a carrier."""
        ip("addr", "replace", f"{address}/24", "dev", "inside" if network == INSIDE else "outside")

    def namespace(self, name, inside=(), outside=()):
        """A namespace with these addresses in the two networks."""
        self._count += 1
        return Namespace(f"{PREFIX}{os.getpid()}-{self._count}-{name}", self._count, inside, outside)

    def close(self):
        """Leaves the hub. Its networks end with the last process in it."""
        _LIBC.setns(self._home.fileno(), _NEW_NETWORK)
        self._home.close()


class Namespace:
    """A network namespace with a name."""

    def __init__(self, name, number, inside, outside):
        self.name = name
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "set", "lo", "up")
            for bridge, addresses in (("inside", inside), ("outside", outside)):
                if not addresses:
                    continue
                port = f"{bridge}{number}"
                ip("link", "add", port, "type", "veth", "peer", "name", bridge, "netns", name)
                ip("link", "set", port, "master", bridge, "up")
                for address in addresses:
                    ip("-n", name, "addr", "add", f"{address}/24", "dev", bridge)
                ip("-n", name, "link", "set", bridge, "up")
        except BaseException:
            self.close()
            raise

    def command(self, *words):
        """The command that runs these words in the namespace. The process keeps its id."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *words]

    def run(self, *words, text=None, seconds=20):
        """Runs a program in the namespace to its end, and returns what it has written. Raises if it fails."""
        done = subprocess.run(self.command(*words), input=text, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, f"{words} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def can_connect(self, address, port):
        """Whether a TCP connection from the namespace comes about within a second."""
        connect = f"exec 3<>/dev/tcp/{address}/{port}"
        try:
            return subprocess.run(self.command("bash", "-c", connect), capture_output=True, timeout=1).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def cut(self, name, addresses):
        """Drops every packet to and from these addresses, in silence. With None: every packet except for those within the
        namespace. The cut has a name, by which `heal` ends it."""
        sides = (("input", "saddr", "iifname"), ("output", "daddr", "oifname"))
        chains = ""
        for hook, side, device in sides:
            what = f'{device} != "lo"' if addresses is None else f"ip {side} {{ {', '.join(addresses)} }}"
            chains += f" chain {hook} {{ type filter hook {hook} priority -300; {what} counter drop; }}\n"
        self.heal(name)
        self.run("nft", "-f", "-", text=f"table inet {name} {{\n{chains}}}\n")

    def heal(self, name):
        """Ends a cut, if it is there."""
        self.run("nft", "-f", "-", text=f"table inet {name} {{}}\ndelete table inet {name}\n")

    def close(self):
        """Removes the namespace. Its devices go with it."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def remove_leftovers():
    """Ends and removes what test processes have left that could not end themselves."""
    folder = Path("/run/netns")
    for path in folder.glob(f"{PREFIX}*") if folder.is_dir() else ():
        owner = path.name.removeprefix(PREFIX).split("-")[0]
        if Path(f"/proc/{owner}").exists():
            continue
        found = subprocess.run(["ip", "netns", "pids", path.name], capture_output=True, text=True).stdout
        for pid in found.split():
            subprocess.run(["kill", "-KILL", pid], capture_output=True)
        subprocess.run(["ip", "netns", "del", path.name], capture_output=True)
