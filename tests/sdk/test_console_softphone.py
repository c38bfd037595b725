"""The softphone of the web console in Chromium, whose microphone is a tone."""

import pytest
from playwright.sync_api import expect

from harness.browser import Browser
from harness.console import Console
from harness.resources import table


@pytest.fixture(scope="module")
def server(start_tandem):
    echo = table("numbers", number="702", account="acme", twiml="<Response><Echo/></Response>")
    user = '[[console.users]]\nname = "rita"\npassword = "long enough 1"\nrole = "reader"\n'
    return start_tandem(echo + user)


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
    page.get_by_role("button", name="Hang up").click()
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
