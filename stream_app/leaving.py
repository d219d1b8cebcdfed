"""When a service's process ends: on signals, from its first moment, and together with the process that started it."""

import ctypes
import os
import signal
import threading
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
#: Seconds between two looks at who our parent is, where the kernel does not tell.
_LOOK_EVERY_S: Final = 1.0


def asking() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a service to end, the closing of its terminal (SIGHUP) among them.

    Not when SIGHUP is ignored from the start: that is how `nohup` says that the service shall stay.
    """
    stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT) if stays else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def leave_at_once() -> None:
    """Have SIGTERM and SIGHUP end this process with exit code 0, until `stop_event` or an event loop takes them over.

    Meant for the seconds of imports and set-up. What they store is stored whole or not at all, since a crash may
    come at any time, too; so nobody has to wait for them. A thread ends the process: a handler in Python would wait
    for a call that blocks in C, which for a broker that does not answer is seconds.
    """
    hears, tells = os.pipe()
    os.set_blocking(tells, False)
    # what Python writes to the pipe is the number of each signal that has a handler, whatever the main thread does
    signal.set_wakeup_fd(tells)
    # Ctrl-C stays Python's: while a service starts it ends it with 130
    awaited = frozenset(asking()) - {signal.SIGINT}
    for number in awaited:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_await, args=(awaited, hears), name="leave-at-once", daemon=True).start()


def _await(awaited: frozenset[signal.Signals], hears: int) -> None:
    while awaited.isdisjoint(os.read(hears, 64)):
        pass
    os._exit(0)


def stop_event() -> threading.Event:
    """Return an event that SIGTERM, SIGINT and SIGHUP set from now on."""
    stop = threading.Event()
    for number in asking():
        signal.signal(number, lambda *_: stop.set())
    # last: a signal that came before it found either a handler or the thread that leaves at once
    signal.set_wakeup_fd(-1)
    return stop


def end_with(parent: int, number: signal.Signals) -> None:
    """Get the signal when the process `parent`, which started us, ends; at once if it has ended already.

    The kernel sends it where it can (Linux), else a thread of ours looks. To Linux the parent is the thread that
    started us: one that ends takes us along.
    """
    if not _ask_kernel(number):
        threading.Thread(target=_watch, args=(parent, number), name="end-with-parent", daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _ask_kernel(number: signal.Signals) -> bool:
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except AttributeError:
        return False
    if prctl(_PR_SET_PDEATHSIG, int(number)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return True


def _watch(parent: int, number: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), number)
