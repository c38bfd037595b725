"""Calls operations of SignalWire's Compatibility API, of Telnyx's and of TeXML's, and keeps what is wrong with each answer; as
run.py does for Twilio."""

import re
from collections import defaultdict
from email.utils import parsedate_to_datetime

import requests

from harness.waiting import poll

from . import relatives
from .run import Answer, fits

NOBODY = "00000000-0000-4000-8000-000000000000"
ENVELOPES = {"signalwire": "/api/laml/2010-04-01", "telnyx": "/v2", "texml": "/v2"}


class Run:
    """Operations called so far. `deviations` are those that are meant: {(key, what is wrong with it): why}."""

    def __init__(self, member, server, account, deviations, **login):
        self.operations = relatives.load(member)
        self.called = defaultdict(list)
        self.deviations, self.met = deviations, set()
        self._base, self.account = server.http + ENVELOPES[member], account
        self._session = requests.Session()
        self._session.auth = login.get("auth")
        self._session.headers.update(login.get("headers", {}))
        self._json = member != "signalwire"

    def do(self, operation, parameters=(), **path):
        """Calls it with `path` for the names in its path, and holds the answer against what is published."""
        said = self.operations[operation]
        response = self._send(said, parameters, path)
        wrong = [one for one in self._wrong(said, response) if not self._meant(one)]
        self.called[operation] += [one for one in wrong if one not in self.called[operation]]
        body = _json(response)
        data = body.get("data", body)
        return Answer(data if isinstance(data, dict) else {})

    def rows(self, operation, parameters=(), **path):
        """The rows of a list, judged, once there are any."""
        published = self.operations[operation]
        found = poll(lambda: _json(self._send(published, parameters, path)).get(published["list"]))
        self.do(operation, parameters, **path)
        return [Answer(row) for row in found or []]

    def becomes(self, operation, *states, seconds=15, **path):
        """Calls it until its status is one of these."""
        answers = []

        def has_become():
            answers.append(self.do(operation, **path))
            return answers[-1].get("status") in states

        poll(has_become, seconds)
        return answers[-1]

    def of(self, group):
        """The names of a group's operations."""
        return [name for name, said in self.operations.items() if said["group"] == group]

    def faults(self, group):
        """What is wrong with each operation of a group."""
        return {name: self.called.get(name, ["never called"]) for name in self.of(group)}

    def refusal(self, operation):
        """Status and body of an operation about nobody in particular."""
        response = self._send(self.operations[operation], {}, {})
        return response.status_code, _json(response)

    def is_served(self, operation):
        """Whether there is such an operation, to judge by Telnyx's errors. Where a path has any, a method that none has (TRACE)
        gets another error than where it has none."""
        said = self.operations[operation]
        response = self._send(said, {}, {})
        code = _json(response).get("errors", [{}])[0].get("code")
        if (response.status_code, code) in ((405, "10030"), (422, "10038")):
            return False
        return response.status_code != 404 or self._send(said | {"method": "TRACE"}, {}, {}).status_code != 404

    def _send(self, said, parameters, path):
        filled = said["path"]
        own = {"AccountSid": self.account, "account_sid": self.account}
        if filled == "/Accounts/{Sid}":
            own["Sid"] = self.account
        for name in re.findall(r"{(\w+)}", filled):
            filled = filled.replace("{%s}" % name, str(path.get(name, own.get(name, NOBODY))))
        changes = said["method"] in ("POST", "PUT", "PATCH")
        where = "params" if not changes else "json" if self._json else "data"
        if changes and self._json:
            parameters = dict(parameters)
        url = self._base + filled
        return self._session.request(said["method"], url, timeout=30, allow_redirects=False, **{where: parameters})

    def _wrong(self, said, response):
        if response.status_code != said["status"]:
            return [f"status: {said['status']} expected, not {response.status_code}"] + (
                [response.text[:200]] if response.status_code >= 400 else self._judged(said, response)
            )
        return ["204 with a body"] * bool(response.content) if said["status"] == 204 else self._judged(said, response)

    def _judged(self, said, response):
        body = _json(response)
        if "shape" not in said:
            return []
        if "list" not in said:
            return against(said["shape"], body.get("data", {}) if said.get("wrapped") else body)
        rows = body.get(said["list"])
        if not isinstance(rows, list):
            return [f"no list {said['list']}"]
        wrong = [f"envelope {key}: missing" for key in said["envelope"] if key not in body]
        wrong += [f"envelope {key}: not published" for key in set(body) - set(said["envelope"]) - {said["list"]}]
        if not rows:
            wrong.append("an empty list shows nothing: the run is to make one first")
        return wrong + [one for row in rows for one in against(said["shape"], row)]

    def _meant(self, wrong):
        """Whether this is one of the deviations that the test lists."""
        found = [key for key in self.deviations if re.match(key, wrong)]
        self.met.update(found)
        return bool(found)


def against(shape, body):
    """What is wrong with an answer: `key: what`."""
    if not isinstance(body, dict):
        return ["not an object"]
    wrong = [f"{key}: missing" for key, kind in shape.items() if key not in body and not kind.endswith("?")]
    for key, value in body.items():
        kind = shape.get(key)
        if kind is None:
            wrong.append(f"{key}: not published")
        elif value is not None and not suits(kind.rstrip("?"), value):
            wrong.append(f"{key}: not {kind.rstrip('?')}: {value!r}")
        elif isinstance(value, str) and kind.startswith("string") and key in ("date_created", "date_updated", "start_time", "end_time"):
            try:
                parsedate_to_datetime(value)
            except ValueError:
                if not re.match(r"\d{4}-\d\d-\d\dT", value):
                    wrong.append(f"{key}: no date: {value!r}")
    return wrong


def suits(kind, value):
    """As fits(), but that a time may have fractions of a second, as the published kind has it (RFC 3339)."""
    if kind == "iso8601" and isinstance(value, str):
        value = re.sub(r"\.\d+Z$", "Z", value)
    return fits(kind, value)


def _json(response):
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
