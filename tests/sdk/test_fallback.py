"""A document that asks for what this server does not have: the fallback URL is asked, in each dialect of documents."""

import pytest

from harness import resources, signalwire
from harness.phone import caller

BODIES = {
    # Each ends with the verb that is not served.
    "twilio": ("text/xml", "<Response><Say>One moment.</Say><Pay/></Response>"),
    "texml": ("text/xml", "<Response><Pay/></Response>"),
    "signalwire": ("text/xml", "<Response><Connect><AI><Prompt>Be kind.</Prompt></AI></Connect></Response>"),
    "swml": ("application/json", '{"sections": {"main": ["answer", {"ai": {"prompt": {"text": "Be kind."}}}]}}'),
}
NUMBERS = {provider: f"+1555123100{digit}" for digit, provider in enumerate(BODIES)}
FINE = {
    "swml": ("application/json", '{"sections": {"main": ["hangup"]}}'),
}


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp):
    def number(provider):
        account = "space" if provider in ("signalwire", "swml") else "acme"
        urls = {"voice_url": f"{module_webapp.url}/{provider}", "fallback_url": f"{module_webapp.url}/{provider}/fallback"}
        return resources.table("numbers", number=NUMBERS[provider], account=account, provider=provider, **urls)

    return start_tandem(signalwire.ACCOUNT + "".join(number(provider) for provider in BODIES))


@pytest.mark.parametrize("provider", BODIES)
def test_a_failed_document_is_replaced_by_the_document_of_the_fallback_url(provider, server, module_webapp, phone):
    kind, body = BODIES[provider]
    module_webapp.on(f"/{provider}", (body, {"Content-Type": kind}))
    kind, body = FINE.get(provider, ("text/xml", "<Response><Hangup/></Response>"))
    module_webapp.on(f"/{provider}/fallback", (body, {"Content-Type": kind}))
    phone(caller(NUMBERS[provider], ends="wait"), target=server.sip).finish()
    (asked,) = module_webapp.wait(f"/{provider}/fallback")
    if provider == "swml":
        assert b'"call"' in asked.body
    else:
        assert asked["ErrorUrl"] == f"{module_webapp.url}/{provider}" and asked["ErrorCode"].isdigit()
    assert len(module_webapp.to(f"/{provider}")) == 1


def test_a_failed_fallback_document_is_not_requested_again(server, module_webapp, phone):
    kind, body = BODIES["twilio"]
    for path in ("/twilio", "/twilio/fallback"):
        module_webapp.on(path, (body, {"Content-Type": kind}))
    before = len(module_webapp.to("/twilio/fallback"))
    # The caller hears the apology, and then the server hangs up.
    phone(caller(NUMBERS["twilio"], ends="wait"), target=server.sip).finish()
    assert len(module_webapp.to("/twilio/fallback")) == before + 1
