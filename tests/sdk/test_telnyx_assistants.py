"""Assistants that an application stores with Telnyx's SDK as it is, and the calls that they answer."""

import flask
import numpy
import pytest
import telnyx
from telnyx.types.ai import AssistantsList, InferenceEmbedding

from harness.audio import RATE, chatter
from harness.models import Engines
from harness.party import Party
from harness.phone import callee, caller
from harness.telnyx_app import CONNECTION, NUMBER, TEXML, TEXML_NUMBER, called_party, serve, texml_number

HELLO = "Good evening, this is the bicycle shop."
SHOP = "+15551230003"  # a number without a connection: the agent of the configuration answers it
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["age", "city"],
}


@pytest.fixture(scope="module")
def engines():
    engines = Engines()
    yield engines
    engines.stop()


@pytest.fixture(scope="module")
def settings(module_webapp, engines):
    return f"""{texml_number(module_webapp)}
[[numbers]]
number = "{SHOP}"
account = "acme"
agent = "reception"
{engines.speech}[[agents]]
name = "reception"
prompt = "You answer the phone."
first_message = "Good morning."
silence_prompts = 0
model = {{ url = "{engines.model.url}/v1" }}
"""


@pytest.fixture(scope="module")
def server(start_tandem, module_webapp, settings):
    yield from serve(start_tandem, module_webapp, settings)


@pytest.fixture
def app(server, engines):
    engines.forget()
    app = server.telnyx_app
    yield app
    assert not app.refused


@pytest.fixture
def called(app, phone, rtp):
    return called_party(app, phone, rtp)


@pytest.fixture
def assistants(app):
    """The SDK's client.ai.assistants; what a test stores is deleted after it."""
    yield app.client.ai.assistants
    for one in app.client.ai.assistants.list().data:
        app.client.ai.assistants.delete(one.id)


