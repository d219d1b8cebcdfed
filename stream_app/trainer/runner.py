"""Running one retrain in a spawned process: start it, hear it, end it in time, and say precisely how it ended."""

import logging
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from stream_app.trainer.order import MayGoOn, Opening, Order, Result
from stream_app.values import JobStatus

_LOG = logging.getLogger(__name__)
_MODULE: Final = "stream_app.trainer.child"
#: How often the process is looked at while it says nothing.
TICK_S: Final = 0.2
#: How long it may take to end by itself after SIGTERM.
GRACE_S: Final = 5.0
#: Ends its process group when it reads the end of a pipe that only we hold open.
_GUARD: Final = ("/bin/sh", "-c", "trap '' TERM; read -r _; kill -KILL 0")
#: Threads that numerical libraries start by themselves, whatever joblib is told.
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It came to no verdict."""

    #: a word: "timeout", "memory", "crash", or the class of the error
    kind: str
    reason: str
    #: whether another try may end otherwise
    may_repeat: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """It was told to stop."""


Ending: TypeAlias = Result | Failed | Stopped


class Runner:
    """Runs retrains, one at a time and each in a process of its own."""

    def __init__(self, opening: Opening, *, logs: Path, grace_s: float = GRACE_S) -> None:
        """`opening` is pickled by reference: a function of a module, or a `functools.partial` of one.

        `logs` is the folder of the jobs' log files, `<id>.log`.
        """
        self._opening = opening
        self._logs = logs
        self._grace_s = grace_s

    def log_of(self, job_id: int) -> Path:
        """Return where what a job's processes print is kept."""
        return self._logs / f"{job_id}.log"

    def output(self, job_id: int) -> str:
        """Return what a job's processes have printed and said so far, "" before the first."""
        log = self.log_of(job_id)
        return log.read_text(errors="replace") if log.exists() else ""

    def run(self, order: Order, may_go_on: MayGoOn) -> Ending:
        """Run the order; blocks until its process has ended, in the thread that must outlive it.

        `may_go_on` is asked several times a second; once it says no, or after the time limit of the settings,
        the process and all that it started are ended: SIGTERM, some seconds, SIGKILL. They also end if we die.
        """
        timeout_s = order.trainee.settings.retrain.timeout_s
        with self._started(order) as process:
            return process.attend(may_go_on, timeout_s)

    @contextmanager
    def _started(self, order: Order) -> Iterator["_Process"]:
        self._logs.mkdir(parents=True, exist_ok=True)
        hears, tells = os.pipe()
        with self.log_of(order.job.id).open("ab") as log, open(hears, "rb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor
            try:
                process = self._spawn(order, tells, log.fileno())
            finally:
                os.close(tells)
            started = _Process(process, pipe.fileno(), self._grace_s, self.log_of(order.job.id))
            try:
                started.guard()
                started.instruct(pickle.dumps((self._opening, order)))
                yield started
            finally:
                started.end()

    def _spawn(self, order: Order, tells: int, log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", _MODULE, str(os.getpid()), str(tells)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(tells,),
            process_group=0,  # what it starts is ended with it, and a Ctrl-C for us does not reach it
            env=_environment(order.trainee.settings.retrain.n_jobs),
        )


def _environment(n_jobs: int) -> Mapping[str, str]:
    """Return the child's environment.

    Without a limit histogram boosting alone takes every core, and on a busy machine its threads wait for each
    other: tests on 400 rows took 7 s instead of 0.2. Arrow's own allocator reserves a gigabyte at its first use,
    which a limit of memory would count.
    """
    threads = dict.fromkeys(_THREADS, str(n_jobs)) if n_jobs > 0 else {}
    return {**os.environ, **threads, "ARROW_DEFAULT_MEMORY_POOL": "system"}


class _Process:
    """A running retrain and its process group."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int, grace_s: float, log: Path) -> None:
        os.set_blocking(pipe, False)
        self._process = process
        self._pipe = pipe
        self._grace_s = grace_s
        self._log = log
        self._guard: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._ending: Ending | None = None

    def guard(self) -> None:
        """Have the whole group die with us, however we die.

        The kernel kills the process itself when its parent dies, but not what it started: workers of joblib
        would go on fitting a model that nobody waits for.
        """
        self._guard = subprocess.Popen(  # noqa: S603 - our own words
            _GUARD, stdin=subprocess.PIPE, process_group=self._process.pid
        )

    def instruct(self, order: bytes) -> None:
        """Hand the order over; a process that died before it could listen is found out by `attend`."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for as a pipe
        try:
            with self._process.stdin as stdin:
                stdin.write(order)
        except BrokenPipeError:
            _LOG.debug("process %d did not listen", self._process.pid)

    def attend(self, may_go_on: MayGoOn, timeout_s: float) -> Ending:
        """Listen until it has ended or must end."""
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while not self._has_ended():
                if time.monotonic() >= deadline:
                    return Failed(kind="timeout", reason=f"ended after the limit of {timeout_s:g} s", may_repeat=False)
                if not may_go_on():
                    return Stopped()
                if selector.select(TICK_S) and not self._listen():
                    selector.unregister(self._pipe)
        while self._listen():
            pass
        return self._ending or self._crashed()

    def _has_ended(self) -> bool:
        # Not reaped: as long as the leader is there, nobody else can get the number of its group.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def _listen(self) -> bool:
        """Take in what was said; False when there is nothing."""
        try:
            said = os.read(self._pipe, 65_536)
        except BlockingIOError:  # somebody that it started still holds the other end
            return False
        *lines, self._unread = (self._unread + said).split(b"\n")
        for line in lines:
            self._take(orjson.loads(line))
        return bool(said)

    def _take(self, report: Mapping[str, Any]) -> None:
        if "say" in report:
            _LOG.info("%s", report["say"], extra={"pid": self._process.pid})
            with self._log.open("a", encoding="utf-8") as log:  # beside what it prints itself
                log.write(f"{report['say']}\n")
        elif "result" in report:
            result = report["result"]
            self._ending = Result(**result | {"status": JobStatus(result["status"])})
        else:
            self._ending = _failure(**report["failure"])

    def _crashed(self) -> Failed:
        code = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        assert code is not None  # noqa: S101 - only WNOHANG gives None
        if code.si_code == os.CLD_EXITED:
            how = f"exited with code {code.si_status}"
        else:
            how = f"was killed by {signal.Signals(code.si_status).name}"
        reason = f"the process {how} without a verdict; its last words are in {self._log}"
        return Failed(kind="crash", reason=reason, may_repeat=True)

    def end(self) -> None:
        """End the process and everything that it started, whatever state they are in."""
        if not self._has_ended():
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + self._grace_s
            while not self._has_ended() and time.monotonic() < deadline:
                time.sleep(TICK_S / 4)
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._guard is not None:
            self._guard.communicate()

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)


def _failure(kind: str, reason: str) -> Failed:
    if kind == "memory":
        return Failed(kind=kind, reason=f"more memory was needed than it may have: {reason}", may_repeat=False)
    return Failed(kind=kind, reason=reason, may_repeat=kind == "Outage")
