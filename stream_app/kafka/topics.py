"""Topics: which there are, where a key lives in them, and how far they have been read."""

import functools
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import tenacity
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]  # they are exported

from stream_app.errors import NotFound, Outage
from stream_app.kafka import client
from stream_app.kafka.embedded import is_embedded
from stream_app.settings import KafkaSettings

Answer = TypeVar("Answer")

#: (topic, number of the partition)
Place = tuple[str, int]

#: Seconds that one question to the broker may take.
PATIENCE_S: Final = 15.0

_MURMUR_SEED: Final = 0x9747B28C
_MURMUR_FACTOR: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


def declare(settings: KafkaSettings) -> tuple[str, ...]:
    """Create the topics that are missing and return their names; an existing topic is left as it is.

    `ground-truth`, `model-updated` (compacted: only the newest pointer of a model matters), `learning-events`, the
    ingest topics, and a dead-letter topic for each that is read. Raises Outage.
    """
    admin = client.admin(settings)
    cluster = _ask(lambda: admin.list_topics(timeout=PATIENCE_S))
    missing = [topic for topic in _wanted(settings) if topic.topic not in cluster.topics]
    if is_embedded(
        str(cluster.cluster_id)
    ):  # it makes topics on first sight, and never answers a request to create one
        for topic in missing:
            partition_count(admin, topic.topic)
    else:
        _create(admin, missing)
    return tuple(topic.topic for topic in missing)


def incarnation(admin: AdminClient, topic: str) -> str:
    """Return what tells this topic from one that had its name before: Kafka's topic id, or the embedded cluster's id.

    Raises NotFound and Outage.
    """
    cluster = _ask(lambda: admin.list_topics(topic, timeout=PATIENCE_S))  # one topic's metadata, not all
    if is_embedded(str(cluster.cluster_id)):
        return str(cluster.cluster_id)
    described = _result(admin.describe_topics(TopicCollection([topic]), request_timeout=PATIENCE_S)[topic], topic)
    return str(described.topic_id)


def partition_count(admin: AdminClient, topic: str) -> int:
    """Return the number of partitions; raises NotFound and Outage."""
    metadata = _ask(lambda: admin.list_topics(topic, timeout=PATIENCE_S)).topics[topic]
    if metadata.error is not None:
        raise _error(metadata.error, topic)
    return len(metadata.partitions)


@functools.lru_cache(maxsize=65_536)
def home_partition(key: bytes, partitions: int) -> int:
    """Return where Kafka's default partitioner puts the key: Java's murmur2 with its sign bit cleared, modulo."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def begin_offsets(admin: AdminClient, topics: Collection[str]) -> Mapping[Place, int]:
    """Return the first offset that is still there, by partition; raises NotFound and Outage."""
    return _offsets(admin, topics, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # no annotations there


def end_offsets(admin: AdminClient, topics: Collection[str]) -> Mapping[Place, int]:
    """Return the offset after the last committed record, by partition; raises NotFound and Outage."""
    return _offsets(admin, topics, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # no annotations there


def lag(admin: AdminClient, group: str, topics: Collection[str]) -> Mapping[Place, int]:
    """Return how many offsets each partition's end is ahead of what the group committed; raises NotFound and Outage.

    A group that never committed lags by all that is there. Offsets are counted, not records: transactions and
    compaction leave gaps.
    """
    ends, begins = end_offsets(admin, topics), begin_offsets(admin, topics)
    committed = _committed(admin, group, list(ends))
    return {place: end - max(committed[place], begins[place]) for place, end in ends.items()}


def _wanted(settings: KafkaSettings) -> list[NewTopic]:
    names = settings.topics
    read = settings.read_topics
    plain = [*read, names.learning_events, *(topic + names.dead_letter_suffix for topic in read)]
    # the newest segment is never compacted, and subscribers read the whole topic again and again: with Kafka's
    # week a segment they would read every publication of that week
    compacted = {"cleanup.policy": "compact", "segment.ms": "600000", "min.cleanable.dirty.ratio": "0.01"}
    topics = [_new_topic(settings, topic, {}) for topic in plain]
    return [*topics, _new_topic(settings, names.model_updated, compacted)]


def _new_topic(settings: KafkaSettings, name: str, config: dict[str, str]) -> NewTopic:
    shape = settings.topics
    return NewTopic(name, num_partitions=shape.partitions, replication_factor=shape.replication_factor, config=config)


def _create(admin: AdminClient, topics: list[NewTopic]) -> None:
    if not topics:
        return
    for name, future in admin.create_topics(topics, request_timeout=PATIENCE_S).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process may declare at the same time
                raise _error(error.args[0], name) from error
    for topic in topics:
        _until_known(incarnation, admin, topic.topic)


#: A topic is created by the controller; the broker that is asked next hears of it a moment later.
_until_known: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(NotFound),
    stop=tenacity.stop_after_delay(PATIENCE_S),
    wait=tenacity.wait_fixed(0.05),
    reraise=True,
)


def _offsets(admin: AdminClient, topics: Collection[str], spec: OffsetSpec) -> Mapping[Place, int]:
    places = [TopicPartition(topic, number) for topic in topics for number in range(partition_count(admin, topic))]
    if not places:
        return {}
    asked = admin.list_offsets(
        dict.fromkeys(places, spec), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=PATIENCE_S
    )
    return {(place.topic, place.partition): _result(answer, place.topic).offset for place, answer in asked.items()}


def _committed(admin: AdminClient, group: str, places: list[Place]) -> Mapping[Place, int]:
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(*place) for place in places])
    answer = admin.list_consumer_group_offsets([request], request_timeout=PATIENCE_S)[group]
    found = _result(answer, group).topic_partitions or []
    return {(place.topic, place.partition): place.offset for place in found}


def _murmur2(data: bytes) -> int:
    """Hash 32 bits as org.apache.kafka.common.utils.Utils.murmur2 does (Austin Appleby's MurmurHash2)."""
    value = _MURMUR_SEED ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MURMUR_FACTOR & _WORD
        word = (word ^ word >> 24) * _MURMUR_FACTOR & _WORD
        value = value * _MURMUR_FACTOR & _WORD ^ word
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * _MURMUR_FACTOR & _WORD
    value = (value ^ value >> 13) * _MURMUR_FACTOR & _WORD
    return value ^ value >> 15


def _ask(question: Callable[[], Answer]) -> Answer:
    try:
        return question()
    except KafkaException as error:
        raise _error(error.args[0], "the cluster") from error


def _result(future: Future[Any], about: str) -> Any:  # noqa: ANN401 - every admin answer has a type of its own
    try:
        return future.result(PATIENCE_S + 1)
    except KafkaException as error:
        raise _error(error.args[0], about) from error
    except TimeoutError as error:
        raise Outage(f"Kafka did not answer about {about} within {PATIENCE_S:g} s") from error


def _error(error: KafkaError, about: str) -> NotFound | Outage:
    if error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}:  # noqa: SLF001 - public, by its documentation
        return NotFound(f"there is no topic {about}")
    return Outage(f"Kafka could not answer about {about}: {error.str()}")
