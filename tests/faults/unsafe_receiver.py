"""The receiver with a spool that does not wait for its disk, for the control run of a power cut."""

from receiver import cli
from receiver.outage import spool

SAFE, UNSAFE = "PRAGMA synchronous = FULL;", "PRAGMA synchronous = OFF;"

if __name__ == "__main__":
    if SAFE not in spool.SETTINGS:
        raise SystemExit(f"receiver/outage/spool.py: expected {SAFE!r} in SETTINGS, got {spool.SETTINGS!r}")
    spool.SETTINGS = spool.SETTINGS.replace(SAFE, UNSAFE)
    cli.main()
