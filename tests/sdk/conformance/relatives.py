#!/usr/bin/env python3
"""What the published documents of the family's other members say of each operation, in short: signalwire.json, telnyx.json and
texml.json; and of Telnyx's webhooks, telnyx_webhooks.json, and the parameters of its
commands, telnyx_parameters.json.

    tests/sdk/conformance/relatives.py DIRECTORY    writes them anew from the documents there (wants PyYAML)

Shapes are as in published.py. Of SignalWire a key with a `?` is not required; so it is of Telnyx where a schema requires any key.
Of the other schemas there, and of TeXML's, which require none, each key is to be there.
"""

import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
METHODS = ("get", "post", "put", "patch", "delete")

# Which part of the API a path belongs to: the first that matches. "Refused" is out of scope.
GROUPS = {
    "signalwire": [
        ("Refused", r"/(Faxes|LamlBins|Messages|ImportedPhoneNumbers|tokens)\b"),
        ("Queues", r"/Queues\b"),
        ("Conferences", r"/Conferences\b"),
        ("Numbers", r"/(IncomingPhoneNumbers|AvailablePhoneNumbers|Applications)\b"),
        ("Calls", r"/Calls\b"),
        ("Recordings", r"/(Recordings|Transcriptions)\b"),
        ("Accounts", r""),
    ],
    "telnyx": [
        ("Commands", r"^/calls/{call_control_id}/actions/"),
        ("Calls", r"^/(calls|call_events)\b|/active_calls$"),
        ("Conferences", r"^/conferences\b"),
        ("Queues", r"^/queues\b"),
        ("Recordings", r"^/(recordings|recording_transcriptions|custom_storage_credentials)\b"),
        ("Media", r"^/media\b"),
        ("Numbers", r"^/phone_numbers\b"),
        ("Credentials", r"^/telephony_credentials\b"),
        ("Profiles", r"^/outbound_voice_profiles\b"),
        ("Applications", r"^/call_control_applications\b"),
        ("Connections", r"^/(\w+_)?connections\b|^/(fqdns|ips)\b"),
    ],
    "texml": [
        ("Refused", r"/secrets\b"),
        ("Applications", r"/texml_applications\b"),
        ("Queues", r"/Queues\b"),
        ("Conferences", r"/Conferences\b"),
        ("Calls", r"/(Calls|ai_calls)\b"),
        ("Recordings", r""),
    ],
}
LISTS = {
    *("accounts", "applications", "available_phone_numbers", "calls", "conferences", "countries", "data"),
    *("incoming_phone_numbers", "participants", "queue_members", "queues", "recordings", "transcriptions"),
}


def read(member, directory):
    """The operations of a member's document in a directory, by name."""
    document = _document(member, Path(directory))
    operations = {}
    for path, item in document["paths"].items():
        if member != "signalwire" and ("texml" in path) != (member == "texml"):
            continue
        for method in METHODS:
            if method in item:
                operations[item[method]["operationId"]] = _operation(member, document, path, method, item[method])
    return operations


def webhooks(directory):
    """The payloads of Telnyx's webhooks, by the type of the event."""
    document, kinds = _document("telnyx", Path(directory)), {}
    for item in document["webhooks"].values():
        event, _ = _members(document, item["post"]["requestBody"]["content"]["application/json"]["schema"])
        if "data" in event:
            event, _ = _members(document, event["data"])
        payload, _ = _members(document, event["payload"])
        name = _resolved(document, event["event_type"])["enum"][0]
        kinds[name] = {key: _kind(document, value) for key, value in sorted(payload.items())}
    return kinds


def parameters(directory):
    """What the commands of Telnyx's calls and conferences take, by operation; what an object in them takes, as `object.name`."""
    document, commands = _document("telnyx", Path(directory)), {}
    for path, item in document["paths"].items():
        for method, said in item.items():
            if method not in METHODS or not re.search(r"^/calls$|^/conferences$|/actions/|/participants/", path) or "texml" in path:
                continue
            if not path.startswith(("/calls", "/conferences")) or "requestBody" not in said:
                continue
            content = _resolved(document, said["requestBody"])["content"]["application/json"]
            taken, _ = _members(document, content["schema"])
            names = set(taken)
            for name in ("conference_config", "answering_machine_detection_config"):
                if name in taken:
                    names |= {f"{name}.{inner}" for inner in _members(document, taken[name])[0]}
            commands[said["operationId"]] = sorted(names)
    return commands


def load(member):
    """The table as it is kept."""
    return json.loads((FOLDER / f"{member}.json").read_text())


def write(member, operations):
    """A line an operation."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(operations.items()))
    (FOLDER / f"{member}.json").write_text("{\n" + lines + "\n}\n")


def _document(member, directory):
    if member != "signalwire":
        return json.loads((directory / "telnyx_voice.json").read_text())
    import yaml

    return yaml.safe_load((directory / "signalwire_compatibility.yaml").read_text())


def _operation(member, document, path, method, said):
    group = next(group for group, pattern in GROUPS[member] if re.search(pattern, path))
    status = min(status for status in said["responses"] if status.startswith("2"))
    one = {"group": group, "method": method.upper(), "path": path, "status": int(status)}
    content = _resolved(document, said["responses"][status]).get("content", {}).get("application/json")
    if content and status != "204":
        properties, required = _members(document, content["schema"])
        lists = [key for key in properties if key in LISTS and _kind(document, properties[key]) == "array"]
        wrapped = "data" in properties and "data" not in lists
        if wrapped:
            properties, required = _members(document, properties["data"])
            one["wrapped"] = True
        elif lists:
            # TeXML's list of a conference's recordings has an empty one of participants beside it.
            one["list"] = lists[-1] if lists[-1] in path.lower() or len(lists) == 1 else lists[0]
            one["envelope"] = sorted(set(properties) - set(lists))
            properties, required = _members(document, _resolved(document, properties[one["list"]])["items"])
        says = member == "signalwire" or (member == "telnyx" and required)
        optional = lambda key: "?" if says and key not in required else ""
        one["shape"] = {key: _kind(document, value) + optional(key) for key, value in sorted(properties.items())}
    return one


def _members(document, schema):
    """An object's properties, and those that it requires."""
    schema = _resolved(document, schema)
    properties, required = dict(schema.get("properties", {})), set(schema.get("required", []))
    for part in schema.get("allOf", []):
        more, needed = _members(document, part)
        properties, required = properties | more, required | needed
    return properties, required


def _kind(document, schema):
    schema = _resolved(document, schema)
    for word in ("anyOf", "oneOf", "allOf"):
        kinds = {_kind(document, one) for one in schema.get(word, [])} - {"null"}
        if kinds:
            return kinds.pop() if len(kinds) == 1 else "any"
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if "enum" in schema and kind == "string":
        return "one:" + "|".join(str(one) for one in schema["enum"] if one is not None)
    if schema.get("format") == "date-time" and kind == "string":
        return "iso8601"
    return kind


def _resolved(document, schema):
    while "$ref" in schema:
        place = document
        for step in schema["$ref"].split("/")[1:]:
            place = place[step]
        schema = place
    return schema


if __name__ == "__main__":
    for member in GROUPS:
        write(member, read(member, sys.argv[1]))
    write("telnyx_webhooks", webhooks(sys.argv[1]))
    write("telnyx_parameters", parameters(sys.argv[1]))
