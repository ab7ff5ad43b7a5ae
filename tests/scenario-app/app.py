"""A small web app that breaks on each node as a scenario says: `breaks.json` in its data folder has a word for each version that does."""

import json
import os
import pathlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = (pathlib.Path(__file__).parent / "VERSION").read_text().strip()
COMMIT = os.environ.get("DEPLOYBUS_COMMIT", "")
BREAKS = pathlib.Path(os.environ["DEPLOYBUS_DATA"]) / "breaks.json"


def how():
    try:
        return json.loads(BREAKS.read_text()).get(VERSION, "not")
    except FileNotFoundError:
        return "not"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.health()
        elif how() == "mute":
            self.answer(404, {})
        else:
            commit = "0" * len(COMMIT) if how() == "stale" else COMMIT
            self.answer(200, {"version": VERSION, "commit": commit})

    def health(self):
        if how() == "silent":
            time.sleep(3600)
        healthy = how() != "unhealthy"
        self.answer(200 if healthy else 500, {"healthy": healthy})

    def answer(self, status, body):
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


if how() == "exits":
    threading.Timer(0.7, os._exit, [1]).start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
