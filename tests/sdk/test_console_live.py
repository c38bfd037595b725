"""The page of live calls in Chromium: conferences, queues, media streams, and an operator who listens to a call."""

import pytest
import requests
from playwright.sync_api import expect
from twilio.twiml.voice_response import Connect, Dial, Enqueue, VoiceResponse

from harness.console import PHONE, Console
from harness.party import Party
from harness.phone import callee, caller, free_port, until_told
from harness.resources import OTHER_SID, OTHER_TOKEN, carrier, other_account, table
from harness.socketapp import SocketApp
from harness.waiting import wait_for

CALLER, DESK = 400, 700  # Hz
OWN = {"X-Tandem-Console": "1"}


@pytest.fixture(scope="module")
def sockets():
    one = SocketApp()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def desk_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, sockets, desk_port):
    def dial(make):
        response, verb = VoiceResponse(), Dial(caller_id="+15551230001")
        make(verb)
        response.append(verb)
        return str(response)

    def enqueue():
        response = VoiceResponse()
        response.append(Enqueue(name="support"))
        response.say("Nobody has time.")
        response.pause(60)
        return str(response)

    def stream():
        response, connect = VoiceResponse(), Connect()
        connect.stream(url=sockets.url)
        response.append(connect)
        return str(response)

    documents = {
        "701": dial(lambda verb: verb.conference("standup", beep="false")),
        "702": enqueue(),
        "703": dial(lambda verb: verb.queue("support")),
        "704": stream(),
        "705": dial(lambda verb: verb.sip(f"sip:desk@127.0.0.1:{desk_port}")),
    }
    numbers = [table("numbers", number=number, account="acme", twiml=text) for number, text in documents.items()]
    users = "".join(
        f'[[console.users]]\nname = "{name}"\npassword = "long enough 1"\nrole = "{role}"\n{more}'
        for name, role, more in [("rita", "reader", ""), ("adam", "account", 'account = "acme"\n'), ("olga", "operator", "")]
    )
    return start_tandem("operator = true\n" + other_account() + "".join(numbers) + users + carrier(desk_port))


@pytest.fixture
def console(server, browser):
    context = browser.context(microphone=False)
    one = Console(context, server)
    one.open("live").sign_in("olga", "long enough 1").heading("Live")
    yield one
    faults = one.faults
    context.close()
    assert faults == []


