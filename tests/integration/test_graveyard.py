"""Dead-letter topics on a real broker: read to their end, whatever gaps there are, and sent back in order."""

from collections.abc import Callable, Sequence

import orjson
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from stream_app.errors import NotFound, Outage
from stream_app.kafka import client, topics
from stream_app.kafka.dead_letters import Grave, dead_letter
from stream_app.kafka.graveyard import BATCH, Graveyard, Selection, replay
from stream_app.kafka.producer import Producer, TransactionalProducer
from stream_app.ports import Outgoing
from stream_app.settings import KafkaSettings, TopicSettings
from stream_app.values import Partition, Run

pytestmark = pytest.mark.kafka


@pytest.fixture
def kafka(kafka_bootstrap: str, unique: Callable[[str], str], wait_until: Callable[..., None]) -> KafkaSettings:
    names = TopicSettings(ground_truth=unique("truth"), model_updated=unique("up"), learning_events=unique("ev"))
    settings = KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        group_id=unique("group"),
        session_timeout_s=6,
        request_timeout_s=10,
        topics=names,
        ingest={unique("housing"): "housing"},
    )
    topics.declare(settings)
    wait_until(lambda: _have_leaders(settings))
    return settings


def _have_leaders(settings: KafkaSettings) -> bool:
    """Tell whether the topics answer: for a moment after their creation their partitions have no leader."""
    try:
        topics.end_offsets(client.admin(settings), settings.topic_names)
    except (NotFound, Outage):
        return False
    return True


def letters_of(
    settings: KafkaSettings, count: int, *, topic: str | None = None, reason: str = "not_json"
) -> list[Outgoing]:
    """Return what the worker sends about `count` messages of the topic."""
    topic = topic or settings.topics.ground_truth
    run = Run(
        partition=Partition(incarnation="inc", topic=topic, number=0),
        offsets=range(count),
        keys=[f"m{i % 3}".encode() for i in range(count)],
        values=[orjson.dumps({"n": i}) for i in range(count)],
        headers=[[("trace", b"t")]] * count,
        timestamps_ms=[1] * count,
    )
    grave = Grave(suffix=settings.topics.dead_letter_suffix, group=settings.group_id, max_message_bytes=1_000)
    return [dead_letter(grave, run, i, index=None, reason=reason, error="bad", now=float(i)) for i in range(count)]


def read(settings: KafkaSettings, topic: str, count: int) -> Sequence[Message]:
    """Return the first `count` messages of the topic."""
    config = {"bootstrap.servers": settings.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    try:
        consumer.assign([TopicPartition(topic, n, 0) for n in range(settings.topics.partitions)])
        return consumer.consume(count, 20)
    finally:
        consumer.close()


def test_letters_are_counted_by_topic_model_and_reason(kafka: KafkaSettings) -> None:
    (ingest,) = kafka.ingest
    with Producer(kafka) as deliver:
        deliver(letters_of(kafka, 30) + letters_of(kafka, 4, reason="tombstone") + letters_of(kafka, 2, topic=ingest))
        deliver(letters_of(kafka, 1))  # the same one once more, as after a crash
    graveyard = Graveyard(kafka)
    heaps = graveyard.heaps(graveyard.letters(graveyard.topics()))
    truth = f"{kafka.topics.ground_truth}.dlq"
    counted = {(heap.topic, heap.model, heap.reason): (heap.letters, heap.records) for heap in heaps}
    assert counted == {
        (truth, "m0", "not_json"): (11, 10),
        (truth, "m1", "not_json"): (10, 10),
        (truth, "m2", "not_json"): (10, 10),
        (truth, "m0", "tombstone"): (2, 2),
        (truth, "m1", "tombstone"): (1, 1),
        (truth, "m2", "tombstone"): (1, 1),
        (f"{ingest}.dlq", "housing", "not_json"): (2, 2),
    }
    newest = {heap.model: heap.newest for heap in heaps if heap.reason == "tombstone"}
    assert newest["m2"] == "1970-01-01T00:00:02+00:00"


def test_an_empty_graveyard_has_no_letters(kafka: KafkaSettings) -> None:
    graveyard = Graveyard(kafka)
    assert list(graveyard.letters(graveyard.topics())) == []


def test_markers_and_aborted_letters_neither_show_nor_stop_the_reading(
    kafka: KafkaSettings, unique: Callable[[str], str]
) -> None:
    """A copying tool may have written the topic in transactions: its end is a marker, not a record."""
    transactional = TransactionalProducer(kafka, unique("copier"))
    transactional(letters_of(kafka, 5))
    transactional.close()
    graveyard = Graveyard(kafka)
    assert len(list(graveyard.letters(graveyard.topics(kafka.topics.ground_truth)))) == 5


def test_a_letter_is_found_by_its_place(kafka: KafkaSettings) -> None:
    with Producer(kafka) as deliver:
        deliver(letters_of(kafka, 3))
    graveyard = Graveyard(kafka)
    for letter in graveyard.letters(graveyard.topics()):
        assert graveyard.letter(kafka.topics.ground_truth, letter.partition, letter.offset) == letter
    with pytest.raises(NotFound, match="at offset 999"):
        graveyard.letter(kafka.topics.ground_truth, 0, 999)
    with pytest.raises(NotFound, match="expected one of"):
        graveyard.topics("secrets")


def test_replay_delivers_more_than_a_batch_in_order_with_keys_and_headers(kafka: KafkaSettings) -> None:
    count = BATCH + 20
    graveyard = Graveyard(kafka)
    with Producer(kafka) as deliver:
        deliver(letters_of(kafka, count))
        letters = list(graveyard.letters(graveyard.topics()))
        outcomes = list(replay(letters, Selection(), graveyard.sources, deliver, limit=None))
    assert [(o.partition, o.offset) for o in outcomes] == [(x.partition, x.offset) for x in letters]
    assert {o.to for o in outcomes} == {kafka.topics.ground_truth}
    messages = read(kafka, kafka.topics.ground_truth, count)
    assert len(messages) == count
    assert {tuple(m.headers() or ()) for m in messages} == {(("trace", b"t"), ("x-dlq-attempts", b"1"))}
    by_id = {orjson.loads(m.value() or b"")["event_id"]: orjson.loads(m.value() or b"")["n"] for m in messages}
    assert by_id == {f"dlq:inc/{kafka.topics.ground_truth}/0/{i}/0": i for i in range(count)}
    assert {m.key() for m in messages} == {b"m0", b"m1", b"m2"}
