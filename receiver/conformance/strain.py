"""What takes long, or sends much, and so is tried with --slow only: C30, C41, C47 and C48."""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress

from receiver.conformance import wire
from receiver.conformance.items import expect, item
from receiver.conformance.trial import Trial
from receiver.conformance.verdicts import timely, told
from receiver.conformance.wire import Reply

SLOW_SENDERS, SLOW_SECONDS = 200, 12.0  # within 10 s they should be cut, and 2 s are the machines'
UNSIGNED, TAKEN_MAX = (
    512 * 1024 * 1024,
    64 * 1024 * 1024,
)  # bytes offered, and taken in at most
IDLE = (4.9, 5.1, 60.0)  # seconds between two requests on one connection
FLOOD_SECONDS, FLOOD_RATE, FLOOD_CLIENTS = 10.0, 1000, 4


@item("C30", f"{SLOW_SENDERS} slow senders", "cut within 10 s, and valid traffic is not slowed", slow=True)
def slow_senders(trial: Trial) -> str:
    """Send headers, or a body, a byte a second on each connection; valid deliveries meanwhile."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for number in range(SLOW_SENDERS):
            connection = stack.enter_context(closing(wire.connect(trial.to)))
            head = wire.head(trial.forged(), ("content-length", "1000"))
            connection.sendall(head if number % 2 else head[:40])
            selector.register(connection, selectors.EVENT_READ)
        with _meanwhile(trial) as replies:
            _trickle(selector, time.monotonic() + SLOW_SECONDS)
        left = len(selector.get_map())
    expect(not left, f"{left} still open after {SLOW_SECONDS:.0f} s")
    return f"all cut; meanwhile {timely(replies)}"


@item("C41", "512 MB without a signature", "refused long before they end", slow=True)
def unsigned_flood(trial: Trial) -> str:
    """Send a body that never ends; how much memory it takes is not to be seen, how much is taken in is."""
    chunk, sent = b"%x\r\n%b\r\n" % (65536, b"x" * 65536), 0
    with closing(wire.connect(trial.to)) as connection, suppress(OSError):
        connection.sendall(wire.head(trial.forged(), ("transfer-encoding", "chunked")))
        while sent < UNSIGNED:
            connection.sendall(chunk)
            sent += len(chunk)
    expect(sent < TAKEN_MAX, f"{sent // 2**20} MB taken in")
    return expect((reply := trial.send(trial.signed())).good, f"cut after {sent // 2**20} MB; then {reply}")


@item("C47", "a connection used again after 4.9, 5.1 and 60 s", "2xx, and no reset", slow=True)
def keep_alive(trial: Trial) -> str:
    """Leave a connection idle as a proxy does, and use it again."""

    def reuse(idle: float) -> Reply:
        with closing(wire.connect(trial.to)) as connection:
            wire.ask(connection, wire.whole(trial.signed(), keep=True))
            time.sleep(idle)
            return trial.noted(wire.ask(connection, wire.whole(trial.signed())))

    with ThreadPoolExecutor(len(IDLE)) as pool:
        replies = list(pool.map(reuse, IDLE))
    got = ", ".join(f"{reply} after {idle:g} s" for idle, reply in zip(IDLE, replies, strict=True))
    return expect(all(reply.good for reply in replies), got)


@item("C48", "a flood of forgeries", "99 percent of valid traffic within 100 ms", slow=True)
def forged_flood(trial: Trial) -> str:
    """Forge at 1,000 a second, or as fast as it goes, beside valid deliveries."""
    until, request = time.monotonic() + FLOOD_SECONDS, wire.whole(trial.forged())

    def flood(_number: int) -> list[Reply]:
        answers: list[Reply] = []
        while (left := until - time.monotonic()) > 0:
            answers.append(wire.exchange(trial.to, request))
            due = until - FLOOD_SECONDS + len(answers) * FLOOD_CLIENTS / FLOOD_RATE
            time.sleep(max(0.0, min(due - time.monotonic(), left)))
        return answers

    with _meanwhile(trial) as replies, ThreadPoolExecutor(FLOOD_CLIENTS) as pool:
        answers = [reply for some in pool.map(flood, range(FLOOD_CLIENTS)) for reply in some]
    expect(all(reply.refused for reply in answers), f"forged {told(answers)}")
    return f"{len(answers) / FLOOD_SECONDS:.0f} forged/s, {told(answers)}; meanwhile {timely(replies)}"


@contextmanager
def _meanwhile(trial: Trial) -> Iterator[list[Reply]]:
    """Send ten valid deliveries a second as long as the block runs; the list is complete after it."""
    over, replies = threading.Event(), list[Reply]()

    def send() -> None:
        while not over.wait(0.1):
            replies.append(trial.send(trial.signed()))

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            yield replies
        finally:
            over.set()
        sending.result()


def _trickle(selector: selectors.BaseSelector, until: float) -> None:
    """Send a byte a second on each connection, and drop those that the other side has ended."""
    while selector.get_map() and time.monotonic() < until:
        beat = time.monotonic() + 1
        for key in list(selector.get_map().values()):
            _attempt(selector, key.fileobj, lambda connection: connection.send(b"x"))
        while (left := min(beat, until) - time.monotonic()) > 0 and selector.get_map():
            for key, _ in selector.select(left):
                _attempt(selector, key.fileobj, _still_open)


def _attempt(selector: selectors.BaseSelector, connection: object, what: Callable[[socket.socket], object]) -> None:
    assert isinstance(connection, socket.socket)  # noqa: S101 - what was registered
    try:
        what(connection)
    except OSError:
        selector.unregister(connection)


def _still_open(connection: socket.socket) -> None:
    """Raise OSError once the other side has said its last."""
    if not connection.recv(4096):
        raise ConnectionResetError
