"""The receiver with a spool that does not wait for its disk, for the control run of a power cut."""

from receiver import cli
from receiver.outage import file

SAFE, UNSAFE = "PRAGMA synchronous = FULL;", "PRAGMA synchronous = OFF;"

if __name__ == "__main__":
    if SAFE not in file.SETTINGS:
        raise SystemExit(f"receiver/outage/file.py: expected {SAFE!r} in SETTINGS, got {file.SETTINGS!r}")
    file.SETTINGS = file.SETTINGS.replace(SAFE, UNSAFE)
    cli.main()
