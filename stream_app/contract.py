"""What crosses the topics, for people and machines outside: the forms of each topic's messages, with examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from stream_app import messages
from stream_app.header_schemas import dead_letter_headers, event_headers
from stream_app.messages import (
    Feedback,
    GroundTruth,
    LearningEvent,
    Message,
    ModelUpdated,
    PredictionMade,
    Served,
    ServingEntry,
)
from stream_app.settings import Settings, TopicSettings

Document: TypeAlias = dict[str, Any]

_NAMES: Final = TopicSettings()
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_TEXT: Final = {"type": "string"}
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form that a message on a topic may take."""

    name: str
    description: str
    #: name of the JSON Schema of its value, None for bytes of any kind
    schema: str | None
    #: name of the JSON Schema of its headers
    headers: str | None = None
    #: by the name of the file; of the value, or of the headers where the value is of any kind
    examples: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as its readers and writers must know it."""

    name: str
    description: str
    key: str
    forms: tuple[Form, ...]
    #: "receive" when we read it, "send" when we write it
    action: str
    cleanup_policy: str = "delete"
    #: words for people: we set no retention, the broker's own holds
    retention: str


def _flat() -> Document:
    return {
        "title": "FlatGroundTruth",
        "description": "A labelled record with features and target side by side; the model's settings name the target.",
        "type": "object",
        "minProperties": 2,
        "properties": {
            name: field
            for name, field in _schema(GroundTruth)["properties"].items()
            if name not in {"features", "label"}
        },
        "additionalProperties": {**_SCALAR, "description": "a feature, or the target"},
        "$defs": _schema(GroundTruth)["$defs"],
    }


def _batch() -> Document:
    either = [{"$ref": "ground-truth.v1.schema.json"}, {"$ref": "ground-truth-flat.v1.schema.json"}]
    return {
        "title": "GroundTruthBatch",
        "description": "Several records in one message; each has its own index, and a bad one is dead-lettered alone.",
        "type": "array",
        "items": {"anyOf": either},
        "minItems": 1,
    }


def _schema(kind: type[BaseModel]) -> Document:
    return kind.model_json_schema()


def schemas() -> dict[str, Document]:
    """Return the JSON Schemas of values, headers and settings, by name."""
    return {
        "ground-truth": _schema(GroundTruth),
        "ground-truth-flat": _flat(),
        "ground-truth-batch": _batch(),
        "prediction-made": _schema(PredictionMade),
        "feedback": _schema(Feedback),
        "model-updated": _schema(ModelUpdated),
        "learning-event": _schema(LearningEvent),
        "event-headers": event_headers(),
        "dead-letter-headers": dead_letter_headers(),
        "settings": _schema(Settings),
    }


_FEATURES: Final = {"nswprice": 0.056443, "nswdemand": 0.439155, "transfer": 0.414912}
_SERVED: Final = Served(version="1.57", output=0.73, digest=_DIGEST, known_label=0)
_ENVELOPE: Final = GroundTruth(
    model="electricity",
    event_id="elec2-000001",
    features=_FEATURES,
    label=1,
    occurred_at="1996-05-07T00:30:00Z",
    source="market",
    prediction_id="3f6c1c1e-6d0a-4f3e-9a57-0c2a3d1f7b11",
    served=_SERVED,
)
_PREDICTION: Final = PredictionMade(
    prediction_id="3f6c1c1e-6d0a-4f3e-9a57-0c2a3d1f7b11",
    model="electricity",
    features=_FEATURES,
    served=_SERVED,
    label=1,
    served_at=831_427_200,
)
_UPDATED: Final = ModelUpdated(
    model="electricity",
    promotion_seq=42,
    serving=[
        ServingEntry(
            role="champion",
            weight=1,
            version="1.57",
            algorithm="river:LogisticRegression",
            path=f"electricity/1.57-{_DIGEST[:16]}.zip",
            sha256=_DIGEST,
            size=2048,
            signature="c2lnbmF0dXJl",
            metrics={"accuracy": 0.874},
            trained_through_seq=57,
            trained_through_at=831_427_200,
            previous_version="1.56",
        )
    ],
    published_at=831_427_201,
    signature="c2lnbmF0dXJl",
)


_EVENTS: Final[Mapping[str, Document]] = {
    messages.DRIFT_DETECTED: {"pos": 311, "feature": "error", "detector": "ADWIN", "before": 0.12, "after": 0.31},
    messages.RETRAIN_STARTED: {"job": 7, "trigger": "volume", "attempt": 1},
    messages.RETRAIN_FINISHED: {"job": 7, "trigger": "volume", "version": 3, "reason": "accuracy 0.874 beats 0.861"},
    messages.RETRAIN_REJECTED: {"job": 8, "trigger": "age", "version": 4, "reason": "accuracy 0.858 is below 0.874"},
    messages.RETRAIN_FAILED: {"job": 9, "trigger": "volume", "version": None, "reason": "ended after 3600 s"},
    messages.MODEL_PROMOTED: {"version": 3, "parent": 1},
    messages.MODEL_ROLLED_BACK: {"version": 2},
    messages.MODEL_LOADED: {
        "version": "3",
        "digest": _DIGEST,
        "promotion_seq": 42,
        "freshness_s": 1.4,
        "subscriber": "web-1:4711",
    },
    messages.MODEL_REFUSED: {
        "promotion_seq": 43,
        "reason": "artifact",
        "message": "the signature does not match",
        "subscriber": "web-1:4711",
    },
    messages.CHECKPOINT_REFUSED: {
        "reason": "digest",
        "message": "its 2048 bytes do not have the digest of the 2048 bytes that were stored",
        "kept_as": "quarantine/electricity-57-1f2e3d4c5b6a7988.ckpt",
        "next_seq": 54,
    },
    messages.WINDOW_QUARANTINED: {"reason": "the online learner is no longer finite"},
    messages.DEADLETTER_LIMIT: {
        "topic": "ground-truth",
        "partition": 0,
        "offset": 4711,
        "share": 0.52,
        "max_share": 0.5,
        "over_records": 1000,
    },
}


def _events() -> dict[str, Document]:
    """Return an example of each type of event, by the words of the type."""
    return {
        type_.removeprefix("io.stream_app.").replace("_", "-").replace(".", "-"): _plain(
            # a partition is halted between windows, and may be home to several models
            LearningEvent(model="electricity", seq=None if type_ == messages.DEADLETTER_LIMIT else 57, details=details)
        )
        for type_, details in _EVENTS.items()
    }


def topics() -> tuple[Topic, ...]:
    """Return every topic that we read or write, under its default name."""
    names = (_NAMES.ground_truth, _NAMES.predictions, _NAMES.feedback)
    return (
        _ground_truth(),
        _predictions(),
        _feedback(),
        _model_updated(),
        _learning_events(),
        *(_dead_letters(name) for name in names),
    )


def _ground_truth() -> Topic:
    flat = {"event_id": "elec2-000001", **_FEATURES, "class": 1}
    minimal = GroundTruth(features=_FEATURES, label=1)
    envelope = Form(
        name="envelope",
        description="Features and label apart, with everything that is known about the record.",
        schema="ground-truth",
        examples={"envelope": _plain(_ENVELOPE), "envelope-minimal": _plain(minimal)},
    )
    side_by_side = Form(
        name="flat",
        description="Features and target side by side.",
        schema="ground-truth-flat",
        examples={"flat": flat},
    )
    batch = Form(
        name="batch",
        description="A JSON array of records.",
        schema="ground-truth-batch",
        examples={"batch": [_plain(_ENVELOPE), flat]},
    )
    return Topic(
        name=_NAMES.ground_truth,
        description="Labelled records, the only input of the learners; ingest topics carry the same forms, any key.",
        key="name of the model",
        forms=(envelope, side_by_side, batch),
        action="receive",
        retention="the broker's; longer than the longest time without a worker",
    )


def _predictions() -> Topic:
    form = Form(
        name="predictionMade",
        description="What was asked, what was answered, and which version answered.",
        schema="prediction-made",
        examples={"prediction-made": _plain(_PREDICTION)},
    )
    return Topic(
        name=_NAMES.predictions,
        description="Every prediction that was served, to be joined with its label.",
        key="id of the prediction",
        forms=(form,),
        action="receive",
        retention="the broker's; longer than the longest time without a worker",
    )


def _feedback() -> Topic:
    verdict = Feedback(prediction_id=_PREDICTION.prediction_id, verdict="wrong", source="web")
    label = Feedback(prediction_id=_PREDICTION.prediction_id, label=1, feedback_id="ticket-77")
    form = Form(
        name="feedback",
        description="A verdict on a prediction, or the right answer itself; before or after the prediction.",
        schema="feedback",
        examples={"verdict": _plain(verdict), "label": _plain(label)},
    )
    return Topic(
        name=_NAMES.feedback,
        description="What people know about predictions; joined, it becomes ground truth.",
        key="id of the prediction",
        forms=(form,),
        action="receive",
        retention="the broker's; longer than the longest time without a worker",
    )


def _model_updated() -> Topic:
    form = Form(
        name="modelUpdated",
        description="A pointer to the serving set, signed; never the model's bytes.",
        schema="model-updated",
        headers="event-headers",
        examples={"model-updated": _plain(_UPDATED)},
    )
    return Topic(
        name=_NAMES.model_updated,
        description="What to serve now: the newest message of a model is the truth.",
        key="name of the model",
        forms=(form,),
        action="send",
        cleanup_policy="compact",
        retention="for ever, the newest message of each key",
    )


def _learning_events() -> Topic:
    form = Form(
        name="learningEvent",
        description="Drift, a retrain, a promotion, a load, a refusal, a quarantine.",
        schema="learning-event",
        headers="event-headers",
        examples=_events(),
    )
    return Topic(
        name=_NAMES.learning_events,
        description="What is worth knowing about the models; the CloudEvents type says what happened.",
        key="name of the model",
        forms=(form,),
        action="send",
        retention="the broker's",
    )


def _dead_letters(topic: str) -> Topic:
    shown = {name: f"<{field['description']}>" for name, field in dead_letter_headers()["properties"].items()}
    form = Form(
        name="deadLetter",
        description="The original key, value and headers, and in more headers why it is here.",
        schema=None,
        headers="dead-letter-headers",
        examples={"headers": shown},
    )
    return Topic(
        name=topic + _NAMES.dead_letter_suffix,
        description="What could never be processed, byte for byte; each topic that is read has one.",
        key="the original message's",
        forms=(form,),
        action="send",
        retention="the broker's; longer than it takes to look at them",
    )


def _plain(message: Message) -> Document:
    return message.model_dump(mode="json", exclude_none=True)