def say(called, engines, words, after, seconds=1.0):
    """Hears a text out, then says something."""
    engines.ears.hears = lambda samples: words
    engines.voice.wait_until_heard(called.rtp, after)
    called.rtp.play(numpy.zeros(int(RATE * (engines.voice.seconds_of(after) + 0.5))))
    called.rtp.play(numpy.concatenate([chatter(seconds), numpy.zeros(RATE // 2)]))


def hang_up(app, called):
    app.actions.hangup(called.leg)
    called.phone.finish()


def test_assistants_are_stored_listed_changed_cloned_and_deleted(app, assistants):
    made = assistants.create(
        name="Shop", instructions="Sell bicycles.", model="reception", greeting=HELLO, description="A shop", tags=["a"],
        dynamic_variables={"name": "friend"}, tools=[{"type": "hangup", "hangup": {"description": "Say goodbye first."}}],
        voice_settings={"voice": "Telnyx.KokoroTTS.af"}, telephony_settings={"time_limit_secs": 600},
        transcription={"model": "deepgram/nova-3", "language": "en"}, enabled_features=["telephony"],
    )
    assert made.id.startswith("assistant-") and made.created_at
    assert (made.name, made.model, made.greeting, made.tags) == ("Shop", "reception", HELLO, ["a"])
    assert made.tools[0].type == "hangup" and made.telephony_settings.time_limit_secs == 600
    assert assistants.retrieve(made.id) == made
    changed = assistants.update(made.id, greeting="Hi.", description="Another shop")
    assert (changed.greeting, changed.description, changed.instructions) == ("Hi.", "Another shop", "Sell bicycles.")
    # Telnyx's samples change assistants with PATCH.
    patched = app.client.patch(f"/ai/assistants/{made.id}", cast_to=object, body={"telephony_settings": {"user_idle_reply_secs": 5}})
    assert patched["telephony_settings"] == made.telephony_settings.model_dump(exclude_unset=True) | {"user_idle_reply_secs": 5}
    copy = assistants.clone(made.id)
    assert copy.id != made.id and copy.instructions == "Sell bicycles."
    listed = assistants.list()
    assert {one.id for one in listed.data} == {made.id, copy.id}
    # Each answer is what the SDK's types say.
    AssistantsList.model_validate_json(listed.model_dump_json(), strict=False)
    InferenceEmbedding.model_validate_json(made.model_dump_json(), strict=False)
    assert f'<AIAssistant id="{made.id}">' in assistants.get_texml(made.id)
    gone = assistants.delete(copy.id)
    assert (gone.id, gone.object, gone.deleted) == (copy.id, "assistant", True)
    with pytest.raises(telnyx.NotFoundError, match="10005"):
        assistants.retrieve(copy.id)


def test_services_that_only_telnyx_hosts_are_refused_with_one_clear_error(app, assistants):
    refused = pytest.raises(telnyx.UnprocessableEntityError, match="not available on this server")
    with refused:
        app.client.ai.conversations.list()
    with refused:
        app.client.ai.conversations.insights.list()
    with refused:
        app.client.ai.assistants.tags.list()
    with refused:
        assistants.create(name="a", instructions="b", insight_settings={"insight_group_id": "1"})
    with refused:
        assistants.create(name="a", instructions="b", mcp_servers=[{"id": "1"}])
    with pytest.raises(telnyx.UnprocessableEntityError, match="The retrieval tool is not available on this server"):
        assistants.create(name="a", instructions="b", tools=[{"type": "retrieval", "retrieval": {"bucket_ids": ["a"]}}])
    with pytest.raises(telnyx.UnprocessableEntityError, match="10004"):
        assistants.create(name="a", instructions="")
    assert assistants.list().data == []


def test_a_question_goes_to_the_model_of_an_agent(app, engines):
    engines.model.answer = lambda messages: "We open at nine."
    for path in ("/ai/chat/completions", "/ai/openai/chat/completions"):
        body = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "When do you open?"}], "temperature": 0.5}
        said = app.client.post(path, cast_to=object, body=body)
        assert said["choices"][0]["message"]["content"] == "We open at nine."
    assert engines.model.asked[-1]["messages"] == body["messages"] and "model" not in engines.model.asked[-1]
    with pytest.raises(telnyx.UnprocessableEntityError, match="10038"):
        app.client.post("/ai/chat/completions", cast_to=object, body=body | {"stream": True})


def test_a_stored_assistant_talks_calls_a_web_server_and_hangs_up(app, assistants, called, engines, module_webapp):
    seen = []

    def stock():
        # The SDK checks the signature.
        app.client.webhooks.unwrap(flask.request.get_data(cache=True).decode(), headers=dict(flask.request.headers))
        seen.append((flask.request.args.to_dict(), flask.request.get_json(), flask.request.headers["X-Shop"]))
        return {"count": 3, "where": {"shelf": "B"}}

    module_webapp.on("/stock/red", stock)
    tools = [
        {"type": "hangup", "hangup": {}},
        {"type": "webhook", "timeout_ms": 3000, "webhook": {
            "name": "stock", "description": "How many bicycles there are.", "url": module_webapp.url + "/stock/{color}",
            "method": "POST", "headers": [{"name": "X-Shop", "value": "{{shop}}"}],
            "path_parameters": {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]},
            "body_parameters": {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]},
            "preset_query_params": {"caller": "{{telnyx_end_user_target}}"},
            "store_fields_as_variables": [{"name": "shelf", "value_path": "where.shelf"}],
        }},
    ]
    made = assistants.create(
        name="Shop", instructions="You work for {{shop}}. Shelf: {{shelf}}.", greeting="Hello {{name}}.",
        dynamic_variables={"shop": "Velo", "name": "friend", "shelf": "?"}, tools=tools,
    )

    def answer(messages):
        last = messages[-1]
        if last["role"] == "tool":
            return [f"We have {last['content'].count('3')} of them.", ("hangup", {})] if "count" in last["content"] else "Bye."
        return [("stock", {"color": "red", "size": 54})]

    engines.model.answer = answer
    begun = app.actions.start_ai_assistant(called.leg, assistant={"id": made.id, "dynamic_variables": {"name": "Ann"}})
    created = app.wait("call.conversation.created", called.leg)
    assert created["conversation_id"] == begun.data.conversation_id
    say(called, engines, "Do you have a red one?", "Hello Ann.")
    ended = app.wait("call.conversation.ended", called.leg)
    assert (ended["assistant_id"], ended["conversation_id"]) == (made.id, begun.data.conversation_id)
    called.phone.finish()
    app.wait("call.hangup", called.leg)
    ((query, body, shop),) = seen
    assert query["caller"].startswith("sip:") and body == {"size": 54} and shop == "Velo"
    prompts = [asked["messages"][0]["content"] for asked in engines.model.asked]
    assert prompts[0] == "You work for Velo. Shelf: ?." and prompts[1] == "You work for Velo. Shelf: B."
    assert "We have 1 of them." in engines.voice.said
    assert {tool["function"]["name"] for tool in engines.model.asked[0]["tools"]} == {"hangup", "stock"}


