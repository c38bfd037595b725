"""Calls operations of a server, by their published names, and keeps what is wrong with each answer."""

import re
from collections import defaultdict
from datetime import datetime
from email.utils import parsedate_to_datetime

import requests

from . import published

ENVELOPE = {
    "end": int,
    "first_page_uri": str,
    "next_page_uri": (str, type(None)),
    "page": int,
    "page_size": int,
    "previous_page_uri": (str, type(None)),
    "start": int,
    "uri": str,
}
META = {
    "first_page_url": str,
    "key": str,
    "next_page_url": (str, type(None)),
    "page": int,
    "page_size": int,
    "previous_page_url": (str, type(None)),
    "url": str,
}
NOBODY = "XX" + "0" * 32
HOSTS = {"api": "api.twilio.com", "trunking": "trunking.twilio.com"}
# What the SDKs of today read, and the published document does not have yet.
NEWER = {"call": {"stir_verstat"}} | {f"incoming_phone_number_{kind}": {"type"} for kind in ("local", "mobile", "toll_free")}
ERROR = {"code": int, "message": str, "more_info": str, "status": int}


class Run:
    """Operations called so far: `called[name]` is the list of what was wrong, empty if nothing was."""

    def __init__(self, server):
        self.table = published.load()
        self.called = defaultdict(list)
        self._server = server
        self._session = requests.Session()
        self._session.auth = (server.account_sid, server.auth_token)

    def do(self, operation, parameters=(), **path):
        """Calls it with `path` for the names in its path, and holds the answer against what is published. Gives the answer's
        JSON, or an `Answer` with nothing in it, so that what comes next goes on and fails by itself."""
        said = self.table["operations"][operation]
        response = self._send(said, parameters, path)
        wrong = self._wrong(said, response)
        self.called[operation] += [one for one in wrong if one not in self.called[operation]]
        return Answer(_json(response) if response.status_code == said["status"] else {})

    def rows(self, operation, parameters=(), path=()):
        """A list's first page as it is, unjudged; None if there is no such list."""
        said = self.table["operations"][operation]
        return _json(self._send(said, parameters, dict(path))).get(said["list"])

    def refused(self, operation, status, code, parameters=()):
        """Calls it about nobody in particular, and expects this error, in the API's form."""
        response = self._send(self.table["operations"][operation], parameters, {})
        body = _json(response)
        wrong = _differences(ERROR, body)
        if (response.status_code, body.get("code"), body.get("status")) != (status, code, status):
            wrong.append(f"{status} {code} expected, not {response.status_code} {response.text[:160]}")
        self.called[operation] += wrong

    def of(self, group):
        """The names of a group's operations."""
        return [name for name, said in self.table["operations"].items() if said["group"] == group]

    def faults(self, operation):
        """What is wrong with it; None if it was never called."""
        return self.called.get(operation)

    def _send(self, said, parameters, path):
        filled = said["path"]
        for name in re.findall(r"{(\w+)}", filled):
            value = path.get(name, self._server.account_sid if name == "AccountSid" else NOBODY)
            filled = filled.replace("{%s}" % name, str(value))
        where = "data" if said["method"] == "POST" else "params"
        headers = {"Host": HOSTS[said["product"]]}
        url = self._server.http + filled
        return self._session.request(
            said["method"], url, headers=headers, timeout=30, allow_redirects=False, **{where: parameters}
        )

    def _wrong(self, said, response):
        if response.status_code != said["status"]:
            return [f"{said['status']} expected, not {response.status_code}: {response.text[:160]}"]
        if said["status"] == 204:
            return ["204 with a body"] if response.content else []
        if not response.headers.get("Content-Type", "").startswith("application/json"):
            return [f"Content-Type: {response.headers.get('Content-Type')}"]
        body = _json(response)
        shape = dict.fromkeys(NEWER.get(said["shape"].split(".")[0], ()), "any?") | self.table["shapes"][said["shape"]]
        if "list" not in said:
            return against(shape, body)
        rows = body.get(said["list"])
        if not isinstance(rows, list):
            return [f"no list {said['list']}"]
        envelope = {key: value for key, value in body.items() if key != said["list"]}
        if said.get("unpaged"):
            wrong = _differences({"uri": str}, envelope)
        elif said["product"] == "api":
            wrong = _differences(ENVELOPE, envelope)
            wrong += [f"{key} is absolute" for key, value in envelope.items() if str(value).startswith("http")]
        else:
            wrong = _differences({"meta": dict}, envelope) or _differences(META, envelope["meta"])
        if not rows:
            wrong.append("an empty list shows nothing: the run is to make one first")
        return wrong + [f"{said['list']}: {one}" for row in rows for one in against(shape, row)]


class Answer(dict):
    """An answer's JSON. What is not in it is a SID of nobody."""

    def __missing__(self, key):
        return NOBODY


def against(shape, body):
    """What is wrong with an answer, as a list of words."""
    if not isinstance(body, dict):
        return ["not an object"]
    wrong = [f"{key} is missing" for key, kind in shape.items() if key not in body and not kind.endswith("?")]
    for key, value in body.items():
        kind = shape.get(key)
        if kind is None:
            wrong.append(f"{key} is not published")
        elif value is None and kind.endswith("!"):
            wrong.append(f"{key} is null")
        elif value is not None and not fits(kind.rstrip("!?"), value):
            wrong.append(f"{key} is not {kind}: {value!r}")
    return wrong + _misplaced(body)


def _misplaced(body):
    """Where an answer says that it is."""
    uri, url, sid = body.get("uri"), body.get("url"), body.get("sid", "")
    wrong = []
    if isinstance(uri, str) and not (uri.startswith("/2010-04-01/Accounts") and ".json" in uri and sid in uri):
        wrong.append(f"uri is {uri}")
    if isinstance(url, str) and not (url.startswith("http") and sid in url):
        wrong.append(f"url is {url}")
    return wrong


def fits(kind, value):
    """Whether a value that is not null is of a kind (see published.py)."""
    kind, _, detail = kind.partition(":")
    words = detail.split("|") if detail else []
    match kind:
        case "any":
            return True
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "numeric":
            return fits("number", value) or isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict) and set(words) <= set(value)
        case "uris":
            return isinstance(value, dict) and set(words) <= set(value) and all(isinstance(one, str) for one in value.values())
        case "sid":
            # Fields that name another resource are empty where there is none.
            return value == "" or isinstance(value, str) and re.fullmatch(detail + "[0-9a-f]{32}", value) is not None
        case "one":
            return value in words
        case "rfc2822":
            return isinstance(value, str) and _is_rfc2822(value)
        case "iso8601":
            return isinstance(value, str) and _is_iso8601(value)
    raise AssertionError(kind)


def _is_rfc2822(text):
    try:
        return parsedate_to_datetime(text).strftime("%a, %d %b %Y %H:%M:%S +0000") == text
    except ValueError:
        return False


def _is_iso8601(text):
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ") is not None
    except ValueError:
        return False


def _differences(expected, body):
    missing = [f"{key} is missing" for key in expected if key not in body]
    more = [f"{key} is not published" for key in body if key not in expected]
    return missing + more + [
        f"{key} is {body[key]!r}" for key, kind in expected.items() if key in body and not isinstance(body[key], kind)
    ]


def _json(response):
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
