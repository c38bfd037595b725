"""A mailbox in SWML: a message is recorded after the tone, and told to this application by `request`.

PORT  5000; GET /messages on the next one lists what was left
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from signalwire_agents import SWMLService

CREDENTIALS = "swml", "example"  # of the document's URL; SWML services always ask for some


class Messages:
    """A server of what was left: POST adds a message, GET lists all. `.kept`: the messages."""

    def __init__(self, port):
        self.kept = kept = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                kept.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer({"place": len(kept)})

            def do_GET(self):
                self.answer(kept)

            def answer(self, what):
                body = json.dumps(what).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/messages"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def make(port, messages):
    """The service, whose /voice is the document. `messages`: where messages are sent."""
    service = SWMLService("voicemail", route="/voice", host="127.0.0.1", port=port, basic_auth=CREDENTIALS)
    left = {"from": "${call.from}", "url": "${record_url}"}
    for method, parameters in [
        ("answer", {}),
        ("play", {"url": "say:Nobody is here. Please speak after the tone, and press the hash key when you are done."}),
        ("record", {"beep": True, "terminators": "#", "end_silence_timeout": 4, "max_length": 60}),
        ("switch", {
            "variable": "record_result",
            "case": {"success": [
                {"request": {"url": messages, "method": "POST", "headers": {"Content-Type": "application/json"}, "body": left,
                             "save_variables": True}},
                {"play": {"url": "say:Thank you. This is message ${request_response.place}."}},
            ]},
            "default": [{"play": {"url": "say:We have not heard anything."}}],
        }),
        ("hangup", {}),
    ]:
        service.add_verb_to_section("main", method, parameters)
    return service


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "5000"))
    make(port, Messages(port + 1).url).serve()
