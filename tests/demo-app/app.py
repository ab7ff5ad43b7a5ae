"""A small web app: says hello, whether it is well, and which code it is."""

import json
import os
import pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).parent
VERSION = (HERE / "VERSION").read_text().strip()
COMMIT = os.environ.get("DEPLOYBUS_COMMIT", "")
HEALTHY = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(200 if HEALTHY else 500, {"healthy": HEALTHY})
        elif self.path == "/version":
            self.answer(200, {"version": VERSION, "commit": COMMIT})
        else:
            self.answer(200, {"hello": f"from {VERSION}"})

    def answer(self, status, body):
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


print(f"web {VERSION} at commit {COMMIT[:12]} listens on port {os.environ['PORT']}", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
