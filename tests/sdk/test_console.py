"""The web console in Chromium: each flow of a user, against a server with calls of SIPp."""

import io
import re
import tarfile

import pytest
import requests
from playwright.sync_api import expect
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from harness.console import AXE, PAGES, PHONE, Console
from harness.phone import callee, caller, free_port, pause, until_told
from harness.resources import carrier
from harness.waiting import wait_for
from twilio_app import client, number, twiml

MENU, BROKEN, DESK = "+15551230001", "+15551230002", "+15551230003"
MARKUP = "<img src=x onerror=window.harmed=1>"


@pytest.fixture(scope="module")
def desk_port():
    return free_port()


@pytest.fixture(scope="module")
def server(start_tandem, pages, desk_port):
    names = {MENU: "/menu", BROKEN: "/broken", DESK: "/desk"}
    numbers = [number(name, pages, path, f'status_callback = "{pages.url}/status"\n') for name, path in names.items()]
    phones = '[[endpoints]]\naccount = "acme"\nusername = "alice"\npassword = "change-me-please"\n'
    return start_tandem("".join(numbers) + carrier(desk_port) + phones)


@pytest.fixture(autouse=True)
def application(pages, desk_port):
    """A menu that waits for a digit, a page that fails, and a call to a phone that is recorded in two channels."""

    def menu():
        response = VoiceResponse()
        gather = Gather(num_digits=1, timeout=60)
        gather.say("Welcome. Press one.")
        response.append(gather)
        return twiml(response)

    def desk():
        response = VoiceResponse()
        dial = Dial(record="record-from-answer-dual", caller_id=MENU)
        dial.sip(f"sip:desk@127.0.0.1:{desk_port}")
        response.append(dial)
        return twiml(response)

    pages.forget()
    pages.on("/menu", menu)
    pages.on("/desk", desk)
    pages.on("/broken", (f"Traceback {MARKUP}", 500))
    pages.on("/status")


@pytest.fixture(autouse=True)
def no_call_is_left(server, phone):
    """Each test begins without live calls."""
    yield
    for row in calls(server, status="live"):
        client(server).calls(row["id"]).update(status="completed")
    wait_for("the end of all calls", lambda: not calls(server, status="live"))


@pytest.fixture
def stranger(server, browser):
    """A browser that is not signed in. At the end, it must not have complained."""
    context = browser.context(microphone=False)
    console = Console(context, server)
    yield console
    faults = console.faults
    context.close()
    assert faults == []


@pytest.fixture
def console(stranger):
    """A browser that is signed in."""
    stranger.open("live").sign_in().heading("Live")
    return stranger


@pytest.fixture
def live_call(server, phone):
    """A caller in the menu, until the end of the test."""
    handset = phone(caller(MENU, until_told()), target=server.sip)
    wait_for("the live call", lambda: calls(server, status="in-progress"))
    return handset


@pytest.fixture
def bridged_call(server, phone, desk_port, pages, talk):
    """A call of two legs with a recording, which has ended."""
    words, milliseconds = talk
    desk = phone(callee(pause(milliseconds), ends="bye"), port=desk_port)
    handset = phone(caller(DESK, words, ends="wait"), target=server.sip)
    desk.finish()
    handset.finish()
    pages.wait("/status")
    (session,) = {row["session"] for row in calls(server)[:2]}
    wait_for("the recording", lambda: [one for one in report(server, session)["recordings"] if one["status"] == "completed"])
    return session


