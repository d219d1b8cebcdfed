"""The topic `model-updated`, read from its start as often as one likes."""

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from stream_app.errors import Outage
from stream_app.kafka import client
from stream_app.settings import KafkaSettings

_PATIENCE_S: Final = 3.0
_MOST_AT_ONCE: Final = 500


class Feed:
    """Yields the committed messages of every partition; no consumer group, nothing is committed."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects when first asked; raises Misconfigured for options that cannot be."""
        self._topic = settings.topics.model_updated
        # The event at a partition's end comes with the fetch that finds nothing more: wait for it briefly.
        self._consumer = client.consumer(settings, enable_partition_eof=True, fetch_wait_max_ms=100)
        self._behind: set[int] = set()

    @property
    def is_caught_up(self) -> bool:
        """Return whether the end of every partition was reached since the last rewind.

        The broker's word for the end is used, not a count of messages: markers of transactions and compaction
        leave gaps, and a partition may hold nothing but markers.
        """
        return not self._behind

    def rewind(self) -> None:
        """Begin again at the start of every partition that there is now; raises Outage."""
        try:
            metadata = self._consumer.list_topics(self._topic, timeout=_PATIENCE_S).topics[self._topic]
        except KafkaException as error:
            raise Outage(f"topic {self._topic}: {error.args[0].str()}") from error
        if metadata.error is not None:
            raise Outage(f"topic {self._topic}: {metadata.error.str()}")
        self._behind = set(metadata.partitions)
        self._consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in metadata.partitions])

    def read(self, timeout_s: float) -> Sequence[tuple[bytes, bytes]]:
        """Return key and value of the next messages that have both, none if there are none in time; raises Outage."""
        try:
            messages = self._consumer.consume(_MOST_AT_ONCE, timeout_s)
        except KafkaException as error:
            raise Outage(f"topic {self._topic}: {error.args[0].str()}") from error
        return [pair for message in messages if all(pair := self._pair(message))]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _pair(self, message: Any) -> tuple[bytes, bytes]:  # noqa: ANN401 - confluent-kafka has no types
        error = message.error()
        if error is None:
            return message.key() or b"", message.value() or b""
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - public by librdkafka's documentation
            raise Outage(f"topic {self._topic}: {error.str()}")
        self._behind.discard(message.partition())
        return b"", b""
