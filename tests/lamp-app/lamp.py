"""The Pi's half: says its version, and whether it is well."""

import json
import os
import pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = (pathlib.Path(__file__).parent / "VERSION").read_text().strip()


def is_well():
    return True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status = 200 if self.path != "/health" or is_well() else 500
        payload = json.dumps({"version": VERSION}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
