"""Unpacks what arrives while the agents are busy, so that the next fetch is always under way.

Left to itself, the fetch of a partition waits until Faust's main loop asks for the records before it, that loop
waits for the handler, and the handler then waits for the fetch: a third of the time nobody worked. The names
with an underscore belong to aiokafka, whose version is pinned.
"""
# ruff: noqa: SLF001 - see above

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError, OffsetOutOfRangeError
from faust.types import TP

from stream_app.errors import Misconfigured
from stream_app.stream.fetching import Stretch, more_arrives, unpack

#: Bytes in memory that are unpacked ahead.
AHEAD_BYTES: Final = 8_000_000
#: Seconds until the next look while partitions are not placed yet.
PLACING_S: Final = 0.05
_ARRIVAL_S: Final = 1.0


class ReadAhead:
    """Stretches of all partitions that wait to be taken. Belongs to the event loop of aiokafka's thread."""

    def __init__(self, is_placed: Callable[[], bool], most_records: int) -> None:
        """Nothing is unpacked while not `is_placed()`; a stretch has at most `most_records`."""
        self._is_placed = is_placed
        self._most_records = most_records
        #: by partition, the offset after the last record that was unpacked
        self.fetched: dict[TP, int] = {}
        self._stock: dict[TP, list[Stretch]] = {}
        self._work: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def take(self, fetcher: Any, partitions: set[TP], timeout_s: float) -> dict[TP, list[Stretch]]:  # noqa: ANN401 - aiokafka has no types
        """Return all that waits of the partitions, waiting for a first stretch; raises what fetching ran into."""
        if self._work is None:
            self._work = asyncio.create_task(self._keep_unpacking(fetcher), name="read ahead")
        if self._work.done() and not self._stock:
            self._work.result()
        self._arrived.clear()
        if self._stock.keys().isdisjoint(partitions):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
        if not self._is_placed():  # what waits is from before a rebalance
            return {}
        taken = {tp: self._stock.pop(tp) for tp in partitions & self._stock.keys()}
        self._room.set()
        return taken

    def forget(self) -> None:
        """Drop what waits: the partitions are set to other offsets."""
        self._stock.clear()
        self.fetched.clear()
        self._room.set()

    async def stop(self) -> None:
        """End the unpacking."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _keep_unpacking(self, fetcher: Any) -> None:  # noqa: ANN401
        try:
            while True:
                await self._has_room()
                if fetcher._subscriptions.reassignment_in_progress:
                    await fetcher._subscriptions.wait_for_assignment()
                if fetcher._closed:
                    raise ConsumerStoppedError
                if not self._is_placed():
                    await asyncio.sleep(PLACING_S)
                elif self._unpack_next(fetcher):
                    await asyncio.sleep(0)  # the next fetch is sent before the next stretch is unpacked
                else:
                    await more_arrives(fetcher, _ARRIVAL_S)
        finally:
            self._arrived.set()

    async def _has_room(self) -> None:
        self._room.clear()
        if sum(stretch.weight for waiting in self._stock.values() for stretch in waiting) >= AHEAD_BYTES:
            await self._room.wait()

    def _unpack_next(self, fetcher: Any) -> bool:  # noqa: ANN401
        """Unpack the next stretch of each partition that has one; False when none has."""
        found = False
        for tp in list(fetcher._records):
            stretch = self._next_stretch(fetcher, tp)
            if stretch is not None:
                self._stock.setdefault(tp, []).append(stretch)
                self.fetched[tp] = stretch.offsets[-1] + 1
                self._arrived.set()
                found = True
        return found

    def _next_stretch(self, fetcher: Any, tp: TP) -> Stretch | None:  # noqa: ANN401
        entry = fetcher._records[tp]
        is_result = isinstance(entry, FetchResult)
        stretch = unpack(entry, most_records=self._most_records, most_bytes=AHEAD_BYTES) if is_result else None
        if not is_result or not entry.has_more():
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)  # it may fetch the partition again
        if not is_result:
            _raise(entry, tp)
        return stretch


def _raise(entry: Any, tp: TP) -> None:  # noqa: ANN401
    try:
        entry.check_raise()
    except OffsetOutOfRangeError as error:
        (offset,) = error.args[0].values()
        raise Misconfigured(
            f"{tp.topic}/{tp.partition}: offset {offset}, the next to read, is not in the topic (any more): retention "
            "deleted records before they were read, or the topic was truncated. Nothing was skipped: restore the "
            "records, or create the topic anew and set kafka.incarnation = 'follow' to go on without them"
        ) from error
