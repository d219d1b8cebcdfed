"""The door between Faust and the worker: runs go in, positions come out, and nothing of Faust is behind it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, cast

import faust
from faust.types import TP

from stream_app.errors import NotFound, Outage
from stream_app.stream.transport import CoalescingConsumer, RunMessage
from stream_app.values import Run

#: Incarnations by topic.
Found: TypeAlias = Mapping[str, str]
Lookup: TypeAlias = Callable[[Sequence[str]], Found]


class RunHandler(Protocol):
    """What takes the runs. `assigned` and `revoked` are never called at the same time; `take` may overlap both."""

    async def assigned(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Take over and return the offset to start each partition from; absent or 0 means its beginning.

        Called after every rebalance with all partitions of this worker, kept ones too: they are read again from
        these offsets. An offset that is no longer in the topic stops the worker.
        """

    async def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Drop what is open of them; it will be read again. A `take` that waits for room must return."""

    async def take(self, run: Run, done: Callable[[], Awaitable[None]]) -> None:
        """Take the run in; call done() once everything in it is durable (in offset order).

        Waits when full: fetching pauses meanwhile. Called for one run at a time of each topic.
        """

    async def drain(self) -> None:
        """Flush what is open, before the worker leaves; no run follows."""

    def healthy(self) -> str | None:
        """Return what is wrong, None when nothing is."""


class Seat:
    """Which partitions the handler holds, told in the order in which they came and went."""

    def __init__(
        self, handler: RunHandler, lookup: Lookup, patiently: Callable[[Lookup, Sequence[str]], Found]
    ) -> None:
        """`lookup` tells the incarnations of topics and may block; `patiently` calls it until it succeeds."""
        self._handler = handler
        self._lookup = lookup
        self._patiently = patiently
        self._lock = asyncio.Lock()
        self._known: dict[str, str] = {}
        self.held: tuple[tuple[str, int], ...] = ()

    async def take_over(self, consumer: CoalescingConsumer) -> None:
        """1. look up the topics' incarnations 2. let the handler take over 3. say where to start."""
        async with self._lock:
            generation = consumer.generation
            places = sorted((tp.topic, tp.partition) for tp in consumer.assignment())
            found = await asyncio.to_thread(self._patiently, self._lookup, sorted({topic for topic, _ in places}))
            if changed := self._changed(found):
                raise Outage(changed)
            starts = await self._handler.assigned(places) if places else {}
            self.held = tuple(places)
            consumer.start_from(generation, {TP(*place): starts.get(place, 0) for place in places}, found)

    async def changed(self) -> str | None:
        """Return which topic that was read is another one by now, or gone; raises Outage when Kafka cannot say.

        aiokafka knows topics by name: it would read on in the other one, or wait for it without an assignment.
        """
        try:
            return self._changed(await asyncio.to_thread(self._lookup, sorted(self._known)))
        except NotFound as error:
            return f"{error} any more: it was deleted while it was read"

    def _changed(self, found: Found) -> str | None:
        for topic, incarnation in found.items():
            if self._known.setdefault(topic, incarnation) != incarnation:
                return (
                    f"topic {topic} was deleted and created again while it was read; the next start decides what to do"
                )
        return None

    async def give_up(self) -> None:
        """Let the handler drop what it holds."""
        async with self._lock:
            held, self.held = self.held, ()
            if held:
                await self._handler.revoked(held)


def attach(app: faust.App, topic: str, handler: RunHandler, fail: Callable[[BaseException], None]) -> None:
    """Let an agent hand the topic's runs to the handler; what the handler raises goes to `fail`."""

    async def hand_over(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            message = cast("RunMessage", event.message)
            try:
                await handler.take(message.run, message.done)
            except Exception as error:  # noqa: BLE001 - any of them ends the process, with its cause
                fail(error)
            else:
                message.taken()

    # without acknowledgements: Faust counts events that it skips as done
    source = app.topic(topic, value_type=bytes, value_serializer="raw", acks=False)
    app.agent(source, name=f"runs of {topic}")(hand_over)
