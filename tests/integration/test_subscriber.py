"""The subscriber on a real broker: always the newest verified model, whatever else is on the topic."""

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_app.core.models import build
from stream_app.core.schema import Field, Schema
from stream_app.errors import InvalidRecord, NotFound
from stream_app.kafka import client, cloudevents, topics
from stream_app.kafka.producer import Producer, TransactionalProducer
from stream_app.messages import MODEL_LOADED, MODEL_REFUSED, ModelUpdated, ServingEntry
from stream_app.model_settings import LearnerSettings
from stream_app.ports import Outgoing, Recorder
from stream_app.settings import KafkaSettings, TopicSettings
from stream_app.storage.artifacts import ArtifactReader, SignedArtifacts, artifact_path
from stream_app.storage.packing import Description, pack_online
from stream_app.storage.signing import Signer, Verifier, sign_event, verify_event
from stream_app.subscriber import LoadedModel, ModelSubscriber, loader
from stream_app.values import Features, StoredArtifact, Task

pytestmark = pytest.mark.kafka

SCHEMA = Schema(
    task=Task.BINARY,
    target="up",
    fields=(Field(name="a", type="number"), Field(name="b", type="number")),
    classes=(False, True),
)
RECORD = {"a": 1.0, "b": -0.5}
Wait = Callable[..., None]


@dataclass
class Publisher:
    """Stands for owner and relay: packs what a model learned by then, and announces it."""

    kafka: KafkaSettings
    artifacts: SignedArtifacts
    signer: Signer
    send: Callable[[list[Outgoing]], None]
    contender: object = field(default_factory=lambda: build(SCHEMA.shape, LearnerSettings(), seed=1))

    def pack(self, version: str, *, rows: int = 20) -> bytes:
        """Learn some rows and return the packed state."""
        numeric = np.linspace(-1, 1, 2 * rows).reshape(rows, 2)
        features = Features(numeric=numeric, categorical=np.empty((rows, 0), dtype=object))
        self.contender.advance(features, (numeric[:, 0] > 0).astype(float))  # type: ignore[attr-defined]  # a Contender
        about = Description(
            model="m",
            version=version,
            algorithm="river:LogisticRegression",
            schema_json=SCHEMA.to_json(),
            shape=SCHEMA.shape,
            trained_through_seq=7,
        )
        return pack_online(about, self.contender.plain(), features.take(slice(0, 8)))  # type: ignore[attr-defined]

    def store(self, version: str) -> StoredArtifact:
        content = self.pack(version)
        return self.artifacts.put(artifact_path("m", version, content), content)

    def event(self, promotion_seq: int, version: str, artifact: StoredArtifact) -> ModelUpdated:
        entry = ServingEntry(
            role="champion",
            weight=1.0,
            version=version,
            algorithm="river:LogisticRegression",
            path=artifact.path,
            sha256=artifact.sha256,
            size=artifact.size,
            signature=artifact.signature,
            trained_through_seq=7,
            trained_through_at=time.time(),
        )
        return sign_event(
            ModelUpdated(model="m", promotion_seq=promotion_seq, serving=[entry], published_at=time.time()),
            self.signer,
        )

    def announce(self, event: ModelUpdated, *, key: bytes = b"m") -> None:
        topic = self.kafka.topics.model_updated
        self.send([Outgoing(topic=topic, key=key, value=event.model_dump_json().encode())])

    def publish(self, promotion_seq: int, version: str, artifact: StoredArtifact | None = None) -> StoredArtifact:
        stored = artifact or self.store(version)
        self.announce(self.event(promotion_seq, version, stored))
        return stored


@pytest.fixture
def kafka(kafka_bootstrap: str, unique: Callable[[str], str]) -> KafkaSettings:
    names = TopicSettings(
        ground_truth=unique("truth"), model_updated=unique("updated"), learning_events=unique("events"), partitions=2
    )
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topics=names)
    topics.declare(settings)
    return settings


@pytest.fixture
def publisher(kafka: KafkaSettings, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Publisher]:
    signer = Signer(Ed25519PrivateKey.generate())
    transactions = TransactionalProducer(kafka, unique("relay"))
    yield Publisher(kafka, SignedArtifacts(tmp_path, signer), signer, transactions)
    transactions.close()


