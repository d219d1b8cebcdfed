"""The coalescing consumer on a real broker: nothing lost, nothing twice, whatever happens to the workers."""
# ruff: noqa: ANN401 - a conftest's class cannot be named here

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream_app.kafka import client, topics
from stream_app.settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(450)]

PARTITIONS = 4


@pytest.fixture
def admin(recording: Any) -> AdminClient:
    admin = client.admin(KafkaSettings(bootstrap_servers=recording.bootstrap))
    admin.create_topics([NewTopic(recording.topic, PARTITIONS, 1)])[recording.topic].result()
    return admin


def test_each_record_once_and_in_order_across_join_kill_and_leave(
    recording: Any, admin: AdminClient, wait_until: Callable[..., None]
) -> None:
    total = 100_000
    with _SlowProducer(recording, total) as more:
        first = recording.start()
        wait_until(lambda: recording.count() > 0, what="the first worker records")
        second = recording.start()
        wait_until(lambda: max(recording.epochs().values()) > 1, what="the second worker joins")
        more(40_000)
        wait_until(lambda: recording.count() >= 20_000)
        first.kill()
        third = recording.start()
        more(70_000)
        wait_until(lambda: recording.count() >= 60_000)
        assert recording.stop(second) == 0
        more(total)
        wait_until(lambda: recording.count() >= total, what="everything is recorded")
        wait_until(lambda: not any(topics.lag(admin, recording.group, [recording.topic]).values()), what="lag is 0")
    assert recording.stop(third) == 0
    by_partition = defaultdict(list)
    for _, number, offset, value, *_ in recording.rows():
        by_partition[number].append((offset, int(value)))
    assert sum(map(len, by_partition.values())) == total
    assert all(rows == sorted(rows) for rows in by_partition.values())
    assert sorted(value for rows in by_partition.values() for _, value in rows) == list(range(total))


@pytest.mark.usefixtures("admin")
def test_every_codec_is_read(recording: Any, wait_until: Callable[..., None]) -> None:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    for codec in codecs:
        _produce(recording, [f"{codec} {n}" for n in range(500)], **{"compression.type": codec})
    recording.start()
    wait_until(lambda: recording.count() >= 2_500)
    values = {value for _, _, _, value, *_ in recording.rows()}
    assert values == {f"{codec} {n}" for codec in codecs for n in range(500)}


def test_aborted_records_are_never_seen_and_markers_are_no_lag(
    recording: Any, admin: AdminClient, unique: Callable[[str], str], wait_until: Callable[..., None]
) -> None:
    producer = Producer({"bootstrap.servers": recording.bootstrap, "transactional.id": unique("txn")})
    producer.init_transactions()
    for number in range(6):
        producer.begin_transaction()
        for n in range(50):
            producer.produce(recording.topic, f"{number} {n}", partition=n % PARTITIONS)
        producer.flush()
        producer.abort_transaction() if number % 2 else producer.commit_transaction()
    recording.start()
    wait_until(lambda: recording.count() >= 150)
    wait_until(lambda: not any(topics.lag(admin, recording.group, [recording.topic]).values()), what="lag is 0")
    assert {value for _, _, _, value, *_ in recording.rows()} == {f"{t} {n}" for t in (0, 2, 4) for n in range(50)}
    producer.begin_transaction()
    producer.produce(recording.topic, "open", partition=0)
    producer.flush()
    _produce(recording, ["behind"], partition=1)
    wait_until(lambda: recording.count() == 151)
    producer.commit_transaction()
    wait_until(lambda: recording.count() == 152)
    assert [value for _, _, _, value, *_ in recording.rows()][-2:] == ["behind", "open"]


def test_records_come_with_headers_and_the_topics_incarnation(
    recording: Any, admin: AdminClient, wait_until: Callable[..., None]
) -> None:
    _produce(recording, ["x"], headers=[("a", b"1"), ("a", None)])
    recording.start()
    wait_until(lambda: recording.count() == 1)
    ((_, _, offset, value, incarnation, headers),) = recording.rows()
    assert (offset, value) == (0, "x")
    assert incarnation == topics.incarnation(admin, recording.topic)
    assert headers == """["('a', b'1')", "('a', None)"]"""


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize(
    ("mishap", "code", "message"),
    [("fenced", 70, "another owner"), ("outage", 75, "no store"), ("bug", 1, "ValueError: a bug")],
)
def test_what_the_handler_raises_ends_the_process_and_is_said_once(
    recording: Any, mishap: str, code: int, message: str
) -> None:
    _produce(recording, ["x"])
    assert recording.start(mishap=mishap).wait(30) == code
    assert recording.output().count(message) == 1
    assert recording.output().count("the worker stops") == 1


