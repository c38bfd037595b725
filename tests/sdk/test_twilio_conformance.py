"""Every operation of Twilio's voice API, called on a real server, and every answer held against what is published.

`conformance/operations.json` says in short what is published; `conformance/steps.py` in which order a group is called. A score
for each group is printed at the end.
"""

import re
from pathlib import Path

import pytest
import requests

from conformance import published, steps
from conformance.run import Run, fits
from harness.engines import KEY
from harness.phone import free_port
from harness.server import HOST

OPENAPI = Path(__file__).resolve().parents[3] / "shared" / "openapi"

DOCS = Path(__file__).resolve().parents[2] / "docs" / "twilio.md"

# Operations that are to work and do not yet; one that does is to be taken out.
NOT_YET = set()

# The one error of what is refused.
REFUSED = 403, 20006

CONFIG = """
[[trunks]]
name = "fixed"
uri = "sip:{host}:{place}"
inbound_from = ["{host}/32"]
prefixes = ["+4930"]
[[siprec]]
name = "recorder"
uri = "sip:{host}:9"
[speech]
stt = "{engine}/v1/audio/transcriptions"
stt_key = "{key}"
"""
CONFIG += "".join(
    f"""
[[number_pool]]
number = "{first}"
last = "{last}"
type = "{kind}"
country = "US"
region = "CA"
locality = "San Francisco"
rate_center = "SNFC CNTRL"
lata = "722"
latitude = 37.7897
longitude = -122.3942
postal_code = "94105"
"""
    for kind, first, last in [
        ("local", "+15551230100", "+15551230109"),
        ("mobile", "+15551230120", "+15551230129"),
        ("toll_free", "+18005550100", "+18005550109"),
        ("national", "+15551230140", "+15551230149"),
        ("shared_cost", "+15551230150", "+15551230159"),
        ("voip", "+15551230160", "+15551230169"),
        ("machine_to_machine", "+15551230170", "+15551230179"),
        ("local", "+15551230190", "+15551230199"),
    ]
)

GROUPS = {
    "Accounts": steps.accounts,
    "Calls": steps.calls,
    "Conferences": steps.conferences,
    "Notifications": steps.notifications,
    "Numbers": steps.numbers,
    "Queues": steps.queues,
    "Recordings": steps.recordings,
    "SIP": steps.sip,
    "Trunking": steps.trunking,
    "Usage": steps.usage,
}


@pytest.fixture(scope="module")
def place():
    """The port where calls over the trunk go."""
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, place, engine):
    return start_tandem(CONFIG.format(host=HOST, place=place, engine=engine.url, key=KEY))


@pytest.mark.parametrize("group", GROUPS)
def test_every_operation_answers_as_published(group, server, webapp, phone, rtp, place, tmp_path, score):
    run = Run(server)
    for path in ("/usage", "/words", "/messages"):
        webapp.on(path)
    broken = None
    try:
        GROUPS[group](steps.Scene(run, server, webapp, phone, rtp, tmp_path, place))
    except Exception as fault:  # The score still counts what came before.
        broken = fault
    faults = {name: run.faults(name) for name in run.of(group)}
    faults = {name: ["never called"] if wrong is None else wrong for name, wrong in faults.items()}
    works = [name for name, wrong in faults.items() if not wrong]
    score(group, len(works), len(faults))
    for name, wrong in faults.items():
        if wrong:
            print(f"{name}: " + "; ".join(wrong))
    unexpected = {name: wrong for name, wrong in faults.items() if wrong and name not in NOT_YET}
    late = [name for name in works if name in NOT_YET]
    if broken and unexpected:
        raise broken
    assert not unexpected
    assert not late, f"these work: take them out of NOT_YET: {late}"
    assert broken is None, broken


def test_refused_operations_have_one_error_and_are_in_the_docs(server, score):
    run = Run(server)
    listed = [f"/{path.replace('*', '{*}')}" for path in re.findall(r"^\| `(\S+)` \|", DOCS.read_text(), re.M)]
    listed = [re.escape(path).replace(r"\{\*\}", "[^/]+") for path in listed]
    names = run.of("Refused")
    for name in names:
        run.refused(name, *REFUSED)
        path = run.table["operations"][name]["path"]
        assert any(re.search(one + r"[/.]", path) for one in listed), f"{path} is not in docs/twilio.md"
    faults = {name: run.faults(name) for name in names if run.faults(name)}
    score("refused", len(names) - len(faults), len(names))
    assert not faults


