#!/usr/bin/env python3
"""What Telnyx's published document says may be set of each resource: the settings that control/telnyx checks and shows.

    tests/sdk/conformance/telnyx_settings.py DIRECTORY    writes control/telnyx/rest/resources/settings.json anew
"""

import json
import sys
from pathlib import Path

TABLE = Path(__file__).parents[3] / "control/telnyx/rest/resources/settings.json"
# Each resource by the operation whose body has its settings.
RESOURCES = {
    "call_control_application": ("/call_control_applications/{id}", "patch"),
    "outbound_voice_profile": ("/outbound_voice_profiles", "post"),
    "telephony_credential": ("/telephony_credentials", "post"),
    "credential_connection": ("/credential_connections", "post"),
    "fqdn_connection": ("/fqdn_connections", "post"),
    "ip_connection": ("/ip_connections", "post"),
    "fqdn": ("/fqdns", "post"),
    "ip": ("/ips", "post"),
    "phone_number": ("/phone_numbers/{id}", "patch"),
    "voice_settings": ("/phone_numbers/{id}/voice", "patch"),
}
# Taken too, as the answer has them.
ALSO = {"fqdn_connection": {"user_name": {"type": "string"}, "password": {"type": "string"}}}
BOUNDS = {"minimum": "min", "maximum": "max", "minLength": "shortest", "maxLength": "longest"}


def resolved(document, schema):
    """A schema without references, its parts put together."""
    while "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        schema = document["components"]["schemas"][name]
    whole = dict(schema)
    for part in whole.pop("allOf", []):
        part = resolved(document, part)
        whole["properties"] = whole.get("properties", {}) | part.get("properties", {})
        whole["required"] = [*whole.get("required", []), *part.get("required", [])]
        whole.setdefault("type", part.get("type", "object"))
    return whole


def members(document, schema):
    """The settings of an object, by name."""
    schema = resolved(document, schema)
    required = set(schema.get("required", []))
    said = {}
    for name, one in sorted(schema.get("properties", {}).items()):
        one = resolved(document, one)
        if not one.get("readOnly"):
            said[name] = setting(document, one) | ({"required": True} if name in required else {})
    return said


def setting(document, schema):
    kinds = schema.get("type", "string")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    said = {"type": next(kind for kind in kinds if kind != "null")}
    if said["type"] == "object":
        return said | {"members": members(document, schema)}
    if said["type"] == "string" and schema.get("format") in ("uri", "url"):
        said["type"] = "url"
    if said["type"] == "array":
        words = resolved(document, schema.get("items", {})).get("enum")
        if words:
            said["words"] = words
    if "enum" in schema:
        said["words"] = [word for word in schema["enum"] if word is not None]
    said |= {ours: schema[theirs] for theirs, ours in BOUNDS.items() if theirs in schema}
    default = schema.get("default")
    if default not in (None, "null", "", []):
        said["default"] = default
    return said


def main():
    document = json.loads((Path(sys.argv[1]) / "telnyx_voice.json").read_text())
    table = {}
    for name, (path, method) in RESOURCES.items():
        body = document["paths"][path][method]["requestBody"]
        while "$ref" in body:
            body = document["components"]["requestBodies"][body["$ref"].rsplit("/", 1)[-1]]
        table[name] = members(document, body["content"]["application/json"]["schema"]) | ALSO.get(name, {})
    resources = []
    for name, settings in table.items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in settings.items())
        resources.append(f" {json.dumps(name)}: {{\n{lines}\n }}")
    TABLE.write_text("{\n" + ",\n".join(resources) + "\n}\n")


if __name__ == "__main__":
    main()
