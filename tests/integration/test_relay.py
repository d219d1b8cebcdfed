"""The relay on a real broker: everything owed is sent, in order, by one relay at a time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from stream_app.errors import Outage
from stream_app.kafka import client, cloudevents, relay, topics
from stream_app.kafka.producer import TransactionalProducer
from stream_app.kafka.relay import Relay
from stream_app.messages import MODEL_UPDATED, RETRAIN_STARTED
from stream_app.ports import OutboxMessage, Recorder
from stream_app.settings import KafkaSettings, TopicSettings
from stream_app.storage.database import open_database
from stream_app.storage.outbox import SqlOutbox
from stream_app.testing import InMemoryLeases, InMemoryOutbox

pytestmark = pytest.mark.kafka

Wait = Callable[..., None]


@pytest.fixture
def kafka(kafka_bootstrap: str, unique: Callable[[str], str]) -> KafkaSettings:
    names = TopicSettings(
        ground_truth=unique("truth"), model_updated=unique("updated"), learning_events=unique("events"), partitions=1
    )
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topics=names)
    topics.declare(settings)
    return settings


@pytest.fixture
def outbox(kafka: KafkaSettings) -> InMemoryOutbox:
    return InMemoryOutbox(learning_events=kafka.topics.learning_events)


def pointer(kafka: KafkaSettings, model: str, promotion_seq: int) -> OutboxMessage:
    return OutboxMessage(
        id=0,
        model=model,
        event_id=f"{model}:{promotion_seq}",
        type=MODEL_UPDATED,
        topic=kafka.topics.model_updated,
        key=model.encode(),
        value=orjson.dumps({"model": model, "promotion_seq": promotion_seq}),
        created_at=1.5,
    )


class Running:
    """Relays in threads of their own, as many as a test wants."""

    def __init__(self, kafka: KafkaSettings, outbox: InMemoryOutbox, transactional_id: str) -> None:
        self._kafka, self._outbox, self._id = kafka, outbox, transactional_id
        self.leases = InMemoryLeases()
        self.recorders: dict[str, Recorder] = {}
        self.clocks: dict[str, Callable[[], float]] = {}
        self._stops: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    def start(self, holder: str) -> Recorder:
        recorder, stop = Recorder(), threading.Event()
        built = Relay(
            self._outbox,
            self.leases,
            self.connect,
            holder=holder,
            clock=self.clocks.get(holder, time.time),
            observe=recorder,
        )
        self.recorders[holder], self._stops[holder] = recorder, stop
        self._threads[holder] = threading.Thread(target=built.run, args=(stop,))
        self._threads[holder].start()
        return recorder

    def connect(self) -> TransactionalProducer:
        return TransactionalProducer(self._kafka, self._id)

    def stop(self, holder: str) -> None:
        self._stops[holder].set()
        self._threads[holder].join()

    def stop_all(self) -> None:
        for stop in self._stops.values():
            stop.set()
        for thread in self._threads.values():
            thread.join()


@pytest.fixture
def running(kafka: KafkaSettings, outbox: InMemoryOutbox, unique: Callable[[str], str]) -> Iterator[Running]:
    relays = Running(kafka, outbox, unique("relay"))
    yield relays
    relays.stop_all()


def committed(kafka: KafkaSettings, topic: str) -> list[tuple[bytes, bytes, cloudevents.CloudEvent]]:
    """Return key, value and event of each committed message of a topic with one partition."""
    consumer = client.consumer(kafka, enable_partition_eof=True, fetch_wait_max_ms=50)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = []
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error() is not None:
            break
        event = cloudevents.read(message.headers(), message.value())
        assert event is not None
        found.append((message.key(), message.value(), event))
    consumer.close()
    return found


def ids(kafka: KafkaSettings, topic: str) -> list[str]:
    return [event.id for _, _, event in committed(kafka, topic)]


def test_what_is_owed_is_sent_in_order_as_cloud_events_and_marked(
    kafka: KafkaSettings, outbox: InMemoryOutbox, running: Running, wait_until: Wait
) -> None:
    running.start("a")
    outbox.owe(pointer(kafka, "m", 1), promotion_seq=1)
    outbox.note("m", RETRAIN_STARTED, b'{"model":"m"}', now=2.5)
    outbox.owe(pointer(kafka, "n", 1), promotion_seq=1)
    wait_until(lambda: not outbox.unsent())
    (first, second) = committed(kafka, kafka.topics.model_updated)
    assert first[:2] == (b"m", b'{"model":"m","promotion_seq":1}')
    event = first[2]
    assert (event.id, event.type, event.subject, event.time) == (
        "m:1",
        MODEL_UPDATED,
        "m",
        "1970-01-01T00:00:01.500000Z",
    )
    assert second[2].id == "n:1"
    ((key, value, noted),) = committed(kafka, kafka.topics.learning_events)
    assert (key, value, noted.type) == (b"m", b'{"model":"m"}', RETRAIN_STARTED)


def test_a_new_relay_asserts_the_current_pointer_of_each_model_again(
    kafka: KafkaSettings, outbox: InMemoryOutbox, running: Running, wait_until: Wait
) -> None:
    """Whatever an older relay, or anybody else, had put under that key."""
    running.start("a")
    for promotion_seq in (1, 2):
        outbox.owe(pointer(kafka, "m", promotion_seq), promotion_seq=promotion_seq)
    wait_until(lambda: not outbox.unsent())
    running.stop("a")
    running.start("b")
    outbox.note("m", RETRAIN_STARTED, b"{}", now=0)
    wait_until(lambda: not outbox.unsent())
    assert ids(kafka, kafka.topics.model_updated) == ["m:1", "m:2", "m:2"]


def test_of_two_relays_one_sends_and_the_other_takes_over_when_it_stops(
    kafka: KafkaSettings, outbox: InMemoryOutbox, running: Running, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LEASE_S", 1.0)
    first = running.start("a")
    outbox.owe(pointer(kafka, "m", 1), promotion_seq=1)
    wait_until(lambda: not outbox.unsent())
    second = running.start("b")
    for promotion_seq in range(2, 6):
        outbox.owe(pointer(kafka, "m", promotion_seq), promotion_seq=promotion_seq)
        wait_until(lambda: not outbox.unsent())
    assert not second.facts
    assert sum(amount for fact, amount, _ in first.facts if fact == "relay_messages_sent") == 5
    running.stop("a")
    outbox.owe(pointer(kafka, "m", 6), promotion_seq=6)
    wait_until(lambda: not outbox.unsent())
    assert ("relay_messages_sent", 1, {}) in second.facts
    assert ids(kafka, kafka.topics.model_updated)[:5] == [f"m:{seq}" for seq in range(1, 6)]


def test_a_relay_that_slept_through_its_lease_is_fenced_and_waits(
    kafka: KafkaSettings, outbox: InMemoryOutbox, running: Running, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock stands still, so it believes to hold a lease that another one has: only the broker stops it."""
    monkeypatch.setattr(relay, "LEASE_S", 1.0)
    standstill = time.time()
    running.clocks["zombie"] = lambda: standstill
    zombie = running.start("zombie")
    outbox.owe(pointer(kafka, "m", 1), promotion_seq=1)
    wait_until(lambda: not outbox.unsent())
    running.clocks["heir"] = lambda: standstill + 100 + time.time()
    heir = running.start("heir")
    wait_until(lambda: ids(kafka, kafka.topics.model_updated) == ["m:1", "m:1"])  # the heir reigns
    for promotion_seq in range(2, 12):
        outbox.owe(pointer(kafka, "m", promotion_seq), promotion_seq=promotion_seq)
        wait_until(lambda: not outbox.unsent())
        if ("relay_fenced", 1.0, {}) in zombie.facts:
            break
    wait_until(lambda: ("relay_fenced", 1.0, {}) in zombie.facts)
    outbox.owe(pointer(kafka, "m", 12), promotion_seq=12)
    wait_until(lambda: not outbox.unsent())
    assert ("relay_fenced", 1.0, {}) not in heir.facts
    sent = ids(kafka, kafka.topics.model_updated)
    assert sent[-1] == "m:12"
    assert sent == sorted(sent, key=lambda event_id: int(event_id.partition(":")[2]))


