"""A web application for the nodes: it answers with TwiML, and records each webhook with its time."""

import collections
import dataclasses
import http.server
import threading
import time
import urllib.parse

from harness.resources import table

from .network import INSIDE

ADDRESS = f"{INSIDE}.254"  # an address of the hub


@dataclasses.dataclass(frozen=True)
class Webhook:
    """A webhook. `at` is time.time(); `form` has its fields, each the first value."""

    at: float
    path: str
    form: dict

    @property
    def sid(self):
        return self.form.get("CallSid")

    @property
    def status(self):
        return self.form.get("CallStatus")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 256


class Application:
    """`documents`: TwiML by path, or functions that get the form and return TwiML. Another path gets an empty answer."""

    def __init__(self, documents=None):
        self.documents, self.webhooks = dict(documents or {}), []
        self._changed = threading.Condition()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                path, _, query = self.path.partition("?")
                form = dict(urllib.parse.parse_qsl(query + "&" + body, keep_blank_values=True))
                answer = outer._take(path, form).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, *_):
                pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    pass  # The node has died.

        self._server = _Server((ADDRESS, 0), Handler)
        self.url = f"http://{ADDRESS}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def numbers(self, paths):
        """TOML for the nodes: numbers whose calls ask for these paths, as {number: path}. Final webhooks go to /status."""
        return "".join(
            table("numbers", number=number, account="acme", voice_url=self.url + path, status_callback=self.url + "/status")
            for number, path in paths.items()
        )

    def to(self, path, **fields):
        """The webhooks for a path with these fields, in the order in which they came. A path of None: all."""
        with self._changed:
            return [one for one in self.webhooks if _is(one, path, fields)]

    def wait(self, path, count=1, seconds=15, **fields):
        """Waits for so many webhooks for a path with these fields, and returns them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.to(path, **fields)) >= count, seconds):
                came = [(one.path, one.sid, one.status) for one in self.webhooks][-40:]
                raise AssertionError(f"waited {seconds} s for {count} of {path} {fields}; came: {came}")
            return self.to(path, **fields)

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path, form):
        with self._changed:
            self.webhooks.append(Webhook(time.time(), path, form))
            self._changed.notify_all()
        document = self.documents.get(path, "")
        return document(form) if callable(document) else document


def _is(one, path, fields):
    return (path is None or one.path == path) and all(one.form.get(name) == value for name, value in fields.items())


FINAL = {"completed", "busy", "failed", "no-answer", "canceled"}


def of_calls(webhooks):
    """Status webhooks by CallSid, in the order in which they came."""
    calls = collections.defaultdict(list)
    for one in webhooks:
        calls[one.sid].append(one)
    return calls


def misplaced(webhooks):
    """The webhooks of one call whose SequenceNumber is not larger than the one before. A repetition is not misplaced."""
    numbers = [int(one.form["SequenceNumber"]) for one in webhooks if "SequenceNumber" in one.form]
    return [(before, after) for before, after in zip(numbers, numbers[1:], strict=False) if after < before]


def repeated(webhooks):
    """The webhooks of one call that came more than once, with their counts."""
    counted = collections.Counter((one.status, one.form.get("SequenceNumber")) for one in webhooks)
    return {key: count for key, count in counted.items() if count > 1}
