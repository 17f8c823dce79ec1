"""What the answers to an item come to, in words; what is wrong about them is raised."""

from collections import Counter
from collections.abc import Iterable, Sequence

from receiver.conformance.items import Doubtful, Failed, expect
from receiver.conformance.trial import Trial
from receiver.conformance.wire import Reply
from receiver.delivery import Delivery

P99_MS = 100.0


def refused(trial: Trial, *deliveries: Delivery) -> str:
    """Return what came, all 4xx and no event made. Raises Failed, and Doubtful where it came too often to be judged."""
    replies = [trial.send(delivery) for delivery in deliveries]
    if any(reply.status == 429 for reply in replies):
        raise Doubtful(f"{told(replies)}: limited by rate, whatever it proves")
    expect(all_refused(replies), told(replies))
    events = sum(trial.count(delivery, 0) or 0 for delivery in deliveries)
    if events:
        raise Failed(f"{told(replies)}, and {events} events")
    return f"{told(replies)}{_seen(trial, 0)}"


def stored(trial: Trial, delivery: Delivery, *replies: Reply, events: int = 1) -> str:
    """Return what came, all 2xx and so many events made, where that can be counted. Raises Failed."""
    expect(all_good(replies), told(replies))
    found = trial.count(delivery, events)
    if found is not None and found != events:
        raise Failed(f"{told(replies)}, and {found} events")
    return f"{told(replies)}{_seen(trial, events)}"


def _seen(trial: Trial, events: int) -> str:
    counted = "no event" if events == 0 else f"{events} event{'s' * (events > 1)}"
    return f", {counted}" if trial.probe else " (events not counted: no probe)"


def all_good(replies: Iterable[Reply]) -> bool:
    """Tell whether all are 2xx."""
    return all(reply.good for reply in replies)


def all_refused(replies: Iterable[Reply]) -> bool:
    """Tell whether all are 4xx."""
    return all(reply.refused for reply in replies)


def face(reply: Reply) -> tuple[object, ...]:
    """Return all that a stranger sees of an answer but what differs from one to the next."""
    changing = ("date", "x-request-id", "cf-ray")
    headers = tuple(sorted(item for item in reply.headers.items() if item[0] not in changing))
    return reply.status, headers, reply.body


def differing(replies: Sequence[Reply]) -> str:
    """Return what else differs between answers of one status, in words, "" where nothing does."""
    alike_status = len({reply.status for reply in replies}) == 1
    return ", with other headers or bodies" if alike_status and len({face(reply) for reply in replies}) > 1 else ""


def timely(replies: Sequence[Reply]) -> str:
    """Return what came, all 2xx. Raises Failed, and Doubtful where 99 percent took longer than they should."""
    expect(all_good(replies), told(replies))
    times = sorted(reply.ms for reply in replies)
    got = f"{told(replies)}, p50 {times[len(times) // 2]:.1f} ms, p99 {times[len(times) * 99 // 100]:.1f} ms"
    if times[len(times) * 99 // 100] > P99_MS:
        raise Doubtful(f"{got}, from here")
    return got


def told(replies: Iterable[Reply]) -> str:
    """Return the statuses, each with how often it came."""
    counts = Counter(map(str, replies))
    return ", ".join(f"{status} x{number}" if number > 1 else status for status, number in counts.items())
