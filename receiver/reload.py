"""SIGHUP: read the sources and their secrets again, without a restart.

All or nothing: with a fault anywhere the old sources go on, and the log has each fault. Files are read anew,
WEBHOOK_SOURCES and those that it names; a process's environment can't be changed from outside.
"""

import logging
import os
import signal
from collections.abc import Mapping
from threading import Lock, Thread

from receiver.door import Door
from receiver.settings import BadSettings, sources_from

log = logging.getLogger("receiver")

ONE_AT_A_TIME = Lock()  # so that of two the later one reads last


def on_hangup(door: Door) -> None:
    """Reload at each SIGHUP from now on. Only in the main thread.

    In a thread of its own: a handler runs in the middle of anything, a log line included, and requests don't wait
    for files.
    """
    signal.signal(signal.SIGHUP, lambda *_: Thread(target=reload, args=[door, os.environ]).start())


def reload(door: Door, environ: Mapping[str, str]) -> bool:
    """Have *door* use the sources that *environ* names now; return whether it does."""
    with ONE_AT_A_TIME:
        try:
            sources = sources_from(environ)
        except BadSettings as error:
            for fault in error.faults:
                log.error("reload refused fault=%s", fault)
            log.error("reload refused faults=%d; the old sources go on", len(error.faults))
            return False
        door.use(sources)
    log.info("reloaded sources=%d secrets=%d", len(sources), sum(len(source.secrets) for source in sources))
    return True
