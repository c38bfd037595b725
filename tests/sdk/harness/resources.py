"""TOML tables for the configurations of the tests' servers."""

import json

from .server import HOST

# A second Twilio account. The first one is the harness's own (harness/server.py).
OTHER_SID, OTHER_TOKEN = "AC00000000000000000000000000000002", "fedcba9876543210fedcba9876543210"


def table(kind, **settings):
    """[[kind]] with these settings. A setting that is None is left out. JSON's strings, numbers and lists are TOML's too."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value is not None]
    return "\n".join(["", f"[[{kind}]]", *lines, ""])


def carrier(port, prefix="+", host=HOST, **settings):
    """[[trunks]] whose calls go to a phone at this host and port. `settings` are more settings, or None in place of one."""
    ours = {"account": "acme", "uri": f"sip:{host}:{port}", "inbound_from": [f"{HOST}/8"], "prefixes": [prefix]}
    return table("trunks", name="carrier", **(ours | settings))


def other_account(more=""):
    """[[accounts]]: the second account, with its Twilio credentials. `more` is more TOML of this account."""
    twilio = f'twilio = {{ account_sid = "{OTHER_SID}", auth_token = "{OTHER_TOKEN}" }}\n'
    return table("accounts", name="other") + twilio + more
