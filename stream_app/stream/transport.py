"""Faust's consumer with runs for events: each fetched stretch of a partition is ONE event that carries a Run.

Faust costs 65-100 microseconds an event, whatever it carries; see docs/why/coalescing-consumer.md. What differs
from Faust's own driver, beside that:

- a partition starts where the window log says, or not at all: Kafka's committed offsets are for lag displays
- what is committed is what was reported durable, never what Faust's acknowledgements add up to
- a commit that fails is a line in the log, since nothing rests on it
- only committed records are read, and an offset that is not there is an error, never a silent jump

The names with an underscore belong to Faust and aiokafka, whose versions are pinned.
"""
# ruff: noqa: SLF001 - this module is where they are reached into, so that no other has to

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

from aiokafka import conn
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, AppT, ConsumerMessage

from stream_app.errors import Outage, StreamAppError
from stream_app.stream.ahead import PLACING_S, ReadAhead
from stream_app.stream.fetching import Backlog, Stretch
from stream_app.values import Partition, Run

#: aiokafka has no types.
Untyped: TypeAlias = Any

#: Bytes that a connection reads ahead of its parser. aiokafka's 64 kB stop and resume the socket for every few
#: hundred records of a fetch, which costs a tenth of the throughput.
_READ_AHEAD_BYTES: Final = 4_000_000
#: Of the request timeout. Faust would go on without the seek when that ends.
_SEEK_SHARE: Final = 0.8
#: mode would log a service's life under the name of our module
_FAUST_LOG: Final = logging.getLogger("faust")


class CoalescingThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka lives."""

    logger = _FAUST_LOG
    consumer: "CoalescingConsumer"
    ahead: ReadAhead | None

    def __post_init__(self) -> None:
        """Start with nothing read."""
        super().__post_init__()
        self.ahead = None

    async def place(self, starts: Mapping[TP, int]) -> None:
        """Set the partitions to their offsets; 0 is the beginning of what is there. Raises Outage."""
        timeout_s = self.app.conf.broker_request_timeout * _SEEK_SHARE
        try:
            await asyncio.wait_for(self.call_thread(self._place, starts), timeout_s)
        except TimeoutError as error:
            raise Outage(f"Kafka did not tell within {timeout_s:g} s where partitions begin") from error

    async def _place(self, starts: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        fresh = await consumer.beginning_offsets([tp for tp, offset in starts.items() if not offset])
        for tp, offset in {**starts, **fresh}.items():
            consumer.seek(tp, offset)
        if self.ahead is not None:
            self.ahead.forget()
        consumer._fetcher._default_reset_strategy = OffsetResetStrategy.NONE

    def forget_places(self) -> None:
        """Let partitions have no offset, as newly assigned ones do, until they are placed."""
        self._ensure_consumer()._fetcher._default_reset_strategy = OffsetResetStrategy.EARLIEST

    def _create_worker_consumer(self, transport: driver.Transport) -> Untyped:
        conn.READER_LIMIT = _READ_AHEAD_BYTES
        consumer = super()._create_worker_consumer(transport)
        # Faust asks for it only together with transactions of its own; the fetcher takes it over when it starts
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = cast("CoalescingTransport", transport).fetch_max_wait_ms
        return consumer

    async def _fetch_records(
        self,
        consumer: Untyped,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> dict[TP, list[Stretch]]:
        """Return what was read ahead of the partitions."""
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            if not self.consumer.is_placed():
                await asyncio.sleep(PLACING_S)
                return {}
            return await self._ahead(max_records).take(fetcher, active_partitions, timeout or 0)

    def _ahead(self, most_records: int | None) -> ReadAhead:
        if self.ahead is None:  # made here, in the loop that it belongs to
            self.ahead = ReadAhead(self.consumer.is_placed, most_records or 1)
        return self.ahead

    async def on_thread_stop(self) -> None:
        """Read ahead no more, before the consumer goes."""
        if self.ahead is not None:
            await self.ahead.stop()
        await super().on_thread_stop()

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        behind = {
            TopicPartition(*tp): OffsetAndMetadata(self.behind_markers(tp, offset), "")
            for tp, offset in offsets.items()
        }
        try:
            await consumer.commit(behind)
        except KafkaError as error:  # Faust would end the process
            self.log.warning("offsets were not committed, lag displays are late: %s", type(error).__name__)
            return False
        return True

    def behind_markers(self, tp: TP, offset: int) -> int:
        """Return the offset, or aiokafka's position if it is further and no record lies between.

        The marker of a transaction takes an offset and is no record: lag would never be 0 again.
        """
        fetched = {} if self.ahead is None else self.ahead.fetched
        if offset != fetched.get(tp, offset):
            return offset
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None else None
        if state is None or not state.has_valid_position:  # a rebalance came between
            return offset
        return int(max(offset, state.position))


class CoalescingConsumer(driver.Consumer):
    """The main loop's side of it."""

    logger = _FAUST_LOG
    _thread: CoalescingThread

    def __init__(self, *args: Untyped, **kwargs: Untyped) -> None:
        """Start with nothing assigned."""
        super().__init__(*args, **kwargs)
        self.backlog = Backlog()
        #: by partition, the offset after the last run that the handler has taken in, in this generation
        self.taken: dict[TP, int] = {}
        self._durable: dict[TP, int] = {}
        self._incarnations: Mapping[str, str] = {}
        self._starts: tuple[int, Mapping[TP, int]] = (-1, {})
        self._placed_generation = -1

    @property
    def generation(self) -> int:
        """The number of the group's current rebalance."""
        return int(self.app.consumer_generation_id)

    def is_placed(self) -> bool:
        """Return whether the partitions of this generation were set to the log's positions.

        Faust fetches before that if a rebalance meets a worker that had no partition.
        """
        return bool(self.flow_active) and self._placed_generation == self.generation

    def start_from(self, generation: int, starts: Mapping[TP, int], incarnations: Mapping[str, str]) -> None:
        """Say where the partitions of this generation start (0: at their beginning), and what their topics are."""
        self.taken.clear()
        self._durable.clear()
        self.backlog.clear()
        self._incarnations = incarnations
        self._starts = (generation, starts)

    def note_taken(self, message: "RunMessage") -> None:
        """Note that the handler has taken the run in."""
        self.backlog.remove(message.run)
        if message.generation_id == self.generation:
            self.taken[message.tp] = message.offset + 1

    def note_durable(self, message: "RunMessage") -> None:
        """Note that everything up to the run's end is durable; the next commit tells Kafka."""
        if message.generation_id == self.generation:
            self._durable[message.tp] = message.offset + 1

    def positions(self) -> Mapping[TP, int]:
        """Return the next offset to take in of each partition; markers of transactions behind it are passed."""
        _, starts = self._starts
        return {tp: self._thread.behind_markers(tp, self.taken.get(tp, start)) for tp, start in starts.items()}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Set the partitions to the log's positions; do nothing while those of this generation are unknown."""
        generation, starts = self._starts
        if generation != self.generation or not starts:
            return {}
        await self._thread.place(starts)
        self._placed_generation = generation
        return starts

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was fetched and where it came from."""
        self._placed_generation = -1
        self._thread.forget_places()
        await super().on_partitions_revoked(revoked)
        self.backlog.clear()

    def _new_consumer_thread(self) -> CoalescingThread:
        return CoalescingThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Untyped:
        if not await self.backlog.has_room(timeout):
            return {}
        try:
            return await super()._getmany(active_partitions, timeout)
        except (StreamAppError, KafkaError) as error:  # Faust would end the process too, in three tracebacks
            if isinstance(error, self.consumer_stopped_errors):
                raise
            cast("CoalescingTransport", self.transport).fail(error)
            return {}

    def _to_message(self, tp: TP, record: Stretch) -> ConsumerMessage:
        run = Run(
            partition=Partition(incarnation=self._incarnations[tp.topic], topic=tp.topic, number=tp.partition),
            offsets=record.offsets,
            keys=record.keys,
            values=record.values,
            headers=record.headers,
            timestamps_ms=record.timestamps_ms,
        )
        self.backlog.add(run, record.weight)
        return RunMessage(self, tp, run)

    async def _commit_tps(self, _: Iterable[TP], start_new_transaction: bool) -> bool:  # noqa: FBT001, ARG002
        assigned = self.assignment()
        ready = {tp: offset for tp, offset in self._durable.items() if tp in assigned}
        if not ready or not await self._commit(ready):
            return False
        self._committed_offset.update(ready)
        # what became durable meanwhile stays for the next time
        self._durable = {tp: offset for tp, offset in self._durable.items() if ready.get(tp) != offset}
        return True


class RunMessage(ConsumerMessage):
    """What Faust takes for one message."""

    def __init__(self, consumer: CoalescingConsumer, tp: TP, run: Run) -> None:
        """Stand where the run ends."""
        end, time_s = run.offsets[-1], run.timestamps_ms[-1] / 1000
        super().__init__(*tp, end, time_s, 0, None, None, b"", None, tp=tp, generation_id=consumer.generation)
        self.run = run
        self._consumer = consumer

    def taken(self) -> None:
        """Say that the handler has taken the run in."""
        self._consumer.note_taken(self)

    async def done(self) -> None:
        """Say that everything up to the run's end is durable."""
        self._consumer.note_durable(self)


class CoalescingTransport(driver.Transport):
    """Faust's aiokafka transport with that consumer."""

    Consumer = CoalescingConsumer

    def __init__(self, app: AppT, fail: Callable[[BaseException], None], fetch_max_wait_ms: int) -> None:
        """What a fetch runs into goes to `fail`."""
        super().__init__(app.conf.broker_consumer, app)
        self.fail = fail
        self.fetch_max_wait_ms = fetch_max_wait_ms
