"""The orders of a bicycle shop, for the agent's tool: GET /orders?number=47192 answers with JSON. It needs only Python.

    python examples/agent/shop.py [PORT]
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ORDERS = {
    "47192": {"item": "a red touring bicycle", "state": "ready for pickup"},
    "47193": {"item": "a new chain", "state": "in the workshop until Thursday"},
}


class Orders(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        # A caller may speak a number in groups: "4 71 92".
        number = "".join(one for one in parse_qs(url.query).get("number", [""])[0] if one.isdigit())
        order = ORDERS.get(number, {"error": f"there is no order {number}"})
        body = json.dumps(order).encode()
        self.send_response(200 if url.path == "/orders" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    ThreadingHTTPServer(("127.0.0.1", port), Orders).serve_forever()
