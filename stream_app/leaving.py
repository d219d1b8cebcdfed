"""SIGTERM, from the first moment of a service's process: it ends at once while there is nothing to end with care."""

import os
import signal
import threading
from typing import Final

_ASKED: Final = (signal.SIGTERM, signal.SIGINT)


def leave_at_once() -> None:
    """Have SIGTERM end this process with exit code 0, until `stop_event` or an event loop takes signals over.

    Meant for the seconds of imports and set-up. What they store is stored whole or not at all, since a crash may
    come at any time, too; so nobody has to wait for them. A thread ends the process: a handler in Python would wait
    for a call that blocks in C, which for a broker that does not answer is seconds.
    """
    hears, tells = os.pipe()
    os.set_blocking(tells, False)
    # what Python writes to the pipe is the number of each signal that has a handler, whatever the main thread does
    signal.set_wakeup_fd(tells)
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_await_sigterm, args=(hears,), name="leave-at-once", daemon=True).start()


def _await_sigterm(hears: int) -> None:
    while signal.SIGTERM not in os.read(hears, 64):
        pass
    os._exit(0)


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on."""
    stop = threading.Event()
    for number in _ASKED:
        signal.signal(number, lambda *_: stop.set())
    # last: a signal that came before it found either a handler or the thread that leaves at once
    signal.set_wakeup_fd(-1)
    return stop
