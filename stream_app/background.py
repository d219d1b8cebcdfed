"""`up` in the background: started for a command that ends, found again and stopped by another one."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream_app.errors import Misconfigured, Outage

#: In the storage folder: held locked by the `up` that works on it, with its process id in it.
PID_FILE: Final = "up.pid"
#: In the storage folder: the process id of an `up` that was started in the background.
STARTED_FILE: Final = "up.background"
#: Seconds that it may take to start, and to end.
START_S: Final = 30.0
STOP_S: Final = 30.0


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the one `up` of a folder; raises Misconfigured while there is another: it would take the broker from it."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(root / PID_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _lock(descriptor):
            raise Misconfigured(
                f"storage.root = {root}: another `stream-app up` is running on it; expected a folder of its own"
            )
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def running(root: Path) -> int | None:
    """Return the process id of the `up` that works on a folder, None if there is none."""
    try:
        descriptor = os.open(root / PID_FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        # the system gives the lock back when its holder dies, so an old number in the file misleads nobody
        return None if _lock(descriptor) else int(os.pread(descriptor, 20, 0) or 0)
    finally:
        os.close(descriptor)


def start(root: Path, arguments: Sequence[str]) -> int:
    """Start `stream-app up` with these arguments, to outlive us, and return its process id once it holds the folder.

    What it prints goes to `logs/up.log` in the folder. Raises Outage if it ends before, with the log's last line.
    """
    log = root / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "stream_app", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C here, and the end of this terminal, are not meant for it
        )
    deadline = time.monotonic() + START_S
    while running(root) != process.pid:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise Outage(f"`stream-app up` did not start: {said[-1] if said else 'it said nothing'} (see {log})")
        time.sleep(0.05)
    (root / STARTED_FILE).write_text(str(process.pid), encoding="ascii")
    return process.pid


def stop(root: Path) -> bool:
    """End an `up` that `start` began, and wait for it; False if there is none. Raises Outage if it does not end."""
    mark = root / STARTED_FILE
    process = running(root)
    if process is None or not mark.exists() or mark.read_text(encoding="ascii") != str(process):
        return False
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while running(root) == process:
        if time.monotonic() > deadline:
            raise Outage(f"`stream-app up`, process {process}, did not end within {STOP_S:g} s")
        time.sleep(0.05)
    mark.unlink()
    return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
