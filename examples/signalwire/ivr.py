"""A menu in SWML: opening hours, a person, or three tries and good bye.

PERSON  number or SIP URI of whoever answers key 2; extension 700 of a Tandem server here when not set
PORT    5000
"""

import os

from signalwire_agents import SWMLService

CREDENTIALS = "swml", "example"  # of the document's URL; SWML services always ask for some


def make(person, port):
    """The service, whose /voice is the document."""
    service = SWMLService("ivr", route="/voice", host="127.0.0.1", port=port, basic_auth=CREDENTIALS)
    again = {"transfer": {"dest": "menu"}}
    sections = {
        "main": [{"answer": {}}, {"set": {"tries": 0}}, again],
        "menu": [
            {"prompt": {"play": "say:For our opening hours, press one. For a person, press two.", "max_digits": 1, "initial_timeout": 4}},
            {"switch": {
                "variable": "prompt_value",
                "case": {
                    "1": [{"execute": {"dest": "hours", "params": {"from": "nine", "to": "five"}}}, again],
                    "2": [{"transfer": {"dest": "person"}}],
                },
                "default": [{"set": {"tries": "${vars.tries + 1}"}}],
            }},
            {"switch": {"variable": "tries", "case": {"3": [{"play": {"url": "say:Good bye."}}, {"hangup": {}}]}, "default": [again]}},
        ],
        "hours": [{"play": {"url": "say:We are open from ${params.from} to ${params.to}."}}, {"return": {}}],
        "person": [
            {"play": {"url": "say:I connect you."}},
            {"connect": {"to": person, "timeout": 20}},
            {"switch": {"variable": "connect_result", "case": {"failed": [{"play": {"url": "say:Nobody is there."}}]}, "default": []}},
            {"hangup": {}},
        ],
    }
    for section, steps in sections.items():
        service.add_section(section)
        for step in steps:
            ((method, parameters),) = step.items()
            service.add_verb_to_section(section, method, parameters)
    return service


if __name__ == "__main__":
    person = os.environ.get("PERSON", "sip:700@127.0.0.1:5060")
    make(person, int(os.environ.get("PORT", "5000"))).serve()
