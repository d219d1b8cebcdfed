"""The worker process on a real broker: every record once, whatever producers do and whoever is killed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import confluent_kafka
import duckdb
import pandas as pd
import pytest
from sqlalchemy import select

from stream_app import exits
from stream_app.kafka import topics
from stream_app.messages import DEADLETTER_LIMIT
from stream_app.settings import KafkaSettings
from stream_app.storage.tables import outbox
from tests.integration.pipeline import DATA, Pipeline, as_bytes, electricity, settings_text

pytestmark = pytest.mark.kafka


@pytest.fixture
def pipeline(tmp_path: Path, kafka_bootstrap: str, unique: Callable[[str], str]) -> Pipeline:
    """Return a pipeline with topics of its own."""
    made = Pipeline(tmp_path, kafka_bootstrap, {"STREAM_APP_KAFKA__TOPICS__GROUND_TRUTH": unique("gt")})
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    made.run("topics", "create")
    return made


def topic_of(pipeline: Pipeline) -> str:
    return pipeline.extra["STREAM_APP_KAFKA__TOPICS__GROUND_TRUTH"]


def send(pipeline: Pipeline, values: Sequence[bytes], **options: object) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": pipeline.bootstrap, **options})
    for value in values:
        producer.produce(topic_of(pipeline), key=b"electricity", value=value)
    assert producer.flush(30) == 0


def test_the_whole_file_is_learned_once_and_proved_and_readable_by_others(pipeline: Pipeline) -> None:
    sent = pipeline.json("produce", str(DATA), "--model", "electricity")
    assert sent["sent"] == 45_312
    with pipeline.running("worker") as worker:
        pipeline.until_learned(45_312, worker)
        assert worker.stop() == 0
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 45_312
    assert verdict["probe_hash_live"] == verdict["probe_hash_replayed"]
    paths = [file["path"] for file in pipeline.json("log", "files", "electricity")["files"]]
    expected = pd.read_csv(DATA)
    by_pandas = pd.concat([pd.read_parquet(path) for path in paths]).sort_values(["seq", "pos"])
    assert by_pandas["feature_nswprice"].tolist() == expected["nswprice"].tolist()
    assert by_pandas["label"].tolist() == expected["class"].tolist()
    by_duckdb = duckdb.sql("SELECT label FROM read_parquet($paths) ORDER BY seq, pos", params={"paths": paths})
    assert [label for (label,) in by_duckdb.fetchall()] == expected["class"].tolist()


def test_a_worker_that_is_killed_is_followed_by_one_with_the_same_state(pipeline: Pipeline) -> None:
    rows = as_bytes(electricity(6_000))
    send(pipeline, rows[:3_000])
    with pipeline.running("worker") as worker:
        pipeline.until_learned(3_000, worker)
        worker.kill()
    send(pipeline, rows[3_000:])
    with pipeline.running("worker") as worker:
        pipeline.until_learned(6_000, worker)
        assert worker.stop() == 0
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 6_000
    assert verdict["counts"]["duplicates"] == 0


@pytest.mark.parametrize("point", ["committed", "effects"])
def test_a_crash_at_any_point_loses_nothing_and_learns_nothing_twice(pipeline: Pipeline, point: str) -> None:
    send(pipeline, as_bytes(electricity(2_000)))
    large = ("--set", "models.electricity.window.max_rows=500", "--set", "models.electricity.window.inline_bytes=0")
    with pipeline.running("worker", *large, STREAM_APP_CRASH=f"{point}:2") as worker:
        assert worker.ended() == -9, worker.log.read_text()
    with pipeline.running("worker", *large) as worker:
        pipeline.until_learned(2_000, worker)
        assert worker.stop() == 0
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 2_000
    assert verdict["counts"]["duplicates"] == 0


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(pipeline: Pipeline, codec: str) -> None:
    send(pipeline, as_bytes(electricity(500)), **{"compression.type": codec})
    with pipeline.running("worker") as worker:
        pipeline.until_learned(500, worker)
        assert worker.stop() == 0


def test_aborted_records_are_never_learned_and_gaps_do_no_harm(
    pipeline: Pipeline, unique: Callable[[str], str]
) -> None:
    rows = as_bytes(electricity(900))
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": pipeline.bootstrap, "transactional.id": unique("transactions")}
    )
    producer.init_transactions(30)
    for start, commit in ((0, True), (300, False), (600, True)):
        producer.begin_transaction()
        for value in rows[start : start + 300]:
            producer.produce(topic_of(pipeline), key=b"electricity", value=value)
        producer.flush(30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    send(pipeline, as_bytes(electricity(1, start=900)))
    with pipeline.running("worker") as worker:
        pipeline.until_learned(601, worker)
        assert worker.stop() == 0
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 601


def test_a_foreign_partitioner_arrays_and_keys_make_no_difference(pipeline: Pipeline) -> None:
    rows = electricity(600)
    name = topic_of(pipeline)
    producer = confluent_kafka.Producer({"bootstrap.servers": pipeline.bootstrap})
    for i, row in enumerate(rows[:400]):
        producer.produce(name, key=b"electricity", value=as_bytes([row])[0], partition=i % 4)
    array = b"[" + b",".join(as_bytes(rows[400:500])) + b"]"
    producer.produce(name, key=b"electricity", value=array)
    for row in rows[500:]:
        enveloped = {"model": "electricity", "features": row, "label": row["class"]}
        producer.produce(name, key=b"somebody-else", value=as_bytes([enveloped])[0])
    assert producer.flush(30) == 0
    with pipeline.running("worker") as worker:
        pipeline.until_learned(600, worker)
        assert worker.stop() == 0
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 600


def test_a_topic_that_was_recreated_stops_the_worker_or_is_followed(
    pipeline: Pipeline, wait_until: Callable[..., None]
) -> None:
    send(pipeline, as_bytes(electricity(300)))
    with pipeline.running("worker") as worker:
        pipeline.until_learned(300, worker)
        assert worker.stop() == 0
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": pipeline.bootstrap})
    name = topic_of(pipeline)
    admin.delete_topics([name])[name].result(30)
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics)
    with pipeline.running("worker") as worker:
        assert worker.ended() == 78
        assert "`stream-app topics create`" in worker.log.read_text()
    pipeline.run("topics", "create")
    send(pipeline, as_bytes(electricity(200, start=300)))
    with pipeline.running("worker") as worker:
        assert worker.ended() == 78
        assert "created again" in worker.log.read_text()
    with pipeline.running("worker", "--set", "kafka.incarnation=follow") as worker:
        pipeline.until_learned(500, worker)
        assert worker.stop() == 0
    assert pipeline.json("log", "verify", "electricity")["ok"] is True


def test_a_poisoned_stream_stops_the_worker_and_says_what_to_do(pipeline: Pipeline) -> None:
    send(pipeline, [b"\xff\xfe"] * 3_000)
    letters = []
    for _ in range(3):
        with pipeline.running("worker") as worker:
            assert worker.ended() == exits.MISCONFIGURED
            assert "dlq list" in worker.log.read_text()
        partitions = pipeline.rooms.stores.partitions
        letters.append(sum(dead for dead, _ in partitions.counts().values()))
        with pipeline.rooms.engine.connect() as connection:
            told = connection.execute(select(outbox.c.sent_at).where(outbox.c.type == DEADLETTER_LIMIT)).scalars().all()
        # it is sent by the worker that stops, not by one that nobody starts any more
        assert [at is not None for at in told] == [True]
    assert 1_000 <= letters[0] == letters[1] == letters[2]


def test_the_broker_and_we_agree_on_the_home_of_a_model(pipeline: Pipeline) -> None:
    send(pipeline, as_bytes(electricity(50)), partitioner="murmur2_random")
    settings = KafkaSettings(bootstrap_servers=pipeline.bootstrap)
    ends = topics.end_offsets(topics_admin(settings), [topic_of(pipeline)])
    home = topics.home_partition(b"electricity", 4)
    assert {place[1]: end for place, end in ends.items() if end} == {home: 50}


def topics_admin(settings: KafkaSettings) -> confluent_kafka.admin.AdminClient:
    return confluent_kafka.admin.AdminClient({"bootstrap.servers": settings.bootstrap_servers})
