"""Worker, trainer and subscriber on a real broker: a full retrain changes what is served."""

from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import pytest

from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.kafka import client
from stream_app.messages import MODEL_PROMOTED, RETRAIN_FINISHED, RETRAIN_STARTED
from stream_app.values import JobStatus
from tests.contract.retraining_house import crossed
from tests.integration.pipeline import PATIENCE_S, Pipeline, as_bytes

pytestmark = pytest.mark.kafka


@pytest.fixture
def pipeline(tmp_path: Path, kafka_bootstrap: str, unique: Callable[[str], str]) -> Pipeline:
    """Return a pipeline of one model that a tree learns and a line does not, with topics of its own."""
    (tmp_path / "stream_app.toml").write_text(f"""
[storage]
root = "{tmp_path / "state"}"
[kafka]
bootstrap_servers = "{kafka_bootstrap}"
group_id = "{unique("group")}"
session_timeout_s = 6
request_timeout_s = 10
[kafka.topics]
ground_truth = "{unique("gt")}"
model_updated = "{unique("updated")}"
learning_events = "{unique("events")}"
[http]
worker_port = 0
trainer_port = 0
[models.m]
task = "binary"
target = "y"
classes = [0, 1]
[models.m.features]
a = {{}}
b = {{}}
[models.m.retrain]
every_records = 500
min_rows = 100
candidates = [{{ name = "tree.DecisionTreeClassifier", params = {{ max_depth = 3 }} }}]
""")
    made = Pipeline(tmp_path, kafka_bootstrap)
    made.run("topics", "create")
    return made


@pytest.fixture
def rooms(pipeline: Pipeline) -> Rooms:
    """Return what the commands work on."""
    return Rooms(configuration.load(pipeline.folder / "stream_app.toml", {}))


def send(rooms: Rooms, count: int, *, start: int = 0) -> None:
    producer = client.producer(rooms.settings.kafka)
    for value in as_bytes(crossed(count, start=start)):
        producer.produce(rooms.settings.kafka.topics.ground_truth, key=b"m", value=value)
    assert producer.flush(30) == 0


@pytest.fixture
def told(rooms: Rooms, unique: Callable[[str], str]) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the types of all learning events so far."""
    own = {"bootstrap.servers": rooms.settings.kafka.bootstrap_servers, "group.id": unique("reader")}
    reader = confluent_kafka.Consumer({**own, "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    reader.subscribe([rooms.settings.kafka.topics.learning_events])
    types: list[str] = []

    def read() -> list[str]:
        for message in reader.consume(100, timeout=0.2):
            assert message.error() is None
            types.append(dict(message.headers() or [])["ce_type"].decode())
        return types

    yield read
    reader.close()


def test_a_retrain_that_wins_is_promoted_and_served(
    pipeline: Pipeline, rooms: Rooms, told: Callable[[], list[str]], wait_until: Callable[..., None]
) -> None:
    assert rooms.signer, "it makes the key that the subscriber needs before anybody has signed"
    with (
        pipeline.running("worker") as worker,
        pipeline.running("trainer") as trainer,
        rooms.subscriber(["m"]) as served,
    ):
        send(rooms, 600)
        pipeline.until_learned(600, worker, "m")
        wait_until(lambda: served.status()["m"].version == "2", PATIENCE_S, what="serving version 2")
        fresh = crossed(50, start=600)
        answers = served.predict("m", [{name: r[name] for name in ("a", "b")} for r in fresh])
        assert [answer.label for answer in answers] == [record["y"] for record in fresh]
        wanted = {RETRAIN_STARTED, RETRAIN_FINISHED, MODEL_PROMOTED}
        wait_until(lambda: wanted <= set(told()), PATIENCE_S, what="the events")
        assert trainer.stop() == 0
        assert worker.stop() == 0
    [job] = rooms.stores.jobs.history("m")
    assert (job.status, job.trigger, job.version) == (JobStatus.SUCCEEDED, "volume", 2)
    verdict = pipeline.json("log", "verify", "m")
    assert verdict["ok"] is True


def test_a_trainer_that_is_told_to_stop_hands_its_retrain_on(
    pipeline: Pipeline, rooms: Rooms, wait_until: Callable[..., None]
) -> None:
    send(rooms, 600)
    with pipeline.running("worker") as worker:
        pipeline.until_learned(600, worker, "m")
        assert worker.stop() == 0
    jobs = rooms.stores.jobs

    def status() -> JobStatus | None:
        return next((job.status for job in jobs.history("m")), None)

    with pipeline.running("trainer") as trainer:
        wait_until(lambda: status() is JobStatus.RUNNING, PATIENCE_S, what="a running job")
        assert trainer.stop() == 0
    assert status() is JobStatus.RUNNING
    with pipeline.running("trainer") as trainer:
        wait_until(lambda: status() is JobStatus.SUCCEEDED, PATIENCE_S, what="the job's end")
        assert trainer.stop() == 0
    assert jobs.history("m")[0].attempts == 1, "to be told to stop is no failed attempt"