def test_a_missing_topic_is_a_matter_of_settings(recording: Any) -> None:
    assert recording.start().wait(30) == 78
    assert f"topic {recording.topic} does not exist: create it with" in recording.output()


def test_a_broker_that_is_away_is_an_outage(recording: Any) -> None:
    assert recording.start(bootstrap="127.0.0.1:1").wait(60) == 75
    assert "Kafka at 127.0.0.1:1 is not to be reached" in recording.output()
    assert "Connection refused" in recording.output()


@pytest.mark.usefixtures("admin")
def test_a_partition_that_stands_still_ends_the_process(recording: Any) -> None:
    _produce(recording, ["x"], partition=2)
    assert recording.start(mishap="hang", stuck_after_s=2).wait(60) == 1
    assert f"{recording.topic}/2 stands at offset 0" in recording.output()


def test_records_that_were_deleted_unread_stop_the_worker(
    recording: Any, admin: AdminClient, wait_until: Callable[..., None]
) -> None:
    _produce(recording, [str(n) for n in range(10)], partition=0)
    worker = recording.start()
    wait_until(lambda: recording.count() == 10)
    assert recording.stop(worker) == 0
    _produce(recording, [str(n) for n in range(10)], partition=0)
    place = TopicPartition(recording.topic, 0, 15)
    admin.delete_records([place])[place].result()
    assert recording.start().wait(60) == 78
    assert f"{recording.topic}/0: offset 10, the next to read, is not in the topic" in recording.output()
    assert recording.count() == 10


@pytest.mark.usefixtures("admin")
def test_a_frozen_worker_writes_nothing_when_it_wakes(recording: Any, wait_until: Callable[..., None]) -> None:
    _produce(recording, [str(n) for n in range(20_000)])
    frozen = recording.start()
    wait_until(lambda: recording.count() > 0)
    frozen.send_signal(signal.SIGSTOP)
    recording.start()
    wait_until(lambda: min(recording.epochs().values()) == 2, what="the other takes all over")
    frozen.send_signal(signal.SIGCONT)
    _produce(recording, [str(n) for n in range(20_000, 40_000)])
    wait_until(lambda: recording.count() == 40_000)
    assert {int(value) for _, _, _, value, *_ in recording.rows()} == set(range(40_000))
    # either its write was refused, or it learned of the rebalance first and shares again
    assert frozen.poll() in {None, 70}


def test_what_kafka_thinks_was_committed_does_not_matter(
    recording: Any, admin: AdminClient, wait_until: Callable[..., None]
) -> None:
    """The database was restored from a backup, or an operator moved the group: the log decides."""
    _produce(recording, [str(n) for n in range(1_000)], partition=0)
    reader = client.consumer(KafkaSettings(bootstrap_servers=recording.bootstrap), group_id=recording.group)
    reader.commit(offsets=[TopicPartition(recording.topic, 0, 700)], asynchronous=False)
    reader.close()
    recording.start()
    wait_until(lambda: recording.count() == 1_000)
    wait_until(lambda: not any(topics.lag(admin, recording.group, [recording.topic]).values()), what="lag is 0")


def test_a_worker_that_waited_without_a_partition_takes_over_where_the_log_stands(
    recording: Any, wait_until: Callable[..., None]
) -> None:
    admin = client.admin(KafkaSettings(bootstrap_servers=recording.bootstrap))
    admin.create_topics([NewTopic(recording.topic, 1, 1)])[recording.topic].result()
    _produce(recording, [str(n) for n in range(1_000)])
    first = recording.start()
    wait_until(lambda: recording.count() == 1_000)
    second = recording.start()
    wait_until(lambda: _members(admin, recording.group) == 2, what="the second worker has joined")
    first.kill()
    _produce(recording, [str(n) for n in range(1_000, 2_000)])
    wait_until(lambda: recording.count() == 2_000)
    assert [int(value) for _, _, _, value, *_ in recording.rows()] == list(range(2_000))
    assert second.poll() is None


