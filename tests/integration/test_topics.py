"""Topics on a real broker: created once, told apart from their namesakes, keys where Java puts them."""

import os
from collections.abc import Callable, Mapping

import pytest
import tenacity
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType

from stream_app.errors import Fenced, NotFound, Outage
from stream_app.kafka import client, topics
from stream_app.kafka.producer import Producer, TransactionalProducer
from stream_app.ports import Outgoing
from stream_app.settings import KafkaSettings, TopicSettings

pytestmark = pytest.mark.kafka


@pytest.fixture
def kafka(kafka_bootstrap: str, unique: Callable[[str], str]) -> KafkaSettings:
    names = TopicSettings(
        ground_truth=unique("truth"),
        predictions=unique("predictions"),
        feedback=unique("feedback"),
        model_updated=unique("updated"),
        learning_events=unique("events"),
        partitions=5,
    )
    return KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        group_id=unique("group"),
        session_timeout_s=6,
        request_timeout_s=10,
        topics=names,
        ingest={unique("housing"): "housing"},
    )


def test_declare_creates_what_is_missing_and_only_that(kafka: KafkaSettings) -> None:
    created = topics.declare(kafka)
    assert set(created) == set(kafka.topic_names)
    assert topics.declare(kafka) == ()
    assert topics.partition_count(client.admin(kafka), kafka.topics.ground_truth) == 5


def test_only_the_newest_pointer_of_a_model_is_kept(kafka: KafkaSettings) -> None:
    topics.declare(kafka)
    resource = ConfigResource(ResourceType.TOPIC, kafka.topics.model_updated)
    admin = client.admin(kafka)
    config = admin.describe_configs([resource])[resource].result()
    assert config["cleanup.policy"].value == "compact"


def test_a_recreated_topic_is_another_incarnation(kafka: KafkaSettings, wait_until: Callable[..., None]) -> None:
    topics.declare(kafka)
    admin, truth = client.admin(kafka), kafka.topics.ground_truth
    first = topics.incarnation(admin, truth)
    assert topics.incarnation(admin, truth) == first
    admin.delete_topics([truth])[truth].result()
    wait_until(lambda: truth not in admin.list_topics(timeout=5).topics)
    topics.declare(kafka)
    assert topics.incarnation(admin, truth) != first


def test_an_unknown_topic_is_not_found(kafka: KafkaSettings) -> None:
    admin = client.admin(kafka)
    with pytest.raises(NotFound, match="there is no topic nowhere"):
        topics.partition_count(admin, "nowhere")
    with pytest.raises(NotFound, match="there is no topic nowhere"):
        topics.incarnation(admin, "nowhere")


def test_keys_live_where_the_brokers_clients_put_them(kafka: KafkaSettings) -> None:
    topics.declare(kafka)
    truth = kafka.topics.ground_truth
    keys = [os.urandom(length % 23 + 1) for length in range(300)]
    Producer(kafka)([Outgoing(topic=truth, key=key, value=b"") for key in keys])
    landed = {message.key(): message.partition() for message in _read(kafka, truth, len(keys))}
    assert landed == {key: topics.home_partition(key, 5) for key in keys}


def test_lag_counts_from_the_commit(kafka: KafkaSettings) -> None:
    topics.declare(kafka)
    truth, admin = kafka.topics.ground_truth, client.admin(kafka)
    Producer(kafka)([Outgoing(topic=truth, key=None, value=b"", partition=2) for _ in range(10)])
    assert topics.end_offsets(admin, [truth])[truth, 2] == 10
    assert topics.lag(admin, kafka.group_id, [truth]) == {(truth, n): 10 if n == 2 else 0 for n in range(5)}
    reader = client.consumer(kafka, group_id=kafka.group_id)
    reader.commit(offsets=[TopicPartition(truth, 2, 7)], asynchronous=False)
    assert topics.lag(admin, kafka.group_id, [truth])[truth, 2] == 3
    reader.close()


def test_messages_arrive_in_order_with_their_headers(kafka: KafkaSettings) -> None:
    topics.declare(kafka)
    truth = kafka.topics.ground_truth
    headers = (("a", b"1"), ("a", b"2"))
    Producer(kafka)([Outgoing(topic=truth, key=b"k", value=str(n).encode(), headers=headers) for n in range(2_000)])
    messages = _read(kafka, truth, 2_000)
    assert [int(message.value()) for message in messages] == list(range(2_000))
    assert messages[0].headers() == list(headers)


def test_a_delivery_that_fails_is_an_outage_and_the_next_one_works(kafka: KafkaSettings) -> None:
    topics.declare(kafka)
    truth, send = kafka.topics.ground_truth, Producer(kafka, timeout_s=8)
    with pytest.raises(Outage, match=r"nowhere.*within 8 s"):
        send([Outgoing(topic="nowhere", key=b"k", value=b"lost")])
    with pytest.raises(Outage, match=f"{truth}.*too large"):
        send([Outgoing(topic=truth, key=b"k", value=b"v" * 5_000_000)])
    send([Outgoing(topic=truth, key=b"k", value=b"kept")])
    assert [message.value() for message in _read(kafka, truth, 1)] == [b"kept"]


def test_a_younger_relay_fences_the_older(kafka: KafkaSettings, unique: Callable[[str], str]) -> None:
    topics.declare(kafka)
    updated, relay = kafka.topics.model_updated, unique("relay")
    older = TransactionalProducer(kafka, relay)
    older([Outgoing(topic=updated, key=b"k", value=b"1")])
    younger = TransactionalProducer(kafka, relay)
    with pytest.raises(Fenced, match="another producer took over"):
        older([Outgoing(topic=updated, key=b"k", value=b"late")])
    younger([Outgoing(topic=updated, key=b"k", value=b"2")])
    assert [message.value() for message in _read(kafka, updated, 2)] == [b"1", b"2"]


def test_a_failed_batch_leaves_nothing_for_readers_of_committed_records(
    kafka: KafkaSettings, unique: Callable[[str], str]
) -> None:
    topics.declare(kafka)
    updated = kafka.topics.model_updated
    relay = TransactionalProducer(kafka, unique("relay"))
    with pytest.raises(Outage, match="too large"):
        relay(
            [
                Outgoing(topic=updated, key=b"k", value=b"half"),
                Outgoing(topic=updated, key=b"k", value=b"v" * 5_000_000),
            ]
        )
    relay([Outgoing(topic=updated, key=b"k", value=b"whole")])
    assert [message.value() for message in _read(kafka, updated, 1)] == [b"whole"]


#: For a moment after the creation of a topic its partitions have no leader.
_until_led = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(Outage),
    stop=tenacity.stop_after_delay(60),
    wait=tenacity.wait_fixed(0.1),
    reraise=True,
)


def _read(kafka: KafkaSettings, topic: str, count: int) -> list[Message]:
    """Read everything that is committed, and check that it is so many."""
    reader = client.consumer(kafka)
    ends = _until_led(topics.end_offsets, client.admin(kafka), [topic])
    reader.assign([TopicPartition(topic, number, 0) for _, number in ends])
    messages: list[Message] = []
    while any(place.offset < ends[place.topic, place.partition] for place in _positions(reader, ends)):
        messages += reader.consume(10_000, timeout=0.2)
    reader.close()
    assert len(messages) == count
    return messages


def _positions(reader: Consumer, ends: Mapping[topics.Place, int]) -> list[TopicPartition]:
    return reader.position([TopicPartition(*place) for place, end in ends.items() if end])
