"""A WebSocket application: each connection is a `Socket` that remembers what it was told."""

import json
import queue
import threading
import time

import websockets.exceptions
import websockets.sync.server


class Socket:
    """One connection. `headers`, `path`; `closed` is (code, reason) once the other side has closed."""

    def __init__(self, connection):
        self._connection = connection
        self.headers = connection.request.headers
        self.path = connection.request.path
        self.messages = []  # in order, each with "at": time.monotonic()
        self.closed = None
        self._changed = threading.Condition()

    def send(self, **message):
        """Says this, as JSON."""
        self._connection.send(json.dumps(message))

    def send_raw(self, text):
        """Says this, whatever it is."""
        self._connection.send(text)

    def close(self, code=1000):
        """Ends it."""
        self._connection.close(code)

    def drop(self):
        """Breaks the connection without a word."""
        self._connection.socket.close()

    def of(self, kind):
        """What it was told of this event or type."""
        with self._changed:
            return [one for one in self.messages if kind in (one.get("event"), one.get("type"))]

    def wait(self, kind, count=1, seconds=15.0, where=lambda one: True):
        """Waits until it was told `count` times of this event or type."""
        found = []

        def enough():
            found[:] = [one for one in self.messages if kind in (one.get("event"), one.get("type")) and where(one)]
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(enough, seconds):
                seen = [one for one in self.messages if one.get("event") != "media"]
                raise AssertionError(f"waited {seconds:g} s for {count} of {kind}; came: {seen}")
        return found

    def wait_closed(self, seconds=15.0):
        """(code, reason) of the other side's closing."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.closed, seconds), f"still open: {self.messages[-3:]}"
        return self.closed

    def serve(self):
        """Listens until it is over."""
        try:
            for text in self._connection:
                with self._changed:
                    self.messages.append(json.loads(text) | {"at": time.monotonic()})
                    self._changed.notify_all()
        except (websockets.exceptions.ConnectionClosed, OSError):
            pass
        with self._changed:
            self.closed = (self._connection.close_code, self._connection.close_reason)
            self._changed.notify_all()


class SocketApp:
    """Takes connections at `url` (ws://host:port, no path)."""

    def __init__(self):
        self._waiting = queue.Queue()
        self._server = websockets.sync.server.serve(self._serve, "127.0.0.1", 0, compression=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, seconds=15.0):
        """The next connection."""
        return self._waiting.get(timeout=seconds)

    def stop(self):
        """Ends it."""
        self._server.shutdown()
        self._thread.join(5)

    def _serve(self, connection):
        socket = Socket(connection)
        self._waiting.put(socket)
        socket.serve()
