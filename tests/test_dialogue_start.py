"""What the dialogue orchestrator is told, and from whom: a request of ours over HTTP."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from handlers import surveys
from tests.arrivals import events, form


@contextmanager
def orchestrator():
    """Yield its URL, and the headers of what it was sent so far."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(self.headers)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dialogues", told
        finally:
            server.shutdown()
            thread.join()


def test_a_dialogue_of_a_tenant_whose_name_no_header_can_carry_is_announced(monkeypatch):
    (event,) = events("twilio", form({"CallSid": "CA1"}))
    event = replace(event, event_id="dialogue.start:Müller & Söhne:twilio:CA1")

    with orchestrator() as (url, told):
        monkeypatch.setattr(surveys, "DIALOGUE_URL", url)
        monkeypatch.setattr(surveys, "DIALOGUE_SECRET", "secret")
        for _ in range(2):
            event.payload.update(provider="twilio", provider_call_id="CA1")
            surveys.start_dialogue(event)

    assert [headers["webhook-id"] for headers in told] == [
        "twilio:dialogue.start:M%C3%BCller%20%26%20S%C3%B6hne:twilio:CA1:0"
    ] * 2


def test_a_url_that_cant_be_posted_to_ends_the_start():
    environ = {**os.environ, "DIALOGUE_SECRET": "secret", "DIALOGUE_URL": "orchestrator.example/dialogues"}

    started = subprocess.run(
        [sys.executable, "-c", "import handlers.surveys"], env=environ, capture_output=True, text=True, check=False
    )

    assert started.stderr.endswith("ValueError: DIALOGUE_URL: expected a URL such as https://host/path\n")
