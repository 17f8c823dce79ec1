"""Appends to a spool without a pause, and prints each record's number once it is acknowledged; to be killed."""

import random
import sys
import time
from itertools import count
from pathlib import Path

from receiver.outage.spool import Spool

if __name__ == "__main__":
    spool = Spool(Path(sys.argv[1]))
    for number in count():
        row = {"event_id": str(number), "occurred_at": None, "body": random.randbytes(random.randrange(20_000))}
        spool.append([(time.time(), row, False)])
        print(number, flush=True)  # noqa: T201 - to whom it acknowledges
