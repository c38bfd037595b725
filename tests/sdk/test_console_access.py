"""Who may do what in the web console: sessions, roles, other accounts, other pages."""

import re

import pytest
import requests

from harness.phone import Phone, caller
from harness.resources import table
from harness.server import ACCOUNT_SID, AUTH_TOKEN, ROOT
from harness.waiting import wait_for

RIVAL = "AC00000000000000000000000000000002"
RIVAL_TOKEN = "fedcba9876543210fedcba9876543210"
PASSWORD = "long enough 1"
OWN = {"X-Tandem-Console": "1"}
# Each request of an operator, of an account and of a reader.
LISTS = ["calls", "live", "conferences", "queues", "phones", "trunks", "numbers", "errors", "changes"]
OF_OPERATORS = ["figures", "log", "sip/bans", "sip/strangers"]
# Every route that needs an account: method, path, and who may use it.
ROUTES = [
    (method, re.sub(r"{\w+}", "1", path), who)
    for method, path, who in re.findall(r"^\| `(\w+) (/console/\S+)` \| ([^|]*) \|", (ROOT / "docs/reference/http.md").read_text(), re.MULTILINE)
    if who != "everybody"
]


@pytest.fixture(scope="module")
def server(start_tandem):
    user = '[[console.users]]\nname = "{}"\npassword = "' + PASSWORD + '"\nrole = "{}"\n{}'
    users = [("olga", "operator", ""), ("rita", "reader", ""), ("adam", "account", 'account = "rival"\n')]
    users += [("rob", "reader", 'account = "rival"\n')]
    document = "<Response><Record maxLength='2' playBeep='false'/></Response>"
    rival = f'[[accounts]]\nname = "rival"\ntwilio = {{ account_sid = "{RIVAL}", auth_token = "{RIVAL_TOKEN}" }}\n'
    mine = "operator = true\n"
    numbers = [
        table("numbers", number="701", account="acme", twiml=document),
        table("numbers", number="702", account="rival", twiml="<Response><Gather timeout='60'/></Response>"),
    ]
    trunks = [
        '[[trunks]]\nname = "all"\ninbound_from = ["127.0.0.1/32"]\n',
        '[[trunks]]\nname = "line"\naccount = "acme"\ninbound_from = ["127.0.0.50/32"]\nuri = "sip:127.0.0.1:9"\n',
    ]
    # The basic settings end with the account acme, so this line is its own.
    return start_tandem(mine + rival + "".join(user.format(*one) for one in users) + "".join(numbers + trunks))


class Visitor:
    """A browser without pages."""

    def __init__(self, server):
        self.base, self.session = f"{server.http}/console/", requests.Session()

    def sign_in(self, user, password=PASSWORD, **headers):
        return self.session.post(f"{self.base}session", json={"user": user, "password": password}, headers=OWN | headers, timeout=5)

    def get(self, path, **options):
        return self.session.get(self.base + path, timeout=5, **options)

    def post(self, path, headers=OWN, **options):
        return self.session.post(self.base + path, headers=headers, timeout=5, **options)


@pytest.fixture
def visitor(server):
    return Visitor(server)


@pytest.fixture
def signed_in(server):
    def make(user, password=PASSWORD):
        visitor = Visitor(server)
        answer = visitor.sign_in(user, password)
        assert answer.status_code == 200, answer.text
        return visitor

    return make


@pytest.fixture(scope="module")
def recorded(server, tmp_path_factory):
    """An ended call of the account acme with a recording: the ids of the call and of the recording."""
    Phone(tmp_path_factory.mktemp("recorded"), caller("701", ends="wait"), target=server.sip).finish()
    auth = (ACCOUNT_SID, AUTH_TOKEN)
    story = lambda: requests.get(f"{server.http}/console/calls/last", auth=auth, timeout=5).json()  # noqa: E731
    wait_for("the recording", lambda: [one for one in story()["recordings"] if one["status"] == "completed"])
    return story()["calls"][0]["id"], story()["recordings"][0]["id"]


def test_a_session_is_a_cookie_that_no_script_and_no_other_page_can_use(visitor):
    assert visitor.get("session").status_code == 401
    answer = visitor.sign_in(ACCOUNT_SID, AUTH_TOKEN)
    assert answer.json() | {"version": ""} == {"name": "acme", "role": "operator", "account": None, "version": ""}
    cookie = answer.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age="):
        assert attribute in cookie
    assert "Secure" not in cookie
    assert visitor.get("session").json()["name"] == "acme"


