"""How long a failed event waits."""

import random
from datetime import timedelta


def backoff(attempt: int, *, base: float = 5.0, ceiling: float = 3600.0) -> timedelta:
    """Return the wait after failed *attempt* (1 = first): base x 2^(attempt-1) seconds, at most *ceiling*.

    Spread by +/-10 % after that, so that events which failed together part.
    """
    seconds = min(ceiling, base * 2.0 ** min(attempt - 1, 60))
    return timedelta(seconds=seconds * random.uniform(0.9, 1.1))  # noqa: S311 - not for secrecy
