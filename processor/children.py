"""Commands that we start, and that don't outlive us; sql/fork.py has those that are forked."""

import signal
from typing import Any

from sql.fork import tie_to_us


def ended_with_us(number: signal.Signals) -> dict[str, Any]:
    """Return Popen's options for a child in a session of its own that gets signal *number* when we die.

    The last is Linux's alone. It takes the end of the thread that starts a child for its parent's death:
    start children from a thread that outlives them, best the main one.
    """
    # preexec_fn runs after the change of user, which would undo it.
    return {"start_new_session": True, "preexec_fn": tie_to_us(number)}
