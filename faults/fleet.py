"""Worker processes: started, killed in every way, started again, and their exits written down."""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: What a process is started with: a module that takes the arguments of `stream-app`.
HONEST: Final = ("-m", "stream_app")
#: How soon the fleet looks after its workers.
LOOK_S: Final = 0.1


def wait_until(holds: Callable[[], bool], within_s: float, *, meanwhile: Callable[[], object] = lambda: None) -> bool:
    """Poll until it holds, or return False when the time is over."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        meanwhile()
        time.sleep(LOOK_S)
    return True


@dataclass(slots=True)
class Worker:
    """One process of the fleet."""

    arguments: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    entry: Sequence[str] = HONEST
    #: port of its health answers
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False

    def start(self) -> None:
        """Start it; its output is added to its log."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, *self.entry, *self.arguments],
                cwd=ROOT,
                env={**clean, "PYTHONPATH": str(ROOT), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # however the suite itself ends, no worker outlives it, least of all a stopped one
        atexit.register(self.process.kill)
        self.stopped = False

    @property
    def pid(self) -> int:
        """The process's id, 0 before the first start."""
        return self.process.pid if self.process else 0

    def send(self, signal_: signal.Signals) -> bool:
        """Send a signal; return whether the process was there to receive it."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.send_signal(signal_)
        self.stopped = signal_ == signal.SIGSTOP or (self.stopped and signal_ != signal.SIGCONT)
        return True

    def wait(self, within_s: float) -> int | None:
        """Return the exit code, None when it still runs after that time."""
        try:
            return None if self.process is None else self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    def is_ready(self) -> bool:
        """Ask it."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:  # not there yet, or 503
            return False

    def is_asleep(self) -> bool:
        """Tell whether the kernel has stopped the process."""
        if self.process is None or self.process.poll() is not None:
            return False
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def ask_to_leave(self) -> None:
        """Wake it and send SIGTERM, once: a second one would end a process that is on its way out."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)

    def end(self, within_s: float = 15.0) -> int | None:
        """Ask it to leave; see `leave`."""
        self.ask_to_leave()
        return self.leave(within_s)

    def leave(self, within_s: float = 15.0) -> int | None:
        """Return the exit code; kill it if it has not left by then, and return None."""
        code = self.wait(within_s)
        if code is None and self.process is not None:
            self.process.kill()
            self.process.wait()
        return code


class Fleet:
    """Workers of one group over one storage."""

    def __init__(self, count: int, config: Path, folder: Path, entry: Sequence[str] = HONEST) -> None:
        self.workers = [
            Worker(
                ["worker", "--config", str(config), "--set", f"http.worker_port={port}"],
                folder / f"worker-{i}.log",
                entry=entry,
                port=port,
            )
            for i, port in enumerate(_free_ports(count))
        ]
        #: by exit code, negative for signals
        self.exits: Counter[int] = Counter()
        self.starts = 0

    def start(self) -> None:
        """Start all."""
        for worker in self.workers:
            worker.start()
            self.starts += 1

    def look(self) -> None:
        """Start again what has ended."""
        for worker in self.workers:
            code = worker.wait(0)
            if code is not None:
                self.exits[code] += 1
                worker.start()
                self.starts += 1

    def ready(self) -> int:
        """Return how many say that they are ready."""
        return sum(worker.is_ready() for worker in self.workers)

    def end(self) -> list[int | None]:
        """End all and return their exit codes; None is one that had to be killed."""
        for worker in self.workers:
            worker.ask_to_leave()
        codes = [worker.leave() for worker in self.workers]
        self.exits.update(code for code in codes if code is not None)
        return codes


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
