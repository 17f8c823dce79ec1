"""A handler of the benchmarks' deliveries that does nothing."""

from processor import on


@on("call.ringing")
def do_nothing(event: object, conn: object) -> None:
    """Handle a call that rings."""
