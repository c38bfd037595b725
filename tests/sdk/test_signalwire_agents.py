"""SWML's method `ai`: agents that signalwire-sdk serves, unmodified, talk with a caller. The SDK checks signatures and tokens."""

import json
import os
import subprocess

import numpy as np
import pytest
import requests

from harness.audio import RATE, chatter
from harness.models import Engines
from harness.phone import callee, caller, free_port, until_told
from harness.resources import carrier
from harness.server import ROOT
from harness.signalwire import ACCOUNT, KEY, PROJECT, TOKEN
from harness.waiting import wait_for
from harness.webapp import WebApp

PYTHON = ROOT / ".venv-swml" / "bin" / "python"
NAMES = ["simple", "datamap", "steps", "gather", "languages", "leave", "away", "far", "own"]
NUMBERS = {name: f"+1555123010{place}" for place, name in enumerate(NAMES)}
SILENCE = np.zeros(RATE // 2)
HELLO = "Hello, how can I help?"


@pytest.fixture(scope="module")
def engines():
    all_three = Engines()
    yield all_three
    all_three.stop()


@pytest.fixture(scope="module")
def web():
    app = WebApp()
    yield app
    app.stop()


@pytest.fixture(scope="module")
def agents_port():
    return free_port()


@pytest.fixture(scope="module")
def sales_port():
    return free_port()


@pytest.fixture(scope="module")
def sdk(web, agents_port, tmp_path_factory):
    """The SDK's agents. Gives the file with their log."""
    assert PYTHON.exists(), "run scripts/test-sdk.sh install"
    log = tmp_path_factory.mktemp("agents") / "agents.log"
    program = [str(PYTHON), str(ROOT / "tests/sdk/signalwire_agents_app.py"), str(agents_port), KEY, web.url]
    with log.open("w") as out:
        running = subprocess.Popen(program, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"NO_COLOR": "1"})
    wait_for("the SDK's agents", lambda: "Uvicorn running" in log.read_text(), 60)
    yield log
    running.terminate()
    running.wait(10)


@pytest.fixture(scope="module")
def server(start_tandem, engines, web, agents_port, sales_port, sdk):
    def url(name):
        return f"{web.url}/own" if name == "own" else f"http://agent:pass%20word@127.0.0.1:{agents_port}/{name}"

    numbers = "".join(
        f'[[numbers]]\nnumber = "{number}"\naccount = "space"\nprovider = "swml"\nvoice_url = "{url(name)}"\n'
        for name, number in NUMBERS.items()
    )
    return start_tandem(f"""{ACCOUNT}
{engines.speech}timeout_seconds = 20
{carrier(sales_port, account="space")}
[[agents]]
name = "any"
prompt = "This prompt is not used."
model = {{ url = "{engines.model.url}/v1", name = "m", timeout_seconds = 5 }}
{numbers}""")


@pytest.fixture
def call(server, engines, web, phone, rtp):
    """Calls an agent: call(name) gives the phone and its audio."""
    engines.forget()
    web.forget()
    for path in ["/function", "/summary"]:
        web.on(path)

    def start(name, ends="bye"):
        media = rtp()
        steps = until_told() if ends == "bye" else ""
        handset = phone(caller(NUMBERS[name], steps, ends=ends), target=server.sip, media=media, seconds=120)
        media.wait("the call", lambda: media._remote)
        return handset, media

    return start


def says(engines, media, words, seconds=1.0):
    """The caller says these words."""
    engines.ears.hears = lambda samples: words
    media.play(np.concatenate([chatter(seconds), SILENCE]))


def listens(engines, media, words):
    """The caller hears these words of the agent, to their end."""
    engines.voice.wait_until_heard(media, words, 15)
    media.play(np.zeros(int(RATE * (engines.voice.seconds_of(words) + 0.5))))


def last(messages, role):
    """The content of the newest message of a role."""
    return next((one["content"] for one in reversed(messages) if one["role"] == role and one["content"]), "")


def tools(engines, request=-1):
    """The names of the tools that the model could use."""
    return [one["function"]["name"] for one in engines.model.asked[request].get("tools", [])]


def body(request):
    return json.loads(request.body)


def answers(**words):
    """A model that answers the last message of the caller, or the result of a tool, by a word in it."""
    def answer(messages):
        text = messages[-1]["content"] if messages[-1]["role"] in ("user", "tool") else ""
        return next((reply for word, reply in words.items() if word.lower() in text.lower()), HELLO)

    return answer


