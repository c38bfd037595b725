"""What an engine does instead of its work, so that a test sees how the server bears it; and an HTTP server that can do so."""

import select
import socket
import threading
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


class Fault(Enum):
    """In the place of an answer."""

    HANG = "accept the request and say nothing more"
    DROP = "close the connection"
    GARBAGE = "send octets that mean nothing"


class Gone(ConnectionError):
    """The other side left before the end."""


class Handler(BaseHTTPRequestHandler):
    """One connection. The engine's `serve(handler, body)` answers a POST."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # small pieces leave at once

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.server.engine.serve(self, body)
        except ConnectionError:
            self.close_connection = True

    def answer(self, status, kind, body, headers=()):
        """A whole answer."""
        self.send_response(status)
        for name, value in [("Content-Type", kind), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, kind):
        """An answer in chunks, of which `send` sends each and `end` is the last."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, octets):
        """A chunk."""
        self.look()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(octets), octets))

    def end(self):
        """The end of the chunks."""
        self.wfile.write(b"0\r\n\r\n")

    def look(self, seconds=0.0):
        """Waits so long; `Gone` if the other side leaves meanwhile, and if this engine ends."""
        waker = self.server.engine.waker
        ready, _, _ = select.select([self.connection, waker], [], [], seconds)
        if waker in ready or (ready and not self.connection.recv(1, socket.MSG_PEEK)):
            raise Gone

    def suffer(self, fault):
        """Does a fault, after which nothing more is to be done: it does not return."""
        if isinstance(fault, int):
            self.answer(fault, "application/json", b'{"error":{"message":"out of order","type":"server_error"}}')
        elif fault is Fault.GARBAGE:
            self.answer(200, "text/html", b"\x00\xff<html>\n" * 200)
        elif fault is Fault.HANG:
            self.look(60)
        # A client that waits for more sees a connection that breaks.
        self.connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class Engine:
    """An HTTP server on loopback; `url` is its base. A class of it has `serve(handler, body)`."""

    def __init__(self):
        self._ended, self.waker = socket.socketpair()
        self._server = _Server((HOST, 0), Handler)
        self._server.engine = self
        self.url = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends it, and every answer that it still gives."""
        self._ended.close()
        self._server.shutdown()
        self._server.server_close()
