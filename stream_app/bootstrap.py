"""The composition root: settings in, wired rooms out. Only here adapters are built."""

import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine

from stream_app.core.fold import Fold
from stream_app.core.joining import Rules
from stream_app.errors import Misconfigured, NotFound
from stream_app.inference import resolve
from stream_app.kafka import client, topics
from stream_app.kafka.dead_letters import Grave
from stream_app.kafka.producer import Producer, TransactionalProducer
from stream_app.kafka.relay import NAME as RELAY
from stream_app.kafka.relay import Relay
from stream_app.model_settings import ModelSettings
from stream_app.ports import Observer, Recorder, Stores
from stream_app.settings import Settings
from stream_app.storage.api_keys import SqlApiKeys
from stream_app.storage.artifacts import ArtifactReader, SignedArtifacts
from stream_app.storage.audit import SqlAudit
from stream_app.storage.checkpoints import SqlCheckpoints
from stream_app.storage.control import SqlControlRequests
from stream_app.storage.database import open_database
from stream_app.storage.effects import SqlPublications
from stream_app.storage.housekeeping import Housekeeping, Retention
from stream_app.storage.jobs import SqlJobs
from stream_app.storage.keys import checkpoint_key
from stream_app.storage.leases import SqlLeases
from stream_app.storage.outbox import SqlOutbox
from stream_app.storage.packing import unpack
from stream_app.storage.partition_log import SqlPartitionLog
from stream_app.storage.predictions import SqlPredictionStore
from stream_app.storage.registry import SqlRegistry
from stream_app.storage.signing import Signer, open_signer, open_verifier
from stream_app.storage.switches import SqlSwitches
from stream_app.storage.window_log import SqlWindowLog
from stream_app.subscriber import ModelSubscriber
from stream_app.trainer.order import Tools as TrainerTools
from stream_app.trainer.order import Trainee
from stream_app.trainer.runner import Runner
from stream_app.trainer.service import TrainerService
from stream_app.trainer.sweeping import Sweeper
from stream_app.values import Floats, Ints, Version
from stream_app.worker import replaying
from stream_app.worker.halting import Limit
from stream_app.worker.handler import Policy, Tools
from stream_app.worker.hands import Hands
from stream_app.worker.opening import Opener, schema_of
from stream_app.worker.publishing import Publisher
from stream_app.worker.reception import Reception, open_reception
from stream_app.worker.routing import Map
from stream_app.worker.sealing import Predict
from stream_app.worker.tidying import Tidier

#: Threads of a worker: for each of a few models one that commits and one that learns, and one for Kafka.
THREADS: Final = 8