def test_a_simple_agent_greets_calls_a_function_and_reports_its_summary(server, engines, web, call):
    def answer(messages):
        if "JSON summary" in last(messages, "system") or "JSON summary" in (messages[-1]["content"] or ""):
            return '{"topic": "order 7"}'
        if messages[-1]["role"] == "tool":
            return "Your order is on its way."
        return [("order_status", {"number": 7})] if "order" in (messages[-1]["content"] or "") else HELLO

    engines.model.answer = answer
    handset, media = call("simple")
    listens(engines, media, "Welcome to the simple agent.")
    says(engines, media, "Where is order seven?")
    listens(engines, media, "Your order is on its way.")
    assert {"order_status", "check_time"} <= set(tools(engines, 0))
    assert engines.model.asked[0]["messages"][0]["content"].startswith("## Role\n\nYou are friendly. It is ")
    (request,) = web.wait("/function")
    told = body(request)
    assert told["function"] == "order_status" and told["argument"]["parsed"] == [{"number": 7}]
    company = {"company": "Tandem", "caller_id_number": told["caller_id_num"]}
    assert company.items() <= told["global_data"].items() and told["project_id"] == PROJECT
    handset.hang_up()
    (request,) = web.wait("/summary", seconds=20)
    report = body(request)
    assert report["summary"] == {"topic": "order 7"}
    raw = report["raw"]
    assert (company | {"order": 7}).items() <= raw["global_data"].items()
    assert raw["swaig_log"][0]["command_name"] == "order_status"
    roles = [one["role"] for one in raw["call_log"]]
    assert roles[0] == "system" and {"user", "assistant", "tool"} <= set(roles), raw["call_log"]


def test_a_data_map_asks_the_other_web_server_without_the_agents_server(engines, web, call):
    web.on("/weather", {"current": {"text": "sunny"}})
    engines.model.answer = answers(weather=[("weather", {"city": "New York"})], sunny="It is sunny there.")
    handset, media = call("datamap")
    listens(engines, media, HELLO)
    says(engines, media, "How is the weather?")
    listens(engines, media, "It is sunny there.")
    (request,) = web.wait("/weather")
    assert request.args["q"] in ("New York", ["New York"])
    assert engines.model.asked[-1]["messages"][-1]["content"] == "In New York it is sunny."
    handset.hang_up()


def test_a_conversation_goes_through_its_steps(engines, call):
    engines.model.answer = answers(Bo=[("next_step", {"step": "offer"})], instructions="We have a blue bicycle.")
    handset, media = call("steps")
    listens(engines, media, HELLO)
    assert "Ask for the name." in last(engines.model.asked[0]["messages"], "system")
    assert "stock" not in tools(engines, 0) and "next_step" in tools(engines, 0)
    says(engines, media, "I am Bo.")
    listens(engines, media, "We have a blue bicycle.")
    prompt = engines.model.asked[-1]["messages"][0]["content"]
    assert "Offer a bicycle." in prompt and "Ask for the name." not in prompt
    assert "stock" in tools(engines) and "next_step" not in tools(engines)
    handset.hang_up()


def test_gathered_answers_reach_the_prompt(engines, call):
    engines.model.answer = answers(Bo=[("gather_submit", {"answer": "Bo"})], stored="Thank you, Bo.")
    handset, media = call("gather")
    listens(engines, media, HELLO)
    assert tools(engines, 0) == ["gather_submit"]
    says(engines, media, "I am Bo.")
    listens(engines, media, "Thank you, Bo.")
    assert "Thank Bo." in engines.model.asked[-1]["messages"][0]["content"]
    handset.hang_up()


def test_an_agent_with_two_languages_waits_for_the_caller(engines, call):
    engines.model.answer = answers(hola="Hola amigo.")
    handset, media = call("languages")
    media.play(SILENCE)
    says(engines, media, "Hola.")
    listens(engines, media, "Hola amigo.")
    prompt = " ".join(one["content"] for one in engines.model.asked[0]["messages"] if one["role"] == "system")
    assert "Spanish" in prompt and "English" in prompt, prompt
    handset.hang_up()


def test_a_function_connects_the_caller_after_the_agents_last_words(engines, call, phone, rtp, sales_port):
    there = rtp()
    sales = phone(callee(), port=sales_port, media=there)
    engines.model.answer = answers(sales=[("connect_sales", {})], connect="I connect you now.")
    handset, media = call("leave")
    listens(engines, media, HELLO)
    says(engines, media, "Sales please.")
    listens(engines, media, "I connect you now.")
    there.wait("the call", lambda: there._remote, 15)
    handset.hang_up()
    sales.finish()


