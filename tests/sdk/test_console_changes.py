"""Numbers, applications, trunks, phones, agents, accounts and keys that people make and change in the web console."""

import re

import pytest
import requests
from playwright.sync_api import expect
from twilio.rest import Client
from twilio.twiml.voice_response import VoiceResponse

from harness.console import PHONE, Console
from harness.phone import callee, caller, free_port, until_told
from harness.resources import carrier
from harness.server import ACCOUNT_SID, AUTH_TOKEN
from harness.waiting import wait_for
from twilio_app import client, number, twiml

RIVAL, RIVAL_TOKEN = "AC00000000000000000000000000000002", "fedcba9876543210fedcba9876543210"
PASSWORD = "long enough 1"
OWN = {"X-Tandem-Console": "1"}


@pytest.fixture(scope="module")
def desk():
    return free_port()


@pytest.fixture(scope="module")
def settings(module_webapp, desk):
    user = '[[console.users]]\nname = "{}"\npassword = "' + PASSWORD + '"\nrole = "{}"\n{}'
    users = [("olga", "operator", ""), ("rita", "reader", ""), ("adam", "account", 'account = "rival"\n')]
    rival = f'[[accounts]]\nname = "rival"\ntwilio = {{ account_sid = "{RIVAL}", auth_token = "{RIVAL_TOKEN}" }}\n'
    numbers = number("+15551230001", module_webapp, "/file")
    trunk = carrier(desk, prefix="+44", password="carrier secret", username="us")
    return "operator = true\n" + rival + "".join(user.format(*one) for one in users) + numbers + trunk


@pytest.fixture(scope="module")
def server(start_tandem, settings):
    return start_tandem(settings)


