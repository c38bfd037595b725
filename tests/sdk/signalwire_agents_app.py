"""Agents of signalwire-sdk, unmodified: each checks signatures and tokens itself, and reports its calls.

signalwire_agents_app.py PORT SIGNING_KEY TOLD: TOLD is the URL of the test's application, which has /weather and takes reports.
"""

import os
import sys

import requests

port, key, told = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["SWML_PROXY_URL_BASE"] = f"http://127.0.0.1:{port}"

from signalwire import AgentBase, AgentServer, FunctionResult  # noqa: E402
from signalwire.core.data_map import DataMap  # noqa: E402


def tell(path, body):
    """Reports to the test."""
    requests.post(told + path, json=body, timeout=5)


class Agent(AgentBase):
    """An agent that tells the test its summary."""

    def __init__(self, name, prompt, **more):
        super().__init__(name=name, route="/" + name, basic_auth=("agent", "pass word"), signing_key=key, **more)
        self.prompt_add_section("Role", prompt)
        self.set_params({"ai_model": "gpt-4o-mini"})

    def on_summary(self, summary, raw_data=None):
        tell("/summary", {"summary": summary, "raw": raw_data})


simple = Agent("simple", "You are friendly. It is ${time_of_day}.")
simple.set_params({"ai_model": "gpt-4o-mini", "static_greeting": "Welcome to the simple agent."})
simple.set_global_data({"company": "Tandem"})
simple.set_post_prompt('Return a JSON summary: {"topic": "..."}')
simple.add_hints(["Tandem"])
simple.add_pronunciation("API", "A P I")
simple.set_native_functions(["check_time"])


@simple.tool(name="order_status", description="The state of an order.", fillers={"en-US": ["Let me look that up."]},
             parameters={"number": {"type": "integer", "description": "The number of the order."}})
def order_status(args, raw_data):
    """A function with a result and data."""
    tell("/function", raw_data)
    return FunctionResult(f"Order {args['number']} is on its way.").update_global_data({"order": args["number"]})


datamap = Agent("datamap", "You know the weather.")
datamap.register_swaig_function(
    DataMap("weather").purpose("The weather of a city.").parameter("city", "string", "The city.", required=True)
    .webhook("GET", told + "/weather?q=${enc:args.city}")
    .output(FunctionResult("In ${input.args.city} it is ${current.text}."))
    .fallback_output(FunctionResult("There is no weather.")).to_swaig_function())

steps = Agent("steps", "You sell bicycles.")
context = steps.define_contexts().add_context("default")
context.add_step("greet").set_text("Ask for the name.").set_step_criteria("The caller has said the name.").set_functions("none")
context.add_step("offer").set_text("Offer a bicycle.").set_functions(["stock"]).set_valid_steps([])


@steps.tool(name="stock", description="The bicycles in stock.", parameters={})
def stock(args, raw_data):
    """A function of the second step."""
    return FunctionResult("There is one blue bicycle.")


gather = Agent("gather", "You are a clerk.")
step = gather.define_contexts().add_context("default").add_step("ask").set_text("Thank ${profile.name}.")
step.set_gather_info(output_key="profile").add_gather_question("name", "What is your name?")

languages = Agent("languages", "You speak two languages.")
languages.set_params({"wait_for_user": True})
languages.add_language("English", "en-US", "rime.spore")
languages.add_language("Spanish", "es", "rime.luna")

leave = Agent("leave", "You connect callers.")


@leave.tool(name="connect_sales", description="Connects the caller with sales.", parameters={})
def connect_sales(args, raw_data):
    """A transfer after the agent has said so."""
    return FunctionResult("Say that you connect the caller.", post_process=True).connect("+15551230900", final=True)


@leave.tool(name="play_news", description="Plays the news.", parameters={})
def play_news(args, raw_data):
    """A document after which the agent comes back."""
    document = {"version": "1.0.0", "sections": {"main": [{"play": {"url": "say:This is the news."}}]}}
    return FunctionResult("The news was played.").update_global_data({"news": True}).execute_swml(document)


@leave.tool(name="hold_line", description="Puts the caller on hold.", parameters={})
def hold_line(args, raw_data):
    """A short hold."""
    return FunctionResult("The hold is over.").hold(1)


@leave.tool(name="finish", description="Ends the call.", parameters={})
def finish(args, raw_data):
    """The agent hangs up."""
    return FunctionResult("Say goodbye.", post_process=True).hangup()


@leave.tool(name="leave_agent", description="Ends the conversation.", parameters={})
def leave_agent(args, raw_data):
    """The document goes on behind the agent."""
    return FunctionResult("Stopped.").stop()


leave.add_post_ai_verb("play", {"url": "say:The agent has left."})
leave.add_post_ai_verb("hangup", {})

away = Agent("away", "You play music.")
away.set_post_prompt("Return a JSON summary.")


@away.tool(name="play_long", description="Plays music.", parameters={})
def play_long(args, raw_data):
    """A document, and actions behind it."""
    document = {"version": "1.0.0", "sections": {"main": [{"play": {"url": "say:Music of ${global_data.band}."}}, {"sleep": 600_000}]}}
    return FunctionResult("The music was played.").execute_swml(document).update_global_data({"band": "Tandem"})


far = Agent("far", "You have functions of another server.")
far.add_function_include(told + "/signatures", ["price"], {"currency": "EUR"})

server = AgentServer(host="127.0.0.1", port=port, log_level="info")
for agent in (simple, datamap, steps, gather, languages, leave, away, far):
    server.register(agent)
server.run()
