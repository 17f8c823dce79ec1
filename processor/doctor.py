"""What keeps a processor from working, or will: its configuration, then the database."""

from collections.abc import Iterable, Iterator, Mapping

from processor.registry import HANDLERS, BadHandlers, load
from sql import checkup
from sql.checkup import FAIL, OK, Finding


def examine(environ: Mapping[str, str], modules: Iterable[str]) -> Iterator[Finding]:
    """Yield every finding, of what `processor run --handlers` with these modules would meet."""
    try:
        load(modules)
    except BadHandlers as error:
        yield Finding(FAIL, "handlers", str(error))
    else:
        types = len({event_type for handler in HANDLERS for event_type in handler.event_types})
        yield Finding(OK, "handlers", f"{len(HANDLERS)} for {types} event types")
    yield from checkup.examine(environ, "inbox-doctor")
