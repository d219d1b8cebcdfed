"""The outside world of the demo: asks for predictions, and later tells what would have been right."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from stream_app.kafka.codec import encode
from stream_app.ports import Deliver, Outgoing
from stream_app.subscriber import Prediction

#: Records between a prediction and the arrival of its label.
LABEL_DELAY: Final = 500
#: Records predicted and sent together.
STEP: Final = 50
POISON_EVERY: Final = 640
DUPLICATE_EVERY: Final = 450
#: What goes wrong at producers: text that is no JSON, a missing field, a wrong type, a number out of range,
#: an unknown class, nothing at all.
POISON: Final[Sequence[bytes | None]] = (
    b"\x00\xff not json",
    b'{"features": {}, "label": 1}',
    b'{"features": {"period": "noon"}, "label": 1}',
    b'{"period": 1e300, "class": 1}',
    b'{"features": {"period": 0.5}, "label": "sideways"}',
    None,
)


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


class Driver:
    """Streams rows: each is predicted first, and its label follows `LABEL_DELAY` records later."""

    def __init__(
        self, model: str, rows: Sequence[Mapping[str, Any]], target: str, *, ask: Ask, deliver: Deliver
    ) -> None:
        self._model = model
        self._rows = rows
        self._target = target
        self._ask = ask
        self._deliver = deliver
        self._waiting: deque[dict[str, Any]] = deque()
        #: the newest label that has been sent: all that anybody can know
        self._known: Any = None
        self.sent = Sent()

    def steps(self, topic: str) -> Iterator[int]:
        """Send the stream step by step; yield the number of rows predicted so far after each."""
        for start in range(0, len(self._rows), STEP):
            self._predict(start)
            self._send(topic, keep=LABEL_DELAY)
            yield min(start + STEP, len(self._rows))
        self._send(topic, keep=0)
        yield len(self._rows)

    def _predict(self, start: int) -> None:
        rows = self._rows[start : start + STEP]
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
            if self.sent.records % DUPLICATE_EVERY == 0:
                messages.append(messages[-1])
                self.sent.duplicates += 1
            if self.sent.records % POISON_EVERY == 0:
                messages.append(self._message(topic, POISON[self.sent.poison % len(POISON)]))
                self.sent.poison += 1
        if messages:
            self._deliver(messages)
            self.sent.times += [time.time()] * (self.sent.records - len(self.sent.times))

    def _message(self, topic: str, value: bytes | None) -> Outgoing:
        return Outgoing(topic=topic, key=self._model.encode(), value=value)
