"""The stop of a partition whose newest records are mostly bad: it lasts until a person raises the limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import orjson

from stream_app.core.limits import BadShare
from stream_app.errors import TooManyBadRecords
from stream_app.messages import DEADLETTER_LIMIT, LearningEvent
from stream_app.ports import Clock, Halt, PartitionLog
from stream_app.values import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many bad records are too many."""

    max_share: float
    over_records: int
    #: suffix of the dead-letter topics
    suffix: str
    clock: Clock

    def watch(self) -> BadShare:
        """Return what counts the bad records of one partition."""
        return BadShare(self.max_share, self.over_records)

    def admit(self, log: PartitionLog, partition: Partition, epoch: int) -> None:
        """Raise TooManyBadRecords for a partition that was halted, or resume it if the limit was raised; blocks.

        Call it after the take-over: nobody else can halt it from then on.
        """
        halt = log.halted(partition)
        if halt is None:
            return
        if halt.share > self.max_share:
            self._refuse(partition, halt)
        log.resume(partition, epoch=epoch)

    def halt(
        self, log: PartitionLog, partition: Partition, epoch: int, *, share: float, offset: int, models: Sequence[str]
    ) -> NoReturn:
        """Store that the partition is halted at the offset, tell each of the models' readers, and raise; blocks."""
        halt = Halt(share=share, limit=self.max_share, offset=offset, at=self.clock())
        events = {model: (DEADLETTER_LIMIT, self._event(model, partition, halt)) for model in models}
        log.halt(partition, epoch=epoch, halt=halt, events=events)
        self._refuse(partition, halt)

    def _event(self, model: str, partition: Partition, halt: Halt) -> bytes:
        details = {
            "topic": partition.topic,
            "partition": partition.number,
            "offset": halt.offset,
            "share": halt.share,
            "max_share": halt.limit,
            "over_records": self.over_records,
        }
        return orjson.dumps(LearningEvent(model=model, details=details).model_dump(mode="json"))

    def _refuse(self, partition: Partition, halt: Halt) -> NoReturn:
        # rounded up: the number that we name must let the partition pass
        enough = math.ceil(halt.share * 1000) / 1000
        raise TooManyBadRecords(
            f"{halt.share:.0%} of the newest records of {partition.topic}[{partition.number}] below offset "
            f"{halt.offset} are bad, the limit is {self.max_share:.0%}; they are in {partition.topic}{self.suffix}: "
            "see `stream-app dlq list`; mend the producer or the schema, then raise dead_letters.max_share to at "
            f"least {enough:g} to read on; it stays stopped until then"
        )
