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
from harness.telnyx_app import CONNECTION, NUMBER, TEXML_NUMBER, called_party, serve, texml_number

HELLO = "Good evening, this is the bicycle shop."
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


def test_assistants_are_stored_listed_changed_cloned_and_deleted(assistants):
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
        assistants.create(name="a", instructions="b", insight_settings={"insight_group_id": "1"})
    with refused:
        assistants.create(name="a", instructions="b", mcp_servers=[{"id": "1"}])
    with pytest.raises(telnyx.UnprocessableEntityError, match="The retrieval tool is not available on this server"):
        assistants.create(name="a", instructions="b", tools=[{"type": "retrieval", "retrieval": {"bucket_ids": ["a"]}}])
    with pytest.raises(telnyx.UnprocessableEntityError, match="10004"):
        assistants.create(name="a", instructions="")
    assert assistants.list().data == []


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


def document(body):
    return f"<Response>{body}</Response>", 200, {"Content-Type": "text/xml"}


def test_a_document_connects_a_call_with_a_stored_assistant(app, server, assistants, module_webapp, phone, rtp, engines):
    made = assistants.create(
        name="Shop", instructions="Sell bicycles.", greeting=HELLO, tools=[{"type": "hangup", "hangup": {}}],
        telephony_settings={"user_idle_timeout_secs": 1},
    )
    connect = f"<Connect action='/after_assistant'><AIAssistant id='{made.id}'></AIAssistant></Connect>"
    module_webapp.on("/voice", document(connect))
    module_webapp.on("/after_assistant", document("<Hangup/>"))
    party = Party(phone, rtp, caller(TEXML_NUMBER, ends="wait"), target=server.sip)
    engines.voice.wait_until_heard(party.rtp, HELLO)
    party.phone.finish()
    (after,) = module_webapp.wait("/after_assistant")
    assert after["Reason"] in ("assistant_disconnect", "customer_disconnect")


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