def test_a_call_has_one_assistant_or_conversation_relay_at_a_time(app, called, engines):
    app.actions.start_ai_assistant(called.leg, assistant={"id": "reception"})
    engines.voice.wait_until_heard(called.rtp, "Good morning.")
    for start in (
        lambda: app.actions.start_ai_assistant(called.leg, assistant={"id": "reception"}),
        lambda: app.actions.gather_using_ai(called.leg, parameters=SCHEMA),
        lambda: app.actions.start_conversation_relay(called.leg, url="ws://127.0.0.1:9/"),
    ):
        with pytest.raises(telnyx.UnprocessableEntityError, match="90061"):
            start()
    app.actions.stop_ai_assistant(called.leg)
    app.wait("call.conversation.ended", called.leg)
    app.actions.start_ai_assistant(called.leg, assistant={"id": "reception"})
    app.wait("call.conversation.created", called.leg, count=2)
    hang_up(app, called)


def test_a_greeting_waits_for_the_variables_of_a_web_server_and_is_said_once(app, assistants, called, engines, module_webapp):
    module_webapp.on("/variables", lambda: {"dynamic_variables": {"name": "nobody", "town": "Rome"}})
    made = assistants.create(
        name="Shop", instructions="x", greeting="Hello.", dynamic_variables_webhook_url=module_webapp.url + "/variables",
    )
    app.actions.start_ai_assistant(
        called.leg, greeting="Hello {{name}} in {{town}}.", send_message_history_updates=True,
        assistant={"id": made.id, "dynamic_variables": {"name": "Ann"}},
    )
    # The values of the request take precedence.
    engines.voice.wait_until_heard(called.rtp, "Hello Ann in Rome.")
    engines.model.answer = lambda messages: "Yes."
    say(called, engines, "Hello?", "Hello Ann in Rome.")
    engines.voice.wait_until_heard(called.rtp, "Yes.")
    history = app.wait("call.ai_gather.message_history_updated", called.leg, count=2)["message_history"]
    expected = [{"role": "assistant", "content": "Hello Ann in Rome."}, {"role": "user", "content": "Hello?"}]
    assert history == expected
    app.actions.stop_ai_assistant(called.leg)
    assert app.wait("call.conversation.ended", called.leg)["messages"][:2] == expected
    hang_up(app, called)


def test_messages_are_added_to_a_running_conversation(app, called, engines):
    engines.model.answer = lambda messages: "We open at nine." if messages[-1]["content"] == "When do you open?" else "Yes."
    with pytest.raises(telnyx.UnprocessableEntityError, match="no conversation with an AI assistant"):
        app.actions.add_ai_assistant_messages(called.leg, messages=[{"role": "user", "content": "x"}])
    app.actions.start_ai_assistant(called.leg, assistant={"id": "reception"})
    engines.voice.wait_until_heard(called.rtp, "Good morning.")
    app.actions.add_ai_assistant_messages(called.leg, messages=[
        {"role": "system", "content": "The shop is in Rome."}, {"role": "user", "content": "When do you open?"},
    ])
    engines.voice.wait_until_heard(called.rtp, "We open at nine.")
    told = [one["content"] for one in engines.model.asked[-1]["messages"]]
    assert told[-2:] == ["The shop is in Rome.", "When do you open?"] or "The shop is in Rome." in " ".join(told)
    hang_up(app, called)


