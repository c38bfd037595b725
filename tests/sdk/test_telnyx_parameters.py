"""Every published parameter of Telnyx's conferences either has an effect or is named in docs/compatibility.md. Those of calls are
measured: docs/call-control.md."""

import re

from conformance import relatives
from harness.server import ROOT

PUBLISHED = {name: about for name, about in relatives.load("telnyx_parameters").items() if "Conference" in name}


def documented():
    """What the table says: {operation: (without effect, refused)}."""
    text = (ROOT / "docs/compatibility.md").read_text()
    section = text.split("### Parameters of Telnyx's commands")[1].split("\n### ")[0]
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {names[0]: (set(idle), set(refused)) for names, idle, refused in rows}


def test_the_table_names_only_published_parameters():
    for operation, (idle, refused) in documented().items():
        assert idle | refused <= set(PUBLISHED[operation]), operation
        assert not idle & refused, operation


def test_parameters_outside_of_the_table_are_read_by_the_server():
    """Who adds a parameter to the document has to say what becomes of it: here, or in the source of the dialect."""
    sources = [source for source in ROOT.glob("control/telnyx/rest/**/*.rs") if "tests" not in str(source)]
    known = set(re.findall(r'"([a-z_]+)"', "".join(source.read_text() for source in sources)))
    table = documented()
    for operation, parameters in PUBLISHED.items():
        idle, refused = table.get(operation, (set(), set()))
        regional = {"region"} if operation != "CreateConference" else set()
        unread = {name for name in set(parameters) - idle - regional if name.split(".")[-1] not in known}
        assert not unread, (operation, unread)
        assert {name.split(".")[-1] for name in refused} <= known, operation
