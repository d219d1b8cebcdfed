"""Halted partitions are told by topic; those of a topic that was deleted are nobody's concern."""

import threading
from collections.abc import Mapping
from typing import Any

from stream_app.errors import Outage
from stream_app.ports import Halt, Recorder
from stream_app.trainer.halts import HaltWatch
from stream_app.values import Partition

HALT = Halt(share=0.8, limit=0.5, offset=7, at=12.5)


class Partitions:
    """Says which partitions are halted; `now` is the incarnation that is read."""

    def __init__(self, halted: Mapping[tuple[str, int], bool], *, now: str = "i1") -> None:
        self._halted = {Partition(incarnation="i1", topic=t, number=n): is_so for (t, n), is_so in halted.items()}
        self._now = now

    def counts(self) -> Mapping[Partition, tuple[int, int]]:
        return dict.fromkeys(self._halted, (0, 0))

    def incarnation(self, topic: str) -> str:
        del topic
        return self._now

    def halted(self, partition: Partition) -> Halt | None:
        return HALT if self._halted[partition] else None


def told(partitions: Any) -> dict[str, float]:  # noqa: ANN401 - three methods of a protocol are all that is asked
    recorder = Recorder()
    HaltWatch(partitions, recorder).look()
    return {labels["topic"]: amount for _, amount, labels in recorder.facts}


def test_each_topic_is_told_with_its_number() -> None:
    halted = {("raw", 0): True, ("raw", 1): True, ("raw", 2): False, ("other", 0): False}
    assert told(Partitions(halted)) == {"raw": 2, "other": 0}


def test_a_topic_created_again_is_not_halted() -> None:
    assert told(Partitions({("raw", 0): True}, now="i2")) == {"raw": 0}


def test_a_database_that_is_away_is_asked_again() -> None:
    stop, recorder = threading.Event(), Recorder()

    class Away(Partitions):
        def counts(self) -> Mapping[Partition, tuple[int, int]]:
            stop.set()
            raise Outage

    HaltWatch(Away({}), recorder).run(stop)  # type: ignore[arg-type] - as above
    assert recorder.facts == []