def test_values_are_reported_as_soon_as_they_are_known(app, called, engines):
    def answer(messages):
        if messages[-1]["role"] == "tool":
            return "And where do you live?"
        text = messages[-1]["content"]
        return ("collected", {"age": 29, "city": "Paris"}) if "Paris" in text else ("collected_so_far", {"age": 29})

    engines.model.answer = answer
    app.actions.gather_using_ai(called.leg, parameters=SCHEMA, greeting="How old are you?", send_partial_results=True)
    say(called, engines, "I am 29.", "How old are you?")
    partial = app.wait("call.ai_gather.partial_results", called.leg)
    assert partial["partial_results"] == {"age": 29}
    assert partial["message_history"][0] == {"role": "assistant", "content": "How old are you?"}
    say(called, engines, "In Paris.", "And where do you live?")
    ended = app.wait("call.ai_gather.ended", called.leg)
    assert (ended["status"], ended["result"]) == ("valid", {"age": 29, "city": "Paris"})
    # The end of a gather is also the end of a conversation.
    assert app.wait("call.conversation.ended", called.leg)["messages"] == ended["message_history"]
    hang_up(app, called)


def test_an_answered_call_starts_the_assistant_that_its_dial_names(app, assistants, phone, rtp, engines):
    made = assistants.create(name="Shop", instructions="Sell bicycles.", greeting=HELLO)
    party = Party(phone, rtp, callee())
    party.leg = app.client.calls.dial(
        connection_id=CONNECTION, to=party.uri, from_=NUMBER, assistant={"id": made.id},
    ).data.call_control_id
    engines.voice.wait_until_heard(party.rtp, HELLO)
    app.wait("call.conversation.created", party.leg)
    app.actions.stop_ai_assistant(party.leg)
    assert app.wait("call.conversation.ended", party.leg)["assistant_id"] == made.id
    hang_up(app, party)
    with pytest.raises(telnyx.UnprocessableEntityError, match="There is no assistant with the id nobody"):
        app.client.calls.dial(connection_id=CONNECTION, to="sip:a@127.0.0.1:9", from_=NUMBER, assistant={"id": "nobody"})


def test_an_inbound_call_is_answered_by_an_assistant(app, server, assistants, phone, rtp, engines):
    made = assistants.create(name="Shop", instructions="Sell bicycles.", greeting=HELLO)
    party = Party(phone, rtp, caller(NUMBER, ends="wait"), target=server.sip)
    party.leg = app.wait("call.initiated", direction="incoming", state="parked")["call_control_id"]
    answered = app.actions.answer(party.leg, assistant={"id": made.id})
    assert answered.data.result == "ok"
    engines.voice.wait_until_heard(party.rtp, HELLO)
    hang_up(app, party)


def test_a_number_with_the_application_of_an_assistant_reaches_the_assistant(app, server, assistants, phone, rtp, engines):
    made = assistants.create(name="Shop", instructions="Sell bicycles.", greeting=HELLO, enabled_features=["telephony"])
    application = made.telephony_settings.default_texml_app_id
    assert application == assistants.retrieve(made.id).telephony_settings.default_texml_app_id
    copy = assistants.clone(made.id)
    assert copy.telephony_settings.default_texml_app_id != application
    # The number itself is also its id.
    assert app.client.phone_numbers.update(SHOP, connection_id=application).data.connection_id == application
    party = Party(phone, rtp, caller(SHOP, ends="wait"), target=server.sip)
    engines.voice.wait_until_heard(party.rtp, HELLO)
    app.client.phone_numbers.update(SHOP, connection_id="")
    assistants.delete(copy.id)
    with pytest.raises(telnyx.NotFoundError):
        app.client.texml_applications.retrieve(copy.telephony_settings.default_texml_app_id)
    end_calls(app)
    party.phone.finish()


def test_a_call_by_request_talks_with_an_assistant_and_its_variables(app, assistants, phone, rtp, engines):
    made = assistants.create(name="Shop", instructions="x", greeting="Hello {{name}}, \"welcome\".", dynamic_variables={"name": "?"})
    party = Party(phone, rtp, callee())
    texml = app.client.texml
    said = texml.initiate_ai_call(
        TEXML, ai_assistant_id=made.id, from_=TEXML_NUMBER, to=party.uri, ai_assistant_dynamic_variables={"name": "Ann & Bob"},
    )
    assert said.call_sid and said.from_ == TEXML_NUMBER
    engines.voice.wait_until_heard(party.rtp, 'Hello Ann & Bob, "welcome".')
    end_calls(app)
    party.phone.finish()
    with pytest.raises(telnyx.UnprocessableEntityError, match="There is no assistant with the id nobody"):
        texml.initiate_ai_call(TEXML, ai_assistant_id="nobody", from_=TEXML_NUMBER, to=party.uri)


