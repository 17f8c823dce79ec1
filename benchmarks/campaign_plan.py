"""What a campaign run delivers, and in which order: all of it follows from the plan's seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property
from random import Random
from urllib.parse import urlencode

from receiver.providers.twilio import sign
from receiver.providers.twilio_form import canonical, parse_form

BASE_URL = "https://hooks.example.com"
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of the receiver started here
CAMPAIGN = "spring-survey"
START = datetime(2026, 11, 20, 10, tzinfo=UTC)
# Of the calls, so many percent.
ENDS = {"completed": 70, "no-answer": 15, "busy": 10, "failed": 5}
AMD, RECORDED = 0.5, 0.3  # of those that are answered
REORDERED, DOUBLED = 0.05, 0.02  # of the deliveries
APART = 50  # calls begin between two deliveries of a call


@dataclass(frozen=True)
class Delivery:
    """One signed POST. call: its number; step: its place among the call's."""

    call: int
    step: int
    target: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return what proves it."""
        signed = (BASE_URL + self.target).encode() + canonical(parse_form(self.body))
        signature = sign(TOKEN.encode(), signed).decode()
        return {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}


@dataclass(frozen=True)
class Plan:
    """How many calls; seconds: of each of the two runs, after which it ends, finished or not."""

    calls: int = 2000
    workers: int = 4
    seed: int = 1
    seconds: float = 300.0

    @cached_property
    def ends(self) -> list[str]:
        """How each call ends."""
        return Random(self.seed).choices(list(ENDS), list(ENDS.values()), k=self.calls)

    @cached_property
    def deliveries(self) -> list[Delivery]:
        """Each delivery once, in order."""
        chance = Random(self.seed + 1)
        told = [delivery for call in range(self.calls) for delivery in self._of_call(call, chance)]
        return sorted(told, key=lambda one: (one.call + APART * one.step, one.call))

    @cached_property
    def disordered(self) -> list[Delivery]:
        """Some after later ones of their call, and some twice."""
        chance = Random(self.seed + 2)
        last = {one.call: one.step for one in sorted(self.deliveries, key=lambda one: one.step)}
        early = [one for one in self.deliveries if one.step < last[one.call]]
        late = set(chance.sample(early, round(len(self.deliveries) * REORDERED)))
        twice = chance.sample(self.deliveries, round(len(self.deliveries) * DOUBLED))
        sent = [(one.step + (chance.choice([1.5, 2.5]) if one in late else 0), one) for one in self.deliveries]
        sent += [(one.step + chance.uniform(0, 3), one) for one in twice]
        return [one for _, one in sorted(sent, key=lambda told: (told[1].call + APART * told[0], told[1].call))]

    def _of_call(self, call: int, chance: Random) -> Iterator[Delivery]:
        sid, end = f"CA{call:032x}", self.ends[call]
        about = {"CallSid": sid, "AccountSid": f"AC{1:032x}"}
        ids = {"call_id": f"attempt-{call}", "campaign_id": CAMPAIGN, "contact_id": f"contact-{call}"}
        target = f"/webhooks/telephony/events?{urlencode(ids)}"
        at, forms = START + timedelta(seconds=call), list[dict[str, str]]()
        for status in ("initiated", "ringing", *(["in-progress"] if end == "completed" else []), end):
            progress = {
                "CallStatus": status,
                "CallbackSource": "call-progress-events",
                "SequenceNumber": str(sum("CallStatus" in form for form in forms)),
                "Timestamp": format_datetime(at),
                "Direction": "outbound-api",
                "From": "+15555550100",
                "To": f"+1555{call:07}",
            }
            ended = {"CallDuration": str(chance.randint(5, 90)) if end == "completed" else "0"}
            forms.append(about | progress | (ended if status == end else {}))
            at += timedelta(seconds=chance.randint(2, 40))
            if status == "in-progress" and chance.random() < AMD:
                forms.append(about | {"AnsweredBy": chance.choice(["human", "machine_start"])})
        if end == "completed" and chance.random() < RECORDED:
            recording = {"RecordingSid": f"RE{call:032x}", "RecordingStatus": "completed", "RecordingDuration": "30"}
            forms.append(about | recording | {"RecordingUrl": f"https://api.twilio.com/recordings/RE{call:032x}"})
        for step, form in enumerate(forms):
            yield Delivery(call, step, target, urlencode(form).encode())