class Api:
    """The console's API with the session of a user."""

    def __init__(self, server, user):
        self.base, self.session = f"{server.http}/console/", requests.Session()
        self.session.headers.update(OWN)
        answer = self("POST", "session", {"user": user, "password": PASSWORD})
        assert answer.status_code == 200, answer.text

    def __call__(self, method, path, body=None):
        return self.session.request(method, self.base + path, json=body, timeout=10)

    def entries(self, which):
        answer = self("GET", f"entries/{which}")
        assert answer.status_code == 200, answer.text
        return {one["name"]: one for one in answer.json()["entries"]}

    def make(self, which, **fields):
        answer = self("POST", f"entries/{which}", fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def faults(self, which, method="POST", **fields):
        answer = self(method, f"entries/{which}", fields)
        assert answer.status_code == 422, answer.text
        return {one["key"]: one["message"] for one in answer.json()["faults"]}


@pytest.fixture
def olga(server):
    return Api(server, "olga")


def listens(app, path):
    """Answers voice requests at this path and remembers them."""

    def voice():
        response = VoiceResponse()
        response.gather(timeout=60)
        return twiml(response)

    app.on(path, voice)
    return f"{app.url}{path}"


def calls_from(server, phone, app, called, path):
    """A caller of this number whose call the application at this path has answered."""
    handset = phone(caller(called, until_told()), target=server.sip)
    app.wait(path)
    live = lambda: requests.get(f"{server.http}/console/calls?status=in-progress", auth=(ACCOUNT_SID, AUTH_TOKEN), timeout=5)  # noqa: E731
    wait_for("the answer", lambda: called in live().text)
    return handset


def test_a_number_is_in_use_at_once_changes_at_once_and_is_gone_at_once(server, olga, app, phone):
    first, second = listens(app, "/first"), listens(app, "/second")
    entry = olga.make("numbers", number="+15551239001", account="acme", provider="twilio", voice_url=first)
    assert olga("GET", "numbers").text.count("+15551239001") == 1
    handset = calls_from(server, phone, app, "+15551239001", "/first")
    answer = olga("PUT", f"entries/numbers/{entry}", {"number": "+15551239001", "account": "acme", "voice_url": second})
    assert answer.status_code == 200, answer.text
    handset.hang_up()
    handset = calls_from(server, phone, app, "+15551239001", "/second")
    assert olga("DELETE", f"entries/numbers/{entry}").status_code == 200
    assert "+15551239001" not in olga("GET", "numbers").text
    handset.hang_up()


def test_a_trunk_takes_calls_at_once_and_its_password_is_never_shown(server, olga, phone):
    port = free_port()
    called = phone(callee(ends="wait"), port=port)
    fields = {"uri": f"sip:127.0.0.1:{port}", "prefixes": ["+49"], "username": "us", "password": "hidden words"}
    entry = olga.make("trunks", name="backup", account="acme", **fields)
    assert "backup" in [one["name"] for one in olga("GET", "trunks").json()["trunks"]]
    shown = olga.entries("trunks")["backup"]
    assert shown["fields"]["password"] == "***" and 'password = "***"' in shown["text"]
    # A change keeps the password, and what the form does not know.
    changed = shown["fields"] | {"max_calls": 3}
    assert olga("PUT", f"entries/trunks/{entry}", changed).status_code == 200
    assert olga.entries("trunks")["backup"]["fields"] == changed
    answer = requests.post(
        f"{server.http}/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json",
        {"To": "+4930123456", "From": "+15551230001", "Twiml": "<Response><Hangup/></Response>"},
        auth=(ACCOUNT_SID, AUTH_TOKEN), timeout=10,
    )
    assert answer.status_code == 201, answer.text
    called.finish()
    everything = olga("GET", "changes").text + olga("GET", "entries/trunks").text + server.log()
    assert "hidden words" not in everything and "carrier secret" not in everything
    assert olga("DELETE", f"entries/trunks/{entry}").status_code == 200


def test_a_wrong_entry_names_each_key_and_changes_nothing(olga):
    before = olga("GET", "entries/trunks").text
    faults = olga.faults("trunks", name="carrier", uri="no uri", max_cals=3, srtp="maybe")
    assert set(faults) == {"name", "uri", "max_cals", "srtp"}
    assert "max_calls" in faults["max_cals"] and "taken" in faults["name"]
    assert "nobody" in olga.faults("numbers", number="+15551239002", account="acme", agent="nobody")["agent"]
    model = {"url": "http://127.0.0.1:9/v1"}
    assert "file" in olga.faults("agents", name="spy", prompt_file="/etc/hostname", model=model)["prompt_file"]
    document = "<Response><Play>file:/etc/hostname</Play></Response>"
    assert "file" in olga.faults("numbers", number="+15551239003", account="acme", twiml=document)["twiml"]
    assert olga("GET", "entries/trunks").text == before
    # A check says the same and stores nothing, however good the entry is.
    answer = olga("POST", "entries/trunks?check=true", {"name": "tried", "uri": "sip:127.0.0.1:9"})
    assert answer.status_code == 200 and answer.json()["text"] == '[[trunks]]\nname = "tried"\nuri = "sip:127.0.0.1:9"\n'
    assert olga("GET", "entries/trunks").text == before


def test_an_entry_that_another_one_needs_stays(olga):
    agent = olga.make("agents", name="desk", prompt="Be kind.", model={"url": "http://127.0.0.1:9/v1", "key": "sk-hidden"})
    number_ = olga.make("numbers", number="+15551239004", account="acme", agent="desk")
    refused = olga("DELETE", f"entries/agents/{agent}")
    assert refused.status_code == 422 and "desk" in refused.json()["message"], refused.text
    assert "sk-hidden" not in olga("GET", "entries/agents").text
    for path in (f"numbers/{number_}", f"agents/{agent}"):
        assert olga("DELETE", f"entries/{path}").status_code == 200
    assert olga("DELETE", f"entries/agents/{agent}").status_code == 404


def test_entries_of_the_file_are_shown_with_their_line_and_changed_only_there(server, olga):
    (trunk,) = [one for one in olga.entries("trunks").values() if one["name"] == "carrier"]
    lines = (server.data / "tandem.toml").read_text().splitlines()
    assert lines[trunk["line"] - 1] == "[[trunks]]" and (trunk["id"], trunk["source"]) == (None, "file")
    assert trunk["fields"]["password"] == "***"
    # The number belongs to the file, so the console has no second one.
    assert "taken" in olga.faults("numbers", number="+15551230001", account="acme", twiml="<Response/>")["number"]


def test_an_account_changes_its_own_phones_and_applications_and_nothing_else(server, olga):
    adam, rita = Api(server, "adam"), Api(server, "rita")
    password = "phone password"
    own = adam.make("endpoints", username="desk1", password=password, account="rival")
    foreign = olga.make("endpoints", username="desk2", password=password, account="acme")
    assert set(adam.entries("endpoints")) == {"desk1"}
    assert set(adam.faults("endpoints", username="desk3", password=password, account="acme")) == {"account"}
    assert set(adam.faults("endpoints", username="desk3", password=password)) == {"account"}
    stolen = {"username": "desk2", "password": "***", "account": "rival"}
    for method, body in [("PUT", stolen), ("DELETE", None)]:
        assert adam(method, f"entries/endpoints/{foreign}", body).status_code == 404
    moved = {"username": "desk1", "password": "***", "account": "acme"}
    assert adam("PUT", f"entries/endpoints/{own}", moved).status_code == 422
    for which in ("numbers", "trunks", "agents"):
        assert adam("GET", f"entries/{which}").status_code == 403
        assert adam("POST", f"entries/{which}", {"name": "a"}).status_code == 403
    for method, path in [("POST", "entries/trunks"), ("DELETE", f"entries/endpoints/{own}"), ("GET", "entries/trunks")]:
        assert rita(method, path, {"name": "a"} if method == "POST" else None).status_code == 403
    for entry in (own, foreign):
        assert olga("DELETE", f"entries/endpoints/{entry}").status_code == 200


def test_a_subaccount_and_its_key_work_until_they_are_suspended_or_deleted(server, olga):
    made = olga("POST", "accounts", {"parent": "acme", "friendly_name": "Sales"}).json()
    answers = lambda user, secret: requests.get(  # noqa: E731
        f"{server.http}/2010-04-01/Accounts/{made['id']}/Calls.json", auth=(user, secret), timeout=5
    ).status_code
    assert answers(made["id"], made["secret"]) == 200
    key = olga("POST", f"accounts/{made['id']}/keys", {"friendly_name": "ci"}).json()
    assert answers(key["id"], key["secret"]) == 200
    listed = olga("GET", f"accounts/{made['id']}/keys")
    assert [one["id"] for one in listed.json()["keys"]] == [key["id"]] and key["secret"] not in listed.text
    assert olga("DELETE", f"accounts/{made['id']}/keys/{key['id']}").status_code == 204
    assert answers(key["id"], key["secret"]) == 401
    assert olga("PUT", f"accounts/{made['id']}", {"status": "suspended"}).status_code == 204
    assert answers(made["id"], made["secret"]) in (401, 403)
    # Another account sees neither, and the file's accounts are changed in the file.
    adam = Api(server, "adam")
    assert [one["name"] for one in adam("GET", "accounts").json()["accounts"]] == ["rival"]
    for method, path, body in [
        ("PUT", f"accounts/{made['id']}", {"status": "active"}),
        ("GET", "accounts/acme/keys", None),
        ("POST", "accounts/acme/keys", {"friendly_name": "mine"}),
        ("POST", "accounts", {"parent": "acme", "friendly_name": "mine"}),
    ]:
        assert adam(method, path, body).status_code == 404, path
    assert olga("PUT", "accounts/acme", {"status": "closed"}).status_code == 409
    assert made["secret"] not in olga("GET", "changes").text and key["secret"] not in olga("GET", "changes").text


def test_a_number_that_an_application_has_taken_gets_another_url_and_is_released(server, olga):
    sdk = client(server)
    sdk.incoming_phone_numbers.create(phone_number="+15551239010", voice_url="http://127.0.0.1:9/old")
    adam, path = Api(server, "adam"), "numbers/acme/+15551239010"
    for method, body in [("PUT", {"url": "http://127.0.0.1:9/stolen"}), ("DELETE", None)]:
        assert adam(method, path, body).status_code == 404
    assert olga("PUT", path, {"url": "/new"}).status_code == 422
    assert olga("PUT", path, {"url": "http://127.0.0.1:9/new"}).status_code == 204
    (held,) = sdk.incoming_phone_numbers.list(phone_number="+15551239010")
    assert held.voice_url == "http://127.0.0.1:9/new"
    assert olga("DELETE", "numbers/acme/+15551230001").status_code == 409, "it is in the file"
    assert olga("DELETE", path).status_code == 204
    assert sdk.incoming_phone_numbers.list(phone_number="+15551239010") == []


def test_entries_outlive_a_restart_and_one_that_the_file_contradicts_is_named(start_tandem, settings, tmp_path_factory):
    first = start_tandem(settings, at=tmp_path_factory.mktemp("twice"))
    olga = Api(first, "olga")
    olga.make("trunks", name="backup", uri="sip:127.0.0.1:9")
    olga.make("trunks", name="third", uri="sip:127.0.0.1:9")
    first.stop()
    more = '\n[[trunks]]\nname = "third"\nuri = "sip:127.0.0.1:10"\n'
    second = start_tandem(settings + more, at=first.data)
    olga = Api(second, "olga")
    trunks = {one["name"]: one["uri"] for one in olga("GET", "trunks").json()["trunks"]}
    assert trunks.items() >= {"backup": "sip:127.0.0.1:9", "third": "sip:127.0.0.1:10"}.items()
    (faulty,) = [one for one in olga("GET", "entries/trunks").json()["entries"] if one["faults"]]
    assert faulty["name"] == "third" and "taken" in faulty["faults"][0]
    assert 'the entry "third" in trunks of the web console is not used: name: ' in second.log()
    # Removing it is what the operator can do about it.
    assert olga("DELETE", f"entries/trunks/{faulty['id']}").status_code == 200


@pytest.fixture
def console(browser, server):
    context = browser.context(microphone=False)
    one = Console(context, server)
    one.open("numbers").sign_in("olga", PASSWORD).heading("Numbers")
    yield one
    faults = one.faults
    context.close()
    assert faults == []


def test_an_operator_makes_changes_and_removes_a_number_in_the_browser(server, console, app, phone):
    url = listens(app, "/browser")
    page = console.page
    page.get_by_role("button", name="New number").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Number").fill("+1555123900x")
    form.get_by_label("URL", exact=True).fill(url)
    # The server checks while somebody types.
    console.sees("number", form.get_by_role("alert").first)
    assert console.violations() == []
    form.get_by_label("Number").fill("+15551239009")
    form.get_by_label("Account").select_option("acme")
    form.get_by_label("Provider of the document").select_option("twilio")
    form.get_by_text("As in the configuration file").click()
    console.sees('number = "+15551239009"', form)
    form.get_by_role("button", name="Save").click()
    row = console.rows("Numbers").filter(has_text="+15551239009")
    expect(row.get_by_role("button", name="Edit +15551239009")).to_be_visible()
    calls_from(server, phone, app, "+15551239009", "/browser").hang_up()
    row.get_by_role("button", name="Edit").click()
    form.get_by_label("Calls go to").select_option("a document")
    form.get_by_label("Document", exact=True).fill("<Response><Echo/></Response>")
    form.get_by_role("button", name="Save").click()
    console.sees("a document in the configuration", row)
    row.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)