def test_unknown_resources_get_404_for_get_and_delete(server):
    run = Run(server)
    names = [
        name
        for name, said in run.table["operations"].items()
        if said["group"] != "Refused"
        and said["method"] in ("GET", "DELETE")
        and name not in NOT_YET
        # Of another account nobody is told whether it is there.
        and re.search(r"{(?!AccountSid)", said["path"].replace("/Accounts/{Sid}.json", ""))
    ]
    for name in names:
        run.refused(name, 404, 20404)
    assert {name: run.faults(name) for name in names if run.faults(name)} == {}


# Methods of this server that are not published.
MORE_METHODS = {
    "/2010-04-01/Accounts/{AccountSid}/Conferences.json": {"POST"},
    "/2010-04-01/Accounts/{AccountSid}/Conferences/{ConferenceSid}/Recordings.json": {"POST"},
}


def test_an_unsupported_method_gets_405_with_the_allowed_methods(server):
    """RFC 9110 15.5.6: the answer to a method that is not allowed has an Allow field."""
    published_methods = {}
    for said in Run(server).table["operations"].values():
        if said["group"] != "Refused":
            published_methods.setdefault(said["path"], set()).add(said["method"])
    answered, faults = {}, []
    for path, methods in published_methods.items():
        real = re.sub(r"{AccountSid}|(?<=Accounts/){Sid}", server.account_sid, path)
        real = re.sub(r"{[A-Za-z]+}", "CA" + "0" * 32, real)
        for method in {"PUT", "PATCH", "DELETE", "POST", "GET"} - methods:
            answer = requests.request(method, f"{server.http}{real}", auth=(server.account_sid, server.auth_token), timeout=10)
            if answer.status_code != 405:  # Nobody has this id, or it is one of MORE_METHODS.
                continue
            allow = set(answer.headers["Allow"].split(", "))
            more = MORE_METHODS.get(path, set())
            if allow != methods | more | ({"HEAD"} if "GET" in methods else set()) or method in allow:
                faults.append((method, path, allow))
            assert answer.json()["code"] == 20004
            answered[path] = allow
    assert not faults, faults
    assert len(answered) > 40, sorted(answered)


def test_page_sizes_over_a_thousand_are_refused(server):
    run = Run(server)
    lists = {name: said for name, said in run.table["operations"].items() if "list" in said and "unpaged" not in said}
    names = [name for name, said in lists.items() if said["group"] != "Refused" and name not in NOT_YET]
    names = [name for name in names if "{" not in lists[name]["path"].replace("{AccountSid}", "")]
    for name in names:
        run.refused(name, 400, 20007, {"PageSize": 1001})
    assert {name: run.faults(name) for name in names if run.faults(name)} == {}


def test_the_stored_extract_matches_the_published_documents():
    if not OPENAPI.is_dir():
        pytest.skip(f"no {OPENAPI}")
    assert published.read(OPENAPI) == published.load(), f"conformance/published.py {OPENAPI} writes it anew"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", ["", "a"], [1, True, {}, []]),
        ("integer", [0, -1], ["1", True, 1.5]),
        ("boolean", [True], ["true", 1]),
        ("numeric", [1, 1.5, "0.25", "-3"], ["", "a", True]),
        ("sid:CA", ["", "CA" + "0a" * 16], ["CA1", "AC" + "0" * 32, "CA" + "0A" * 16, 1]),
        ("one:a|b", ["a"], ["c", "a|b", 1]),
        ("rfc2822", ["Tue, 31 Aug 2010 20:36:28 +0000"], ["2010-08-31T20:36:28Z", "Mon, 31 Aug 2010 20:36:28 +0000", 1]),
        ("iso8601", ["2015-01-02T11:23:45Z"], ["2015-01-02", "2015-01-02T11:23:45+00:00", 1]),
        ("uris:a|b", [{"a": "/a", "b": "/b", "c": "/c"}], [{"a": "/a"}, {"a": "/a", "b": None}, "/a"]),
        ("object:a", [{"a": None}], [{}, []]),
    ],
)
def test_a_value_of_a_wrong_type_is_detected(kind, good, bad):
    assert [value for value in good if not fits(kind, value)] == []
    assert [value for value in bad if fits(kind, value)] == []
