"""The softphone of the web console in Chromium, whose microphone is a tone."""

import pytest
from playwright.sync_api import expect
from twilio.twiml.voice_response import VoiceResponse

from harness.browser import Browser
from harness.console import PHONE, Console
from harness.models import Engines
from harness.phone import caller, until_told
from harness.resources import table
from harness.waiting import wait_for
from twilio_app import twiml

APPLICATION = "AP" + 32 * "7"
HELLO = "Good morning, this is the reception."


@pytest.fixture(scope="module")
def engines():
    all_three = Engines()
    yield all_three
    all_three.stop()


@pytest.fixture(scope="module")
def server(start_tandem, engines, pages):
    echo = table("numbers", number="702", account="acme", twiml="<Response><Echo/></Response>")
    ana = table("numbers", number="703", account="acme", twiml="<Response><Dial><Client>ana</Client></Dial></Response>")
    user = '[[console.users]]\nname = "rita"\npassword = "long enough 1"\nrole = "reader"\n'
    application = table("applications", id=APPLICATION, account="acme", webhook_url=f"{pages.url}/voice")
    agent = table("agents", name="reception", prompt="You answer the phone.", first_message=HELLO)
    model = f'model = {{ url = "{engines.model.url}/v1", name = "m", timeout_seconds = 2 }}\n'
    speech = f'[speech]\ntts = "{engines.voice.url}/v1/audio/speech"\nstt = "{engines.ears.url}/v1/audio/transcriptions"\n'
    return start_tandem(speech + echo + ana + user + application + agent + model)


@pytest.fixture
def console(server, tmp_path):
    browser = Browser(tmp_path)
    context = browser.context(microphone=True)
    one = Console(context, server)
    yield one
    faults = one.faults
    context.close()
    browser.stop()
    assert faults == []


def test_a_call_is_heard_in_both_directions_and_leads_to_its_page(console):
    console.open("softphone").sign_in().heading("Softphone")
    page = console.page
    page.get_by_role("combobox", name="To").fill("702")
    page.get_by_role("button", name="Call", exact=True).click()
    call = page.get_by_role("region", name="The call")
    expect(call.get_by_role("status")).to_contain_text("In the call", timeout=15_000)
    # The application plays back what it hears.
    expect(call.locator(".figures-line")).to_contain_text("packets received, 0 lost", timeout=10_000)
    far_end = call.get_by_label("Far end")
    page.wait_for_function("(meter) => meter.value > 20", arg=far_end.element_handle())
    page.get_by_role("button", name="5", exact=True).click()
    expect(call).to_contain_text("Keys sent: 5")
    call.get_by_role("button", name="Hang up").click()
    expect(call.get_by_role("status")).to_contain_text("You hung up.")
    call.get_by_role("link", name="Show this call").click()
    console.heading("+15550109999")
    console.sees("DTMF digit received")


def test_a_call_to_nothing_says_why(console):
    console.open("softphone").sign_in().heading("Softphone")
    console.page.get_by_role("combobox", name="To").fill("799")
    console.page.get_by_role("button", name="Call", exact=True).click()
    call = console.page.get_by_role("region", name="The call")
    expect(call.locator(".notice").first).to_contain_text("799", timeout=15_000)
    expect(console.page.get_by_role("button", name="Call", exact=True)).to_be_visible()


def test_a_reader_makes_no_calls(console):
    console.open("softphone").sign_in("rita", "long enough 1")
    console.sees("A reader makes no calls.")


def register(console, name):
    """Takes calls as this client. Later pages of the same browser do the same by themselves."""
    console.open("softphone").sign_in().heading("Softphone")
    form = console.page.get_by_role("form", name="Take calls")
    form.get_by_label("Take calls as client:").fill(name)
    form.get_by_role("button", name="Register").click()
    expect(form.get_by_role("status")).to_contain_text(f"calls to client:{name} ring here", timeout=10_000)


