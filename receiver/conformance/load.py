"""Many deliveries, the same one often, and those who wait: C1 to C3, C34."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from receiver.conformance import wire
from receiver.conformance.items import item
from receiver.conformance.trial import Trial
from receiver.conformance.verdicts import stored, timely

CONCURRENT = 100


@item("C1", "valid deliveries", "2xx, 99 percent within 100 ms")
def valid(trial: Trial) -> str:
    """Send new events, one after the other."""
    return timely([trial.send(trial.signed()) for _ in range(trial.sends)])


@item("C2", "the same again", "2xx, 1 event")
def again(trial: Trial) -> str:
    """Send one delivery twice."""
    delivery = trial.signed()
    return stored(trial, delivery, trial.send(delivery), trial.send(delivery))


@item("C3", f"{CONCURRENT} concurrent identical deliveries", "2xx, 1 event")
def at_once(trial: Trial) -> str:
    """Send one delivery on many connections at once."""
    delivery = trial.signed()
    with ThreadPoolExecutor(CONCURRENT) as pool:
        replies = list(pool.map(lambda _: trial.send(delivery), range(CONCURRENT)))
    return stored(trial, delivery, *replies)


@item("C34", "the line cut before the answer, and again", "2xx, 1 event")
def cut(trial: Trial) -> str:
    """Hang up as soon as all is sent, as after a timeout, and send it again."""
    delivery = trial.signed()
    with closing(wire.connect(trial.to)) as connection:
        connection.sendall(wire.whole(delivery))
    return stored(trial, delivery, trial.send(delivery))
