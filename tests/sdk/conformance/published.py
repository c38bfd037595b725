#!/usr/bin/env python3
"""What the published OpenAPI documents say of each operation, in short: operations.json.

    tests/sdk/conformance/published.py DIRECTORY    writes operations.json anew from the documents there

A shape says of each key of an answer what its value is: a JSON type, `object:a|b` with these keys, `sid:CA`, `rfc2822`,
`iso8601`, `uris:a|b` (these names, each with a path), `numeric` (a number, also as text), or `one:a|b|c`. Every value may be null,
but for keys with a `!`. A key with a `?` is in the schema and not in the example: it may be missing.
"""

import json
import re
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("operations.json")
DOCUMENTS = {"api": "twilio_api_v2010.json", "trunking": "twilio_trunking_v1.json"}
METHODS = ("get", "post", "delete")

# Which part of the API a path belongs to: the first that matches.
GROUPS = [
    ("Refused", r"/(Messages|SMS|ConnectApps|AuthorizedConnectApps|Payments|AssignedAddOns|AddOnResults)\b"),
    ("Trunking", r"^/v1/"),
    ("SIP", r"/SIP/"),
    ("Usage", r"/Usage/"),
    ("Queues", r"/Queues\b"),
    ("Conferences", r"/Conferences\b"),
    ("Numbers", r"/(IncomingPhoneNumbers|AvailablePhoneNumbers|OutgoingCallerIds|Applications)\b"),
    ("Calls", r"/Calls\b"),
    ("Recordings", r"/(Recordings|Transcriptions)\b"),
    ("Notifications", r"/Notifications\b"),
    ("Accounts", r""),
]
# Of an answer that has them, these always say something where the examples do.
SAID = {"sid", "account_sid", "uri", "url", "status", "api_version", "subresource_uris", "links"}
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def read(directory):
    """The table of the documents in a directory."""
    shapes, operations = {}, {}
    for product, file in DOCUMENTS.items():
        document = json.loads((Path(directory) / file).read_text())
        for path, item in document["paths"].items():
            for method in METHODS:
                if method in item:
                    name, one = _operation(document, shapes, path, method, item[method])
                    operations[name if product == "api" else f"Trunking{name}"] = {"product": product} | one
    return {"shapes": shapes, "operations": operations}


def write(table):
    """Writes operations.json, a line a shape and a line an operation."""
    parts = []
    for name, entries in table.items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(entries.items()))
        parts.append(f' "{name}": {{\n{lines}\n }}')
    TABLE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def load():
    """The table as it is kept."""
    return json.loads(TABLE.read_text())


def _operation(document, shapes, path, method, said):
    name = said["operationId"]
    group = next(group for group, pattern in GROUPS if re.search(pattern, path))
    one = {"group": group, "method": method.upper(), "path": path}
    # The highest of those that say it went well: of 200 and 201 real answers to POST have the latter.
    status = max(status for status in said["responses"] if status < "400")
    one["status"] = int(status)
    content = said["responses"][status].get("content", {}).get("application/json")
    if content:
        schema = _resolved(document, content["schema"])
        values = [example["value"] for example in content.get("examples", {}).values()]
        properties = schema.get("properties", {})
        lists = [key for key, value in properties.items() if value.get("type") == "array"]
        if name.startswith("List"):
            (one["list"],) = lists
            rows = properties[one["list"]]["items"]
            values = [row for value in values for row in value[one["list"]]]
            envelope = {key for example in content["examples"].values() for key in example["value"]}
            if "meta" not in envelope and "page" not in envelope:
                one["unpaged"] = True
            reference, properties = rows.get("$ref", name), _resolved(document, rows)["properties"]
        else:
            reference = content["schema"].get("$ref", name)
        shape = {key: _value(document, key, value, values) for key, value in sorted(properties.items())}
        one["shape"] = _named(shapes, reference.split(".")[-1].split("/")[-1].replace("-instance", ""), shape)
    return name, one


def _named(shapes, name, shape):
    """The name of this very shape: several schemas may share a word."""
    names = [name, *(f"{name}.{number}" for number in range(2, 20))]
    for one in names:
        if shapes.setdefault(one, shape) == shape:
            return one
    raise AssertionError(name)


def _value(document, key, schema, examples):
    schema = _resolved(document, schema)
    given = [example[key] for example in examples if key in example]
    said = [value for value in given if value is not None]
    kind = schema.get("type", "any")
    form, pattern = schema.get("format", ""), schema.get("pattern", "")
    if form == "date-time-rfc-2822":
        kind = "rfc2822"
    elif form == "date-time":
        kind = "iso8601"
    elif form == "uri-map":
        kind = "uris"
    elif found := re.fullmatch(r"\^([A-Z]{2})\[0-9a-fA-F\]\{32\}\$", pattern):
        kind = f"sid:{found[1]}"
    elif "enum" in schema:
        kind = "one:" + "|".join(str(one) for one in schema["enum"] if one is not None)
    elif kind == "number":
        # Where examples have one it is text; SDKs take both.
        kind = "numeric"
    elif kind == "any" and said:
        kind = JSON_TYPES[type(said[0])]
    if kind in ("uris", "object") and (keys := {key for value in said for key in value}):
        kind += ":" + "|".join(sorted(keys))
    if not given:
        return kind + "?"
    always = key in SAID and len(said) == len(examples)
    return kind + ("!" if always else "")


def _resolved(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].split("/")[-1]]
    return schema


if __name__ == "__main__":
    write(read(sys.argv[1]))
