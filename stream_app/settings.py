"""One frozen tree of settings; each key with its default, its unit in the name and a word on it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from stream_app.model_settings import ModelSettings
from stream_app.sections import Contradiction, ModelName, Section, TopicName


class TopicSettings(Section):
    """Names of the topics."""

    ground_truth: TopicName = Field("ground-truth", description="labelled records, the only input of the learners")
    model_updated: TopicName = Field("model-updated", description="compacted; what to serve now")
    learning_events: TopicName = Field("learning-events", description="drift, retrains, promotions, loads")
    predictions: TopicName = Field("predictions", description="every prediction that was served")
    feedback: TopicName = Field("feedback", description="what people know about predictions")
    dead_letter_suffix: TopicName = Field(".dlq", description="appended to a topic's name for its dead letters")
    partitions: int = Field(4, ge=1, description="of topics that we create")
    replication_factor: int = Field(1, ge=1, description="of topics that we create")

    def contradictions(self) -> Iterator[Contradiction]:
        """See the base."""
        keys = ("ground_truth", "model_updated", "learning_events", "predictions", "feedback")
        names = tuple(getattr(self, key) for key in keys)
        if len(set(names)) < len(names):
            yield keys, f"{', '.join(keys[:-1])} and {keys[-1]} to be five topics, not {names}"


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
    def read_topics(self) -> tuple[str, ...]:
        """Every topic whose messages may be bad."""
        names = self.topics
        return (names.ground_truth, names.predictions, names.feedback, *self.ingest)

    @property
    def topic_names(self) -> tuple[str, ...]:
        """Every topic that we read or write, with the dead-letter topic of each one that is read."""
        names = self.topics
        dead = (topic + names.dead_letter_suffix for topic in self.read_topics)
        return (*self.read_topics, names.model_updated, names.learning_events, *dead)

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


class JoinSettings(Section):
    """How predictions wait for their labels, and labels for their predictions."""

    pending_s: float = Field(86_400, gt=0, description="feedback without its prediction is dead-lettered after that")
    max_pending: int = Field(100_000, ge=1, description="feedback waiting at a time; the oldest goes first")
    keep_s: float = Field(2_592_000, gt=0, description="predictions and their feedback are kept for so long")


class ServeSettings(Section):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback it needs keys")
    port: int = Field(8000, ge=0, le=65535, description="0: any free one")
    default_model: ModelName | None = Field(None, description="asked when a request names none; default: the only one")
    insecure: bool = Field(False, description="whether to listen beyond loopback without keys")
    max_body_bytes: int = Field(8_388_608, ge=1_024, description="larger bodies are refused with 413")
    max_records: int = Field(10_000, ge=1, description="records of one request")
    timeout_s: float = Field(30, gt=0, description="a request that takes longer is ended with 503")
    rate_per_s: float = Field(1_000, gt=0, description="requests per second and key, on average")
    burst: int = Field(2_000, ge=1, description="requests at once and key")
    training_files: Path = Field(
        Path("artifacts/retraining"), description="folder that keeps the samples sent to /retrain, as they came"
    )
    spool_bytes: int = Field(
        268_435_456, ge=1_048_576, description="predictions kept on disk while Kafka is away; more are only counted"
    )


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
    serve: ServeSettings = ServeSettings()
    join: JoinSettings = JoinSettings()
    log: LogSettings = LogSettings()
    models: dict[ModelName, ModelSettings] = Field(default_factory=dict)
