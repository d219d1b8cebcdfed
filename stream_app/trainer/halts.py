"""Partitions that stand still until a person acts. The trainer tells of them: their worker has left."""

import logging
import threading
from collections import Counter
from typing import Final

from stream_app.errors import StreamAppError
from stream_app.ports import Observer, PartitionLog
from stream_app.values import Partition

_LOG = logging.getLogger(__name__)
#: Seconds between two looks.
EVERY_S: Final = 5.0


class HaltWatch:
    """Tells how many partitions of each topic are halted."""

    def __init__(self, partitions: PartitionLog, observe: Observer) -> None:
        self._partitions = partitions
        self._observe = observe

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; while the database is away, what was told last stands."""
        while not stop.is_set():
            try:
                self.look()
            except StreamAppError as error:
                _LOG.warning("not known whether partitions are halted: %s", error)
            stop.wait(EVERY_S)

    def look(self) -> None:
        """Look once; raises Outage."""
        halted: Counter[str] = Counter()
        for partition in self._partitions.counts():
            halted[partition.topic] += self._is_halted(partition)
        for topic, count in halted.items():
            self._observe("halted_partitions", amount=count, topic=topic)

    def _is_halted(self, partition: Partition) -> bool:
        # a topic that was created again leaves the partitions of the one before halted for ever
        is_read = self._partitions.incarnation(partition.topic) == partition.incarnation
        return is_read and self._partitions.halted(partition) is not None