@pytest.mark.usefixtures("admin")
def test_a_worker_leaves_even_if_it_cannot_flush(recording: Any, wait_until: Callable[..., None]) -> None:
    _produce(recording, ["x"])
    worker = recording.start(mishap="never drained")
    wait_until(lambda: recording.count() == 1)
    assert recording.stop(worker) == 1
    assert "what was open could not be flushed" in recording.output()


@pytest.mark.usefixtures("admin")
def test_a_worker_that_is_fenced_while_it_leaves_says_so(recording: Any, wait_until: Callable[..., None]) -> None:
    _produce(recording, ["x"])
    worker = recording.start(mishap="fenced at the end")
    wait_until(lambda: recording.count() == 1)
    assert recording.stop(worker) == 70


def test_a_topic_that_is_recreated_under_the_worker_ends_it(
    recording: Any, admin: AdminClient, wait_until: Callable[..., None]
) -> None:
    _produce(recording, [str(n) for n in range(100)])
    worker = recording.start()
    wait_until(lambda: recording.count() == 100)
    admin.delete_topics([recording.topic])[recording.topic].result()
    wait_until(lambda: recording.topic not in admin.list_topics(timeout=5).topics)
    admin.create_topics([NewTopic(recording.topic, PARTITIONS, 1)])[recording.topic].result()
    _produce(recording, [str(n) for n in range(100, 1_000)])
    assert worker.wait(60) == 75
    assert "deleted" in recording.output()
    assert recording.count() == 100


def test_leaving_in_the_middle_loses_nothing(
    recording: Any, admin: AdminClient, wait_until: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    _produce(recording, [str(n) for n in range(50_000)])
    worker = recording.start()
    wait_until(lambda: recording.count() > 0)
    asked = time.perf_counter()
    assert recording.stop(worker) == 0
    with capsys.disabled():
        print(f"\nfrom SIGTERM to exit: {time.perf_counter() - asked:.2f} s")  # noqa: T201
    left = recording.count()
    ends = topics.end_offsets(admin, [recording.topic])
    lag = topics.lag(admin, recording.group, [recording.topic])
    assert sum(ends.values()) - sum(lag.values()) == left
    recording.start()
    wait_until(lambda: recording.count() == 50_000)


def _members(admin: AdminClient, group: str) -> int:
    described = admin.describe_consumer_groups([group])[group].result()
    return len(described.members) if described.state is ConsumerGroupState.STABLE else 0


@pytest.mark.usefixtures("admin")
def test_how_fast_records_reach_the_handler(recording: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asserted about the speed; it is printed."""
    total = 300_000
    _produce(recording, [f"{n:0218d}" for n in range(total)], **{"queue.buffering.max.messages": total})
    worker = recording.start(enough=total)
    assert worker.wait(60) == 0
    with capsys.disabled():
        print(f"\n{recording.output().strip()}")  # noqa: T201
    assert "records/s reach the handler" in recording.output()


class _SlowProducer:
    """Produces numbered records at a pace that lasts, up to the mark that the test sets."""

    def __init__(self, recording: Any, total: int) -> None:
        self._recording = recording
        self._mark = min(10_000, total)
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[total])

    def __enter__(self) -> Callable[[int], None]:
        self._thread.start()
        return self._more

    def __exit__(self, *_: object) -> None:
        self._more(-1)
        self._thread.join()

    def _more(self, mark: int) -> None:
        self._mark = mark
        self._changed.set()

    def _run(self, total: int) -> None:
        sent = 0
        while sent < total and self._mark >= 0:
            if sent >= self._mark:
                self._changed.wait()
                self._changed.clear()
                continue
            _produce(self._recording, [str(n) for n in range(sent, min(sent + 1_000, total))])
            sent += 1_000


def _produce(recording: Any, values: list[str], headers: Any = None, partition: int = -1, **options: Any) -> None:
    producer = Producer({"bootstrap.servers": recording.bootstrap, "linger.ms": 5, **options})
    for value in values:
        producer.produce(recording.topic, value, key=value, partition=partition, headers=headers)
    assert producer.flush(30) == 0
