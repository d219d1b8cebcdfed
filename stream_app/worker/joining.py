"""The worker's door for predictions and feedback: runs come in, stored sides and joined labels come of them."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

from stream_app.core.limits import BadShare
from stream_app.errors import Fenced, InvalidRecord
from stream_app.kafka.codec import Decoded, decode
from stream_app.kafka.dead_letters import dead_letter
from stream_app.ports import Outgoing
from stream_app.serving_ports import Moved
from stream_app.values import Partition, Run
from stream_app.worker.handler import Policy, Tools
from stream_app.worker.routing import is_alone
from stream_app.worker.statements import Statements
from stream_app.worker.tickets import Done

Result = TypeVar("Result")
#: Messages whose records are stored in one transaction: windows of models wait for it where there is one writer.
MOST_MESSAGES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two sides of the join."""

    #: checks the records of a run
    read: Callable[[Run, Decoded], Statements[Any]]
    #: stores what is good, joins it, and moves the position, in one transaction; blocks
    store: Callable[[Sequence[Any], Moved], object]


@dataclass(slots=True)
class _Station:
    """A partition in our hands."""

    partition: Partition
    epoch: int
    #: everything below was dealt with
    position: int
    limit: BadShare
    # a rebalance may hand over the same run again while it is still taken in
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class JoinHandler:
    """Implements `stream.agents.RunHandler` over the two sides of the label join.

    There is nothing open between two runs: the transaction that stores a run's records moves the position behind it.
    """

    def __init__(self, tools: Tools, policy: Policy, sides: Mapping[str, Side], *, models: Sequence[str]) -> None:
        """`sides` by topic; the readers of `models` are told when a partition is halted."""
        self._tools = tools
        self._policy = policy
        self._sides = sides
        self._models = models
        self._stations: dict[tuple[str, int], _Station] = {}

    @property
    def topics(self) -> Sequence[str]:
        """The topics that it takes runs of."""
        return tuple(self._sides)

    async def assigned(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Take the partitions over and return where to read on."""
        for place in partitions:
            if place not in self._stations:
                self._stations[place] = await self._in_thread(self._man, *place)
        return {place: self._stations[place].position for place in partitions}

    def _man(self, topic: str, number: int) -> _Station:
        partition = Partition(incarnation=self._tools.incarnation(topic), topic=topic, number=number)
        epoch, position = self._tools.partitions.take_over(partition, owner=self._policy.owner)
        self._policy.limit.admit(self._tools.partitions, partition, epoch)
        return _Station(partition=partition, epoch=epoch, position=position, limit=self._policy.limit.watch())

    async def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Let the partitions go; what is under way is fenced off by whoever has them next."""
        for place in partitions:
            self._stations.pop(place, None)

    async def take(self, run: Run, done: Done) -> None:
        """Take a run in, a few messages at a time, and call `done` once everything in it is durable."""
        station = self._stations.get((run.partition.topic, run.partition.number))
        if station is None:
            return  # revoked meanwhile: the next owner reads it again
        bad = 0
        async with station.turn:
            for part in _parts(run, station.position):
                try:
                    bad += await self._take(station, part)
                except Fenced:
                    if self._holds(station):
                        raise
                    return
        await done()
        share = station.limit.add(len(run), bad)
        if share is not None:
            await self._halt(station, share)

    async def _take(self, station: _Station, run: Run) -> int:
        """Take some messages in and return how many dead letters they left.

        1. parse and check
        2. deliver the dead letters: after a crash behind it they are delivered once more, never lost
        3. in one transaction: store what is good, join it, and move the position
        """
        side = self._sides[station.partition.topic]
        good, letters = await self._in_thread(self._read, side, run)  # 1
        if letters:
            await self._in_thread(self._tools.deliver, letters)  # 2
        position = run.offsets[-1] + 1
        moved = Moved(partition=station.partition, epoch=station.epoch, position=position, dead_lettered=len(letters))
        await self._in_thread(side.store, good, moved)  # 3
        station.position = position
        return len(letters)

    def _read(self, side: Side, run: Run) -> tuple[Sequence[Any], Sequence[Outgoing]]:
        decoded = decode(run, max_message_bytes=self._policy.grave.max_message_bytes)
        found = side.read(run, decoded)
        letters = [self._letter(run, bad.position, bad.index, bad.reason, bad.detail) for bad in decoded.bad]
        for at, error in found.bad:
            position = decoded.positions[at]
            index = None if is_alone(run, position) else decoded.indexes[at]
            letters.append(self._letter(run, position, index, error.reason, error))
        return found.good, letters

    def _letter(self, run: Run, position: int, index: int | None, reason: str, error: InvalidRecord | str) -> Outgoing:
        self._tools.observe("events_dead_lettered", topic=run.partition.topic, reason=reason)
        now = self._tools.clock()
        return dead_letter(self._policy.grave, run, position, index=index, reason=reason, error=error, now=now)

    def _holds(self, station: _Station) -> bool:
        return self._stations.get((station.partition.topic, station.partition.number)) is station

    async def _halt(self, station: _Station, share: float) -> None:
        """Stop reading a partition until a person raises the limit; always raises TooManyBadRecords."""
        partition = station.partition
        halt = partial(self._policy.limit.halt, self._tools.partitions, partition, station.epoch)
        try:
            await self._in_thread(partial(halt, share=share, offset=station.position, models=self._models))
        finally:
            self._stations.pop((partition.topic, partition.number), None)

    async def drain(self) -> None:
        """Wait for what is under way."""
        for station in list(self._stations.values()):
            async with station.turn:
                pass

    async def _in_thread(self, call: Callable[..., Result], *args: Any) -> Result:  # noqa: ANN401 - as run_in_executor
        return await asyncio.get_running_loop().run_in_executor(self._tools.threads, call, *args)


def _parts(run: Run, position: int) -> Iterator[Run]:
    """Yield what the run has from the position on, a few messages at a time."""
    first = next((at for at, offset in enumerate(run.offsets) if offset >= position), len(run))
    for start in range(first, len(run), MOST_MESSAGES):
        chosen = slice(start, start + MOST_MESSAGES)
        yield replace(
            run,
            offsets=run.offsets[chosen],
            keys=run.keys[chosen],
            values=run.values[chosen],
            headers=run.headers[chosen],
            timestamps_ms=run.timestamps_ms[chosen],
        )
