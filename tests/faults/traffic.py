"""What providers send in a run: the stories of calls and messages, mixed, at a steady rate. It follows from the seed.

The mix, the sizes and the noise are assumptions about a campaign's traffic; where they come from is said beside each.
A story's order is kept but for 5 percent of them; its pace is the run's, so that a short run holds whole stories too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log
from random import Random
from typing import Any, Literal

from receiver.samples import Fields, Sample

Sound = Literal["", "forged", "malformed", "poison", "too large", "unknown"]

# Of a hundred stories; a Vapi call has some twenty events, the others three to five.
STORIES = {"twilio call": 40, "vapi call": 8, "dialpad call": 20, "sms": 22, "agent call": 10}
ENDS = {"call.completed": 35, "call.no_answer": 45, "call.busy": 12, "call.failed": 8}
# Of the deliveries. Telnyx promises "simultaneous or duplicate" ones; nobody promises order.
DOUBLED, DISORDERED, NEW_CONNECTION = 0.02, 0.05, 0.7
NOISE: dict[Sound, float] = {"forged": 0.01, "malformed": 0.005, "unknown": 0.002, "poison": 0.001, "too large": 0.001}
WARM = 120.0  # seconds of stories before the run begins: then there are calls of every age
TOO_LARGE = 1024 * 1024 + 1
MOST = 900_000  # bytes of a report: below the cap, whatever the distribution says


@dataclass(frozen=True, slots=True)
class Planned:
    """One delivery. at: seconds after the run's start; no two are in the same ms.

    again: seconds after it when the same bytes come once more, None: never. noise: how it is not as it should be.
    """

    at: float
    source: str
    sample: Sample
    noise: Sound = ""
    again: float | None = None
    new_connection: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """So many deliveries a second for so many seconds, without the repeated ones."""

    rate: float = 120.0
    seconds: float = 60.0
    seed: int = 1

    def plan(self) -> list[Planned]:
        """Return the deliveries by their times: independent of each other, as arrivals are."""
        chance = Random(self.seed)
        wanted = round(self.rate * self.seconds)
        told = _told(chance, wanted)
        times = sorted(chance.uniform(0, self.seconds) for _ in range(wanted))
        plan, previous = [], 0.0
        for at, one in zip(times, told, strict=True):
            previous = max(at, previous + 0.001)
            plan.append(self._planned(chance, previous, one))
        return plan

    def _planned(self, chance: Random, at: float, told: "_Told") -> Planned:
        noise = chance.choices(["", *NOISE], [1 - sum(NOISE.values()), *NOISE.values()])[0]
        again = None
        if noise in ("", "poison") and chance.random() < DOUBLED:
            # Half on two sockets at once, half later, as far as the run allows.
            again = chance.uniform(0, 0.05) if chance.random() < 0.5 else chance.uniform(2, max(2.5, self.seconds / 3))
        source, sample = told.source, Sample(told.event_type, told.subject_id, told.override)
        if noise == "forged":
            sample = Sample(told.event_type, told.subject_id, told.override, forged=True)
        elif noise:
            number = f"{chance.getrandbits(64):x}"
            extra: dict[str, Fields] = {
                "unknown": {"event_type": "agent_yawned"},
                "poison": {"poison": True},
                "too large": {"pad": "x" * TOO_LARGE},
            }
            source = "agent"
            override = {"event_id": f"{noise}-{number}", **extra.get(noise, {})}
            sample = Sample("call.completed", f"rem_{number}", override)
        return Planned(at, source, sample, noise, again, chance.random() < NEW_CONNECTION)


@dataclass(frozen=True, slots=True)
class _Told:
    """One event of a story. at: when it happened, in seconds of the story's own time."""

    at: float
    source: str
    event_type: str
    subject_id: str
    override: dict[str, Any] = field(default_factory=dict)


def _told(chance: Random, wanted: int) -> list[_Told]:
    """Return so many events, in the order in which they are sent: the run begins in the middle of the traffic."""
    told: list[_Told] = []
    began, ready = 0.0, 0
    while ready < wanted or began < 2 * WARM:
        kind = chance.choices(list(STORIES), list(STORIES.values()))[0]
        story = list(TELLERS[kind](chance))
        if chance.random() < DISORDERED and len(story) > 1:
            story[-2:] = _swapped(*story[-2:])
        told += [_Told(began + one.at, one.source, one.event_type, one.subject_id, one.override) for one in story]
        ready += len(story) if began > WARM else 0
        began += chance.expovariate(20)  # calls a second
    return sorted((one for one in told if one.at > WARM), key=lambda one: one.at)[:wanted]


