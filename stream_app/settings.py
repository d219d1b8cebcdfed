"""One frozen tree of settings; each key with its default, its unit in the name and a word on it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from stream_app.messages import NAME_PATTERN
from stream_app.values import Task

#: Classes of a binary model, and the fewest of any.
BINARY_CLASSES: Final = 2
#: Set in the context of a validation by who asks for the contradictions afterwards: pydantic knows of one at most.
LENIENT: Final = "lenient"

#: The keys of a section that do not fit together, and what was expected of them.
Contradiction: TypeAlias = tuple[tuple[str, ...], str]

ModelName = Annotated[str, Field(pattern=NAME_PATTERN)]
#: What Kafka accepts as the name of a topic.
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class Section(BaseModel):
    """Base of every section: frozen, an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none_by_name(cls, values: object) -> object:
        """Take "none" for null where null is possible: neither TOML nor a variable can say it otherwise."""
        if not isinstance(values, Mapping):
            return values
        return {key: None if value == "none" and cls._may_be_none(key) else value for key, value in values.items()}

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield what is wrong between the keys of this section, each of which is right by itself."""
        yield from ()

    @model_validator(mode="after")
    def _contradicts_nothing(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get(LENIENT):
            for _, expected in self.contradictions():
                raise ValueError(expected)
        return self

    @classmethod
    def _may_be_none(cls, key: str) -> bool:
        return key in cls.model_fields and NoneType in get_args(cls.model_fields[key].annotation)


class TopicSettings(Section):
    """Names of the topics."""

    ground_truth: TopicName = Field("ground-truth", description="labelled records, the only input of the learners")
    model_updated: TopicName = Field("model-updated", description="compacted; what to serve now")
    learning_events: TopicName = Field("learning-events", description="drift, retrains, promotions, loads")
    dead_letter_suffix: TopicName = Field(".dlq", description="appended to a topic's name for its dead letters")
    partitions: int = Field(4, ge=1, description="of topics that we create")
    replication_factor: int = Field(1, ge=1, description="of topics that we create")

    def contradictions(self) -> Iterator[Contradiction]:
        """See the base."""
        names = (self.ground_truth, self.model_updated, self.learning_events)
        if len(set(names)) < len(names):
            keys = ("ground_truth", "model_updated", "learning_events")
            yield keys, f"ground_truth, model_updated and learning_events to be three topics, not {names}"


class KafkaSettings(Section):
    """How to reach Kafka."""

    bootstrap_servers: str | None = Field(None, description="host:port,…; none: `up` and `demo` embed a broker")
    group_id: str = Field("stream-app", description="consumer group of the workers")
    session_timeout_s: float = Field(15, gt=0, description="a worker silent for longer loses its partitions")
    request_timeout_s: float = Field(60, gt=0, description="of one request; at least the session timeout")
    fetch_records: int = Field(20_000, ge=1, description="most records of one fetch")
    stuck_after_s: float = Field(120, gt=0, description="lag without progress for so long ends the worker")
    incarnation: Literal["stop", "follow"] = Field(
        "stop", description="what to do when a topic was deleted and created again"
    )
    max_message_bytes: int = Field(1_048_576, ge=1, description="larger messages are dead-lettered unparsed")
    topics: TopicSettings = TopicSettings()
    ingest: dict[TopicName, ModelName] = Field(
        default_factory=dict, description="topics of producers we do not control, and the model they feed"
    )
    extra: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="any librdkafka option, e.g. security.protocol, sasl.password"
    )

    @field_validator("extra", mode="before")
    @classmethod
    def _dotted_names(cls, extra: object) -> object:
        """Spell options with dots, as librdkafka does: the name of a variable can only hold underscores."""
        return {key.replace("_", "."): value for key, value in extra.items()} if isinstance(extra, Mapping) else extra

    @property
    def topic_names(self) -> tuple[str, ...]:
        """Every topic that we read or write, with the dead-letter topic of each one that is read."""
        names = self.topics
        read = (names.ground_truth, *self.ingest)
        dead = (topic + names.dead_letter_suffix for topic in read)
        return (*read, names.model_updated, names.learning_events, *dead)

    def contradictions(self) -> Iterator[Contradiction]:
        """See the base."""
        if self.request_timeout_s < self.session_timeout_s:
            first, second = f"({self.request_timeout_s:g})", f"({self.session_timeout_s:g})"
            expected = (
                f"request_timeout_s {first} to be at least session_timeout_s {second}; Faust refuses anything else"
            )
            yield ("request_timeout_s", "session_timeout_s"), expected


class StorageSettings(Section):
    """Where everything that lasts is kept."""

    root: Path = Field(Path(".stream_app"), description="folder of window files, checkpoints, keys, database")
    url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite below the root")
    artifacts: str | None = Field(None, description="fsspec URL of the artifact store; default: below the root")
    signing_key: SecretStr | None = Field(
        None, description="PEM of the Ed25519 private key; default: made below the root"
    )
    verify_key: str | None = Field(None, description="PEM of the public key, for hosts that only subscribe")
    checkpoint_key: SecretStr | None = Field(
        None, description="hex HMAC key of checkpoints; default: made below the root"
    )
    trusted_types: tuple[str, ...] = Field(
        (), description="dotted names of own transformers that scikit-learn artifacts may hold"
    )
    keep_versions: int = Field(5, ge=1, description="newest versions whose bytes are kept, beside those in use")
    keep_snapshots: int = Field(100, ge=1, description="newest snapshots kept; never fewer than an hour's")
    keep_checkpoints: int = Field(5, ge=2, description="newest checkpoints kept, beside pinned ones")
    retention_rows: int | None = Field(None, ge=1, description="rows of the log kept per model; default: all")
    retention_s: float | None = Field(None, gt=0, description="age of the log kept per model; default: all")
    merge_rows: int = Field(50_000, ge=1, description="windows with fewer rows are merged into files of this size")


class WindowSettings(Section):
    """When a window is closed."""

    max_rows: int = Field(20_000, ge=1, description="rows; a message is never split")
    max_age_s: float = Field(0.25, gt=0, description="after its first record")
    inline_bytes: int = Field(65_536, ge=0, description="smaller windows travel inside the transaction")
    progress_records: int = Field(
        100_000, ge=1, description="records of others on the partition until a header-only window"
    )
    progress_s: float = Field(60, gt=0, description="or so long")
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


class HttpSettings(Section):
    """Health and metrics of worker and trainer."""

    host: str = Field("127.0.0.1", description="address to listen on")
    worker_port: int | None = Field(8080, ge=0, le=65535, description="0: any free one")
    trainer_port: int | None = Field(8081, ge=0, le=65535, description="0: any free one")

    def contradictions(self) -> Iterator[Contradiction]:
        """See the base."""
        if self.worker_port and self.worker_port == self.trainer_port:
            yield (
                ("worker_port", "trainer_port"),
                "worker_port and trainer_port to differ",
            )


class LogSettings(Section):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe that is shown; those of libraries show from warning"
    )
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")


class Settings(Section):
    """Everything that can be set."""

    kafka: KafkaSettings = KafkaSettings()
    storage: StorageSettings = StorageSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    models: dict[ModelName, ModelSettings] = Field(default_factory=dict)
