"""A prediction store over a database, the time in a test's hands, and the short way to make both sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Engine, select

from stream_app.core.joining import Label, Opinion, Outcome, Rules
from stream_app.core.schema import Field, Schema
from stream_app.messages import LABEL_JOINED, GroundTruth, PredictionMade, Served
from stream_app.model_settings import FeedbackSettings
from stream_app.ports import Recorder
from stream_app.settings import JoinSettings
from stream_app.storage.partition_log import SqlPartitionLog
from stream_app.storage.predictions import SqlPredictionStore
from stream_app.storage.tables import outbox
from stream_app.values import Partition, Task

PLACE = Partition(incarnation="one", topic="feedback", number=2)
FIELDS = (Field(name="a", type="number"), Field(name="c", type="category", required=False))
BINARY = Schema(task=Task.BINARY, target="y", fields=FIELDS, classes=(0, 1))
COLOURS = Schema(task=Task.MULTICLASS, target="y", fields=FIELDS, classes=("red", "green", "blue"))
PRICES = Schema(task=Task.REGRESSION, target="y", fields=FIELDS, classes=())


@dataclass
class JoinHouse:
    """A store whose models are named after their policies, `colours` and `prices`."""

    engine: Engine
    settle_s: float = 60
    settings: JoinSettings = field(default_factory=JoinSettings)
    now: float = 1_000.0
    heard: Recorder = field(default_factory=Recorder)

    def __post_init__(self) -> None:
        policies: tuple[Any, ...] = ("first", "last", "majority")
        rules = {
            name: Rules(schema=BINARY, feedback=FeedbackSettings(policy=name, settle_s=self.settle_s))
            for name in policies
        }
        others = {"colours": COLOURS, "prices": PRICES}
        rules |= {name: Rules(schema=schema, feedback=FeedbackSettings()) for name, schema in others.items()}
        self.store = SqlPredictionStore(
            self.engine,
            rules,
            self.settings,
            ground_truth="ground-truth",
            clock=lambda: self.now,
            observe=self.heard,
        )
        self.partitions = SqlPartitionLog(self.engine, learning_events="learning-events", clock=lambda: self.now)

    def predict(self, *ids: str, model: str = "first", label: Label = 1, served_at: float = 990.0) -> None:
        """Store predictions."""
        self.store.take_predictions([prediction(id_, model, label, served_at) for id_ in ids])

    def say(self, prediction_id: str, said: str | Label, feedback_id: str | None = None) -> Outcome:
        """Give a verdict (a word) or a label (anything else, or a colour), and return what became of it."""
        return self.store.take_feedback([opinion(prediction_id, said, feedback_id)])[0]

    def owed(self) -> list[GroundTruth]:
        """Return the joined labels in the order in which they will be sent."""
        query = select(outbox).where(outbox.c.type == LABEL_JOINED).order_by(outbox.c.id)
        with self.engine.connect() as connection:
            return [GroundTruth.model_validate(orjson.loads(row.value)) for row in connection.execute(query)]

    def labels(self) -> list[tuple[str | None, Any, bool]]:
        """Return prediction, label and whether it corrects, of each joined label."""
        return [(truth.prediction_id, truth.label, truth.corrects) for truth in self.owed()]


def prediction(id_: str, model: str = "first", label: Label = 1, served_at: float = 990.0) -> PredictionMade:
    """Return a prediction that was made."""
    served = Served(version="1.7", output=0.1 + 0.2, digest="ab" * 32, known_label=label)
    features: dict[str, float | int | str | bool | None] = {"a": 2, "c": "x", "more": "than the schema names"}
    return PredictionMade(
        prediction_id=id_, model=model, features=features, served=served, label=label, served_at=served_at
    )


_numbers: Iterator[int] = iter(range(10**9))


def opinion(prediction_id: str, said: str | Label, feedback_id: str | None = None) -> Opinion:
    """Return feedback with an id of its own unless one is given."""
    verdict = said if said in {"correct", "wrong", "unsure"} else None
    return Opinion(
        feedback_id=feedback_id or f"f{next(_numbers)}",
        prediction_id=prediction_id,
        verdict=str(verdict) if verdict else None,
        label=None if verdict else said,
        source="web",
        given_at=995.5,
    )


def outcomes(counts: Any, *names: str) -> Sequence[int]:  # noqa: ANN401 - what `counts` returns
    """Return some of the counts."""
    return [counts[name] for name in names]
