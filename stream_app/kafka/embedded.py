"""A broker inside this process, for a first try with nothing installed: librdkafka's mock cluster."""

from types import TracebackType
from typing import Self

import confluent_kafka

from stream_app.kafka.client import LOGGER


class EmbeddedBroker:
    """A Kafka broker in memory, as long as the context lasts; other processes of this host can use it too.

    It knows produce, consume, groups, transactions. It differs from a real one: topics appear on first use
    with 4 partitions (creating them times out), nothing survives its end, and it silently drops the oldest data
    of a partition beyond about 5 MB, so a producer must not outrun its consumers.
    """

    def __init__(self) -> None:
        # any address will do: the option replaces it by the mock cluster's. The cluster lives as long as this client
        self._owner = confluent_kafka.Producer(
            {"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "logger": LOGGER}
        )
        brokers = self._owner.list_topics(timeout=10).brokers.values()
        #: host:port
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def __enter__(self) -> Self:
        """Return itself: it runs since it was built."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the broker; its data is gone."""
        del self._owner


def is_embedded(cluster_id: str) -> bool:
    """Tell the mock cluster by the name that librdkafka gives it."""
    return cluster_id.startswith("mockCluster")