def get(server, path, **query):
    """JSON of the server, for the test itself."""
    answer = requests.get(f"{server.http}/console/{path}", query, auth=(server.account_sid, server.auth_token), timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def calls(server, **query):
    """The list of calls, newest first."""
    return get(server, "calls", **query)["calls"]


def report(server, id_="last"):
    """The report of a call."""
    return get(server, f"calls/{id_}")


def broken_call(server, phone):
    """A call that ends because its application failed."""
    phone(caller(BROKEN, ends="wait"), target=server.sip).finish()
    return wait_for("the error", lambda: get(server, "errors")["errors"])[0]


def test_signing_in_leads_to_the_page_that_was_asked_for_and_signing_out_back(stranger):
    stranger.open("trunks").sign_in(password="wrong")
    expect(stranger.page.get_by_role("alert")).to_be_visible()
    stranger.sign_in().heading("Trunks")
    stranger.page.reload()
    stranger.heading("Trunks")
    stranger.page.get_by_role("button", name="Sign out").click()
    stranger.heading("Tandem console")
    stranger.open("calls").heading("Tandem console")


def test_a_live_call_appears_ticks_and_is_hung_up(server, console, phone):
    console.sees("No live calls.")
    handset = phone(caller(MENU, ends="wait"), target=server.sip)
    leg = console.page.locator(".leg")
    expect(leg).to_contain_text(f"+15550009999 → {MENU}")
    expect(leg).to_contain_text("in-progress")
    expect(leg).to_contain_text("gather")
    expect(leg).to_contain_text("0:02")
    leg.get_by_role("button", name=re.compile("Actions")).click()
    console.page.get_by_role("menuitem", name="Hang up…").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(leg).to_be_visible()
    leg.get_by_role("button", name=re.compile("Actions")).click()
    console.page.get_by_role("menuitem", name="Hang up…").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Hang up").click()
    console.sees("The leg was hung up.").sees("No live calls.")
    handset.finish()


def test_a_live_leg_is_muted_and_transferred(server, console, live_call, phone, desk_port):
    desk = phone(callee(until_told(), ends="bye"), port=desk_port)
    actions = console.page.get_by_role("button", name=re.compile("Actions"))
    actions.click()
    console.page.get_by_role("menuitem", name="Mute", exact=True).click()
    console.sees("The leg is muted.")
    actions.click()
    console.page.get_by_role("menuitem", name="Transfer…").click()
    console.page.get_by_label("Number, phone or SIP URI").fill(f"sip:desk@127.0.0.1:{desk_port}")
    console.page.get_by_role("button", name="Transfer").click()
    console.sees("The leg is being transferred")
    wait_for("the transfer", lambda: len(calls(server, status="in-progress")) == 2)
    desk.hang_up()


def test_calls_are_found_by_a_part_of_the_number_and_a_view_is_saved(console, server, bridged_call):
    console.page.keyboard.press("/")
    console.page.keyboard.type("50009999")
    console.page.keyboard.press("Enter")
    console.heading("Calls")
    expect(console.rows("Calls").first).to_contain_text("+15550009999")
    console.page.get_by_label("Status").select_option("completed")
    console.page.get_by_role("button", name="Save view…").click()
    console.page.get_by_label("Name", exact=True).fill("mine")
    console.page.get_by_role("button", name="Save", exact=True).click()
    console.page.get_by_role("link", name="Clear").click()
    expect(console.page.get_by_label("Search calls")).to_have_value("")
    console.page.get_by_role("link", name="mine").click()
    expect(console.page.get_by_label("Status")).to_have_value("completed")
    console.page.get_by_label("Search calls").fill("no such number")
    console.page.get_by_label("Search calls").press("Enter")
    console.sees("No call matches.")


def test_the_rows_of_a_table_are_reached_by_the_arrow_keys(console, bridged_call):
    console.open("calls").heading("Calls")
    links = console.rows("Calls").locator("td:first-child a")
    links.nth(0).focus()
    console.page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    console.page.keyboard.press("Enter")
    console.sees("How it ended")


def test_a_call_shows_both_legs_on_one_axis_with_the_message_of_each_arrow(console, bridged_call):
    console.open(f"calls/{bridged_call}").heading(f"+15550009999 → {DESK}")
    axis = console.page.get_by_role("region", name="Time axis")
    expect(axis).to_contain_text("caller")
    expect(axis).to_contain_text("callee")
    axis.get_by_role("button", name=re.compile("INVITE")).first.click()
    details = console.page.get_by_role("region", name="Selected event")
    expect(details).to_contain_text("CSeq: 1 INVITE")
    console.page.keyboard.press("Escape")
    expect(details).to_have_count(0)
    console.page.get_by_role("tab", name="SIP ladder").click()
    console.page.get_by_role("button", name=re.compile("BYE")).first.click()
    expect(details).to_contain_text("BYE sip:")
    # The choice of lanes is remembered.
    axis.get_by_label("Verbs").uncheck()
    console.page.reload()
    expect(axis.get_by_label("Verbs")).not_to_be_checked()


def test_the_axis_is_zoomed_by_keys(console, bridged_call):
    console.open(f"calls/{bridged_call}")
    axis = console.page.get_by_role("region", name="Time axis")
    whole = axis.get_by_role("button", name="Whole call")
    expect(whole).to_be_disabled()
    axis.locator("[data-item]").first.press("+")
    expect(whole).to_be_enabled()
    console.page.keyboard.press("0")
    expect(whole).to_be_disabled()


def test_a_webhook_is_sent_again(console, bridged_call, pages):
    sent = len(pages.to("/status"))
    console.open(f"calls/{bridged_call}").page.get_by_role("tab", name=re.compile("Webhooks")).click()
    console.page.get_by_role("button", name="Send again").first.click()
    console.sees("The webhook is sent again.")
    pages.wait("/status", count=sent + 1)


def test_a_recording_plays_in_place_and_a_cursor_moves_on_the_axis(console, bridged_call):
    console.open(f"calls/{bridged_call}")
    expect(console.page.get_by_role("img", name=re.compile("Waveform"))).to_be_visible()
    expect(console.page.locator(".wave path")).to_have_count(2)
    console.page.get_by_label(re.compile("Position in the recording")).focus()
    console.page.keyboard.press("ArrowRight")
    console.page.get_by_role("button", name=re.compile("^Play")).click()
    cursor = console.page.locator(".cursor")
    expect(cursor).to_be_visible()
    first = cursor.get_attribute("x")
    wait_for("a move of the cursor", lambda: cursor.get_attribute("x") != first)


def test_a_call_is_exported(console, bridged_call):
    console.open(f"calls/{bridged_call}")

    def download(name):
        console.page.get_by_role("button", name="Export the call").click()
        with console.page.expect_download() as begun:
            console.page.get_by_role("menuitem", name=name).click()
        return begun.value.path().read_bytes()

    assert download("SIP messages (pcap)")[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d")
    assert b'"timeline"' in download("Report (JSON)")
    assert b"INVITE" in download("SIP ladder (text)")
    archive = tarfile.open(fileobj=io.BytesIO(download("Everything (tar)")))
    names = [name.split("/", 1)[1] for name in archive.getnames()]
    assert names[:5] == ["README.txt", "report.json", "timeline.txt", "sip.pcap", "sip.txt"]
    assert names[5].endswith(".wav")


def test_a_callback_and_its_request_are_one_row(console, server, bridged_call):
    hooks = lambda: report(server, bridged_call)["webhooks"]
    delivered = wait_for("the callbacks", lambda: hooks() and all(hook["state"] == "delivered" for hook in hooks()) and hooks())
    sent = report(server, bridged_call)["requests"]
    assert {hook["id"] for hook in delivered} <= {request.get("webhook_id") for request in sent}
    console.open(f"calls/{bridged_call}").page.get_by_role("tab", name=re.compile("Webhooks")).click()
    expect(console.rows("Webhooks and documents")).to_have_count(len(sent))


def test_the_page_of_a_live_call_grows_until_its_end(server, console, live_call):
    console.open(f"calls/{report(server)['session']}").sees("in-progress")
    console.sees("live")
    live_call.hang_up()
    console.sees("the far end").sees("BYE")


def test_a_failed_call_says_what_happened_and_what_to_do(server, console, phone):
    error = broken_call(server, phone)
    console.open(f"calls/{error['call']}").sees(error["happened"]).sees(error["advice"])


def test_problems_are_grouped_by_cause_and_lead_to_their_calls(server, console, phone):
    error = broken_call(server, phone)
    console.open("problems").heading("Problems")
    group = console.page.get_by_role("article").filter(has_text=error["cause"])
    console.sees(error["advice"], within=group)
    group.get_by_role("button", name="Show the calls").click()
    group.get_by_role("listitem").get_by_role("link").first.click()
    console.sees(error["happened"])


def test_a_refused_call_leads_from_its_problem_to_its_sip_messages(console, server, phone):
    phone(caller("999", reject=404), target=server.sip).finish()
    console.open("problems").heading("Problems")
    group = console.page.get_by_role("article").filter(has_text="unknown-number")
    group.get_by_role("button", name="Show the calls").click()
    group.get_by_role("listitem").get_by_role("link").first.click()
    console.heading("SIP messages without a call")
    console.page.get_by_role("button", name=re.compile("404 ")).first.click()
    expect(console.page.get_by_role("region", name="Selected event")).to_contain_text("SIP/2.0 404")


def test_numbers_trunks_and_phones_are_listed(console):
    console.open("numbers").heading("Numbers")
    expect(console.rows("Numbers").filter(has_text=BROKEN)).to_contain_text("In the file")
    console.open("trunks").heading("Trunks")
    expect(console.rows("Trunks")).to_contain_text("carrier")
    console.open("phones").heading("Phones")
    expect(console.rows("Phones")).to_contain_text("not registered")


def test_the_route_of_a_call_is_explained(console):
    taken, refused = "the call reaches its destination", "the call reaches nothing"
    console.open("numbers").rows("Numbers").filter(has_text=MENU).get_by_role("link", name="Show route").click()
    console.heading("What would happen").sees(taken)
    # A caller without a password gets nothing, so there are two outcomes.
    console.sees("any other address").sees(refused)
    console.page.get_by_label("From", exact=True).fill("alice")
    console.page.get_by_label("To", exact=True).fill("99999")
    console.page.get_by_role("button", name="Show the route").click()
    console.sees("From phone alice of account acme").sees(refused)
    console.page.get_by_label("To", exact=True).fill(MENU)
    console.page.get_by_role("button", name="Show the route").click()
    console.sees(taken)
    expect(console.page.get_by_text(refused)).to_have_count(0)


def test_figures_have_charts(console, bridged_call):
    console.open("figures").heading("Figures")
    expect(console.page.get_by_role("img", name=re.compile("Calls a second"))).to_be_visible()


def test_an_action_is_in_the_table_of_changes(server, console, live_call):
    console.page.get_by_role("button", name=re.compile("Actions")).click()
    console.page.get_by_role("menuitem", name="Mute", exact=True).click()
    console.sees("The leg is muted.").open("changes")
    expect(console.rows("Changes").first).to_contain_text("mute")


def test_texts_of_callers_and_applications_are_shown_as_text(server, console, phone):
    phone(caller(BROKEN, ends="wait", extra_headers=f"Subject: {MARKUP}"), target=server.sip).finish()
    wait_for("the error", lambda: get(server, "errors")["errors"])
    console.open("calls/last").page.get_by_role("tab", name="SIP ladder").click()
    console.page.get_by_role("button", name=re.compile("INVITE sip:")).first.click()
    console.sees(f"Subject: {MARKUP}")
    console.page.get_by_role("tab", name=re.compile("Webhooks")).click()
    console.page.get_by_role("button", name=re.compile("POST .*broken")).first.click()
    console.sees(f"Traceback {MARKUP}")
    assert console.page.evaluate("window.harmed") is None
    assert console.page.locator("img:not([src='icon.svg'])").count() == 0


def test_a_lost_connection_is_shown_and_taken_up_again(console, live_call):
    expect(console.page.locator(".leg")).to_have_count(1)
    console.context.set_offline(True)
    # The stream that is open does not end by this; a page that is opened now finds nothing.
    console.page.get_by_role("link", name="Calls", exact=True).click()
    console.sees("Connection lost")
    console.context.set_offline(False)
    expect(console.page.get_by_text("Connection lost")).to_have_count(0, timeout=15_000)
    expect(console.rows("Calls").first).to_be_visible()


def test_an_expired_session_leads_to_the_sign_in_and_back(console):
    console.open("trunks")
    expect(console.rows("Trunks").first).to_be_visible()
    console.context.clear_cookies()
    console.page.get_by_role("link", name="Calls", exact=True).click()
    console.heading("Tandem console").sign_in().heading("Calls")


def test_what_an_older_server_does_not_have_is_a_short_notice(console):
    console.page.route("**/console/figures", lambda route: route.fulfill(status=404, body="no such page"))
    console.open("figures").sees("This server does not offer this page.")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, PHONE["width"]])
def test_no_page_has_findings_of_axe_or_is_wider_than_its_window(console, bridged_call, live_call, colours, width):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in console/")
    console.page.set_viewport_size({"width": width, "height": PHONE["height"]})
    console.page.emulate_media(color_scheme=colours)
    found = {}
    for page in [*PAGES, f"calls/{bridged_call}"]:
        console.open(page)
        console.page.wait_for_selector("h1")
        console.page.wait_for_selector(".loading", state="detached")
        found[page] = console.violations() + (["wider than the window"] if console.is_too_wide() else [])
    for tab in console.page.get_by_role("tab").all():
        tab.click()
        console.page.wait_for_selector(".loading", state="detached")
        found[tab.inner_text()] = console.violations()
    console.page.locator(".axis .item").first.click()
    console.page.get_by_role("button", name="Export the call").click()
    found["selected event and menu"] = console.violations() + (["wider than the window"] if console.is_too_wide() else [])
    console.open("live").page.get_by_role("button", name=re.compile("Actions")).click()
    console.page.get_by_role("menuitem", name="Transfer…").click()
    found["dialog"] = console.violations()
    assert {page: one for page, one in found.items() if one} == {}
