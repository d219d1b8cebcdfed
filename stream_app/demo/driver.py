"""The outside world of the demo: asks for predictions, and later tells what would have been right."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from stream_app.kafka.codec import encode
from stream_app.ports import Deliver, Outgoing
from stream_app.subscriber import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a stream is told: long enough to watch, and with something going wrong now and then."""

    #: records predicted and sent together
    step: int
    #: records between a prediction and the arrival of its label
    label_delay: int
    #: one bad message after so many records
    poison_every: int
    #: one repeat after so many
    duplicate_every: int
    #: records a second where somebody watches
    rate: float
    #: records sent but not yet in the log: the embedded broker forgets beyond about 5 MB a partition
    most_ahead: int


def course_of(rows: int) -> Course:
    """Return the course of so many rows; a small set is told slowly, or it would end before anything serves."""
    return Course(
        step=_within(50, rows // 100),
        label_delay=_within(500, rows // 20),
        poison_every=_within(640, rows // 9),
        duplicate_every=_within(450, rows // 12),
        rate=min(1_500, rows / 20),
        most_ahead=_within(6_000, rows // 7),
    )


def _within(most: int, wanted: int) -> int:
    return max(1, min(most, wanted))


#: Predicts records with the model loaded now; None before there is one.
Ask: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], Sequence[Prediction] | None]


@dataclass(slots=True)
class Sent:
    """What was sent so far."""

    records: int = 0
    poison: int = 0
    duplicates: int = 0
    #: monotonic seconds at which each good record was sent, in order
    times: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All messages."""
        return self.records + self.poison + self.duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """How the rows are told, and what comes between them."""

    course: Course
    poison: Sequence[bytes | None]


class Driver:
    """Streams rows: each is predicted first, and its label follows so many records later."""

    def __init__(
        self, model: str, rows: Sequence[Mapping[str, Any]], target: str, *, tell: Telling, ask: Ask, deliver: Deliver
    ) -> None:
        self._model = model
        self._rows = rows
        self._target = target
        self._course, self._poison = tell.course, tell.poison
        self._ask = ask
        self._deliver = deliver
        self._waiting: deque[dict[str, Any]] = deque()
        #: the newest label that has been sent: all that anybody can know
        self._known: Any = None
        self.sent = Sent()

    def steps(self, topic: str) -> Iterator[int]:
        """Send the stream step by step; yield the number of rows predicted so far after each."""
        for start in range(0, len(self._rows), self._course.step):
            self._predict(start)
            self._send(topic, keep=self._course.label_delay)
            yield min(start + self._course.step, len(self._rows))
        self._send(topic, keep=0)
        yield len(self._rows)

    def _predict(self, start: int) -> None:
        rows = self._rows[start : start + self._course.step]
        features = [{name: value for name, value in row.items() if name != self._target} for row in rows]
        answers = self._ask(features)
        for i, row in enumerate(rows):
            record: dict[str, Any] = {
                "event_id": f"row-{start + i}",
                "features": features[i],
                "label": row[self._target],
            }
            if answers is not None:
                given = {"version": answers[i].version, "digest": answers[i].digest, "output": answers[i].output}
                record["served"] = given if self._known is None else {**given, "known_label": self._known}
            self._waiting.append(record)

    def _send(self, topic: str, *, keep: int) -> None:
        messages: list[Outgoing] = []
        while len(self._waiting) > keep:
            record = self._waiting.popleft()
            self._known = record["label"]
            messages.append(self._message(topic, encode(record)))
            self.sent.records += 1
            if self.sent.records % self._course.duplicate_every == 0:
                messages.append(messages[-1])
                self.sent.duplicates += 1
            if self.sent.records % self._course.poison_every == 0:
                messages.append(self._message(topic, self._poison[self.sent.poison % len(self._poison)]))
                self.sent.poison += 1
        if messages:
            self._deliver(messages)
            self.sent.times += [time.time()] * (self.sent.records - len(self.sent.times))

    def _message(self, topic: str, value: bytes | None) -> Outgoing:
        return Outgoing(topic=topic, key=self._model.encode(), value=value)