@dataclass
class Followed:
    """A subscriber, what it reported, and what was swapped in."""

    subscriber: ModelSubscriber
    recorder: Recorder
    swaps: list[LoadedModel]

    def output(self) -> float:
        (prediction,) = self.subscriber.predict("m", [RECORD])
        assert isinstance(prediction.output, float)
        return prediction.output

    def serves(self) -> str | None:
        return self.subscriber.status()["m"].version

    def refusals(self) -> int:
        return self.subscriber.status()["m"].refused


Follow = Callable[..., Followed]


@pytest.fixture
def follow(kafka: KafkaSettings, publisher: Publisher, tmp_path: Path) -> Iterator[Follow]:
    """Start subscribers with the public key alone."""
    started: list[ModelSubscriber] = []

    def start(*, reconcile_s: float = 30.0) -> Followed:
        recorder, swaps = Recorder(), list[LoadedModel]()
        verifier = publisher.signer.verifier()
        reader = ArtifactReader(tmp_path, verifier)
        subscriber = ModelSubscriber(["m"], kafka, reader, verifier, observe=recorder, reconcile_s=reconcile_s)
        subscriber.on_swap(swaps.append)
        started.append(subscriber.start())
        return Followed(subscriber, recorder, swaps)

    yield start
    for subscriber in started:
        subscriber.close()


def learning_events(kafka: KafkaSettings) -> list[cloudevents.CloudEvent]:
    """Return what is on the topic now."""
    consumer = client.consumer(kafka, enable_partition_eof=True, fetch_wait_max_ms=50)
    topic = kafka.topics.learning_events
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(2)])
    found, ends = [], 0
    deadline = time.monotonic() + 10
    while ends < 2 and time.monotonic() < deadline:
        for message in consumer.consume(100, 0.2):
            ends += message.error() is not None
            if message.error() is None:
                found.append(cloudevents.read(message.headers() or [], message.value()))
    consumer.close()
    return [event for event in found if event is not None]


def test_a_new_subscriber_serves_the_last_of_five_promotions_and_loads_no_other(
    publisher: Publisher, follow: Follow, wait_until: Wait
) -> None:
    for promotion_seq in range(1, 6):
        publisher.publish(promotion_seq, f"1.{promotion_seq}")
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    wait_until(lambda: followed.swaps)
    assert [swap.version for swap in followed.swaps] == ["1.5"]
    status = followed.subscriber.status()["m"]
    assert (status.promotion_seq, status.reloads, status.refused) == (5, 1, 0)
    assert status.freshness_s is not None
    assert 0 <= status.freshness_s < 60


def test_predictions_change_with_a_swap_and_say_who_made_them(
    publisher: Publisher, follow: Follow, wait_until: Wait
) -> None:
    """The outputs are compared, not the version strings; who holds the old model keeps it."""
    first = publisher.publish(1, "1.1")
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    held = followed.subscriber.current("m")
    (before,) = followed.subscriber.predict("m", [RECORD])
    assert (before.version, before.digest) == ("1.1", first.sha256)
    second = publisher.publish(2, "1.2")
    wait_until(lambda: followed.serves() == "1.2")
    (after,) = followed.subscriber.predict("m", [RECORD])
    assert (after.version, after.digest) == ("1.2", second.sha256)
    assert before.output != after.output
    assert after.label is (float(after.output) > 0.5)
    assert after.probabilities == {True: after.output, False: 1 - float(after.output)}
    assert held is not None
    assert held.predict([RECORD]) == [before]


def test_a_stale_event_changes_nothing_and_a_rollback_does(
    publisher: Publisher, follow: Follow, wait_until: Wait
) -> None:
    first = publisher.publish(1, "1.1")
    publisher.publish(3, "1.3")
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    later = followed.output()
    publisher.publish(2, "1.2")
    publisher.publish(4, "1.1", first)
    wait_until(lambda: followed.serves() == "1.1")
    wait_until(lambda: [swap.version for swap in followed.swaps] == ["1.3", "1.1"])
    assert followed.output() != later


def damaged(publisher: Publisher, damage: str, root: Path) -> ModelUpdated:
    """Store a model, damage it, and return the event that announces it."""
    stored = publisher.store("1.2")
    content = (root / stored.path).read_bytes()
    middle = len(content) // 2
    if damage == "tampered":
        (root / stored.path).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    if damage == "truncated":
        (root / stored.path).write_bytes(content[:-10])
    if damage == "unsigned":
        stored = replace(stored, signature="")
    if damage == "wrong answers":
        stored = publisher.artifacts.put("m/1.2-lie.zip", with_other_answers(content))
    return publisher.event(2, "1.9" if damage == "other version" else "1.2", stored)