def _swapped(one: _Told, other: _Told) -> tuple[_Told, _Told]:
    return (
        _Told(one.at, other.source, other.event_type, other.subject_id, other.override),
        _Told(other.at, one.source, one.event_type, one.subject_id, one.override),
    )


def _times(chance: Random) -> Iterator[float]:
    """Yield when a call rings, is answered and ends: median 9 s of ringing and 45 s of talk, p95 180 s."""
    yield (rings := chance.uniform(1, 3))
    yield (answered := rings + chance.lognormvariate(log(9), 0.5))
    yield answered + chance.lognormvariate(log(45), 0.84)


def _twilio_call(chance: Random) -> Iterator[_Told]:
    sid, pad = f"CA{chance.getrandbits(128):032x}", {"CallerName": _text(chance, 200, 1000)}
    rings, answered, ended = _times(chance)
    end = chance.choices(list(ENDS), list(ENDS.values()))[0]
    yield _Told(0, "twilio", "call.initiated", sid, pad)
    yield _Told(rings, "twilio", "call.ringing", sid, pad)
    if end != "call.completed":
        yield _Told(answered, "twilio", end, sid, pad)
        return
    yield _Told(answered, "twilio", "call.answered", sid, pad)
    if chance.random() < 0.5:
        yield _Told(answered + 2.1, "twilio", "call.amd", sid)
    yield _Told(ended, "twilio", "call.completed", sid, pad)
    if chance.random() < 0.5:
        recording = {"RecordingSid": f"RE{chance.getrandbits(128):032x}"}
        yield _Told(ended + 5, "twilio", "recording.completed", sid, recording)


def _vapi_call(chance: Random) -> Iterator[_Told]:
    """Tell five to forty small events of 1-5 KB, and a report: median 60 KB, p99 600 KB."""
    call = f"{chance.getrandbits(128):032x}"
    rings, answered, ended = _times(chance)
    yield _Told(0, "vapi", "call.queued", call)
    yield _Told(rings, "vapi", "call.ringing", call)
    yield _Told(answered, "vapi", "call.answered", call)
    for at in sorted(chance.uniform(answered, ended) for _ in range(chance.randint(5, 40))):
        yield _Told(at, "vapi", "dialogue.turn", call, {"assistant": _text(chance, 800, 4800)})
    yield _Told(ended, "vapi", "call.completed", call)
    size = min(MOST, round(chance.lognormvariate(log(60_000), 0.99)))
    yield _Told(ended + 2, "vapi", "call.report", call, {"artifact": {"transcript": _text(chance, size, size)}})


def _dialpad_call(chance: Random) -> Iterator[_Told]:
    call, pad = str(2**52 + chance.getrandbits(50)), {"contact": {"name": _text(chance, 600, 2400)}}
    rings, answered, ended = _times(chance)
    yield _Told(0, "dialpad", "call.initiated", call, pad)
    yield _Told(rings, "dialpad", "call.ringing", call, pad)
    yield _Told(answered, "dialpad", "call.answered", call, pad)
    yield _Told(ended, "dialpad", "call.completed", call, pad)
    if chance.random() < 0.5:
        yield _Told(ended + 5, "dialpad", "recording.completed", call, pad)


def _sms(chance: Random) -> Iterator[_Told]:
    sid = f"SM{chance.getrandbits(128):032x}"
    if chance.random() < 0.3:
        yield _Told(0, "twilio", "message.received", sid, {"Body": _text(chance, 20, 300)})
        return
    for at, event_type in enumerate(("message.queued", "message.sent", "message.delivered")):
        yield _Told(at * 1.5, "twilio", event_type, sid)


def _agent_call(chance: Random) -> Iterator[_Told]:
    reminder, source = f"rem_{chance.getrandbits(64):x}", chance.choice(["agent", "standard"])
    _, answered, ended = _times(chance)
    for at, event_type in ((answered, "call.answered"), (ended, "call.completed")):
        yield _Told(at, source, event_type, reminder, {"event_id": f"{chance.getrandbits(128):032x}"})


TELLERS = {
    "twilio call": _twilio_call,
    "vapi call": _vapi_call,
    "dialpad call": _dialpad_call,
    "sms": _sms,
    "agent call": _agent_call,
}


def _text(chance: Random, least: int, most: int) -> str:
    """Return so much text that doesn't compress to nothing."""
    return chance.randbytes(chance.randint(least, most) // 2).hex()
