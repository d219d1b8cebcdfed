"""The worker's door: runs of records come in, durable windows and dead letters come of them."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, Final, TypeVar

from stream_app.core.limits import BadShare
from stream_app.core.records import Rejected
from stream_app.errors import Fenced
from stream_app.kafka.codec import BadMessage, decode
from stream_app.kafka.dead_letters import Grave, dead_letter
from stream_app.ports import Clock, Deliver, Observer, Outgoing, PartitionLog
from stream_app.values import Partition, Run
from stream_app.worker.halting import Limit
from stream_app.worker.owner import Bury, ModelOwner
from stream_app.worker.routing import Map, Routed, is_alone
from stream_app.worker.tickets import Done, Line

Result = TypeVar("Result")
#: Seconds between two looks at what is due by time.
TICK_S: Final = 0.05
#: Seconds between two stored positions of a partition; after a crash so much is read again, and skipped.
POSITION_EVERY_S: Final = 1.0


@dataclass(slots=True)
class _Station:
    """A partition in our hands."""

    partition: Partition
    epoch: int
    #: next offset of what belongs to no model's log
    position: int
    line: Line
    limit: BadShare
    owners: dict[str, ModelOwner] = field(default_factory=dict)
    #: where the stored position may move to
    passed: int = 0
    stored_at: float = 0.0
    # two that store positions at once could come in the other order, which the log refuses
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the handler works with."""

    deliver: Deliver
    partitions: PartitionLog
    #: takes a model over and recovers it; blocks
    own: Callable[[str, Partition, int, Line], ModelOwner]
    #: does one round of housekeeping for a model, given our epoch; blocks
    tidy: Callable[[str, int], None]
    #: the incarnation of a topic; blocks
    incarnation: Callable[[str], str]
    threads: Executor
    clock: Clock
    observe: Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the handler decides."""

    map: Map
    grave: Grave
    owner: str
    limit: Limit


class WorkerHandler:
    """Implements `stream.agents.RunHandler` over model owners."""

    def __init__(self, tools: Tools, policy: Policy) -> None:
        self._tools = tools
        self._policy = policy
        self._stations: dict[tuple[str, int], _Station] = {}

    async def assigned(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Take the partitions and their models over, recover them, and return where to read on."""
        for place in partitions:
            if place not in self._stations:
                self._stations[place] = await self._in_thread(self._man, *place)
        return {place: self._start(self._stations[place]) for place in partitions}

    def _man(self, topic: str, number: int) -> _Station:
        partition = Partition(incarnation=self._tools.incarnation(topic), topic=topic, number=number)
        epoch, position = self._tools.partitions.take_over(partition, owner=self._policy.owner)
        self._policy.limit.admit(self._tools.partitions, partition, epoch)
        limit = self._policy.limit.watch()
        station = _Station(partition=partition, epoch=epoch, position=position, line=Line(), limit=limit)
        station.passed, station.stored_at = position, self._tools.clock()
        for model, home in self._policy.map.homes.items():
            if (topic, number) == (self._policy.map.topic, home):
                station.owners[model] = self._tools.own(model, partition, position, station.line)
        return station

    @staticmethod
    def _start(station: _Station) -> int:
        return min([station.position, *(o.position(station.partition) for o in station.owners.values())])

    async def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Let the partitions go; what is open is dropped and read again by whoever has them next."""
        for place in partitions:
            station = self._stations.pop(place, None)
            for owner in station.owners.values() if station else ():
                await owner.release()

    async def take(self, run: Run, done: Done) -> None:
        """Take a run in; `done` is called once everything in it is durable.

        1. parse, and sort by model
        2. deliver the dead letters and forwards that belong to no model's log, and store the position behind them
        3. hand each model its records; bad ones are delivered before their window can be committed
        """
        station = self._stations.get((run.partition.topic, run.partition.number))
        if station is None:
            return  # revoked meanwhile: the next owner reads it again
        ticket = station.line.open(done)
        decoded = decode(run, max_message_bytes=self._policy.grave.max_message_bytes)  # 1
        routed = self._policy.map.route(run, decoded)
        bad = await self._deal_with_strangers(station, run, decoded.bad, routed)  # 2
        for model, batch in routed.batches.items():  # 3
            bad += await station.owners[model].take(batch, ticket, self._burier(run))
        self._passed(station, run)
        await station.line.settle(ticket)
        share = station.limit.add(len(run), bad)
        if share is not None:
            await self._halt(station, share)

    async def _deal_with_strangers(
        self, station: _Station, run: Run, undecodable: Sequence[BadMessage], routed: Routed
    ) -> int:
        """Deliver what belongs to no model's log, then move the stored position; return the number of dead letters."""
        letters = [
            *((b.position, b.index, b.reason, b.detail) for b in undecodable),
            *((s.position, _index(run, s.position, s.index), "unknown_model", s.detail) for s in routed.strays),
        ]
        # what lies below the position was delivered before a restart
        fresh = [letter for letter in sorted(letters, key=itemgetter(0)) if run.offsets[letter[0]] >= station.position]
        buried = [self._letter(run, *letter) for letter in fresh]
        forwards = [message for at, message in routed.forwards if run.offsets[at] >= station.position]
        if buried or forwards:
            await self._in_thread(self._tools.deliver, [*buried, *forwards])
            await self._store_position(station, run.offsets[-1] + 1, len(buried), len(forwards))
        return len(fresh)

    def _burier(self, run: Run) -> Bury:
        """Return how the bad records of one model among this run are delivered as dead letters."""

        async def bury(rejected: Sequence[Rejected]) -> None:
            letters = []
            for bad in rejected:
                at = bisect_left(run.offsets, bad.offset)
                letters.append(self._letter(run, at, _index(run, at, bad.index), bad.error.reason, bad.error))
            await self._in_thread(self._tools.deliver, letters)

        return bury

    def _letter(self, run: Run, position: int, index: int | None, reason: str, error: BaseException | str) -> Outgoing:
        self._tools.observe("events_dead_lettered", topic=run.partition.topic, reason=reason)
        now = self._tools.clock()
        return dead_letter(self._policy.grave, run, position, index=index, reason=reason, error=error, now=now)

    def _passed(self, station: _Station, run: Run) -> None:
        next_offset = run.offsets[-1] + 1
        station.passed = max(station.passed, next_offset)
        for owner in station.owners.values():
            owner.passed(station.partition, next_offset, len(run))

    async def _store_position(
        self, station: _Station, position: int, dead_lettered: int = 0, forwarded: int = 0
    ) -> None:
        async with station.storing:
            position = max(position, station.position)
            advance = partial(
                self._tools.partitions.advance,
                station.partition,
                epoch=station.epoch,
                position=position,
                dead_lettered=dead_lettered,
                forwarded=forwarded,
            )
            await self._in_thread(advance)
            station.position = position
            station.stored_at = self._tools.clock()

    async def _halt(self, station: _Station, share: float) -> None:
        """Stop reading a partition until a person raises the limit; always raises TooManyBadRecords.

        1. make durable what was taken in: whatever was delivered for it would be delivered once more otherwise
        2. store the halt, which a restart meets
        3. let the partition go, so that runs that are still queued leave no letters
        """
        await self._drain(station)  # 1
        partition = station.partition
        models = self._policy.map.fed(partition.topic, partition.number)
        try:
            halt = partial(self._policy.limit.halt, self._tools.partitions, partition, station.epoch)
            await self._in_thread(partial(halt, share=share, offset=station.position, models=models))  # 2
        finally:
            self._stations.pop((partition.topic, partition.number), None)  # 3

    async def tick(self) -> None:
        """Do what is due by time; raises what went wrong in the background."""
        for station in list(self._stations.values()):
            for owner in list(station.owners.values()):
                await owner.tick()
            if self._is_position_due(station):
                await self._store_position(station, station.passed)

    def _is_position_due(self, station: _Station) -> bool:
        behind = station.passed - station.position
        age = self._tools.clock() - station.stored_at
        return behind > 0 and age >= POSITION_EVERY_S

    def healthy(self) -> str | None:
        """Return what is wrong; failures end the process by themselves, so nothing lingers."""
        return None

    async def tidy(self) -> None:
        """Do the housekeeping of the models in our hands, beside their work."""
        for owner in [owner for station in self._stations.values() for owner in station.owners.values()]:
            try:
                await self._in_thread(self._tools.tidy, owner.model, owner.epoch)
            except Fenced:
                if not owner.is_released:
                    raise

    async def drain(self) -> None:
        """Make everything that was taken in durable."""
        for station in list(self._stations.values()):
            await self._drain(station)

    async def _drain(self, station: _Station) -> None:
        for owner in station.owners.values():
            await owner.drain()
        if station.passed > station.position:
            await self._store_position(station, station.passed)

    async def _in_thread(self, call: Callable[..., Result], *args: Any) -> Result:  # noqa: ANN401 - as run_in_executor
        return await asyncio.get_running_loop().run_in_executor(self._tools.threads, call, *args)


def _index(run: Run, position: int, index: int) -> int | None:
    return None if is_alone(run, position) else index