def test_a_page_over_https_gets_a_cookie_that_is_never_sent_in_the_clear(server, visitor):
    cookie = visitor.sign_in(ACCOUNT_SID, AUTH_TOKEN, Origin="https://localhost").headers["Set-Cookie"]
    assert cookie.endswith("; Secure")


def test_signing_out_ends_the_session_for_whoever_has_the_cookie(signed_in, visitor):
    olga = signed_in("olga")
    visitor.session.cookies.update(olga.session.cookies)
    assert visitor.get("calls").status_code == 200
    assert olga.session.delete(olga.base + "session", headers=OWN, timeout=5).status_code == 204
    assert visitor.get("calls").status_code == 401


def test_a_cookie_that_somebody_else_has_prepared_does_not_become_a_session(visitor):
    prepared = "a" * 64
    visitor.session.cookies.set("tandem_console", prepared, path="/console")
    visitor.sign_in("olga")
    given = [one.value for one in visitor.session.cookies if one.name == "tandem_console"]
    assert prepared not in given or len(given) == 2
    assert requests.get(visitor.base + "calls", cookies={"tandem_console": prepared}, timeout=5).status_code == 401


def test_a_second_sign_in_ends_the_first_session_of_the_browser(visitor):
    visitor.sign_in("olga")
    first = dict(visitor.session.cookies)
    visitor.sign_in("olga")
    assert visitor.get("calls").status_code == 200
    assert requests.get(visitor.base + "calls", cookies=first, timeout=5).status_code == 401


def test_a_change_needs_the_header_of_the_page_and_its_own_origin(signed_in, recorded):
    olga, (call, _) = signed_in("olga"), recorded
    act = {"action": "mute"}
    assert olga.post(f"legs/{call}", headers={}, json=act).status_code == 403
    for origin in ("https://evil.example", "null"):
        assert olga.post(f"legs/{call}", headers=OWN | {"Origin": origin}, json=act).status_code == 403
    # The call has ended.
    assert olga.post(f"legs/{call}", json=act).status_code == 404


def test_every_route_refuses_strangers_and_every_change_refuses_other_pages_readers_and_other_roles(signed_in, server):
    olga, rita, adam = signed_in("olga"), signed_in("rita"), signed_in("adam")
    assert len(ROUTES) >= 25

    def status(visitor, method, path, headers):
        body = {"url": "http://127.0.0.1/", "signature": "x", "action": "mute"} if method == "POST" else None
        return visitor.session.request(method, server.http + path, headers=headers, json=body, timeout=5).status_code

    for method, path, who in ROUTES:
        assert status(Visitor(server), method, path, OWN) == 401, path
        if who.startswith("an operator"):
            assert status(adam, method, path, OWN) == 403, path
        if method != "GET":
            for headers in ({}, OWN | {"Origin": "https://evil.example"}, OWN | {"Origin": "null"}):
                assert status(olga, method, path, headers) == 403, (path, headers)
            assert who == "each account" or status(rita, method, path, OWN) == 403, path


def test_the_cookie_is_worth_nothing_at_the_apis_of_the_providers(signed_in, server):
    olga = signed_in("olga")
    olga.session.cookies.set("tandem_console", next(iter(olga.session.cookies)).value, path="/")
    for path in (f"/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json", "/v2/phone_numbers", "/metrics"):
        answer = olga.session.get(server.http + path, timeout=5)
        assert path == "/metrics" or answer.status_code == 401, path


