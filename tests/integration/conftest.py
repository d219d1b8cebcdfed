"""Workers in processes of their own, and what they recorded."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("recording_worker.py")
ROOT = SCRIPT.parent.parent.parent


@dataclass
class Recording:
    """What all workers of a test recorded, in one file."""

    bootstrap: str
    group: str
    topic: str
    file: Path
    logs: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, **options: str | float | dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a worker; its output goes to `output()`."""
        named = {"bootstrap": self.bootstrap, "group": self.group, "topic": self.topic, "file": str(self.file)}
        with (self.logs / f"worker-{len(self.workers)}.log").open("wb") as log:
            command = [sys.executable, "-W", "error", str(SCRIPT), json.dumps(named | options)]
            worker = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
        self.workers.append(worker)
        return worker

    def output(self, number: int = -1) -> str:
        """Return what the worker wrote."""
        number = range(len(self.workers))[number]
        return (self.logs / f"worker-{number}.log").read_text()

    def stop(self, worker: subprocess.Popen[bytes]) -> int:
        """Ask a worker to leave and return its exit code; it has 10 seconds."""
        worker.send_signal(signal.SIGTERM)
        return worker.wait(10)

    def rows(self) -> list[tuple[str, int, int, str, str, str]]:
        """Return (topic, number, offset, value, incarnation, headers) in the order of recording."""
        return self._query("SELECT * FROM records ORDER BY rowid")

    def count(self) -> int:
        """Return how many records there are."""
        return self._query("SELECT count(*) FROM records")[0][0]

    def epochs(self) -> dict[int, int]:
        """Return how often each partition was taken over."""
        return dict(self._query("SELECT number, epoch FROM owners"))

    def _query(self, statement: str) -> list[Any]:
        with sqlite3.connect(self.file) as db:
            try:
                return db.execute(statement).fetchall()
            except sqlite3.OperationalError:  # before the first worker made its tables
                return [(0,)] if "count" in statement else []
            finally:
                db.rollback()


@pytest.fixture
def recording(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Recording]:
    """Yield a recording on a real broker, or on the embedded one for a test without the marker `kafka`."""
    real = request.node.get_closest_marker("kafka") is not None
    bootstrap = request.getfixturevalue("kafka_bootstrap" if real else "embedded_bootstrap")
    recording = Recording(bootstrap, unique("group"), unique("runs"), tmp_path / "records.db", tmp_path)
    yield recording
    for worker in recording.workers:
        worker.kill()
        worker.wait()
