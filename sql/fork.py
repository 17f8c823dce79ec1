"""Processes of our own that don't outlive us, and that Ctrl-C in our terminal leaves to us.

It stands in this room because it is the only one that the receiver and the processor both may import.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGTERM, signal.SIGINT)

OnSignal = Callable[[int, FrameType | None], object] | signal.Handlers


def fork(work: Callable[[], int], end: signal.Signals = signal.SIGKILL) -> int:
    """Start a process of our own that does *work*, which returns its exit code, and return its pid.

    It is in a session of its own, and gets signal *end* when we die. SIGTERM and SIGINT are held back from it until
    *work* calls hear(): by our handlers, a signal that both had seen would be its second. Nothing that *work* raises
    gets out.
    """
    tie = tie_to_us(end)
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            if tie:
                tie()
            code = work()
        finally:
            sys.stderr.flush()
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def hear(on_signal: OnSignal) -> None:
    """Have SIGTERM and SIGINT do that in this process from now on."""
    for number in SIGNALS:
        signal.signal(number, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def tie_to_us(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child of ours calls to get signal *number* when we die; None where the system has no such thing.

    To be made before the fork: what it looks up may not be looked up after it.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def end_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return end_with_parent
