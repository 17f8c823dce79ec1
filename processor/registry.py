"""Which functions an event goes to. Filled by ``@on`` as the handlers' modules are imported."""

import inspect
import os
import pkgutil
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from processor.event import Event

Function = Callable[..., Any]  # (event, conn), (events, conn) for a batch handler, (event) for one that is outside
F = TypeVar("F", bound=Function)
Kind = tuple[str, str | None, str | None]  # of events: type, provider, source; None: any
MAX_ATTEMPTS = 12


class BadHandlers(Exception):
    """A handlers' module can't be used; a processor without it would call its events unknown."""


@dataclass(frozen=True, eq=False)
class Handler:
    """One registered function, and the events it is for."""

    function: Function
    event_types: tuple[str, ...]
    provider: str | None
    source: str | None
    max_attempts: int
    timeout: float | None
    skip_after: float | None
    outside: bool
    version: str
    batch: bool = False

    @property
    def name(self) -> str:
        """``module.function``."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def takes(self, event: Event) -> bool:
        """Tell whether *event* is this handler's."""
        return (
            event.event_type in self.event_types
            and self.provider in (None, event.provider)
            and self.source in (None, event.source)
        )


HANDLERS: list[Handler] = []


def on(  # noqa: PLR0913 - one argument an option
    *event_types: str,
    provider: str | None = None,
    source: str | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    timeout: float | None = None,
    skip_after: float | None = None,
    outside: bool = False,
    batch: bool = False,
) -> Callable[[F], F]:
    """Register a function ``handler(event, conn)`` for these event types.

    ``handler(event)`` with *outside*, ``handler(events, conn)`` with *batch*.

    Several functions for one event run in the order of their registration, in one transaction with its
    processed_at: all of their writes on *conn* are committed, or none. A function answers by returning
    (done), by raising RetryLater or Discard, or by raising anything else: then the event is attempted
    again after a backoff, and is a dead letter after *max_attempts* attempts. One that takes more than *timeout*
    seconds (None: `processor run --handler-timeout`) has its process killed, and that attempt counted.

    In one attempt a function may be called again, what it wrote undone first: where the transaction lost to another, or
    an event behind it failed within the few milliseconds that they shared. So a call to another service belongs
    into an outside function.

    A failing event holds back the later ones of its subject until it succeeds or is dead, or until *skip_after*
    seconds have passed since it first failed.

    *outside*: for one that calls other services. It runs in no transaction, concurrently with others, at least
    once: give the service ``event.key`` as its idempotency key. It may return a function of a connection, whose
    writes are committed with processed_at; anything else is ignored. An event's other handlers run after its outside
    ones. Past its timeout (their sum, where there are several) it is given up: its thread ends with its process,
    which is replaced once the other events in hand are done.

    *batch*: for set-based SQL. It is given a list: of the due events that are for no other handler as many as may run
    together, those of one subject in their order. Returning, it has handled them all. If it raises or answers anything,
    what it wrote is rolled back, no attempt is spent, and it is called again with each event alone, as a list of one:
    then it counts. *timeout* is the call's; past it nobody is blamed, and each event of the batch is run alone next.

    Raises TypeError for a function that isn't a plain ``def`` of so many arguments.
    """
    if not event_types or not all(isinstance(event_type, str) and event_type for event_type in event_types):
        raise TypeError(f"@on: expected at least one event type as text, got {event_types!r}")
    if max_attempts < 1 or (timeout is not None and not timeout > 0):
        raise TypeError(f"@on: expected max_attempts >= 1 and timeout > 0, got {max_attempts!r} and {timeout!r}")
    if skip_after is not None and not skip_after >= 0:
        raise TypeError(f"@on: expected skip_after >= 0 seconds, or None to block, got {skip_after!r}")

    if outside and batch:
        raise TypeError("@on: expected outside or batch, got both; an outside handler runs concurrently with others")

    def register(function: F) -> F:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"@on: expected a plain def, got an async or generator function {function.__qualname__!r}")
        try:
            inspect.signature(function).bind(*[None] * (1 if outside else 2))
        except TypeError:
            expected = "(event), since it is outside" if outside else "(events, conn)" if batch else "(event, conn)"
            raise TypeError(f"@on: expected def {function.__qualname__}{expected}") from None
        version = os.environ.get("HANDLERS_VERSION", "").strip() or _digest(function)
        HANDLERS.append(
            Handler(function, event_types, provider, source, max_attempts, timeout, skip_after, outside, version, batch)
        )
        return function

    return register


def outside_types() -> list[str]:
    """Return the event types that go to an outside handler, of whatever provider and source."""
    return sorted({event_type for handler in HANDLERS if handler.outside for event_type in handler.event_types})


def _digest(function: Function) -> str:
    """Return a short digest of the file that holds a handler: its version, where the deployment names none."""
    try:
        return sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()[:12]
    except (OSError, TypeError):
        return "unknown"


def handlers_of(event: Event) -> list[Handler]:
    """Return the handlers that *event* goes to, in the order of their registration."""
    return [handler for handler in HANDLERS if handler.takes(event)]


def longest(default: float) -> float:
    """Return the most seconds that an event's handlers may take together, *default* for each without a timeout."""
    taken: dict[str, float] = defaultdict(float)
    for handler in HANDLERS:
        for event_type in set(handler.event_types):
            taken[event_type] += handler.timeout or default
    return max(taken.values(), default=default)


def load(modules: Iterable[str]) -> None:
    """Import each module, and a package's modules with it; the current directory is looked in first.

    Raises BadHandlers for one that can't be imported, or that registers nothing.
    """
    modules = [name for name in modules if name.strip()]
    if not modules:
        raise BadHandlers("no handlers: name a package or module with @on functions; --handlers, or HANDLERS")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    for name in modules:
        try:
            module = import_module(name)
            for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
                import_module(f"{name}.{found.name}")
        except Exception as error:
            *_, last = traceback.extract_tb(error.__traceback__)
            where = f"{last.filename}:{last.lineno}"
            missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
            hint = "; name a module or package that is installed or in the current directory" if missing else ""
            raise BadHandlers(
                f"handlers {name!r}: can't be imported: {type(error).__name__}: {error} ({where}){hint}"
            ) from error
        if not any(f"{handler.function.__module__}.".startswith(f"{name}.") for handler in HANDLERS):
            raise BadHandlers(f"handlers {name!r}: registers no handler; add one with @on")
