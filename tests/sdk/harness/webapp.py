"""A web application that remembers what it was asked."""

import threading
import time
from dataclasses import dataclass, field

import flask
from werkzeug.serving import WSGIRequestHandler, make_server

from .audio import wav


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    at: float  # time.monotonic()
    method: str
    path: str
    url: str  # exactly as it was asked for
    headers: dict = field(repr=False)
    args: dict  # of the query; values as lists
    form: dict  # of the body; values as lists
    body: bytes = field(repr=False)

    def __getitem__(self, name):
        """A parameter's value, from the body of a POST and the query of a GET."""
        return (self.form if self.method == "POST" else self.args)[name][0]

    def get(self, name, default=None):
        """As [], with a default."""
        try:
            return self[name]
        except KeyError:
            return default


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


class WebApp:
    """`app` is a Flask application; what its paths answer may change while it runs. `url` is its base."""

    def __init__(self):
        self.app = flask.Flask("webapp")
        self.app.secret_key = "for session cookies"
        self.app.before_request(self._remember)
        self.app.add_url_rule("/<path:path>", view_func=self._answer, methods=["GET", "POST"])
        self._answers = {}
        self.sounds = set()  # paths
        self.received = []
        self._changed = threading.Condition()
        self._serving = Serving(self.app)
        self.url = self._serving.url

    def on(self, path, answer=("", 204)):
        """Answers GET and POST of `path` with `answer`, or with what it returns when called."""
        self._answers[path] = answer

    def sound(self, path, samples):
        """Answers `path` with these samples as a WAV file."""
        self.on(path, (wav(samples), {"Content-Type": "audio/wav"}))
        self.sounds.add(path)

    def forget(self):
        """Forgets what has come and what it was to answer."""
        with self._changed:
            self.received.clear()
            self._answers.clear()
            self.sounds.clear()

    def to(self, *paths):
        """What came for these paths (all without any), in order."""
        with self._changed:
            return [request for request in self.received if not paths or request.path in paths]

    def wait(self, path, count=1, seconds=15.0, where=lambda request: True):
        """Waits until `count` requests for `path` have come that `where` holds for, and returns them."""
        found = []

        def enough():
            found[:] = [one for one in self.received if one.path == path and where(one)]
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(enough, seconds):
                seen = [(one.method, one.path) for one in self.received]
                raise AssertionError(f"waited {seconds:g} s for {count} of {path}; came: {seen}")
        return found

    def stop(self):
        """Ends it."""
        self._serving.stop()

    def _answer(self, path):
        answer = self._answers.get("/" + path, ("no such page", 404))
        return answer() if callable(answer) else answer

    def _remember(self):
        request = flask.request
        target = request.environ.get("RAW_URI", request.full_path)
        one = Received(
            at=time.monotonic(),
            method=request.method,
            path=request.path,
            url=target if target.startswith("http") else f"http://{request.host}{target}",
            headers={name.lower(): value for name, value in request.headers.items()},
            args=request.args.to_dict(flat=False),
            # The body first: reading the form consumes it.
            body=request.get_data(cache=True),
            form=request.form.to_dict(flat=False),
        )
        with self._changed:
            self.received.append(one)
            self._changed.notify_all()


class Serving:
    """Serves a Flask application of somebody else's in a thread: `url` is its base."""

    def __init__(self, app):
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        """Ends it."""
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()
