"""A worker without Kafka: real storage, runs made by hand, deliveries kept in a list."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from stream_app.bootstrap import Rooms
from stream_app.kafka.dead_letters import Grave
from stream_app.ports import Deliver, Outgoing
from stream_app.settings import Settings
from stream_app.values import Partition, Run
from stream_app.worker.halting import Limit
from stream_app.worker.handler import Policy, Tools, WorkerHandler
from stream_app.worker.hands import Hands
from stream_app.worker.opening import Opener
from stream_app.worker.publishing import Publisher
from stream_app.worker.reception import Reception, open_reception
from stream_app.worker.routing import Map

TOPIC = "ground-truth"
PLACE = (TOPIC, 0)


def settings_of(root: Path, **model: Any) -> Settings:  # noqa: ANN401 - any key of a model's section
    """Return settings with one model `m` of two numbers, kept below the root."""
    section = {
        "task": "binary",
        "target": "y",
        "features": {"a": {}, "b": {}},
        "classes": [0, 1],
        "window": {"max_rows": 50, "checkpoint_windows": 3},
        "publish": {"every_s": None, "every_records": 100},
        **model,
    }
    return Settings.model_validate({"storage": {"root": root}, "models": {"m": section}})


@dataclass
class Bench:
    """A handler and what it sent."""

    rooms: Rooms
    handler: WorkerHandler
    reception: Reception
    sent: list[Outgoing] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    async def take(self, run: Run) -> None:
        """Hand a run over; its end is noted in `acknowledged` once it is durable."""

        async def done() -> None:
            self.acknowledged.append(run.offsets[-1])

        await self.handler.take(run, done)

    async def until_settled(self, offset: int) -> None:
        """Tick until the run that ends at the offset is acknowledged."""
        async with asyncio.timeout(20):
            while offset not in self.acknowledged:
                await self.handler.tick()
                await asyncio.sleep(0.01)


@contextmanager
def bench(
    settings: Settings,
    *,
    incarnation: str = "one",
    max_bad_share: float = 0.5,
    max_message_bytes: int = 10_000,
    deliver: Deliver | None = None,
) -> Iterator[Bench]:
    """Open a worker over the settings' storage, as after a start of its process; it delivers to `sent`."""
    rooms = Rooms(settings)
    sent: list[Outgoing] = []
    with ThreadPoolExecutor(4) as threads:
        hands = Hands(stores=rooms.stores, threads=threads, clock=rooms.clock, observe=rooms.observe)
        publisher = Publisher(rooms.stores.artifacts, rooms.signer)
        opener = Opener(hands=hands, models=rooms.models, publisher=publisher, load=rooms.load, owner="test")
        tools = Tools(
            deliver=deliver or sent.extend,
            partitions=rooms.stores.partitions,
            own=opener.own,
            tidy=rooms.tidier.tidy,
            incarnation=lambda _: incarnation,
            threads=threads,
            clock=rooms.clock,
            observe=rooms.observe,
        )
        policy = Policy(
            map=Map(topic=TOPIC, homes=dict.fromkeys(settings.models, 0), ingest={"raw": "m"}),
            grave=Grave(suffix=".dlq", group="g", max_message_bytes=max_message_bytes),
            owner="test",
            limit=Limit(max_share=max_bad_share, over_records=100, suffix=".dlq", clock=rooms.clock),
        )
        topics = settings.kafka.topics
        reception = open_reception(tools, policy, rooms.predictions, models=rooms.models, topics=topics)
        yield Bench(rooms=rooms, handler=reception.records, reception=reception, sent=sent)


def run_of(
    records: Sequence[Mapping[str, Any] | bytes | None],
    *,
    offset: int = 0,
    key: bytes | None = b"m",
    topic: str = TOPIC,
) -> Run:
    """Return a run of these records."""
    n = len(records)
    return Run(
        partition=Partition(incarnation="one", topic=topic, number=0),
        offsets=range(offset, offset + n),
        keys=[key] * n,
        values=[r if r is None or isinstance(r, bytes) else orjson.dumps(r) for r in records],
        headers=[()] * n,
        timestamps_ms=[1_750_000_000_000 + i for i in range(n)],
    )


def records(n: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Return n good records; the label follows from the first number."""
    numbers = range(start, start + n)
    return [{"event_id": f"e{i}", "a": (i * 37 % 101) / 10, "b": i % 7, "y": int(i * 37 % 101 > 50)} for i in numbers]
