"""An application with a menu, written with the standard library."""

import http.server
import threading
import urllib.parse

DOCUMENTS = {
    "/voice": '<Gather numDigits="1" timeout="5" action="/menu"><Say>For sales, press one.</Say></Gather><Say>Goodbye.</Say>',
    "/menu": '<Dial action="/called" timeout="20"><Number>+15551230002</Number></Dial>',
    "/called": "<Say>All lines are busy. Please leave a message.</Say><Record action='/thanks' finishOnKey='#'/>",
    "/thanks": "<Say>Thank you.</Say>",
}


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.server.received.append((self.path, form))
        document = DOCUMENTS[self.path]
        if self.path == "/menu" and form["Digits"] != "1":
            document = "<Hangup/>"
        if self.path == "/called" and form["DialCallStatus"] == "completed":
            document = "<Hangup/>"
        body = f"<Response>{document}</Response>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def start():
    """Starts the application on a free port. `received` are its requests."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    server.received = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