def test_an_entry_of_the_file_opens_with_its_line_and_every_page_fits_a_telephone(console):
    page = console.page
    console.open("trunks").heading("Trunks")
    page.get_by_role("button", name="In the file: carrier").click()
    console.sees(re.compile(r"line \d+ of the configuration file"), page.get_by_role("dialog"))
    page.keyboard.press("Escape")
    page.set_viewport_size(PHONE)
    for name, title in [("applications", "Applications"), ("agents", "Agents"), ("accounts", "Accounts"), ("numbers", "Numbers")]:
        console.open(name).heading(title)
        assert not console.is_too_wide(), name
        assert console.violations() == [], name
    console.open("trunks")
    page.get_by_role("button", name="New trunk").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert not console.is_too_wide()
    assert console.violations() == []


def test_a_key_is_made_shown_once_and_deleted_in_the_browser(console):
    page = console.page
    console.open("accounts").heading("Accounts")
    page.get_by_role("button", name="Keys (0) of acme").click()
    window = page.get_by_role("dialog")
    window.get_by_label("Name of the new key").fill("<b>ci</b>")
    window.get_by_role("button", name="Make a key").click()
    console.sees("The server shows the secret only now", window)
    console.sees("<b>ci</b>", window)
    window.get_by_role("button", name="Delete the key").click()
    console.sees("No keys.", window)