def with_other_answers(content: bytes) -> bytes:
    """Return a packed model whose manifest promises answers that its estimator does not give."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(buffer, "w") as file:
        manifest = orjson.loads(packed.read("manifest.json"))
        manifest["probe"]["outputs_sha256"] = "0" * 64
        file.writestr("manifest.json", orjson.dumps(manifest))
        file.writestr("model.pickle", packed.read("model.pickle"))
    return buffer.getvalue()


@pytest.mark.parametrize("damage", ["tampered", "truncated", "unsigned", "other version", "wrong answers"])
def test_a_bad_artifact_is_refused_and_the_old_model_serves_on(
    publisher: Publisher, follow: Follow, wait_until: Wait, tmp_path: Path, damage: str
) -> None:
    publisher.publish(1, "1.1")
    followed = follow(reconcile_s=0.5)
    assert followed.subscriber.wait_ready(20)
    before = followed.output()
    publisher.announce(damaged(publisher, damage, tmp_path))
    wait_until(lambda: followed.refusals() == 1)
    assert ("model_refused", 1.0, {"model": "m", "reason": "artifact"}) in followed.recorder.facts
    assert (followed.serves(), followed.output()) == ("1.1", before)
    publisher.publish(3, "1.3")
    wait_until(lambda: followed.serves() == "1.3")
    assert followed.refusals() == 1, "it was tried again, and reported again, by a later reconciliation"


def test_a_forged_event_is_refused_and_hides_no_true_one(
    publisher: Publisher, follow: Follow, wait_until: Wait
) -> None:
    """Not even one that claims a great promotion_seq, whether it was there at the start or comes later."""
    stored = publisher.store("1.1")
    forger = Publisher(publisher.kafka, publisher.artifacts, Signer(Ed25519PrivateKey.generate()), publisher.send)
    publisher.announce(publisher.event(1, "1.1", stored))
    forger.announce(forger.event(99, "1.1", stored))
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    assert (followed.serves(), followed.refusals()) == ("1.1", 1)
    publisher.announce(publisher.event(100, "1.1", stored).model_copy(update={"promotion_seq": 101}))
    publisher.send([Outgoing(topic=publisher.kafka.topics.model_updated, key=b"m", value=b"{")])
    publisher.send([Outgoing(topic=publisher.kafka.topics.model_updated, key=b"m", value=None)])
    publisher.publish(2, "1.2")
    wait_until(lambda: followed.serves() == "1.2")
    assert followed.refusals() == 3
    assert {labels["reason"] for fact, _, labels in followed.recorder.facts if fact == "model_refused"} == {"event"}


def test_a_long_topic_is_read_quickly_and_verified_rarely(
    publisher: Publisher, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is published each second fills the topic long before it is compacted."""
    verified: list[int] = []

    def count(event: ModelUpdated, verifier: Verifier) -> None:
        verified.append(event.promotion_seq)
        verify_event(event, verifier)

    monkeypatch.setattr(loader, "verify_event", count)
    stored = publisher.store("1.1")
    events = [publisher.event(promotion_seq, "1.1", stored) for promotion_seq in range(1, 3001)]
    topic = publisher.kafka.topics.model_updated
    publisher.send([Outgoing(topic=topic, key=b"m", value=event.model_dump_json().encode()) for event in events])
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    assert followed.subscriber.status()["m"].promotion_seq == 3000
    assert len(verified) < 100


def test_an_artifact_that_comes_late_is_waited_for(
    publisher: Publisher, follow: Follow, wait_until: Wait, tmp_path: Path
) -> None:
    followed = follow(reconcile_s=1.0)
    stored = publisher.store("1.1")
    hidden = tmp_path / "hidden"
    (tmp_path / stored.path).rename(hidden)
    publisher.announce(publisher.event(1, "1.1", stored))
    wait_until(lambda: followed.refusals() > 0)
    assert ("model_refused", 1.0, {"model": "m", "reason": "absent"}) in followed.recorder.facts
    hidden.rename(tmp_path / stored.path)
    assert followed.subscriber.wait_ready(20)


def test_events_of_aborted_transactions_are_not_applied(
    publisher: Publisher, kafka: KafkaSettings, follow: Follow, unique: Callable[[str], str]
) -> None:
    publisher.publish(1, "1.1")
    aborted = client.producer(kafka, transactional_id=unique("aborted"))
    aborted.init_transactions(20)
    aborted.begin_transaction()
    event = publisher.event(2, "1.2", publisher.store("1.2"))
    aborted.produce(kafka.topics.model_updated, key=b"m", value=event.model_dump_json().encode())
    aborted.flush(10)
    aborted.abort_transaction(10)
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    assert followed.serves() == "1.1"


