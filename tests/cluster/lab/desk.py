"""Real phones (baresip, tests/peers) at the nodes of a cluster."""

import sys
import types
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "peers"))

import baresip  # noqa: E402

is_missing = baresip.is_missing


def password(user):
    """The password of a baresip of this user."""
    return f"of {user}"


def desk_phone(user, address, node, folder, certificate, transport="udp", hertz=500):
    """A baresip that registers directly at a node. It is started, and registered. `hears(other)` waits for the tone of another.
    `certificate`: any, which baresip needs to start."""
    server = types.SimpleNamespace(address=node.inside, certificate=certificate, wire=None)
    one = baresip.Baresip(user, address, server, folder, transport, hertz=hertz)
    one.start()
    baresip.wait(f"{user} registers at node {node.name}", one.registered)
    one.mark()
    return one