def rows(server, name, sid=None, token=None):
    """A list of the console, for the test itself."""
    auth = (sid or server.account_sid, token or server.auth_token)
    answer = requests.get(f"{server.http}/console/{name}", auth=auth, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()[name]


def visitor(server, name):
    """A user of the console without a browser."""
    session = requests.Session()
    json = {"user": name, "password": "long enough 1"}
    assert session.post(f"{server.http}/console/session", json=json, headers=OWN, timeout=5).status_code == 200
    return session


def choose(part, item):
    """Chooses an item of the first menu in this part of the page."""
    part.get_by_role("button", name="Actions").first.click()
    part.page.get_by_role("menuitem", name=item).click()


def test_a_conference_is_shown_and_its_participants_are_muted_held_and_removed(server, console, phone):
    handsets = [phone(caller("701", ends="wait"), target=server.sip) for _ in range(2)]
    card = console.page.get_by_role("article").filter(has_text="standup").filter(has_text="conference")
    seats = card.locator(".seats li")
    expect(seats).to_have_count(2, timeout=15_000)
    assert rows(server, "conferences", OTHER_SID, OTHER_TOKEN) == [], "another account sees nothing"
    (shown,) = rows(server, "conferences")
    path = f"{server.http}/console/conferences/{shown['id']}"
    theirs = requests.post(path, json={"action": "end"}, headers=OWN, auth=(OTHER_SID, OTHER_TOKEN), timeout=5)
    assert theirs.status_code == 404, theirs.text
    assert visitor(server, "rita").post(path, json={"action": "end"}, headers=OWN, timeout=5).status_code == 403
    for item, badge in [("Mute", "muted"), ("Hold", "on hold")]:
        choose(seats.first, item)
        expect(seats.first).to_contain_text(badge)
    assert console.violations() == []
    console.page.set_viewport_size(PHONE)
    assert not console.is_too_wide()
    console.page.set_viewport_size({"width": 1280, "height": 900})
    choose(card, "Listen")
    bar = console.page.get_by_role("region", name="Your call")
    expect(bar).to_contain_text("Listening", timeout=15_000)
    expect(seats.filter(has_text="only listens")).to_have_count(1)
    bar.get_by_role("button", name="Stop listening").click()
    expect(seats).to_have_count(2)
    choose(seats.first, "Take off hold")
    expect(seats.first).not_to_contain_text("on hold")
    choose(seats.first, "Remove…")
    console.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(seats).to_have_count(1)
    choose(card, "End the conference…")
    console.page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(card).to_have_count(0)
    console.open("changes").heading("Changes")
    expect(console.rows("Changes").filter(has_text=f"/console/conferences/{shown['id']}")).to_have_count(6)
    for handset in handsets:
        handset.finish()


def test_a_caller_in_a_queue_is_taken_out_and_an_agent_that_waits_is_shown(server, console, phone):
    waiting = phone(caller("702", until_told()), target=server.sip)
    card = console.page.get_by_role("article").filter(has_text="queue").filter(has_text="support")
    expect(card).to_contain_text("1 caller of at most", timeout=15_000)
    expect(card).to_contain_text("no agent waits")
    choose(card, "Take out of the queue")
    console.sees("The caller left the queue.")
    expect(card).to_have_count(0)
    agent = phone(caller("703", until_told()), target=server.sip)
    expect(card.get_by_text("agent", exact=True)).to_be_visible(timeout=15_000)
    assert rows(server, "queues", OTHER_SID, OTHER_TOKEN) == []
    for one in (waiting, agent):
        one.hang_up()


def test_a_media_stream_shows_its_figures_and_a_leg_its_packets(server, console, phone, rtp, sockets):
    talker = Party(phone, rtp, caller("704", until_told()), target=server.sip)
    leg = console.page.get_by_role("article").filter(has_text="704")
    expect(leg).to_contain_text(f"stream {sockets.url}", timeout=15_000)
    silent = leg.locator("dd.bad")
    expect(silent).to_have_text("0", timeout=10_000)
    with talker.sounds(CALLER):
        expect(silent).to_have_count(0, timeout=10_000)
    found = lambda: [one for call in rows(server, "live") for leg in call["legs"] for one in leg["streams"]]  # noqa: E731
    wait_for("frames to the application", lambda: found() and found()[0]["frames_out"] > 50)
    talker.hang_up()


def test_an_operator_listens_to_a_call_and_nobody_hears_the_operator(server, console, phone, rtp, desk_port):
    desk = Party(phone, rtp, callee(), port=desk_port)
    customer = Party(phone, rtp, caller("705", until_told()), target=server.sip)
    call = console.page.get_by_role("listitem").filter(has_text="705")
    expect(call.get_by_text("bridged with callee")).to_be_visible(timeout=15_000)
    with customer.sounds(CALLER), desk.sounds(DESK):
        choose(call, "Listen")
        bar = console.page.get_by_role("region", name="Your call")
        expect(bar).to_contain_text("Listening", timeout=15_000)
        expect(call.get_by_text("only listens")).to_be_visible()
        console.page.evaluate("location.hash = '#/softphone'")
        softphone = console.page.get_by_role("region", name="The call")
        far_end = softphone.get_by_label("Far end")
        console.page.wait_for_function("(meter) => meter.value > 20", arg=far_end.element_handle())
        # Each party still hears the other one, and nothing besides.
        customer.hears_exactly(DESK, of=(CALLER, DESK))
        desk.hears_exactly(CALLER, of=(CALLER, DESK))
        listeners = [leg for one in rows(server, "live") for leg in one["legs"] if leg["listens_to"]]
        assert [one["quality"]["packets_in"] for one in listeners] == [0], listeners
        path = f"{server.http}/console/legs/{listeners[0]['id']}/listen"
        for name in ["rita", "adam"]:
            refused = visitor(server, name).post(path, json={"phone": "x"}, headers=OWN, timeout=5)
            assert refused.status_code == 403, (name, refused.text)
        softphone.get_by_role("button", name="Stop listening").click()
        wait_for("the end of the listening", lambda: all(not leg["listens_to"] for one in rows(server, "live") for leg in one["legs"]))
    events = requests.get(f"{server.http}/console/sessions/last/events", auth=(server.account_sid, server.auth_token), timeout=10)
    assert "olga listens to the call" in [line["text"] for line in events.json()]
    console.open("changes").heading("Changes")
    expect(console.rows("Changes").filter(has_text="/listen").first).to_contain_text("olga")
    customer.hang_up()
    desk.phone.finish()