def test_a_call_rings_in_each_tab_and_one_answer_stops_the_others(server, console, phone):
    register(console, "ana")
    other = Console(console.context, server)
    other.open("phones").heading("Phones")
    row = other.rows("Phones").filter(has_text="client:ana")
    expect(row).to_contain_text("web console", timeout=10_000)
    handset = phone(caller("703", until_told()), target=server.sip)
    ringing = [one.page.get_by_role("alert", name="Incoming call") for one in (console, other)]
    for one in ringing:
        expect(one).to_contain_text("+15550009999", timeout=15_000)
    expect(other.page).to_have_title("+15550009999 calls · Tandem")
    assert other.violations() == []
    other.page.set_viewport_size(PHONE)
    assert not other.is_too_wide()
    other.page.keyboard.press("a")
    expect(other.page.get_by_role("region", name="Your call")).to_contain_text("In the call", timeout=15_000)
    for one in ringing:
        expect(one).to_have_count(0)
    handset.hang_up()
    expect(other.page.get_by_role("region", name="Your call")).to_have_count(0)
    assert other.faults == []
    # Refused by the only page, the call is over for the caller.
    other.page.close()
    handset = phone(caller("703", ends="wait"), target=server.sip)
    expect(ringing[0]).to_be_visible(timeout=15_000)
    console.page.keyboard.press("d")
    expect(ringing[0]).to_have_count(0)
    handset.finish()


def test_my_application_is_called_by_its_url_or_its_id_and_a_wrong_url_says_why(server, console, pages):
    response = VoiceResponse()
    response.echo()
    pages.on("/voice", twiml(response))
    console.open("softphone").sign_in().heading("Softphone")
    form = console.page.get_by_role("form", name="Call")
    form.get_by_role("combobox", name="Call", exact=True).select_option("url")
    call = console.page.get_by_role("region", name="The call")
    url = form.get_by_label("Voice URL")
    for wrong, why in [("ftp://127.0.0.1/voice", "neither http:// nor https://"), ("http://127.0.0.1:9/voice", "refused")]:
        url.fill(wrong)
        form.get_by_role("button", name="Call").click()
        expect(call).to_contain_text(why, timeout=15_000)
        expect(form.get_by_role("button", name="Call")).to_be_enabled(timeout=20_000)
    url.fill(f"{pages.url}/voice")
    form.get_by_role("button", name="Call").click()
    expect(call.get_by_role("status")).to_contain_text("In the call", timeout=15_000)
    request = pages.wait("/voice")[-1]
    assert request["From"] == "+15550109999" and request["Direction"] == "inbound"
    call.get_by_role("button", name="Hang up").click()
    # The same application by its id.
    form.get_by_role("combobox", name="Call", exact=True).select_option("application")
    form.get_by_role("combobox", name="Application id").fill(APPLICATION)
    form.get_by_role("button", name="Call").click()
    pages.wait("/voice", count=2)
    expect(call.get_by_role("status")).to_contain_text("In the call", timeout=15_000)
    call.get_by_role("button", name="Hang up").click()


def test_the_turns_of_a_call_to_an_agent_are_shown_and_its_prompt_is_of_this_call(console, engines):
    engines.forget()
    engines.model.answer = lambda messages: "You pressed a key."
    console.open("softphone").sign_in().heading("Softphone")
    form = console.page.get_by_role("form", name="Call")
    form.get_by_role("combobox", name="Call", exact=True).select_option("agent")
    prompt = form.get_by_label("Prompt for this call only")
    expect(prompt).to_have_value("You answer the phone.")
    prompt.fill("You are a pirate.")
    form.get_by_role("button", name="Call").click()
    turns = console.page.get_by_role("region", name="Turns")
    expect(turns).to_contain_text(HELLO, timeout=20_000)
    call = console.page.get_by_role("region", name="The call")
    call.get_by_role("button", name="5", exact=True).click()
    expect(turns).to_contain_text("You pressed a key.", timeout=20_000)
    system = wait_for("a question to the model", lambda: engines.model.asked)[-1]["messages"][0]
    assert system["content"].startswith("You are a pirate."), system
    call.get_by_role("button", name="Hang up").click()
