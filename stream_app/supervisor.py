"""Child processes that are kept running: what `up` and `demo` stand on."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from stream_app.exits import HOPELESS

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
#: A child that ran for so long starts again at once, and with the first pause after that.
HEALTHY_S: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Child:
    """One command of ours as a process, started again when it ends."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: file that gets what it prints; None: our standard error
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    _started_at: float = 0.0
    _pause_s: float = FIRST_PAUSE_S
    _start_after: float = 0.0

    def start(self) -> None:
        """Start the process; its standard output joins its standard error, ours being for data."""
        with self._output() as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                # they end with us, even if we are killed: left alone they would work on, and hold their ports
                [sys.executable, "-m", "stream_app.supervised", str(os.getpid()), *self.arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches us only: we stop our children in order
            )
        self.starts += 1
        self._started_at = time.monotonic()

    @contextmanager
    def _output(self) -> Iterator[IO[bytes] | int]:
        if self.log is None:
            yield sys.stderr.fileno()
            return
        with self.log.open("ab") as file:
            yield file

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()

    def terminate(self) -> None:
        """Ask it to finish."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, deadline: float) -> int | None:
        """Return the exit code, killing it when the deadline (monotonic seconds) has passed."""
        if self.process is None:
            return None
        try:
            return self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()

    def look(self) -> int | None:
        """Start it again if it ended and its pause is over; return the exit code if that is hopeless."""
        now = time.monotonic()
        if self.process is None or self.process.poll() is None:
            return None
        ended = {"child": self.name, "exit_code": self.process.returncode}
        if self.process.returncode in HOPELESS:
            _log.error("a process ended and is given up: starting it again would not help", extra=ended)
            return self.process.returncode
        if not self._start_after:
            if now - self._started_at >= HEALTHY_S:
                self._pause_s = FIRST_PAUSE_S
            again = {"restart": self.starts, "pause_s": self._pause_s}
            _log.warning("a process ended and is started again", extra=ended | again)
            self._start_after = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        if now >= self._start_after:
            self._start_after = 0.0
            self.start()
        return None


class Supervisor:
    """Keeps children running until told to stop."""

    def __init__(self, children: Sequence[Child], *, stop_within_s: float = 15.0) -> None:
        self.children = children
        self._stop_within_s = stop_within_s

    def start(self) -> None:
        """Start all children."""
        for child in self.children:
            child.start()

    def look(self) -> int | None:
        """Start again what ended; return the exit code of a child that cannot be helped."""
        codes = [child.look() for child in self.children]
        return next((code for code in codes if code is not None), None)

    def run(self, stopped: Callable[[float], bool]) -> int:
        """Look after the children until `stopped(seconds to wait)` is true; return our exit code."""
        while not stopped(0.1):
            code = self.look()
            if code is not None:
                return code
        return 0

    def stop(self) -> None:
        """Ask all to finish, and end what does not within the time given."""
        deadline = time.monotonic() + self._stop_within_s
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait(deadline)