def end_calls(app):
    """Ends the TeXML calls that run."""
    calls = app.client.texml.accounts.calls
    account = texml_account(app)
    for call in calls.retrieve_calls(account, status="in-progress").calls:
        calls.update(call.sid, account_sid=account, status="completed")


def texml_account(app):
    """The id of the account in TeXML's paths: the error for another id names it."""
    with pytest.raises(telnyx.NotFoundError) as wrong:
        app.client.texml.accounts.calls.retrieve_calls("x")
    return wrong.value.body["errors"][0]["detail"].split()[-1]


def document(body):
    return f"<Response>{body}</Response>", 200, {"Content-Type": "text/xml"}


def test_a_document_connects_a_call_with_a_stored_assistant(app, server, assistants, module_webapp, phone, rtp, engines):
    made = assistants.create(
        name="Shop", instructions="Sell bicycles.", greeting=HELLO, tools=[{"type": "hangup", "hangup": {}}],
        telephony_settings={"user_idle_timeout_secs": 1},
    )
    connect = f"<Connect action='/after_assistant'><AIAssistant id='{made.id}'></AIAssistant></Connect>"
    module_webapp.on("/voice", document(connect))
    module_webapp.on("/after_assistant", document("<Say>The document goes on.</Say><Hangup/>"))
    party = Party(phone, rtp, caller(TEXML_NUMBER, ends="wait"), target=server.sip)
    engines.voice.wait_until_heard(party.rtp, HELLO)
    (after,) = module_webapp.wait("/after_assistant")
    assert after["Reason"] == "assistant_disconnect"
    engines.voice.wait_until_heard(party.rtp, "The document goes on.")
    party.phone.finish()


def test_ai_gather_sends_the_values_to_its_action(app, server, module_webapp, phone, rtp, engines):
    import base64
    import json

    module_webapp.on("/voice", document(
        "<AIGather action='/after_ai_gather'><Greeting>How old are you, and where do you live?</Greeting>"
        f"<Parameters><![CDATA[{json.dumps(SCHEMA)}]]></Parameters><Voice name='Telnyx.NaturalHD.Astra' voice_speed='1.0'/>"
        "<MessageHistory><Message role='user'>My name is Enzo.</Message></MessageHistory>"
        "<Assistant model='openai/gpt-4' instructions='Be kind.'/></AIGather>"
    ))
    module_webapp.on("/after_ai_gather", document("<Hangup/>"))
    engines.model.answer = lambda messages: ("collected", {"age": 29, "city": "Paris"})
    party = Party(phone, rtp, caller(TEXML_NUMBER, ends="wait"), target=server.sip)
    say(party, engines, "29, in Paris.", "How old are you, and where do you live?")
    party.phone.finish()
    (after,) = module_webapp.wait("/after_ai_gather")
    decoded = lambda name: json.loads(base64.b64decode(after[name]))  # noqa: E731
    assert after["Status"] == "valid"
    assert decoded("Base64Result") == {"status": "valid", "result": {"age": 29, "city": "Paris"}}
    assert decoded("Base64MessageHistory")[1] == {"role": "user", "content": "29, in Paris."}
    assert {"AccountSid", "CallSid", "CallSidLegacy", "ConnectionId", "From", "To"} <= set(after.form)
    told = [(one["role"], one["content"]) for one in engines.model.asked[0]["messages"]]
    assert told[:2] == [("system", "Be kind."), ("user", "My name is Enzo.")]


def test_a_stored_assistant_survives_a_restart(start_tandem, module_webapp, settings, engines, phone, rtp):
    engines.forget()
    for server in serve(start_tandem, module_webapp, settings):
        made = server.telnyx_app.client.ai.assistants.create(name="Shop", instructions="x", greeting=HELLO)
        server.stop()
        for again in serve(start_tandem, module_webapp, settings, at=server.data):
            app = again.telnyx_app
            assert app.client.ai.assistants.retrieve(made.id) == made
            party = Party(phone, rtp, callee())
            leg = app.client.calls.dial(connection_id=CONNECTION, to=party.uri, from_=NUMBER, assistant={"id": made.id})
            engines.voice.wait_until_heard(party.rtp, HELLO)
            app.actions.hangup(leg.data.call_control_id)
            party.phone.finish()
            assert not app.refused