def test_after_the_document_of_a_function_the_agent_comes_back_with_its_dialogue(engines, call):
    engines.model.answer = answers(news=[("play_news", {})])
    handset, media = call("leave")
    listens(engines, media, HELLO)
    says(engines, media, "The news please.")
    engines.voice.wait_until_heard(media, "This is the news.", 15)
    engines.model.answer = lambda messages: "That was it."
    engines.voice.wait_until_heard(media, "That was it.", 15)
    dialogue = [one["content"] for one in engines.model.asked[-1]["messages"]]
    assert any("The news please." in (line or "") for line in dialogue), dialogue
    handset.hang_up()


def test_the_report_comes_also_if_the_caller_hangs_up_while_the_document_of_a_function_runs(engines, web, call):
    engines.model.answer = answers(music=[("play_long", {})], summary='{"topic": "music"}')
    handset, media = call("away")
    listens(engines, media, HELLO)
    says(engines, media, "Some music please.")
    engines.voice.wait_until_heard(media, "Music of Tandem.", 15)
    engines.model.answer = lambda messages: '{"topic": "music"}'
    handset.hang_up()
    (request,) = web.wait("/summary", seconds=20)
    report = body(request)
    assert report["summary"] == {"topic": "music"}
    raw = report["raw"]
    assert raw["global_data"]["band"] == "Tandem" and raw["call_ended_by"] == "user"
    assert raw["swaig_log"][0]["command_name"] == "play_long"
    assert any("Some music please." in one["content"] for one in raw["call_log"]), raw["call_log"]


def test_an_agent_holds_the_line_and_goes_on(engines, call):
    def answer(messages):
        if messages[-1]["role"] == "user":
            return [("hold_line", {})]
        return "Here I am again." if any(one["role"] == "tool" for one in messages) else HELLO

    engines.model.answer = answer
    handset, media = call("leave")
    listens(engines, media, HELLO)
    says(engines, media, "Please put me on hold.")
    engines.voice.wait_until_heard(media, "Here I am again.", 20)
    handset.hang_up()


def test_an_agent_hangs_up_after_its_last_words(engines, call):
    engines.model.answer = answers(over=[("finish", {})], goodbye="Goodbye then.")
    handset, media = call("leave", ends="wait")
    listens(engines, media, HELLO)
    says(engines, media, "It is over.")
    handset.finish()
    assert "Goodbye then." in engines.voice.heard(media)


def test_the_document_goes_on_when_the_agent_has_stopped(engines, call):
    engines.model.answer = answers(stop=[("leave_agent", {})])
    handset, media = call("leave", ends="wait")
    listens(engines, media, HELLO)
    says(engines, media, "Please stop.")
    handset.finish()
    assert "The agent has left." in engines.voice.heard(media)


def test_functions_of_another_server_are_asked_for_and_called(engines, web, call):
    web.on("/signatures", lambda: [{"function": "price", "description": "The price.", "web_hook_url": f"{web.url}/price"}])
    web.on("/price", {"response": "It costs nine euros."})
    engines.model.answer = answers(price=[("price", {})], nine="Nine euros.")
    handset, media = call("far")
    listens(engines, media, HELLO)
    assert body(web.wait("/signatures")[0])["functions"] == ["price"]
    says(engines, media, "What is the price?")
    listens(engines, media, "Nine euros.")
    assert body(web.wait("/price")[0])["meta_data"] == {"currency": "EUR"}
    handset.hang_up()


def own(web, *steps):
    web.on("/own", {"version": "1.0.0", "sections": {"main": list(steps)}})


def test_commands_of_the_calling_api_reach_the_agent(server, engines, web, call):
    own(web, {"ai": {"prompt": "You help."}}, {"set": {"left": "${ai_result}"}}, {"play": "say:The end."}, {"hangup": {}})
    engines.model.answer = answers(discount="There is a discount.")
    handset, media = call("own", ends="wait")
    listens(engines, media, HELLO)
    identity = body(web.wait("/own")[0])["call"]["call_id"]

    def command(name, params):
        json_body = {"command": name, "id": identity, "params": params}
        return requests.post(f"{server.http}/api/calling/calls", json=json_body, auth=(PROJECT, TOKEN), timeout=10)

    answer = command("calling.ai_message", {"role": "user", "message_text": "Tell me about the discount."})
    assert answer.ok, answer.text
    listens(engines, media, "There is a discount.")
    assert command("calling.ai_hold", {"timeout": 60}).ok
    assert command("calling.ai_unhold", {}).ok
    assert command("calling.ai.stop", {}).ok
    engines.voice.wait_until_heard(media, "The end.")
    handset.finish()
    assert command("calling.ai_message", {"role": "user", "message_text": "x"}).status_code in (404, 422)


