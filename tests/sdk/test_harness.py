"""The harness itself: a call comes in, a document answers it, and everybody ends well."""

from harness import skips
from harness.phone import callee, caller, free_port, pause


def test_a_phone_calls_and_the_web_application_answers(start_tandem, webapp, phone):
    webapp.on("/voice", ("<Response><Hangup/></Response>", {"Content-Type": "text/xml"}))
    server = start_tandem(f"""
[[numbers]]
number = "600"
account = "acme"
provider = "twilio"
voice_url = "{webapp.url}/voice"
""")
    phone(caller("600", ends="wait"), target=server.sip).finish()
    (request,) = webapp.to("/voice")
    assert request["To"] and request["CallSid"].startswith("CA")


def test_a_call_is_bridged_from_phone_to_phone(start_tandem, phone):
    called = phone(callee(pause(300), ends="bye"))
    server = start_tandem(f"""
[[numbers]]
number = "1*"
account = "acme"
bridge = "{called.uri}"
""")
    phone(caller("1000", ends="wait"), target=server.sip).finish()
    called.finish()


def test_free_port_never_returns_a_port_twice():
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200


def test_ci_refuses_a_skip_unless_it_is_optional_or_shared_is_missing(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    monkeypatch.setenv("CI", "true")
    assert skips.is_refused("the operations were not called in this process", shared)
    assert not skips.is_refused(f"{skips.OPTIONAL}go is not installed", shared)
    assert not skips.is_refused(f"no {shared / 'openapi'}", shared)
    shared.mkdir()
    assert skips.is_refused(f"no {shared / 'openapi'}", shared)
    monkeypatch.delenv("CI")
    assert not skips.is_refused(f"no {shared / 'openapi'}", shared)
