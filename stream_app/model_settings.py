"""The settings of one model: its schema, its learners, and when it retrains and publishes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from stream_app.sections import Contradiction, Section
from stream_app.values import Task

#: Classes of a binary model, and the fewest of any.
BINARY_CLASSES: Final = 2


class WindowSettings(Section):
    """When a window is closed."""

    max_rows: int = Field(20_000, ge=1, description="rows; a message is never split")
    max_age_s: float = Field(0.25, gt=0, description="after its first record")
    inline_bytes: int = Field(65_536, ge=0, description="smaller windows travel inside the transaction")
    progress_records: int = Field(
        10_000, ge=1, description="records of others on the partition until a header-only window"
    )
    progress_s: float = Field(10, gt=0, description="or so long")
    checkpoint_windows: int = Field(50, ge=1, description="windows between two checkpoints")
    checkpoint_rows: int = Field(200_000, ge=1, description="or so many rows")


class FeatureSettings(Section):
    """One feature of the schema."""

    type: Literal["number", "category"] = Field("number", description="what its values are")
    low: float | None = Field(None, description="smallest value accepted")
    high: float | None = Field(None, description="largest value accepted")
    required: bool = Field(True, description="whether null or absent is an error; else it is an explicit missing value")
    values: tuple[str, ...] | None = Field(
        None, description="the only categories accepted; default: any, up to the cap"
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """See the base."""
        if self.type == "category" and (self.low is not None or self.high is not None):
            yield ("type", "low", "high"), "low and high only for a number"
        if self.type == "number" and self.values is not None:
            yield ("type", "values"), "values only for a category"
        if self.low is not None and self.high is not None and self.low > self.high:
            yield ("low", "high"), f"low ({self.low:g}) not above high ({self.high:g})"


class LearnerSettings(Section):
    """The online learner: a River estimator behind the schema's preprocessing."""

    name: str | None = Field(
        None, description="dotted River name, e.g. linear_model.LogisticRegression; default by task"
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments; {'class': 'optim.SGD', …} builds an object"
    )
    scale: bool = Field(True, description="standardise numbers as they come")
    encode: Literal["one_hot", "ordinal"] = Field("one_hot", description="how categories reach the learner")
    adapter: Literal["auto", "river", "compiled"] = Field("auto", description="auto: compiled where it applies")
    previous_labels: int = Field(0, ge=0, le=100, description="labels known at prediction time, as features")
    label_delay: int = Field(0, ge=0, description="records between a prediction and its label, for previous_labels")
    max_categories: int = Field(1_000, ge=1, description="per feature; more share one bucket")


class DriftSettings(Section):
    """What watches for change."""

    delta: float = Field(0.002, gt=0, lt=1, description="ADWIN's confidence on the online error")
    features: bool = Field(False, description="watch each numeric feature too")


class CandidateSettings(Section):
    """One batch candidate of a full retrain."""

    name: str = Field(description="dotted scikit-learn name, e.g. ensemble.HistGradientBoostingClassifier")
    params: dict[str, Any] = Field(default_factory=dict, description="keyword arguments")


class RetrainSettings(Section):
    """When and how to retrain in full."""

    enabled: bool = Field(True, description="whether triggers start retrains by themselves")
    every_records: int | None = Field(10_000, ge=1, description="volume trigger: rows since the last retrain")
    max_age_s: float | None = Field(None, gt=0, description="age trigger: seconds since the last retrain")
    cooldown_s: float = Field(0, ge=0, description="least time between two starts")
    min_rows: int = Field(500, ge=10, description="fewer rows are not retrained on")
    window_rows: int | None = Field(None, ge=10, description="train on the newest rows only; default: all")
    holdout: float = Field(0.2, gt=0, lt=1, description="share of the newest rows kept for the comparison")
    candidates: tuple[CandidateSettings, ...] = Field((), description="default by task")
    min_gain: float = Field(0.0, description="by how much the candidate must be better to be promoted")
    backend: Literal["loky", "threading", "dask"] = Field("loky", description="joblib backend of the fit")
    n_jobs: int = Field(1, description="joblib jobs of the fit")
    timeout_s: float = Field(3600, gt=0, description="a retrain that takes longer is ended")
    memory_mb: int | None = Field(None, ge=256, description="a retrain that needs more is ended")
    max_attempts: int = Field(2, ge=1, description="tries of a job whose process died")


class PublishSettings(Section):
    """How often the online model is published while it serves."""

    every_records: int | None = Field(None, ge=1, description="rows learned since the last publication")
    every_s: float | None = Field(1.0, gt=0, description="seconds since the last publication")


class DeadLetterSettings(Section):
    """When too many bad records stop the worker."""

    max_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="of bad records among the newest `over_records`; a partition above it halts until this is raised",
    )
    over_records: int = Field(1_000, ge=10, description="so many are looked at")


class FeedbackSettings(Section):
    """What is learned when several people label one prediction."""

    policy: Literal["first", "last", "majority"] = Field(
        "first", description="first: at once, later ones correct it; last, majority: after a time to settle"
    )
    settle_s: float = Field(60, gt=0, description="after the first label, for last and majority")
    majority_of: int = Field(3, ge=1, description="labels that settle a majority before the time is over")


class ModelSettings(Section):
    """A model; task, target and data (or features) suffice."""

    task: Task = Field(description="binary, multiclass or regression")
    target: str = Field(min_length=1, description="name of the label")
    data: Path | None = Field(None, description="CSV, JSON lines or Parquet file from which the schema is inferred")
    features: dict[str, FeatureSettings] = Field(default_factory=dict, description="the schema, in order")
    classes: tuple[bool | int | str, ...] | None = Field(None, description="labels; for binary: negative, positive")
    unknown_class: Literal["reject"] = Field("reject", description="a label outside the classes is dead-lettered")
    extra_features: Literal["ignore", "reject"] = Field("ignore", description="fields that the schema does not name")
    metric: str | None = Field(None, description="what the gate compares; default by task")
    seed: int = Field(1, description="of everything random")
    on_change: Literal["stop", "continue", "refold"] = Field(
        "stop", description="what to do when the fold digest changed"
    )
    dedupe_horizon: int = Field(100_000, ge=1, description="ids remembered at least")
    lateness_s: float | None = Field(None, gt=0, description="older records are kept but not learned online")
    max_skew_s: float = Field(
        86_400, gt=0, description="records dated further after their Kafka timestamp are dead-lettered"
    )
    window: WindowSettings = WindowSettings()
    online: LearnerSettings = LearnerSettings()
    drift: DriftSettings = DriftSettings()
    retrain: RetrainSettings = RetrainSettings()
    publish: PublishSettings = PublishSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    feedback: FeedbackSettings = FeedbackSettings()

    def contradictions(self) -> Iterator[Contradiction]:
        """See the base."""
        if self.target in self.features:
            keys = ("target", "features")
            yield keys, f"the target {self.target!r} not among the features: a model would learn its own answer"
        misfit = None if self.classes is None else self._misfit(self.classes)
        if misfit is not None:
            yield ("classes", "task"), misfit

    def _misfit(self, classes: tuple[bool | int | str, ...]) -> str | None:
        """Return what was expected instead of these classes, None if they fit the task."""
        if self.task is Task.REGRESSION:
            return "no classes for a regression"
        if len(set(classes)) < len(classes):
            return "classes that differ"
        if self.task is Task.BINARY and len(classes) != BINARY_CLASSES:
            return "two classes, negative then positive"
        return "at least two classes" if len(classes) < BINARY_CLASSES else None
