"""A server without a process: the whole application over fakes, for tests that speak HTTP to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from starlette.testclient import TestClient

from stream_app.core.joining import Opinion, Outcome, Rules
from stream_app.core.schema import Field, Schema
from stream_app.errors import NotFound, Outage
from stream_app.messages import PredictionMade
from stream_app.model_settings import FeatureSettings, FeedbackSettings, ModelSettings
from stream_app.ports import Outgoing, Recorder, Stores
from stream_app.serving.app import build_api
from stream_app.serving.doors import Guard, Keyring, Scope
from stream_app.serving.feedback import FeedbackDesk
from stream_app.serving.forms import Reader
from stream_app.serving.health import Health
from stream_app.serving.limits import Bounds, Buckets
from stream_app.serving.predicting import Predictor
from stream_app.serving.retrain_status import RetrainStatus
from stream_app.serving.retraining import Post, Retrains
from stream_app.serving.tools import Tools
from stream_app.serving_ports import ApiKey, Deed, Moved
from stream_app.settings import ServeSettings
from stream_app.storage.packing import Manifest, UnpackedModel
from stream_app.subscriber import LoadedModel
from stream_app.testing import InMemoryJobs, InMemoryRegistry, InMemorySwitches
from stream_app.values import ControlEntry, Features, Floats, Task

NOW = 1_700_000_000.0
RECORD = {"a": 1.0, "b": 2.0}
SCHEMA = Schema(
    task=Task.BINARY,
    target="up",
    fields=(Field(name="a", type="number", low=-10, high=10), Field(name="b", type="number")),
    classes=(0, 1),
)


class _Estimator:
    """Says P(1) = a / 10, so that each answer can be told from its record."""

    def predict_proba_one(self, x: dict[str, float]) -> dict[bool, float]:
        return {True: abs(x["a"]) / 10, False: 1 - abs(x["a"]) / 10}


def loaded(model: str, schema: Schema = SCHEMA) -> LoadedModel:
    """Return a verified model, as a subscriber would hold it."""

    class Unpacked:
        manifest = cast("Manifest", type("M", (), {"known_labels": ()}))

        def predict(self, features: Features) -> Floats:
            return np.abs(features.numeric[:, 0]) / 10

    return LoadedModel(
        model=model,
        version="3",
        digest="d" * 64,
        promotion_seq=1,
        algorithm="test",
        trained_through_seq=1,
        trained_through_at=NOW,
        loaded_at=NOW,
        schema=schema,
        unpacked=cast("UnpackedModel", Unpacked()),
    )


@dataclass
class Loaded:
    """Stands for the subscriber."""

    models: dict[str, LoadedModel | None]

    def current(self, model: str) -> LoadedModel | None:
        if model not in self.models:
            raise NotFound(f"model {model!r} is not followed here")
        return self.models[model]


@dataclass
class FakeKeys:
    """`serving_ports.ApiKeys`: the key is its own id; `is_away` makes the database go away."""

    stored: dict[str, ApiKey] = field(default_factory=dict)
    is_away: bool = False
    asked: int = 0

    def create(self, name: str, scopes: Sequence[str], *, now: float, expires_at: float | None) -> tuple[str, ApiKey]:
        key_id = f"key-{name}"
        self.stored[key_id] = ApiKey(
            id=key_id, name=name, scopes=frozenset(scopes), created_at=now, expires_at=expires_at, revoked_at=None
        )
        return key_id, self.stored[key_id]

    def verify(self, key: str, *, now: float) -> ApiKey | None:
        self._reach()
        found = self.stored.get(key)
        over = found is None or found.revoked_at is not None or (found.expires_at or now + 1) <= now
        return None if over else found

    def revoke(self, key_id: str, *, now: float) -> None:
        self.stored[key_id] = replace(self.stored[key_id], revoked_at=now)

    def all(self) -> Sequence[ApiKey]:
        self._reach()
        return list(self.stored.values())

    def _reach(self) -> None:
        self.asked += 1
        if self.is_away:
            raise Outage("the database cannot be used now")


@dataclass
class FakeStore:
    """The part of `serving_ports.PredictionStore` that doors use; `outcome` becomes of all feedback."""

    outcome: Outcome = Outcome.LEARNED
    is_away: bool = False
    opinions: list[Opinion] = field(default_factory=list)
    stored: dict[str, PredictionMade] = field(default_factory=dict)

    def take_predictions(self, predictions: Sequence[PredictionMade], *, moved: Moved | None = None) -> None:
        assert moved is None
        self._reach()
        self.stored |= {one.prediction_id: one for one in predictions}

    def take_feedback(self, opinions: Sequence[Opinion], *, moved: Moved | None = None) -> Sequence[Outcome]:
        assert moved is None
        self._reach()
        self.opinions += opinions
        return [self.outcome] * len(opinions)

    def prediction(self, prediction_id: str) -> PredictionMade | None:
        return self.stored.get(prediction_id)

    def _reach(self) -> None:
        if self.is_away:
            raise Outage("the database cannot be used now")


class FakeLog:
    """A window log of so many rows; a window holds one."""

    def rows_digest(self, model: str, *, through: int) -> tuple[int, str]:
        return through, f"{model}:{through}"

    def metrics(self, model: str, *, after: int = 0, newest: int | None = None) -> list[dict[str, Any]]:
        del model, after
        scores = {"accuracy": 0.75, "rolling_accuracy": 0.8}
        nothing = {"accuracy": None, "rolling_accuracy": None}
        row = {
            "closed_at": NOW,
            "learned": 20,
            "drifts": 0,
            "champion": 2,
            "prequential": scores,
            "served": nothing,
            "baselines": {"no_change": scores, "served_no_change": nothing, "majority": scores},
        }
        return [{**row, "seq": seq} for seq in range(1, 3)][-(newest or 2) :]


@dataclass
class FakeControl:
    """`ports.ControlRequests` whose answers a test gives beforehand."""

    answers: dict[int, ControlEntry] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any], str]] = field(default_factory=list)

    def ask(self, model: str, kind: str, body: dict[str, Any], *, by: str) -> int:
        self.asked.append((model, kind, body, by))
        return len(self.asked)

    def answer(self, request_id: int) -> ControlEntry | None:
        return self.answers.get(request_id)


class FakeRegistry(InMemoryRegistry):
    """Has as many windows as a test says."""

    seq = 0

    def models(self) -> list[dict[str, Any]]:
        return [{**facts, "seq": self.seq} for facts in super().models()]


@dataclass
class FakeAudit:
    """`serving_ports.Audit` in a list."""

    deeds: list[Deed] = field(default_factory=list)

    def note(self, deed: Deed) -> None:
        self.deeds.append(deed)

    def newest(self, *, limit: int = 100) -> Sequence[Deed]:
        return self.deeds[::-1][:limit]


@dataclass
class ServingHouse:
    """The application, and what stands around it."""

    models: dict[str, LoadedModel | None] = field(default_factory=lambda: {"m": loaded("m")})
    settings: ServeSettings = field(default_factory=ServeSettings)
    hosts: frozenset[str] | None = None
    now: float = NOW
    keys: FakeKeys = field(default_factory=FakeKeys)
    store: FakeStore = field(default_factory=FakeStore)
    audit: FakeAudit = field(default_factory=FakeAudit)
    observe: Recorder = field(default_factory=Recorder)
    lines: list[bytes] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    is_kafka_away: bool = False
    #: where samples are kept; a test that sends some gives a folder
    samples: Path = Path("/nonexistent")
    jobs: InMemoryJobs = field(default_factory=InMemoryJobs)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    control: FakeControl = field(default_factory=FakeControl)
    switches: InMemorySwitches = field(default_factory=InMemorySwitches)
    schema: Schema = SCHEMA

    def __post_init__(self) -> None:
        schemas = dict.fromkeys(self.models, self.schema)
        reader = Reader(schemas, default=self.settings.default_model, most_records=self.settings.max_records)
        self.predictor = Predictor(
            reader,
            Loaded(self.models),
            record=self.lines.extend,
            teach=self.store.take_feedback,
            clock=lambda: self.now,
            observe=self.observe,
        )
        self.health = Health(
            exposition=lambda: b"", content_type="text/plain", needed={"models": self.predictor.silent}
        )
        for model in self.models:
            self.registry.add_model(model, now=NOW)
        rest: Any = None
        log: Any = FakeLog()
        control: Any = self.control
        stores = Stores(
            log=log,
            partitions=rest,
            publications=rest,
            control=control,
            checkpoints=rest,
            artifacts=rest,
            registry=self.registry,
            jobs=self.jobs,
            outbox=rest,
            leases=rest,
            switches=self.switches,
        )
        buckets = Buckets(rate_per_s=self.settings.rate_per_s, burst=self.settings.burst, clock=lambda: self.now)
        self.tools = Tools(
            models={name: model_settings() for name in self.models},
            schemas=schemas,
            stores=stores,
            predictions=cast("Any", self.store),
            predictor=self.predictor,
            feedback=FeedbackDesk(
                cast("Any", self.store),
                reader,
                {name: Rules(schema=self.schema, feedback=FeedbackSettings()) for name in self.models},
                most_items=self.settings.max_records,
                clock=lambda: self.now,
            ),
            reader=reader,
            retrains=Retrains(
                stores,
                schemas,
                Post(send=self._send, incarnation=lambda _: "i", topic="ground-truth"),
                folder=self.samples,
                find=self.store.prediction,
                clock=lambda: self.now,
            ),
            retrain_status=RetrainStatus(
                stores, {name: model_settings() for name in self.models}, clock=lambda: self.now
            ),
            served=Loaded(self.models).current,
            guard=Guard(Keyring(self.keys, clock=lambda: self.now), buckets, hosts=self.hosts),
            audit=self.audit,
            deliver=self.sent.extend,
            health=self.health,
            max_records=self.settings.max_records,
            clock=lambda: self.now,
            observe=self.observe,
        )
        self.app: Bounds = build_api(self.tools, self.settings)
        self.client = TestClient(self.app)

    def _send(self, messages: Sequence[Outgoing]) -> dict[tuple[str, int], int]:
        if self.is_kafka_away:
            raise Outage("Kafka is away")
        self.sent += messages
        return {("ground-truth", 0): len(self.sent)}

    def key(self, *scopes: Scope) -> dict[str, str]:
        """Create a key and return the header that brings it."""
        key, _ = self.keys.create("-".join(scopes), scopes, now=self.now, expires_at=None)
        return {"X-API-Key": key}


def model_settings() -> ModelSettings:
    """Return the settings that belong to `SCHEMA`."""
    return ModelSettings(
        task=Task.BINARY,
        target="up",
        features={"a": FeatureSettings(low=-10, high=10), "b": FeatureSettings()},
        classes=(0, 1),
    )