def test_without_an_agent_in_the_configuration_an_apology_can_follow(start_tandem, web, phone, rtp, engines):
    own(web, {"ai": {"prompt": "You help."}}, {"play": "say:Sorry, ${ai_result}."}, {"hangup": {}})
    server = start_tandem(f"""{ACCOUNT}
[speech]
tts = "{engines.voice.url}/v1/audio/speech"
{carrier(free_port(), account="space")}
[[numbers]]
number = "{NUMBERS["own"]}"
account = "space"
provider = "swml"
voice_url = "{web.url}/own"
""")
    media = rtp()
    handset = phone(caller(NUMBERS["own"], ends="wait"), target=server.sip, media=media, seconds=60)
    handset.finish()
    assert "Sorry, failed." in engines.voice.heard(media)
    report = requests.get(f"{server.http}/console/errors", auth=(PROJECT, TOKEN), timeout=10)
    assert "no agent in [[agents]]" in report.text, report.text


def test_credentials_beside_the_urls_of_functions_and_reports_are_sent(engines, web, call):
    function = {"function": "price", "description": "The price.", "web_hook_url": f"{web.url}/price"}
    swaig = {"defaults": {"web_hook_auth_user": "me", "web_hook_auth_password": "p w"}, "functions": [function]}
    own(web, {"ai": {"prompt": "You help.", "SWAIG": swaig, "post_prompt": {"temperature": 0.1},
                     "post_prompt_url": f"{web.url}/report", "post_prompt_auth_user": "me", "post_prompt_auth_password": "two"}})
    web.on("/price", {"response": "It costs nine euros."})
    web.on("/report")
    engines.model.answer = answers(price=[("price", {})], nine="Nine euros.")
    handset, media = call("own")
    listens(engines, media, HELLO)
    says(engines, media, "What is the price?")
    listens(engines, media, "Nine euros.")
    handset.hang_up()
    sent = {path: web.wait(path, seconds=20)[0].headers["authorization"] for path in ("/price", "/report")}
    assert sent == {"/price": "Basic bWU6cCB3", "/report": "Basic bWU6dHdv"}


def test_a_wrong_definition_is_a_warning_and_the_document_goes_on(server, engines, web, call):
    own(web, {"ai": {"prompt": {"temperature": 1}}}, {"play": "say:No agent today."}, {"hangup": {}})
    handset, media = call("own", ends="wait")
    handset.finish()
    assert "No agent today." in engines.voice.heard(media)


def test_the_report_says_that_the_agent_ended_the_call_and_is_sent_once(engines, web, call):
    web.on("/report")
    own(web, {"ai": {"prompt": "You help.", "post_prompt": "Summarise.", "post_prompt_url": f"{web.url}/report"}})
    engines.model.answer = answers(over=[("hangup", {})])
    handset, media = call("own", ends="wait")
    listens(engines, media, HELLO)
    says(engines, media, "It is over.")
    handset.finish()
    (request,) = web.wait("/report", seconds=20)
    assert body(request)["call_ended_by"] == "assistant"


@pytest.mark.parametrize(("params", "hard"), [
    ({"attention_timeout": 0, "inactivity_timeout": 1000}, None),
    ({"hard_stop_time": "3s"}, True),
])
def test_the_document_goes_on_when_the_time_of_the_agent_is_over(engines, web, call, params, hard):
    web.on("/report")
    own(web, {"ai": {"prompt": "You help.", "params": params, "post_prompt": "Summarise.", "post_prompt_url": f"{web.url}/report"}},
        {"play": "say:The document goes on."}, {"hangup": {}})
    handset, media = call("own", ends="wait")
    listens(engines, media, HELLO)
    engines.voice.wait_until_heard(media, "The document goes on.")
    handset.finish()
    report = body(web.wait("/report", seconds=20)[0])
    assert ("call_ended_by" in report, report.get("hard_timeout")) == (False, hard)