def test_an_outage_is_waited_out(
    kafka: KafkaSettings, outbox: InMemoryOutbox, unique: Callable[[str], str], wait_until: Wait
) -> None:
    attempts: list[float] = []
    transactional_id = unique("relay")

    def connect() -> TransactionalProducer:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise Outage
        return TransactionalProducer(kafka, transactional_id)

    recorder, stop = Recorder(), threading.Event()
    outbox.owe(pointer(kafka, "m", 1), promotion_seq=1)
    built = Relay(outbox, InMemoryLeases(), connect, holder="a", clock=time.time, observe=recorder)
    thread = threading.Thread(target=built.run, args=(stop,))
    thread.start()
    wait_until(lambda: not outbox.unsent())
    stop.set()
    thread.join()
    assert recorder.facts.count(("relay_outage", 1.0, {})) == 2
    assert attempts[2] - attempts[1] > attempts[1] - attempts[0]


RELAY_PROCESS = """if True:
    import sys, threading, time
    from pathlib import Path
    from stream_app.kafka.producer import TransactionalProducer
    from stream_app.kafka.relay import Relay
    from stream_app.ports import Recorder
    from stream_app.settings import KafkaSettings
    from stream_app.storage.database import open_database
    from stream_app.storage.leases import SqlLeases
    from stream_app.storage.outbox import SqlOutbox
    root, kafka, name, holder = Path(sys.argv[1]), KafkaSettings.model_validate_json(sys.argv[2]), *sys.argv[3:]
    engine = open_database(None, root)
    outbox = SqlOutbox(engine, learning_events=kafka.topics.learning_events)
    connect = lambda: TransactionalProducer(kafka, name)
    clock = (lambda: time.time() + 3600) if holder == "heir" else time.time
    relay = Relay(outbox, SqlLeases(engine), connect, holder=holder, clock=clock, observe=Recorder())
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    sys.stdin.read()
    stop.set()
    thread.join()
"""


def test_a_relay_killed_after_the_commit_sends_the_same_event_again(
    kafka: KafkaSettings, tmp_path: Path, unique: Callable[[str], str], wait_until: Wait
) -> None:
    """Twice on the topic, under one id: subscribers compare promotion_seq, so the repeat changes nothing."""
    outbox = SqlOutbox(open_database(None, tmp_path), learning_events=kafka.topics.learning_events)
    outbox.note("m", RETRAIN_STARTED, b"{}", now=0)
    (owed,) = outbox.unsent()
    name = unique("relay")

    def start(holder: str, crash: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", RELAY_PROCESS, str(tmp_path), kafka.model_dump_json(), name, holder]
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"STREAM_APP_CRASH": crash})

    with start("first", "sent") as first:
        assert first.wait(60) == -signal.SIGKILL
    assert [message.id for message in outbox.unsent()] == [owed.id]
    with start("heir", "") as heir:
        wait_until(lambda: not outbox.unsent())
        heir.communicate(b"")
    assert heir.returncode == 0
    assert ids(kafka, kafka.topics.learning_events) == [owed.event_id, owed.event_id]
