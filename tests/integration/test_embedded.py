"""The broker inside the process: enough of Kafka for a first try, and honest about what it lacks."""

from collections.abc import Callable
from typing import Any

import pytest

from stream_app.kafka import client, topics
from stream_app.kafka.embedded import EmbeddedBroker, is_embedded
from stream_app.kafka.producer import Producer, TransactionalProducer
from stream_app.ports import Outgoing
from stream_app.settings import KafkaSettings


@pytest.fixture
def kafka(embedded_bootstrap: str, unique: Callable[[str], str]) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=embedded_bootstrap, group_id=unique("group"))


def test_topics_are_declared_without_waiting_for_an_answer_that_never_comes(kafka: KafkaSettings) -> None:
    assert set(topics.declare(kafka)) == set(kafka.topic_names)
    assert topics.partition_count(client.admin(kafka), "ground-truth") == 4


def test_each_start_is_another_incarnation(kafka: KafkaSettings) -> None:
    first = topics.incarnation(client.admin(kafka), "ground-truth")
    with EmbeddedBroker() as other:
        admin = client.admin(KafkaSettings(bootstrap_servers=other.bootstrap_servers))
        second = topics.incarnation(admin, "ground-truth")
    assert is_embedded(first)
    assert first != second


def test_it_takes_messages_and_tells_where_they_end(kafka: KafkaSettings) -> None:
    admin = client.admin(kafka)
    sent = [Outgoing(topic="ground-truth", key=b"electricity", value=b"{}") for _ in range(3)]
    home = topics.home_partition(b"electricity", 4)
    assert Producer(kafka).send(sent) == {("ground-truth", home): 3}
    assert topics.end_offsets(admin, ["ground-truth"])["ground-truth", home] == 3
    assert topics.lag(admin, kafka.group_id, ["ground-truth"])["ground-truth", home] == 3


def test_it_knows_transactions(kafka: KafkaSettings) -> None:
    relay = TransactionalProducer(kafka, "relay")
    relay([Outgoing(topic="model-updated", key=b"electricity", value=b"{}")])
    relay.close()
    assert sum(topics.end_offsets(client.admin(kafka), ["model-updated"]).values()) >= 1


@pytest.mark.timeout(450)
def test_a_worker_reads_from_it(recording: Any, wait_until: Callable[..., None]) -> None:  # noqa: ANN401 - of conftest
    kafka = KafkaSettings(bootstrap_servers=recording.bootstrap)
    topics.partition_count(client.admin(kafka), recording.topic)  # it appears
    send = Producer(kafka)
    send([Outgoing(topic=recording.topic, key=str(n).encode(), value=str(n).encode()) for n in range(1_000)])
    worker = recording.start()
    wait_until(lambda: recording.count() == 1_000)
    assert recording.stop(worker) == 0
    send([Outgoing(topic=recording.topic, key=str(n).encode(), value=str(n).encode()) for n in range(1_000, 2_000)])
    recording.start()
    wait_until(lambda: recording.count() == 2_000)
    assert {int(value) for _, _, _, value, *_ in recording.rows()} == set(range(2_000))
    assert all(is_embedded(incarnation) for *_, incarnation, _ in recording.rows())
