"""Our worker as a user runs it: a settings file, a process, and what its database says afterwards.

Nothing of the package is imported: what a stopwatch measures must not be read off the measured part's own clock
alone. The end of a run is the moment at which another process can read it from the database.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import rows

CACHE: Final = rows.ROOT / ".cache" / "bench"
#: Seconds between two looks at the database. The end is seen up to so much late, which counts against us.
LOOK_S: Final = 0.02
#: Seconds until a process that should have got somewhere is given up.
PATIENCE_S: Final = 600.0

SETTINGS: Final = """\
[kafka]
bootstrap_servers = "{bootstrap}"
session_timeout_s = 10
[kafka.topics]
ground_truth = "{topic}"
model_updated = "{topic}-updated"
learning_events = "{topic}-events"
predictions = "{topic}-predictions"
feedback = "{topic}-feedback"
[storage]
root = "{store}"
[http]
worker_port = {worker_port}
trainer_port = {trainer_port}
[log]
level = "warning"
[models.{model}]
task = "binary"
target = "{target}"
data = "{data}"
{more}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A settings file over fresh storage, below the checkout: what is measured as durable must not lie in memory."""

    folder: Path
    worker_port: int

    @property
    def database(self) -> Path:
        """The database that the worker makes."""
        return self.folder / "store" / "stream_app.db"

    @contextmanager
    def process(self, command: str) -> Iterator[psutil.Popen]:
        """Yield a running command with a consumer group of its own; killed at the end, if it still runs.

        A fresh group, because a killed member would hold up the next one until the session timeout: what a
        restart does with the log is measured, not how long Kafka waits.
        """
        arguments = ["--config", str(self.folder / "stream_app.toml"), "--set", f"kafka.group_id={uuid.uuid4().hex}"]
        with psutil.Popen([*stream_app(), command, *arguments], cwd=self.folder, env=environment()) as process:
            try:
                yield process
            finally:
                kill(process)


@contextmanager
def site(bootstrap: str, topic: str, *more: str) -> Iterator[Site]:
    """Yield a fresh site whose model reads the topic; its folder goes at the end."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="site-") as name:
        folder = Path(name)
        worker_port, trainer_port = free_ports(2)
        text = SETTINGS.format(
            bootstrap=bootstrap, topic=topic, store=folder / "store", worker_port=worker_port,
            trainer_port=trainer_port, model=rows.MODEL, target=rows.TARGET, data=rows.FILE, more="\n".join(more),
        )  # fmt: skip
        (folder / "stream_app.toml").write_text(text)
        create = [*stream_app(), "topics", "create", "--config", str(folder / "stream_app.toml")]
        subprocess.run(create, check=True, env=environment(), stderr=subprocess.DEVNULL)
        yield Site(folder=folder, worker_port=worker_port)


def stream_app() -> list[str]:
    """Return the command line of our program in this environment."""
    return [sys.executable, "-m", "stream_app"]


def environment() -> dict[str, str]:
    """Return an environment in which the package is found and no setting of the caller's shell counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")}
    return {**kept, "PYTHONPATH": str(rows.ROOT)}


def kill(process: psutil.Popen) -> None:
    """End a process as a power cut would; one that has ended already is left alone."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def wait_until(process: psutil.Popen, holds: Callable[[], object], *, what: str) -> float:
    """Look until `holds()`, and return when that was; raises RuntimeError when the process ends or time is up."""
    deadline = time.time() + PATIENCE_S
    while not holds():
        if process.poll() is not None:
            raise RuntimeError(f"{what}: the process ended before, with code {process.returncode}")
        if time.time() > deadline:
            raise RuntimeError(f"{what}: not within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)
    return time.time()


def is_ready(port: int) -> bool:
    """Return whether /readyz says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Log:
    """The worker's database, read from outside while it writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def learned(self) -> int:
        """Return the rows of all windows whose effects are durable: committed, folded, and their scores stored."""
        query = (
            "SELECT w.rows_total FROM models m JOIN windows w ON w.model = m.name AND w.seq = m.effects_seq "
            "WHERE m.name = ?"
        )
        found = self.one(query, rows.MODEL)
        return 0 if found is None else int(found[0])

    def first_window(self, *, after: int = 0) -> tuple[float, int]:
        """Return (closed_at, rows up to its end) of the first window beyond `after` rows."""
        query = (
            "SELECT closed_at, rows_total FROM windows WHERE model = ? AND row_count > 0 AND rows_total > ? "
            "ORDER BY seq LIMIT 1"
        )
        closed_at, total = self.one(query, rows.MODEL, after) or (0.0, 0)
        return float(closed_at), int(total)

    def scores(self) -> dict[str, Any]:
        """Return the newest metrics row."""
        found = self.one("SELECT body FROM metrics WHERE model = ? ORDER BY seq DESC LIMIT 1", rows.MODEL)
        return dict(json.loads(found[0])) if found else {}

    def rows_behind_checkpoint(self) -> int:
        """Return how many rows a recovery has to fold."""
        query = (
            "SELECT COALESCE(SUM(row_count), 0) FROM windows WHERE model = ?1 AND seq > "
            "(SELECT COALESCE(MAX(seq), 0) FROM checkpoints WHERE model = ?1 AND broken IS NULL)"
        )
        found = self.one(query, rows.MODEL)
        return int(found[0]) if found else 0

    def retraining(self, since: float, until: float) -> float:
        """Return the share of the time between two moments in which a retrain was running."""
        query = "SELECT MAX(started_at, ?), MIN(COALESCE(finished_at, ?), ?) FROM jobs WHERE started_at IS NOT NULL"
        spans = self.all(query, since, until, until)
        return float(sum(max(0.0, end - start) for start, end in spans) / (until - since))

    def one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row, None when there is none or the tables are not there yet."""
        return next(iter(self.all(query, *values)), None)

    def all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows."""
        if not self._path.exists():
            return []
        # a connection for each look: one that stays open would keep the write-ahead log from being reset
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)) as connection:
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise
