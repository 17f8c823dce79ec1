"""Twilio, played against a running deployment: what it would send, and whether the answers are what it needs.

Over HTTP, and with what Twilio itself knows: the public URL, the paths and the auth token. A call's id begins
with CA7e57, so that what a check has left in an inbox can be found.

Source of the limits: twilio.com/docs/usage/webhooks/webhooks-connection-overrides.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from urllib.parse import urlsplit

from receiver.check_report import FAIL, OK, WARN, Check, checked
from receiver.check_twiml import FIXES, status_of, twiml
from receiver.delivery import Delivery
from receiver.providers import PROVIDERS, twilio
from receiver.providers.twilio_events import CALL_TYPES
from receiver.providers.twilio_numbers import Options
from receiver.samples import ALICE, Sample, build
from receiver.secret import Secret
from receiver.sender import NoAnswer, Sent, post
from receiver.settings import MAX_BODY, Source

SLOW_MS, LIMIT_MS = 100.0, 15_000.0  # what is worth a look, and when Twilio hangs up
STATUSES = {status: event_type for status, event_type in CALL_TYPES.items() if status != "answered"}


@dataclass(frozen=True)
class Deployment:
    """What is checked. url: the public base URL; to: where to connect, "" for there.

    paths: of "incoming", "reminder" and "status", "" for one that is left out.
    """

    url: str
    to: str
    token: bytes = field(repr=False)
    number: str
    paths: Mapping[str, str]


def examine(deployment: Deployment) -> Iterator[Check]:
    """Yield each check as it is made. Raises OSError where nothing answers at all."""
    caller = Caller(deployment)
    if path := deployment.paths["incoming"]:
        yield from _incoming(caller, path)
    if path := deployment.paths["reminder"]:
        yield from _reminder(caller, path)
    if path := deployment.paths["status"]:
        yield from _statuses(caller, path)
    for name, path in deployment.paths.items():
        if path:
            yield from _forgeries(caller, name, path)
    if caller.times:
        yield answer_times(caller.times)


class Caller:
    """Twilio, as one deployment meets it. times: of its answers to what is genuine, in ms."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.times: list[float] = []

    def delivery(self, path: str, sample: Sample) -> Delivery:
        """Return a request to *path*, signed for the public URL."""
        url = urlsplit(self.deployment.url)
        origin = f"{url.scheme}://{url.netloc}"
        # A proxy takes its prefix away; who connects behind it finds the path without.
        base_url, target = (self.deployment.url, path) if self.deployment.to else (origin, url.path + path)
        secret = Secret("env:TWILIO_AUTH_TOKEN", self.deployment.token)
        source = Source("check", "twilio", PROVIDERS["twilio"], (target,), (secret,), "", base_url, MAX_BODY, Options())
        delivery = build(source, sample, datetime.now(UTC))
        return replace(delivery, headers={**delivery.headers, "host": url.netloc, "user-agent": "TwilioProxy/1.1"})

    def send(self, delivery: Delivery) -> Sent:
        """Return what is answered; status 0 where nothing is. Raises OSError where nobody takes the connection."""
        try:
            return post(delivery, self.deployment.to or self.deployment.url)
        except NoAnswer as error:
            return Sent(0, 0.0, f"no answer ({error})")

    def genuine(self, delivery: Delivery) -> Sent:
        """As send, and keep the time."""
        sent = self.send(delivery)
        if sent.status:
            self.times.append(sent.ms)
        return sent


def new_call() -> str:
    """Return a CallSid that no call has, and that tells where it is from."""
    return f"CA7e57{secrets.token_hex(14)}"


def _incoming(caller: Caller, path: str) -> Iterator[Check]:
    call, number = new_call(), caller.deployment.number
    delivery = caller.delivery(path, Sample("call.incoming", call, {"From": ALICE, "To": number}))
    first = caller.genuine(delivery)
    yield from twiml("incoming call", first, {"From": ALICE, "To": number, "CallSid": call})
    again = caller.genuine(delivery)
    same = (again.status, again.body) == (first.status, first.body)
    fix = "Twilio repeats a request whose answer was lost, and follows the second answer"
    yield checked("incoming call, repeated", "the same answer", "the same" if same else "another", same, fix)


def _reminder(caller: Caller, path: str) -> Iterator[Check]:
    call, number, reminder = new_call(), caller.deployment.number, f"check-{secrets.token_hex(4)}"
    fields = {"From": number, "To": ALICE, "Direction": "outbound-api", "CallStatus": "in-progress"}
    target = f"{path}{'&' if '?' in path else '?'}reminder_id={reminder}"
    sent = caller.genuine(caller.delivery(target, Sample("call.incoming", call, fields)))
    expected = {"From": number, "To": ALICE, "CallSid": call, "reminder_id": reminder}
    yield from twiml("reminder call", sent, expected)


def _statuses(caller: Caller, path: str) -> Iterator[Check]:
    answered = new_call()
    for status, event_type in STATUSES.items():
        ended = event_type in ("call.busy", "call.no_answer", "call.failed", "call.canceled")
        sample = Sample(event_type, new_call() if ended else answered, {"From": caller.deployment.number, "To": ALICE})
        sent = caller.genuine(caller.delivery(path, sample))
        yield checked(f"status {status}", "2xx", status_of(sent), 200 <= sent.status < 300, FIXES.get(sent.status, ""))


def _forgeries(caller: Caller, name: str, path: str) -> Iterator[Check]:
    fields = {"From": ALICE, "To": caller.deployment.number}
    genuine = caller.delivery(path, Sample("call.incoming", new_call(), fields))
    unsigned = {header: value for header, value in genuine.headers.items() if header != twilio.SIGNATURE}
    forgeries = {
        "a wrong signature": caller.delivery(path, Sample("call.incoming", new_call(), fields, forged=True)),
        "no signature": replace(genuine, headers=unsigned),
        "a changed body": replace(genuine, body=genuine.body + b"&CallerName=Mallory"),
    }
    for what, delivery in forgeries.items():
        sent = caller.send(delivery)
        fix = "anybody can send that; verify X-Twilio-Signature" if 200 <= sent.status < 300 else ""
        yield checked(f"{name}, {what}", "401 or 403", status_of(sent), sent.status in (401, 403), fix)


def answer_times(times: list[float]) -> Check:
    """Hold the times of the answers (ms, at least one) against Twilio's patience and our own."""
    level = FAIL if max(times) >= LIMIT_MS else WARN if max(times) > SLOW_MS else OK
    got = f"p50 {median(times):.1f} ms, max {max(times):.1f} ms of {len(times)}"
    return Check(level, "answer times", f"at most {SLOW_MS:.0f} ms, and {LIMIT_MS / 1000:.0f} s at the very most", got)