def test_wrong_passwords_are_slowed_down_and_named_in_the_log(server):
    # From an address of its own, so that other tests can sign in.
    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args, **kwargs):
            super().init_poolmanager(*args, source_address=("127.0.0.77", 0), **kwargs)

    visitor = Visitor(server)
    visitor.session.mount("http://", Adapter())
    answers = [visitor.sign_in("olga", f"guess {count}").status_code for count in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert visitor.sign_in("olga").status_code == 429
    assert Visitor(server).sign_in("olga").status_code == 200
    assert "a sign-in to the console failed" in server.log()


@pytest.mark.parametrize("user", ["olga", "rita", "adam", "rob"])
def test_each_role_reads_the_lists_and_only_those_of_all_accounts_read_the_server(signed_in, user):
    visitor = signed_in(user)
    assert [visitor.get(path).status_code for path in LISTS] == [200] * len(LISTS)
    expected = 200 if user in ("olga", "rita") else 403
    assert [visitor.get(path).status_code for path in OF_OPERATORS] == [expected] * len(OF_OPERATORS)


@pytest.mark.parametrize("user", ["rita", "rob"])
def test_a_reader_changes_nothing(signed_in, recorded, user):
    visitor, (call, _) = signed_in(user), recorded
    for path, body in [
        (f"legs/{call}", {"action": "hang-up"}),
        (f"webhooks/{'0' * 32}/replay", {}),
        ("reload", {}),
        ("log", {"level": "debug"}),
    ]:
        assert visitor.post(path, json=body).status_code == 403, path
    answer = visitor.session.delete(visitor.base + "sip/bans/192.0.2.1", headers=OWN, timeout=5)
    assert answer.status_code == 403


@pytest.mark.parametrize("user", ["adam", "rob"])
def test_nothing_of_another_account_is_visible(signed_in, recorded, user):
    visitor, (call, recording) = signed_in(user), recorded
    paths = [f"calls/{call}{more}" for more in ("", "/trace", "/trace.pcap", "/webhooks", "?follow=true")]
    paths += [f"sessions/{call}/events", f"recordings/{recording}/audio", f"recordings/{recording}/peaks"]
    paths += [f"signature?call={call}", "explain?to=701&trunk=line"]
    for path in paths:
        assert visitor.get(path).status_code == 404, path
    for path in (*LISTS, "calls?search=701", "calls?account=acme", "errors?account=acme", "changes?account=acme"):
        text = visitor.get(path).text
        assert call not in text and "acme" not in text, path
    assert "acme" not in visitor.get("explain?to=701").text


def test_an_account_cannot_act_on_the_call_of_another_account(signed_in, recorded):
    call, _ = recorded
    assert signed_in("adam").post(f"legs/{call}", json={"action": "hang-up"}).status_code == 404


def test_an_account_acts_on_its_own_call_and_the_changes_name_it(signed_in, server, phone):
    adam = signed_in("adam")
    handset = phone(caller("702", ends="wait"), target=server.sip)
    call = wait_for("the call", lambda: adam.get("calls?status=in-progress").json()["calls"])[0]["id"]
    for action in ("mute", "unmute", "hang-up"):
        assert adam.post(f"legs/{call}", json={"action": action}).status_code == 204
    handset.finish()
    rows = wait_for("the changes", lambda: (found := adam.get("changes").json()["changes"])[2:] and found)
    assert [row["parameters"] for row in rows[:3]] == ["action=hang-up", "action=unmute", "action=mute"]
    assert {(row["who"], row["role"], row["object"]) for row in rows[:3]} == {("adam", "account", f"/console/legs/{call}")}


def test_what_applications_change_is_among_the_changes_without_secrets(signed_in, server):
    key = {"FriendlyName": "waiting", "Password": "hidden"}
    address = f"{server.http}/2010-04-01/Accounts/{RIVAL}/Queues.json"
    assert requests.post(address, key, auth=(RIVAL, RIVAL_TOKEN), timeout=5).status_code == 201
    row = wait_for("the change", lambda: signed_in("adam").get("changes").json()["changes"])[0]
    assert (row["who"], row["role"], row["object"].split("/")[-1]) == ("rival", "application", "Queues.json")
    assert "waiting" in row["parameters"] and "hidden" not in row["parameters"]


def test_the_recording_is_played_in_parts_and_drawn(signed_in, recorded):
    olga, (_, recording) = signed_in("olga"), recorded
    whole = olga.get(f"recordings/{recording}/audio")
    assert (whole.status_code, whole.content[:4]) == (200, b"RIFF")
    part = olga.get(f"recordings/{recording}/audio", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content, part.headers["Content-Range"][:9]) == (206, b"RIFF", "bytes 0-3")
    drawn = olga.get(f"recordings/{recording}/peaks?points=50").json()
    assert [len(channel) for channel in drawn["peaks"]] == [50] * drawn["channels"]


def test_the_page_runs_no_foreign_script_and_cannot_be_framed(server):
    answer = requests.get(f"{server.http}/console/", headers={"Accept": "text/html"}, timeout=5)
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" not in answer.text and "style=" not in answer.text
