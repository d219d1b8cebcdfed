"""The commands as processes against a broker: what integration and acceptance tests are written with."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.errors import NotFound

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "stream_app" / "data" / "electricity.csv.gz"
#: How long anything may take that is not a matter of speed.
PATIENCE_S = 180.0


@dataclass
class Pipeline:
    """A folder with settings, and commands run in it."""

    folder: Path
    bootstrap: str
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command."""
        names = {"STREAM_APP_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap} if self.bootstrap else {}
        return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **names, **self.extra}

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end and return its standard output; it must leave with `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "stream_app", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 2,
            check=False,
        )
        assert done.returncode == code, f"{arguments} left with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - whatever the command prints
        """Run a command with --json and return what it prints."""
        return json.loads(self.run(*arguments, "--json", code=code))

    @contextmanager
    def running(self, *arguments: str, **environment: str) -> Iterator["Running"]:
        """Run a command in the background; it is killed at the end of the block if it still runs."""
        log = self.folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "stream_app", *arguments],
                cwd=self.folder,
                env={**self.environment, **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Running(process, log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def learned(self, model: str = "electricity") -> int:
        """Return the rows learned so far, as the database has it: a command would take seconds to start."""
        try:
            newest = self.rooms.stores.log.metrics(model, newest=1)
        except NotFound:
            return 0
        return int(newest[0]["learned"]) if newest else 0

    @cached_property
    def rooms(self) -> Rooms:
        """What the commands work on."""
        return Rooms(configuration.load(self.folder / "stream_app.toml", {}))

    def until_learned(self, count: int, running: "Running | None" = None, model: str = "electricity") -> None:
        """Wait until so many rows are learned."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.learned(model)) < count:
            assert running is None or running.process.poll() is None, running.log.read_text()
            assert time.monotonic() < deadline, f"{found} of {count} rows learned"
            time.sleep(0.1)


@dataclass
class Running:
    """A command in the background."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


def settings_text(root: Path, *, model: str = "electricity", more: str = "") -> str:
    """Return settings of one model on the electricity data, and more of the same file."""
    return f"""
[storage]
root = "{root}"
[kafka]
group_id = "{root.name}-{time.monotonic_ns()}"
session_timeout_s = 6
request_timeout_s = 10
[http]
worker_port = 0
trainer_port = 0
[serve]
port = 0
[models.{model}]
task = "binary"
target = "class"
data = "{DATA}"
{more}
"""


def electricity(count: int, *, start: int = 0) -> Sequence[dict[str, Any]]:
    """Return rows of the electricity data."""
    with gzip.open(DATA, "rt") as file:
        names = file.readline().strip().split(",")
        lines = file.read().splitlines()[start : start + count]
    rows = (dict(zip(names, line.split(","), strict=True)) for line in lines)
    return [{n: int(v) if n == "class" else float(v) for n, v in row.items()} for row in rows]


def as_bytes(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Return each row as JSON."""
    return [orjson.dumps(row) for row in rows]
