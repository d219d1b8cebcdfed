"""The broker that everything runs on, and the topics that are read over and over."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is exported

from benchmarks import rows

PARTITIONS: Final = 4
#: Seconds that the broker may take to acknowledge what is left at the end.
FLUSH_S: Final = 120.0


@contextmanager
def running() -> Iterator[str]:
    """Yield the address of the broker that KAFKA_BOOTSTRAP_SERVERS names, else of one of our own."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield named
        return
    command = [sys.executable, str(rows.ROOT / "scripts" / "kafka"), "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise SystemExit("bench: no broker: set KAFKA_BOOTSTRAP_SERVERS, or see the message of scripts/kafka")
            yield address
        finally:
            process.terminate()


@contextmanager
def filled(bootstrap: str, count: int) -> Iterator[str]:
    """Yield a fresh topic with `count` records; it goes at the end, with the topics that workers named after it."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    try:
        fill(bootstrap, topic, count)
        yield topic
    finally:
        admin = AdminClient(options(bootstrap))
        named = [name for name in admin.list_topics(timeout=FLUSH_S).topics if name.startswith(topic)]
        for deleted in admin.delete_topics(named).values() if named else ():
            deleted.result()


def options(bootstrap: str) -> dict[str, Any]:
    """Return what every client needs; librdkafka's own chatter is silenced, failures reach us as exceptions."""
    return {"bootstrap.servers": bootstrap, "log_level": 0}


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Create the topic and put `count` records keyed by the model into it; raises KafkaException."""
    admin = AdminClient(options(bootstrap))  # by name: it must outlive its answers
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    failures: list[str] = []
    durable = {"partitioner": "murmur2_random", "acks": "all", "enable.idempotence": True, "linger.ms": 50}
    producer = Producer({**options(bootstrap), **durable})
    for value in rows.values(count):
        _send(producer, topic, value, failures)
    unsent = producer.flush(FLUSH_S)
    if failures or unsent:
        raise KafkaException(f"{topic}: {unsent} records unsent, {len(failures)} refused: {failures[:1]}")


def _send(producer: Producer, topic: str, value: bytes, failures: list[str]) -> None:
    def on_delivery(error: object, _: object) -> None:
        if error is not None:
            failures.append(str(error))

    while True:
        try:
            producer.produce(topic, value=value, key=rows.MODEL.encode(), on_delivery=on_delivery)
        except BufferError:  # the local queue is full: wait until some of it went out
            producer.poll(0.1)
        else:
            return
