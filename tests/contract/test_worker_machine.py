"""The worker over real storage under every order of deliveries, repeats, stops, other owners and zombies."""

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from stream_app.errors import Fenced
from stream_app.ports import Outgoing
from stream_app.settings import Settings
from tests.contract.proofs import proved, settle, steady
from tests.contract.working import PLACE, bench, run_of
from tests.unit.machine import WorkerMachine


class Office:
    """Where workers of one model work: a storage folder, a loop, and the dead letters of all of them."""

    def __init__(self, root: Path, runner: asyncio.Runner) -> None:
        self.settings: Settings = steady(root, window={"max_rows": 7, "checkpoint_windows": 3})
        self.runner = runner
        self.letters: list[Outgoing] = []
        self.reader = ExitStack()
        self.made = self.reader.enter_context(bench(self.settings))

    def rows(self) -> list[tuple[int, int]]:
        parts = [w.rows for w in self.made.rooms.stores.log.windows("m") if w.rows is not None]
        return [at for rows in parts for at in zip(rows.offsets.tolist(), rows.kinds.tolist(), strict=True)]

    def counts(self) -> dict[str, int]:
        headers = [w.header for w in self.made.rooms.stores.log.windows("m")]
        return {name: sum(getattr(h.counts, name) for h in headers) for name in ("duplicates", "dead_lettered")}

    def dead(self) -> set[int]:
        return {int(dict(letter.headers)["__connect.errors.offset"]) for letter in self.letters}

    def check(self) -> None:
        proved(self.made)


class RealWorker:
    """A worker as a process would hold it."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._run = office.runner.run
        self._stack = ExitStack()

    def start(self) -> int:
        deliver = self._office.letters.extend
        self._made = self._stack.enter_context(bench(self._office.settings, max_bad_share=1.0, deliver=deliver))
        return self._run(self._made.handler.assigned([PLACE]))[PLACE]

    def take(self, offset: int, records: Sequence[dict[str, Any]]) -> None:
        self._run(self._made.take(run_of(records, offset=offset)))

    def has_something(self) -> bool:
        (owner,) = self._made.handler._stations[PLACE].owners.values()
        return not owner._intake.is_empty

    def drain(self) -> None:
        self._run(self._made.handler.drain())

    def settle(self) -> None:
        self._run(settle(self._made))

    def stop(self) -> None:
        self._run(self._made.handler.revoked([PLACE]))
        self._stack.close()


class StorageMachine(WorkerMachine):
    """The machine over workers that share a storage folder."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.office = Office(root, self.stack.enter_context(asyncio.Runner()))
        self.stack.callback(self.office.reader.close)

    def hire(self) -> RealWorker:
        return RealWorker(self.office)

    def evidence(self) -> Office:
        return self.office

    def try_in_vain(self, zombie: RealWorker, cursor: int) -> None:  # type: ignore[override]  # it hired only these
        fenced = False
        try:
            if self.topic[cursor:]:
                zombie.take(cursor, self.topic[cursor:])
            has_something = zombie.has_something()
            zombie.drain()
        except Fenced:
            fenced = has_something = True
        assert fenced or not has_something
        zombie.stop()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.stack.close()


TestWorkerMachine = StorageMachine.TestCase
TestWorkerMachine.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
