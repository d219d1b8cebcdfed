"""What the producers of the suite send: good records, repeats, strays and poison of every kind.

Each message says in a header what must become of each of its elements, so that the verifier need not guess.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Producer

EXPECT: Final = "x-expect"
#: Above the suite's `kafka.max_message_bytes`, and above what a dead letter keeps.
HUGE_BYTES: Final = 100_000

#: librdkafka's number for "let the key decide".
_BY_KEY: Final = -1

#: A model's section of the suite's settings, but for its name.
MODEL: Final = """\
task = "binary"
target = "y"
classes = [0, 1]
[models.{name}.features]
x1 = {{ type = "number", low = -1000, high = 1000 }}
x2 = {{ type = "number", required = false }}
c = {{ type = "category", required = false }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to send, and what must become of each of its elements."""

    value: bytes | None
    expect: tuple[str, ...]
    #: None: where its key belongs
    topic: str | None = None
    key: str | None = None
    partition: int | None = None


def _raw(value: bytes | None, reason: str) -> Callable[[random.Random], Message]:
    return lambda _: Message(value=value, expect=(f"dead:{reason}",))


def _broken(reason: str, **change: Any) -> Callable[[random.Random], Message]:  # noqa: ANN401 - any JSON value
    """Return a good record with some fields changed; None leaves the field out."""

    def build(chance: random.Random) -> Message:
        record = good(chance) | change
        kept = {name: value for name, value in record.items() if value is not None}
        return Message(value=json.dumps(kept).encode(), expect=(f"dead:{reason}",))

    return build


def _literal(text: str, reason: str) -> Callable[[random.Random], Message]:
    """Return a record whose x1 is written as it could come from a careless producer."""
    return _raw(f'{{"x1": {text}, "x2": 0, "c": "a", "y": 1}}'.encode(), reason)


def _half_bad(chance: random.Random) -> Message:
    records = [good(chance), good(chance) | {"x1": "seven"}, 7, good(chance)]
    expect = ("learn", "dead:wrong_type", "dead:not_an_object", "learn")
    return Message(value=json.dumps(records).encode(), expect=expect)


#: Poison by kind: what the table of faults names in #26, #27, #30, #31, #33 and #34.
POISON: Final[Mapping[str, Callable[[random.Random], Message]]] = {
    "garbage": _raw(b"\x00\xff\xfe garbage", "not_json"),
    "invalid UTF-8": _raw(b'{"x1": "\xff\xff"}', "not_json"),
    "cut short": _raw(b'{"x1": 1, "x2"', "not_json"),
    "empty": _raw(b"", "not_json"),
    "tombstone": _raw(None, "tombstone"),
    "no object": _raw(b"7", "not_an_object"),
    "half an array": _half_bad,
    "huge message": _raw(b'{"x1": "' + b"x" * HUGE_BYTES + b'"}', "too_large"),
    "huge array": _raw(json.dumps([0] * 10_001).encode(), "too_large"),
    "very many fields": _raw(json.dumps({f"f{i}": 0 for i in range(20_000)}).encode(), "too_large"),
    "deep nesting": _raw(b'{"x1":' * 5_000 + b"1" + b"}" * 5_000, "not_json"),
    "NaN": _literal("NaN", "not_json"),
    "Infinity": _literal("Infinity", "not_json"),
    "1e999": _literal("1e999", "not_json"),
    "400 digits": _literal("9" * 400, "not_json"),
    "1e308": _literal("1e308", "out_of_bounds"),
    "beyond a bound": _broken("out_of_bounds", x1=1000.5),
    "bool as number": _broken("wrong_type", x1=True),
    "text as number": _broken("wrong_type", x1="1.5"),
    "list as number": _broken("wrong_type", x1=[1]),
    "missing field": _broken("missing_field", x1=None),
    "missing label": _broken("missing_label", y=None),
    "unknown class": _broken("unknown_class", y="zzz"),
    "from the future": _broken("bad_time", occurred_at=4_000_000_000),
    "unknown model": lambda chance: Message(
        value=json.dumps(good(chance)).encode(), expect=("dead:unknown_model",), key="nobody"
    ),
}


def good(chance: random.Random) -> dict[str, Any]:
    """Return a flat record that any model of the suite can learn."""
    x1, x2 = chance.uniform(-10, 10), chance.gauss(0, 3)
    return {"x1": x1, "x2": x2, "c": chance.choice("abc"), "y": int(x1 + x2 + chance.gauss(0, 1) > 0)}


class Workload:
    """A seeded stream of messages for some models."""

    def __init__(self, models: Sequence[str], ingest: Mapping[str, str], partitions: int, seed: int) -> None:
        """`ingest` is the model fed by each ingest topic; `partitions` those of the ground-truth topic."""
        self._models = models
        self._ingest = ingest
        self._partitions = partitions
        self._chance = random.Random(seed)  # noqa: S311 - a repeatable run, no secret
        self._poison = [*POISON]
        self._sent: list[tuple[str, bytes]] = []
        self._count = 0

    def next(self) -> Message:
        """Return the next message: mostly good ones, with repeats, strays and poison among them."""
        self._count += 1
        kinds: Sequence[tuple[float, Callable[[], Message]]] = (
            (0.06, self._poisoned),
            (0.06, self._repeated),
            (0.05, self._array),
            (0.05, self._misplaced),
            (0.05, self._ingested),
        )
        draw = self._chance.random()
        for share, build in kinds:
            if draw < share:
                return build()
            draw -= share
        return self._plain()

    def good(self) -> Message:
        """Return a good record."""
        self._count += 1
        return self._plain()

    def poisoned(self, kind: str) -> Message:
        """Return poison of that kind for one of the models."""
        message = POISON[kind](self._chance)
        if message.key is not None:
            return message
        return Message(value=message.value, expect=message.expect, key=self._chance.choice(self._models))

    def _plain(self) -> Message:
        model = self._chance.choice(self._models)
        record = self._with_id(good(self._chance)) if self._chance.random() < 0.9 else good(self._chance)  # noqa: PLR2004
        value = json.dumps(record).encode()
        if "event_id" in record:
            self._sent.append((model, value))
        return Message(value=value, expect=("learn",), key=model)

    def _with_id(self, record: dict[str, Any]) -> dict[str, Any]:
        return record | {"event_id": f"e{self._count}"}

    def _poisoned(self) -> Message:
        # each kind in turn, so that a short run has them all
        self._poison = self._poison[1:] + self._poison[:1]
        return self.poisoned(self._poison[-1])

    def _repeated(self) -> Message:
        if not self._sent:
            return self._plain()
        model, value = self._chance.choice(self._sent)
        return Message(value=value, expect=("repeat",), key=model)

    def _array(self) -> Message:
        records = [good(self._chance) for _ in range(self._chance.randint(1, 20))]
        return Message(
            value=json.dumps(records).encode(), expect=("learn",) * len(records), key=self._chance.choice(self._models)
        )

    def _misplaced(self) -> Message:
        """Return a record on any partition, as a producer with another partitioner sends it."""
        message = self._plain()
        somewhere = self._chance.randrange(self._partitions)
        return Message(value=message.value, expect=message.expect, key=message.key, partition=somewhere)

    def _ingested(self) -> Message:
        topic = self._chance.choice([*self._ingest])
        if self._chance.random() < 0.2:  # noqa: PLR2004 - one in five is bad, here too
            message = POISON["text as number"](self._chance)
            return Message(value=message.value, expect=message.expect, topic=topic)
        return Message(value=json.dumps(good(self._chance)).encode(), expect=("learn",), topic=topic)


class Sender:
    """Puts messages onto the broker, every one of them acknowledged."""

    def __init__(self, bootstrap: str, ground_truth: str) -> None:
        self._topic = ground_truth
        config = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random"}
        self._producer = Producer(config | {"linger.ms": 5, "log_level": 0})
        self._failed: list[str] = []

    def send(self, messages: Sequence[Message]) -> None:
        """Send; what is not acknowledged shows in `flush`."""
        for message in messages:
            self._producer.produce(
                message.topic or self._topic,
                value=message.value,
                key=message.key,
                headers=[(EXPECT, json.dumps(message.expect).encode())],
                on_delivery=lambda error, _: self._failed.append(error.str()) if error else None,
                partition=_BY_KEY if message.partition is None else message.partition,
            )
            self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all is acknowledged; raises RuntimeError otherwise, since then nobody knows what was sent."""
        unsent = self._producer.flush(30)
        if unsent or self._failed:
            raise RuntimeError(f"the broker did not take {unsent} messages: {self._failed[:3]}")