class Rooms:
    """What a process is made of, each part built when first asked for."""

    def __init__(self, settings: Settings, *, observe: Observer | None = None) -> None:
        self.settings = settings
        self.observe = observe or Recorder()
        self.clock = time.time
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    @cached_property
    def root(self) -> Path:
        """The storage folder."""
        return self.settings.storage.root

    @cached_property
    def models(self) -> dict[str, ModelSettings]:
        """The models, with features and classes filled in from their data files."""
        return {name: resolve(model) for name, model in self.settings.models.items()}

    def model(self, name: str) -> ModelSettings:
        """Return a model's settings; raises NotFound."""
        if name not in self.settings.models:
            raise NotFound(f"no model {name!r} in the settings, expected one of: {', '.join(self.settings.models)}")
        return self.models[name]

    @cached_property
    def signer(self) -> Signer:
        """The signer of artifacts and events; makes its key on first run."""
        pem = self.settings.storage.signing_key
        return open_signer(self.root, None if pem is None else pem.get_secret_value())

    @cached_property
    def artifact_place(self) -> str:
        """Where artifacts are."""
        return self.settings.storage.artifacts or str(self.root / "artifacts")

    @cached_property
    def engine(self) -> Engine:
        """The database, migrated."""
        url = self.settings.storage.url
        return open_database(None if url is None else url.get_secret_value(), self.root)

    @cached_property
    def log(self) -> SqlWindowLog:
        """The window log."""
        inline = {name: model.window.inline_bytes for name, model in self.settings.models.items()}
        return SqlWindowLog(
            self.engine,
            self.root,
            publications=self.publications,
            clock=self.clock,
            inline_bytes=inline,
            merge_rows=self.settings.storage.merge_rows,
        )

    @cached_property
    def publications(self) -> SqlPublications:
        """What was published, and is owed to Kafka."""
        names = self.settings.kafka.topics
        return SqlPublications(
            self.engine, model_updated=names.model_updated, learning_events=names.learning_events, clock=self.clock
        )

    @cached_property
    def checkpoints(self) -> SqlCheckpoints:
        """The checkpoints."""
        storage = self.settings.storage
        given = storage.checkpoint_key
        key = checkpoint_key(self.root, None if given is None else given.get_secret_value())
        return SqlCheckpoints(
            self.engine,
            self.root,
            key=key,
            keep=storage.keep_checkpoints,
            learning_events=self.settings.kafka.topics.learning_events,
            clock=self.clock,
            observe=self.observe,
        )

    @cached_property
    def registry(self) -> SqlRegistry:
        """The versions."""
        return SqlRegistry(self.engine)

    @cached_property
    def partitions(self) -> SqlPartitionLog:
        """What became of records that belong to no model's log."""
        learning_events = self.settings.kafka.topics.learning_events
        return SqlPartitionLog(self.engine, learning_events=learning_events, clock=self.clock)

    @cached_property
    def control(self) -> SqlControlRequests:
        """What people ask of the workers."""
        return SqlControlRequests(self.engine, clock=self.clock)

    @cached_property
    def jobs(self) -> SqlJobs:
        """The retrains."""
        return SqlJobs(self.engine)

    @cached_property
    def predictions(self) -> SqlPredictionStore:
        """Predictions, what people said of them, and the join of the two."""
        return SqlPredictionStore(
            self.engine,
            self.rules,
            self.settings.join,
            ground_truth=self.settings.kafka.topics.ground_truth,
            clock=self.clock,
            observe=self.observe,
        )

    @cached_property
    def rules(self) -> dict[str, Rules]:
        """How the labels of each model are understood and settled."""
        return {name: Rules(schema=schema_of(model), feedback=model.feedback) for name, model in self.models.items()}

    @cached_property
    def stores(self) -> Stores:
        """All of storage, over one database."""
        learning_events = self.settings.kafka.topics.learning_events
        return Stores(
            log=self.log,
            partitions=self.partitions,
            publications=self.publications,
            control=self.control,
            checkpoints=self.checkpoints,
            artifacts=SignedArtifacts(self.artifact_place, self.signer),
            registry=self.registry,
            jobs=self.jobs,
            outbox=SqlOutbox(self.engine, learning_events=learning_events),
            leases=SqlLeases(self.engine),
            switches=SqlSwitches(self.engine),
        )

    @cached_property
    def tidier(self) -> Tidier:
        """What keeps house."""
        storage = self.settings.storage
        retention = Retention(rows=storage.retention_rows, age_s=storage.retention_s)
        return Tidier(
            housekeeping=Housekeeping(self.log, self.checkpoints, retention=retention),
            registry=self.registry,
            artifacts=self.stores.artifacts,
            keep_versions=storage.keep_versions,
            keep_snapshots=storage.keep_snapshots,
            clock=self.clock,
        )

    def fold(self, model: str, settings: ModelSettings | None = None) -> Fold:
        """Return a model's fold before its first window."""
        chosen = settings or self.model(model)
        return Fold(model, chosen, schema_of(chosen))

    def load(self, version: Version) -> Predict:
        """Fetch, verify and load a batch version; raises Corrupt, Outage or NotFound."""
        if version.artifact is None:
            raise NotFound(f"version {version.number} of {version.model!r} has no stored artifact")
        model = unpack(self.stores.artifacts.get(version.artifact), self.settings.storage.trusted_types)
        model.check()
        return model.predict

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """The threads in which a worker blocks."""
        return ThreadPoolExecutor(THREADS, thread_name_prefix="worker")

    def handler(self, deliver: Producer) -> Reception:
        """Return what takes the runs of records in."""
        if not self.models:
            raise Misconfigured("models: none is declared; `stream-app init --from FILE --target COLUMN` writes one")
        hands = Hands(stores=self.stores, threads=self.threads, clock=self.clock, observe=self.observe)
        opener = Opener(
            hands=hands,
            models=self.models,
            publisher=Publisher(self.stores.artifacts, self.signer),
            load=self.load,
            owner=self.name,
        )
        tools = Tools(
            deliver=deliver,
            partitions=self.stores.partitions,
            own=opener.own,
            tidy=self.tidier.tidy,
            incarnation=self.incarnation,
            threads=self.threads,
            clock=self.clock,
            observe=self.observe,
        )
        return open_reception(
            tools, self._policy(), self.predictions, models=self.models, topics=self.settings.kafka.topics
        )

    def _policy(self) -> Policy:
        kafka = self.settings.kafka
        limits = [model.dead_letters for model in self.models.values()]
        return Policy(
            map=Map(topic=kafka.topics.ground_truth, homes=self._homes(), ingest=kafka.ingest),
            grave=Grave(
                suffix=kafka.topics.dead_letter_suffix,
                group=kafka.group_id,
                max_message_bytes=kafka.max_message_bytes,
            ),
            owner=self.name,
            limit=Limit(
                max_share=max(limit.max_share for limit in limits),
                over_records=max(limit.over_records for limit in limits),
                suffix=kafka.topics.dead_letter_suffix,
                clock=self.clock,
            ),
        )

    def _homes(self) -> dict[str, int]:
        topic = self.settings.kafka.topics.ground_truth
        try:
            partitions = self._record(topic, self.incarnation(topic))
        except NotFound as error:
            raise Misconfigured(f"{error}; `stream-app topics create` makes those of the settings") from error
        return {name: topics.home_partition(name.encode(), partitions) for name in self.models}

    @cached_property
    def admin(self) -> AdminClient:
        """Kafka's admin client."""
        return client.admin(self.settings.kafka)

    def incarnation(self, topic: str) -> str:
        """Return the topic's incarnation; raises Misconfigured if it is another than the one last read."""
        found = topics.incarnation(self.admin, topic)
        known = self.stores.partitions.incarnation(topic)
        if known not in {None, found} and self.settings.kafka.incarnation == "stop":
            raise Misconfigured(
                f"kafka.incarnation: topic {topic!r} was deleted and created again since it was last read (before "
                f"{known}, now {found}), so its offsets mean other records; set it to 'follow' to read from the start"
            )
        self._record(topic, found)
        return found

    def _record(self, topic: str, incarnation: str) -> int:
        """Note that this incarnation is read; return the number of partitions that it had at first sight."""
        now = topics.partition_count(self.admin, topic)
        return self.stores.partitions.record_incarnation(topic, incarnation, partitions=now)

    def online_outputs(self, model: str, *, after: int, through: int) -> tuple[Ints, Ints, Floats]:
        """Return what the online learner said just before learning the rows of these windows."""
        return replaying.online_outputs(self.stores, self.fold(model), after=after, through=through)

    def trainer(self) -> TrainerService:
        """Return what runs full retrains."""
        runner = Runner(partial(trainer_tools, self.settings), logs=self._job_logs)
        trainees = {name: Trainee(settings=m, schema=schema_of(m)) for name, m in self.models.items()}
        return TrainerService(self.stores, trainees, runner, holder=self.name, clock=self.clock, observe=self.observe)

    def sweeper(self) -> Sweeper:
        """Return what removes leftovers beside the retrains."""
        return Sweeper(self.stores, logs=self._job_logs, clock=self.clock)

    @property
    def _job_logs(self) -> Path:
        return self.root / "logs" / "jobs"

    def relay(self) -> Relay:
        """Return what brings the outbox to Kafka."""
        return Relay(
            self.stores.outbox,
            self.stores.leases,
            lambda: TransactionalProducer(self.settings.kafka, RELAY),
            holder=f"{self.name}:{threading.get_ident()}",
            clock=self.clock,
            observe=self.observe,
        )

    def subscriber(self, models: Sequence[str]) -> ModelSubscriber:
        """Return a subscriber to these models, not yet started."""
        if self.settings.storage.verify_key is None and self.settings.storage.url is None:
            # all on one machine: of worker and server either may start first, and the first makes the keys
            _ = self.signer
        verifier = open_verifier(self.root, self.settings.storage.verify_key)
        reader = ArtifactReader(self.artifact_place, verifier)
        trusted = self.settings.storage.trusted_types
        return ModelSubscriber(models, self.settings.kafka, reader, verifier, trusted=trusted, observe=self.observe)

    @cached_property
    def api_keys(self) -> SqlApiKeys:
        """The keys of the HTTP API."""
        return SqlApiKeys(self.engine)

    @cached_property
    def audit(self) -> SqlAudit:
        """Who changed what."""
        return SqlAudit(self.engine)


def trainer_tools(settings: Settings) -> TrainerTools:
    """Open what one retrain works with, in its own process."""
    rooms = Rooms(settings)
    return TrainerTools(
        stores=rooms.stores,
        online_outputs=rooms.online_outputs,
        artifact_place=rooms.artifact_place,
        public_key=rooms.signer.public_pem(),
        trusted=settings.storage.trusted_types,
        clock=rooms.clock,
    )
