"""The pure core under every order of deliveries, stops and owners: intake, windows and fold, over a log in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import settings

from stream_app.core.fold import Fold
from stream_app.core.records import Batch, TimePolicy
from stream_app.core.schema import Field, Schema
from stream_app.core.windows import ModelIntake, WindowPolicy
from stream_app.errors import Fenced
from stream_app.model_settings import ModelSettings
from stream_app.values import Closing, FoldReport, Partition, Task, Window
from tests.unit.folding import PLACE, window
from tests.unit.machine import WorkerMachine

MODEL = ModelSettings.model_validate({"task": "binary", "target": "y", "online": {"adapter": "river"}})
SCHEMA = Schema(
    task=Task.BINARY,
    target="y",
    fields=(Field(name="a", type="number"), Field(name="b", type="number")),
    classes=(0, 1),
)
TIMES = TimePolicy(max_skew_s=1.0, lateness_s=None)
POLICY = WindowPolicy(max_rows=7, max_age_s=1e9, progress_records=10**9, progress_s=1e9)


def fresh() -> Fold:
    return Fold("m", MODEL, SCHEMA)


@dataclass
class Log:
    """The fenced log, as the smallest thing that keeps its promises."""

    epoch: int = 0
    windows: list[Window] = field(default_factory=list)
    reports: list[FoldReport] = field(default_factory=list)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    letters: set[int] = field(default_factory=set)

    def commit(self, epoch: int, each: Window) -> None:
        if epoch != self.epoch or each.header.seq != len(self.windows) + 1:
            raise Fenced
        self.windows.append(each)

    def rows(self) -> list[tuple[int, int]]:
        parts = [w.rows for w in self.windows if w.rows is not None]
        return [at for rows in parts for at in zip(rows.offsets.tolist(), rows.kinds.tolist(), strict=True)]

    def counts(self) -> dict[str, int]:
        names = ("duplicates", "dead_lettered")
        return {name: sum(getattr(w.header.counts, name) for w in self.windows) for name in names}

    def dead(self) -> set[int]:
        return self.letters

    def check(self) -> None:
        fold = fresh()
        assert [fold.apply(each) for each in self.windows] == self.reports


class PureWorker:
    """Commit, fold, effects, one after the other: what the worker's order of work comes down to."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.epoch = 0

    def start(self) -> int:
        self.log.epoch += 1
        self.epoch = self.log.epoch
        self.fold = fresh()
        newest = max(self.log.checkpoints, default=0)
        if newest:
            self.fold.restore(self.log.checkpoints[newest])
        for each in self.log.windows[self.fold.seq :]:
            self.fold.apply(each)
        positions: dict[Partition, int] = {}
        for each in self.log.windows:
            positions |= each.header.positions
        self.intake = ModelIntake(
            SCHEMA, TIMES, POLICY, memory=self.fold.memory, positions=positions, marks={}, now=0.0
        )
        return self.intake.position(PLACE)

    def take(self, offset: int, records: Sequence[dict[str, Any]]) -> None:
        n = len(records)
        batch = Batch(
            partition=PLACE,
            records=records,
            offsets=np.arange(offset, offset + n, dtype=np.int64),
            indexes=np.zeros(n, dtype=np.int64),
            timestamps_ms=np.zeros(n, dtype=np.int64),
        )
        self.log.letters |= {bad.offset for bad in self.intake.take(batch, now=0.0)}
        closing = self.intake.due(0.0)
        if closing is not None:
            self._carry(closing)

    def _carry(self, closing: Closing) -> None:
        closed = self.intake.close(closing, now=0.0)
        bare = window(self.fold.seq + 1, closed.rows)
        each = replace(bare, header=replace(bare.header, positions=closed.positions, counts=closed.counts))
        self.log.commit(self.epoch, each)
        self.log.reports.append(self.fold.apply(each))
        self.intake.folded()
        if each.header.seq % 3 == 0:
            self.log.checkpoints[each.header.seq] = self.fold.state()

    def drain(self) -> None:
        if not self.intake.is_empty:
            self._carry(Closing.STOP)

    def settle(self) -> None:
        pass

    def stop(self) -> None:
        pass


class CoreMachine(WorkerMachine):
    """The machine over the pure core."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()

    def hire(self) -> PureWorker:
        return PureWorker(self.log)

    def evidence(self) -> Log:
        return self.log

    def try_in_vain(self, zombie: PureWorker, cursor: int) -> None:  # type: ignore[override]  # it hired only these
        fenced = False
        try:
            if self.topic[cursor:]:
                zombie.take(cursor, self.topic[cursor:])
            has_something = not zombie.intake.is_empty
            zombie.drain()
        except Fenced:
            fenced = has_something = True
        assert fenced == has_something


TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(max_examples=60, stateful_step_count=25)
