"""Retrains without Kafka: a worker's log on disk, real processes, and openings that go wrong on purpose."""

import asyncio
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stream_app.bootstrap import Rooms, trainer_tools
from stream_app.ports import Recorder
from stream_app.settings import Settings
from stream_app.trainer.order import Opening, Order, Result, Tools, Trainee
from stream_app.trainer.retraining import Retraining
from stream_app.trainer.runner import Ending, Runner
from stream_app.trainer.service import TrainerService
from stream_app.values import Job, JobStatus
from stream_app.worker.opening import schema_of
from tests.contract.working import PLACE, bench, records, run_of, settings_of

#: A candidate that learns the rule of `crossed` at once, and one that learns nothing.
TREE = {"name": "tree.DecisionTreeClassifier", "params": {"max_depth": 3}}
DUMMY = {"name": "dummy.DummyClassifier"}


def small_settings(root: Path, **retrain: Any) -> Settings:  # noqa: ANN401 - any key of the section
    """Return settings whose retrains are over in seconds."""
    section = {"candidates": [TREE], "min_rows": 100, "every_records": 400, "timeout_s": 300, **retrain}
    return settings_of(root, retrain=section)


def open_tools(settings: Settings) -> Tools:
    """Open what a retrain works with; called in its process."""
    return trainer_tools(settings)


def open_and_die(settings: Settings, number: int) -> Tools:
    """Die by a signal, as an interpreter with a bug would."""
    os.kill(os.getpid(), number)
    return open_tools(settings)


def open_and_die_once(settings: Settings, marker: Path) -> Tools:
    """Die the first time."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_tools(settings)


def open_and_leave(settings: Settings) -> Tools:
    """Leave without a word."""
    os._exit(3)
    return open_tools(settings)


def open_and_raise(settings: Settings) -> Tools:
    """Fail."""
    raise RuntimeError(f"no tools below {settings.storage.root.name}")


def open_and_hang(settings: Settings, marker: Path) -> Tools:
    """Hang for good, deaf to SIGTERM, with a grandchild that is deaf as well; the marker gets both numbers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = os.fork()
    if grandchild:
        marker.with_suffix(".tmp").write_text(f"{os.getpid()} {grandchild}")
        marker.with_suffix(".tmp").rename(marker)
    while True:
        time.sleep(1)
    return open_tools(settings)


def open_and_devour(settings: Settings) -> Tools:
    """Take memory until there is none."""
    hoard = []
    while True:
        hoard.append(bytearray(64_000_000))
    return open_tools(settings)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody has collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@dataclass
class House:
    """A model `m` with a log, and what retrains it."""

    settings: Settings
    rooms: Rooms = field(init=False)
    heard: Recorder = field(default_factory=Recorder)
    #: what retrains in this process said
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rooms = Rooms(self.settings)

    @property
    def trainee(self) -> Trainee:
        """Return the model."""
        settings = self.rooms.model("m")
        return Trainee(settings=settings, schema=schema_of(settings))

    def runner(self, opening: Callable[..., Tools] = open_tools, *arguments: object, grace_s: float = 0.5) -> Runner:
        """Return a runner whose processes open their tools that way."""
        bound: Opening = functools.partial(opening, self.settings, *arguments)
        return Runner(bound, logs=self.settings.storage.root / "logs" / "jobs", grace_s=grace_s)

    def service(self, runner: Runner | None = None, *, holder: str = "trainer") -> TrainerService:
        """Return a trainer."""
        return TrainerService(
            self.rooms.stores,
            {"m": self.trainee},
            runner or self.runner(),
            holder=holder,
            clock=self.rooms.clock,
            observe=self.heard,
        )

    def claimed(self) -> Job:
        """Return a job that is running under the holder `trainer`."""
        self.rooms.stores.jobs.request("m", "manual", now=self.rooms.clock())
        job = self.rooms.stores.jobs.claim(holder="trainer", now=self.rooms.clock(), lease_s=600)
        assert job is not None
        return job

    def order(self, *, holder: str = "trainer") -> Order:
        """Return the order of a job that is running under the holder `trainer`."""
        seq = self.rooms.stores.registry.models()[0]["seq"]
        return Order(job=self.claimed(), trainee=self.trainee, through_seq=seq, holder=holder)

    def run(self, runner: Runner) -> Ending:
        """Run a job to its end."""
        return runner.run(self.order(), lambda: True)

    def retrain_here(self, *, holder: str = "trainer", **tools: Any) -> Result:  # noqa: ANN401 - other tools, by name
        """Carry an order out in this process: what it decides does not depend on where."""
        order = self.order(holder=holder)
        result = Retraining(order, replace(open_tools(self.settings), **tools), self.said.append).run()
        ended = replace(order.job, status=result.status, finished_at=self.rooms.clock())
        assert self.rooms.stores.jobs.finish(ended, holder=holder)
        return result

    def give_up(self) -> None:
        """Let the newest job fail."""
        ended = replace(self.job(), status=JobStatus.FAILED, finished_at=self.rooms.clock())
        assert self.rooms.stores.jobs.finish(ended, holder="trainer")

    def job(self) -> Job:
        """Return the newest job."""
        return self.rooms.stores.jobs.history("m")[0]

    def champion(self) -> int:
        """Return the version that serves."""
        return self.rooms.stores.registry.champion("m")[0]

    def work(self, service: TrainerService) -> Job:
        """Have the service work one job off, and return it."""
        assert service.work_once(threading.Event())
        return self.job()


def crossed(n: int, *, start: int = 0, turned: bool = False) -> list[dict[str, Any]]:
    """Return n records whose label no line can tell: trees learn it, a linear model does not.

    Turned, every label is 1: what was learned before is of no use.
    """
    return [
        record | {"y": 1 if turned else int((record["a"] > 5) != (record["b"] > 3))}
        for record in records(n, start=start)
    ]


async def learn(settings: Settings, n: int, *, start: int = 0, turned: bool = False) -> None:
    """Let a worker learn n records, answer what is asked for, and leave."""
    await learn_records(settings, crossed(n, start=start, turned=turned), start=start)


async def learn_records(settings: Settings, chosen: Sequence[dict[str, Any]], *, start: int = 0) -> None:
    """Let a worker learn these records, answer what is asked for, and leave."""
    with bench(settings) as worker:
        await worker.handler.assigned([PLACE])
        await worker.take(run_of(chosen, offset=start))
        await worker.until_settled(start + len(chosen) - 1)
        async with asyncio.timeout(20):
            while worker.rooms.stores.control.waiting("m"):
                await worker.handler.tick()
                await asyncio.sleep(0.02)
        await worker.handler.drain()
