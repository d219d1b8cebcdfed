"""A worker whose handler records what it is given, to be started, killed and counted by the transport's tests.

Usage: recording_worker.py '{"bootstrap": …, "group": …, "topic": …, "file": …, "mishap": …}'
"""

import asyncio
import json
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from stream_app.errors import Fenced, Misconfigured, Outage
from stream_app.settings import KafkaSettings
from stream_app.stream.app import build_app, run_worker
from stream_app.values import Run

TABLES = """
CREATE TABLE IF NOT EXISTS owners (topic, number, epoch, PRIMARY KEY (topic, number));
CREATE TABLE IF NOT EXISTS records
  (topic, number, "offset", value, incarnation, headers, UNIQUE (topic, number, "offset"));
"""
ERRORS = {"fenced": Fenced("another owner"), "outage": Outage("no store"), "bug": ValueError("a bug")}


class RecordingHandler:
    """A log in one SQLite file: epochs and positions as the real one has, one row a record, in the order learned."""

    def __init__(self, file: str, mishap: str | None) -> None:
        self._db = sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(TABLES)
        self._mishap = mishap
        self._epochs: dict[tuple[str, int], int] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._open: list[tuple[Run, Callable[[], Awaitable[None]]]] = []
        self._lock = asyncio.Lock()

    async def assigned(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        async with self._lock:
            for place in partitions:
                self._epochs[place] = self._one(
                    "INSERT INTO owners VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                    place,
                )
                self._positions[place] = self._one(
                    'SELECT coalesce(max("offset") + 1, 0) FROM records WHERE topic = ? AND number = ?', place
                )
            return dict(self._positions)

    async def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:  # noqa: ARG002 - it is told all it has
        async with self._lock:
            self._open.clear()
            self._positions.clear()

    async def take(self, run: Run, done: Callable[[], Awaitable[None]]) -> None:
        if self._mishap == "hang":
            await asyncio.Event().wait()
        if self._mishap in ERRORS:
            raise ERRORS[self._mishap]
        async with self._lock:
            self._open.append((run, done))

    async def flush(self) -> None:
        async with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            for run, _ in self._open:
                self._record(run)
            self._db.execute("COMMIT")
            for _, done in self._open:
                await done()
            self._open.clear()

    async def drain(self) -> None:
        if self._mishap == "never drained":
            await asyncio.Event().wait()
        if self._mishap == "fenced at the end":
            raise ERRORS["fenced"]
        await self.flush()

    async def tick(self) -> None:
        """Close windows by age."""
        while True:
            await asyncio.sleep(0.05)
            await self.flush()

    def healthy(self) -> str | None:
        return None

    def _record(self, run: Run) -> None:
        place = run.partition.topic, run.partition.number
        if place not in self._positions:  # a run of a partition that was revoked while it was handed over
            return
        epoch = self._one("SELECT epoch FROM owners WHERE topic = ? AND number = ?", place)
        if epoch != self._epochs[place]:
            raise Fenced(f"{place} is at epoch {epoch}")
        columns = zip(run.offsets, run.values, run.headers, strict=True)
        rows = [
            (*place, offset, (value or b"").decode(), run.partition.incarnation, json.dumps([str(h) for h in headers]))
            for offset, value, headers in columns
            if offset >= self._positions[place]
        ]
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._positions[place] = max(self._positions[place], run.offsets[-1] + 1)

    def _one(self, statement: str, values: tuple[str, int]) -> int:
        (found,) = self._db.execute(statement, values).fetchone()
        return int(found)


class CountingHandler(RecordingHandler):
    """Only counts, to see how fast records reach a handler; leaves when it has seen enough."""

    def __init__(self, file: str, enough: int) -> None:
        super().__init__(file, None)
        self._left = self._enough = enough
        self._started = 0.0

    async def take(self, run: Run, done: Callable[[], Awaitable[None]]) -> None:
        self._started = self._started or time.perf_counter()
        self._left -= len(run)
        await done()
        if self._left <= 0:
            rate = self._enough / (time.perf_counter() - self._started)
            sys.stdout.write(f"{rate:,.0f} records/s reach the handler\n")
            signal.raise_signal(signal.SIGTERM)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    plan = json.loads(sys.argv[1])
    settings = KafkaSettings(
        bootstrap_servers=plan["bootstrap"],
        group_id=plan["group"],
        session_timeout_s=6,
        request_timeout_s=10,
        stuck_after_s=plan.get("stuck_after_s", 60),
        extra=plan.get("extra", {}),
    )
    counting = "enough" in plan
    handler = (
        CountingHandler(plan["file"], plan["enough"])
        if counting
        else RecordingHandler(plan["file"], plan.get("mishap"))
    )
    try:
        app = build_app(settings, subscriptions=[plan["topic"]], handler=handler)
    except Misconfigured as error:
        sys.exit(f"{error}")
    return run_worker(app, handler.tick)


if __name__ == "__main__":
    sys.exit(main())
