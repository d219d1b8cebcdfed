"""A model in the hands of this process: takes records in, commits windows, folds them, applies effects."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from stream_app.core.fold import Fold
from stream_app.core.records import Batch, Rejected
from stream_app.core.windows import Closed, ModelIntake
from stream_app.crashpoints import crashpoint
from stream_app.values import Closing, FoldReport, Partition, Window
from stream_app.worker.aftermath import Aftermath
from stream_app.worker.hands import Hands
from stream_app.worker.sealing import Sealer
from stream_app.worker.tickets import Line, Ticket

Result = TypeVar("Result")
#: Delivers the dead letters of the rejected records and returns once they are acknowledged.
Bury = Callable[[Sequence[Rejected]], Awaitable[None]]


class ModelOwner:
    """Owns one model from take-over to release.

    One window is carried (committed, folded, its effects applied) while the next one fills; never two, so
    that a slow disk or learner is felt at the door and memory stays bounded.
    """

    def __init__(
        self, hands: Hands, *, fold: Fold, intake: ModelIntake, sealer: Sealer, aftermath: Aftermath, line: Line
    ) -> None:
        self._hands = hands
        self._fold = fold
        self._intake = intake
        self._sealer = sealer
        self._aftermath = aftermath
        self._line = line
        self._tickets: list[Ticket] = []
        self._carried: asyncio.Task[None] | None = None
        self._released = False
        # taking in waits for dead letters, and a timer must not close the window meanwhile: its counts
        # would be committed before the letters are delivered
        self._door = asyncio.Lock()

    @property
    def model(self) -> str:
        """The model's name."""
        return self._fold.model

    @property
    def epoch(self) -> int:
        """What fences all other owners."""
        return self._sealer.epoch

    @property
    def is_released(self) -> bool:
        """Whether somebody else may own the model by now."""
        return self._released

    @property
    def fold(self) -> Fold:
        """The folded state; do not touch while a window is carried."""
        return self._fold

    def position(self, partition: Partition) -> int:
        """Return the next offset that the model takes in."""
        return self._intake.position(partition)

    async def take(self, batch: Batch, ticket: Ticket, bury: Bury) -> int:
        """Take records in, waiting while the window before is carried; return how many were rejected."""
        rejected = 0
        async with self._door:
            for part in () if self._released else self._parts(batch):
                bad = self._intake.take(part, now=self._hands.clock())
                if bad:
                    await bury(bad)
                rejected += len(bad)
                if not self._intake.is_empty:  # else all of it was taken in before, and nothing waits for a window
                    self._hold(ticket)
                crashpoint("buffered")
                await self._close_if_due()
        return rejected

    def _parts(self, batch: Batch) -> Sequence[Batch]:
        """Cut a batch where windows fill up, but never inside a message."""
        parts, start = [], 0
        room = self._intake.room or self._sealer.max_rows
        while start < len(batch):
            stop = min(start + room, len(batch))
            if stop < len(batch):
                stop = int(np.searchsorted(batch.offsets, batch.offsets[stop - 1], side="right"))
            whole = start == 0 and stop == len(batch)
            parts.append(batch if whole else batch.take(range(start, stop)))
            start, room = stop, self._sealer.max_rows
        return parts

    def _hold(self, ticket: Ticket) -> None:
        if not self._tickets or self._tickets[-1] is not ticket:
            self._tickets.append(ticket)
            ticket.waiting += 1

    def passed(self, partition: Partition, next_offset: int, records: int) -> None:
        """Note that a run of the home partition has been dealt with."""
        self._intake.passed(partition, next_offset, records)

    async def tick(self) -> None:
        """Close what is due by time, answer requests, publish what is due; raise what went wrong meanwhile."""
        if self._released or self._door.locked():
            return
        self._raise_failure()
        async with self._door:
            if await self._in_thread(self._sealer.has_requests, self._fold, self._intake.is_empty):
                await self._close(Closing.CONTROL)
            else:
                await self._close_if_due()
            if self._carried is None or self._carried.done():
                await self._in_thread(self._aftermath.publish_if_due, self._fold)

    async def drain(self) -> None:
        """Carry everything that was taken in, and leave a checkpoint."""
        async with self._door:
            if not self._intake.is_empty:
                await self._close(Closing.STOP)
            await self._settled()
            await self._in_thread(self._aftermath.leave, self._fold)

    async def release(self) -> None:
        """Let go: what is open is dropped and read again by the next owner, what is carried ends.

        A failure of what is carried is not ours any more: the next owner recovers from the log.
        """
        async with self._door:
            self._released = True
            await asyncio.gather(*([self._carried] if self._carried else []), return_exceptions=True)

    async def _close_if_due(self) -> None:
        closing = self._intake.due(self._hands.clock())
        if closing is not None:
            await self._close(closing)

    async def _close(self, closing: Closing) -> None:
        await self._settled()
        closed = self._intake.close(closing, now=self._hands.clock())
        tickets, self._tickets = self._tickets, []
        self._carried = asyncio.create_task(self._carry(closed, tickets), name=f"carry {self.model}")

    async def _settled(self) -> None:
        if self._carried is not None:
            await self._carried

    def _raise_failure(self) -> None:
        if self._carried is not None and self._carried.done():
            self._carried.result()

    async def _carry(self, closed: Closed, tickets: Sequence[Ticket]) -> None:
        """Carry one window.

        1. seal it: outputs of batch contenders, answers to requests, number and digest
        2. commit it and fold it, side by side: neither needs the other, and nothing leaves before both are done
        3. its effects, in a transaction of their own; then checkpoint and publication, if due
        4. acknowledge the runs that it completes
        """
        window = await self._in_thread(self._sealer.seal, closed, self._fold)  # 1
        report = await self._commit_and_fold(window)  # 2
        self._intake.folded()
        await self._in_thread(self._aftermath.apply, window, report, self._fold)  # 3
        crashpoint("pre_ack")
        for ticket in tickets:  # 4
            await self._line.settle(ticket)

    async def _commit_and_fold(self, window: Window) -> FoldReport:
        _, report = await asyncio.gather(
            self._in_thread(self._commit, window),
            self._in_thread(self._learn, window),
        )
        return report

    def _commit(self, window: Window) -> None:
        began = self._hands.clock()
        self._hands.stores.log.commit(window)
        self._hands.observe("commit_duration", amount=self._hands.clock() - began, model=self.model)

    def _learn(self, window: Window) -> FoldReport:
        began = self._hands.clock()
        report = self._fold.apply(window)
        self._hands.observe("learn_duration", amount=self._hands.clock() - began, model=self.model)
        return report

    async def _in_thread(self, call: Callable[..., Result], *args: Any) -> Result:  # noqa: ANN401 - as run_in_executor
        return await asyncio.get_running_loop().run_in_executor(self._hands.threads, call, *args)
