"""The vocabulary between processes: what crosses a topic, each field with a word on it.

`schemas/*.v1.schema.json` and the AsyncAPI document are generated from these classes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Names of models, topics' models and versions on disk: no path can be built from them.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Scalar = Annotated[float | int | str | bool | None, Field(description="a JSON scalar")]


class Message(BaseModel):
    """Base of every message: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Served(Message):
    """The prediction that was really given for a record, sent along with its label."""

    version: str = Field(description="version or snapshot that predicted, e.g. '3' or '1.57'")
    output: float | str | int | bool = Field(
        description="P(positive class) for binary models, the class for multiclass, the value for regression"
    )
    digest: str | None = Field(default=None, description="sha256 of the artifact that predicted")
    known_label: Scalar = Field(
        default=None, description="the newest label known when it predicted: the no-change baseline's answer"
    )


class GroundTruth(Message):
    """A labelled record on `ground-truth`, in its envelope form."""

    features: dict[str, Scalar] = Field(description="by feature name, as the model's schema declares them")
    label: Scalar = Field(description="the right answer")
    model: str | None = Field(default=None, pattern=NAME_PATTERN, description="default: the message key")
    event_id: str | None = Field(
        default=None, max_length=256, description="the producer's id; a repeat within the horizon is learned once"
    )
    prediction_id: str | None = Field(default=None, max_length=256, description="id of the answered prediction")
    occurred_at: str | float | None = Field(
        default=None, description="ISO 8601 or seconds since the epoch; default: the Kafka timestamp"
    )
    source: str | None = Field(default=None, max_length=128, description="provenance, e.g. 'feedback'")
    served: Served | None = Field(default=None, description="the prediction that was given for this record")
    corrects: bool = Field(
        default=False, description="whether an earlier label of this id was learned already: kept as a correction"
    )


class PredictionMade(Message):
    """A prediction that was given, on `predictions`: what its label will be joined with."""

    prediction_id: str = Field(min_length=1, max_length=64, description="names the prediction in its feedback")
    model: str = Field(pattern=NAME_PATTERN, description="name of the model")
    features: dict[str, Scalar] = Field(description="what was asked, as the model's schema declares it")
    served: Served = Field(description="who answered, and what")
    label: float | str | int | bool = Field(description="the class or value that was predicted")
    served_at: float = Field(ge=0, description="seconds since the epoch")


class Feedback(Message):
    """What somebody knows about a prediction, on `feedback`: a verdict, or the right answer itself."""

    prediction_id: str = Field(min_length=1, max_length=64, description="which prediction it is about")
    verdict: Literal["correct", "wrong", "unsure"] | None = Field(
        default=None, description="'wrong' alone flips a binary prediction, elsewhere it needs the label too"
    )
    label: Scalar = Field(default=None, description="the right answer")
    feedback_id: str | None = Field(
        default=None, max_length=256, description="the sender's id; a repeat is counted once; default: its coordinates"
    )
    given_at: str | float | None = Field(
        default=None, description="ISO 8601 or seconds since the epoch; default: the Kafka timestamp"
    )
    source: str | None = Field(default=None, max_length=128, description="provenance, e.g. 'web'")


class ServingEntry(Message):
    """One member of a serving set."""

    role: Literal["champion", "shadow", "arm"] = Field(description="what its answers are used for")
    weight: float = Field(ge=0, le=1, description="share of the traffic that it answers")
    version: str = Field(description="'3' for a version, '1.57' for a snapshot of version 1 at window 57")
    algorithm: str = Field(description="e.g. 'river:LogisticRegression'")
    path: str = Field(description="relative to the artifact store that the subscriber was configured with")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of the artifact's bytes")
    size: int = Field(ge=0, description="bytes")
    signature: str = Field(description="base64 of the Ed25519 signature over digest and path")
    metrics: dict[str, float | None] = Field(default_factory=dict, description="scores at publication")
    trained_through_seq: int = Field(ge=0, description="newest window that it has learned")
    trained_through_at: float = Field(ge=0, description="when that window was closed, seconds since the epoch")
    previous_version: str | None = Field(default=None, description="what served before")


class ModelUpdated(Message):
    """What to serve now: the newest one per model is the truth, the topic is compacted."""

    model: str = Field(pattern=NAME_PATTERN, description="name of the model")
    promotion_seq: int = Field(ge=1, description="rises with each publication; apply only a greater one")
    serving: list[ServingEntry] = Field(min_length=1, description="the serving set; weights add up to 1")
    published_at: float = Field(ge=0, description="seconds since the epoch")
    signature: str = Field(default="", description="base64 Ed25519 over the canonical JSON of the other fields")


class LearningEvent(Message):
    """Something worth knowing happened to a model; the CloudEvents type says what."""

    model: str = Field(pattern=NAME_PATTERN, description="name of the model")
    seq: int | None = Field(default=None, ge=0, description="window at which it happened")
    details: dict[str, Any] = Field(default_factory=dict, description="numbers and reasons, by type")


#: CloudEvents types of what we send, all on `learning-events` but the first.
MODEL_UPDATED = "io.stream_app.model.updated.v1"
RETRAIN_STARTED = "io.stream_app.retrain.started.v1"
RETRAIN_FINISHED = "io.stream_app.retrain.finished.v1"
RETRAIN_REJECTED = "io.stream_app.retrain.rejected.v1"
RETRAIN_FAILED = "io.stream_app.retrain.failed.v1"
MODEL_PROMOTED = "io.stream_app.model.promoted.v1"
MODEL_ROLLED_BACK = "io.stream_app.model.rolled_back.v1"
MODEL_LOADED = "io.stream_app.model.loaded.v1"
MODEL_REFUSED = "io.stream_app.model.refused.v1"
CHECKPOINT_REFUSED = "io.stream_app.checkpoint.refused.v1"
DRIFT_DETECTED = "io.stream_app.drift.detected.v1"
WINDOW_QUARANTINED = "io.stream_app.window.quarantined.v1"
DEADLETTER_LIMIT = "io.stream_app.deadletter.limit.v1"
#: CloudEvents type of joined labels on `ground-truth`.
LABEL_JOINED = "io.stream_app.label.joined.v1"