def test_loads_and_refusals_are_announced(
    publisher: Publisher, kafka: KafkaSettings, follow: Follow, wait_until: Wait, tmp_path: Path
) -> None:
    stored = publisher.publish(1, "1.1")
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    bad = publisher.store("1.2")
    (tmp_path / bad.path).write_bytes(b"")
    publisher.announce(publisher.event(2, "1.2", bad))
    wait_until(lambda: followed.refusals() == 1)
    followed.subscriber.close()
    events = {event.type: orjson.loads(event.data or b"") for event in learning_events(kafka)}
    loaded = events[MODEL_LOADED]
    assert (loaded["model"], loaded["seq"]) == ("m", 7)
    assert (loaded["details"]["version"], loaded["details"]["digest"]) == ("1.1", stored.sha256)
    refused = events[MODEL_REFUSED]["details"]
    assert (refused["reason"], refused["promotion_seq"]) == ("artifact", 2)
    assert followed.output() > 0, "a closed subscriber goes on predicting"


def test_a_subscriber_waits_for_a_topic_that_is_not_there_yet(
    kafka_bootstrap: str, publisher: Publisher, unique: Callable[[str], str], tmp_path: Path, wait_until: Wait
) -> None:
    names = TopicSettings(ground_truth=unique("t"), model_updated=unique("u"), learning_events=unique("e"))
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topics=names)
    recorder, verifier = Recorder(), publisher.signer.verifier()
    with ModelSubscriber(["m"], settings, ArtifactReader(tmp_path, verifier), verifier, observe=recorder) as subscriber:
        wait_until(lambda: ("subscriber_outage", 1.0, {}) in recorder.facts)
        assert not subscriber.wait_ready(0.01)
        with pytest.raises(NotFound, match="no verified version of 'm'"):
            subscriber.predict("m", [RECORD])
        topics.declare(settings)
        event = publisher.event(1, "1.1", publisher.store("1.1"))
        with Producer(settings) as deliver:
            deliver([Outgoing(topic=names.model_updated, key=b"m", value=event.model_dump_json().encode())])
        assert subscriber.wait_ready(30)


def test_over_the_embedded_broker_a_relay_reaches_a_subscriber(
    embedded_bootstrap: str, publisher: Publisher, tmp_path: Path, wait_until: Wait, unique: Callable[[str], str]
) -> None:
    """It knows neither compaction nor topics before they are used, but transactions it does."""
    names = TopicSettings(model_updated=unique("u"), learning_events=unique("e"))
    settings = KafkaSettings(bootstrap_servers=embedded_bootstrap, topics=names)
    verifier, transactions = publisher.signer.verifier(), TransactionalProducer(settings, unique("relay"))
    with ModelSubscriber(["m"], settings, ArtifactReader(tmp_path, verifier), verifier) as subscriber:
        for promotion_seq in (1, 2):
            event = publisher.event(promotion_seq, "1.1", publisher.store("1.1"))
            transactions([Outgoing(topic=names.model_updated, key=b"m", value=event.model_dump_json().encode())])
            wait_until(lambda seq=promotion_seq: subscriber.status()["m"].promotion_seq == seq)
    transactions.close()


def test_what_is_asked_for_wrongly_is_named(publisher: Publisher, follow: Follow) -> None:
    publisher.publish(1, "1.1")
    followed = follow()
    assert followed.subscriber.wait_ready(20)
    with pytest.raises(NotFound, match="'zebra' is not followed here, expected one of: m"):
        followed.subscriber.predict("zebra", [RECORD])
    with pytest.raises(InvalidRecord, match="'b'"):
        followed.subscriber.predict("m", [RECORD, {"a": 1.0}])
    assert followed.subscriber.predict("m", []) == []


def test_a_failing_callback_does_not_end_the_reloads(
    publisher: Publisher, follow: Follow, wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    followed = follow()
    followed.subscriber.on_swap(lambda loaded: loaded.not_there)  # type: ignore[attr-defined]  # the mistake
    publisher.publish(1, "1.1")
    assert followed.subscriber.wait_ready(20)
    publisher.publish(2, "1.2")
    wait_until(lambda: followed.serves() == "1.2")
    wait_until(lambda: "a callback of on_swap failed for m" in caplog.text)
