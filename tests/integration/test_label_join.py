"""Predictions and feedback on a real broker: shuffled, doubled, contradicted, and exactly what the policy says."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import confluent_kafka
import duckdb
import orjson
import pytest
from sqlalchemy import update

from stream_app.errors import NotFound
from stream_app.storage import serving_tables
from stream_app.values import RowKind
from tests.integration.pipeline import Pipeline, Running, electricity, settings_text

pytestmark = pytest.mark.kafka

NAMES = ("ground_truth", "predictions", "feedback", "learning_events", "model_updated")
COUNT = 1_500
#: When the first prediction was served: not so long ago that it would be swept.
START_S = time.time() - 7_200
#: What is said of a prediction, by its number modulo five: nothing but once, twice the same, a change of mind.
COURSES = ((1,), (1, 1), (1, 0), (0, 1, 0), ("wrong", 1))


@pytest.fixture(params=["first", "last", "majority"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipeline(tmp_path: Path, kafka_bootstrap: str, unique: Callable[[str], str], policy: str) -> Pipeline:
    """Return a pipeline with topics of its own, in small windows."""
    topics = {f"STREAM_APP_KAFKA__TOPICS__{name.upper()}": unique(name.replace("_", "-")) for name in NAMES}
    made = Pipeline(tmp_path, kafka_bootstrap, topics)
    feedback = f'[models.electricity.feedback]\npolicy = "{policy}"\nsettle_s = 3600\n'
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state", more=feedback))
    made.run("topics", "create")
    return made


def topic(pipeline: Pipeline, name: str) -> str:
    return pipeline.extra[f"STREAM_APP_KAFKA__TOPICS__{name.upper()}"]


def predictions(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield predictions of class 1, each with a served output of its own."""
    for number, row in enumerate(electricity(count)):
        features = {name: value for name, value in row.items() if name != "class"}
        served = {"version": "1.3", "output": 0.5 + number / (3 * count), "digest": "ab" * 32, "known_label": 0}
        id_ = f"p{number}"
        yield (
            id_,
            {
                "prediction_id": id_,
                "model": "electricity",
                "features": features,
                "served": served,
                "label": 1,
                "served_at": START_S + number,
            },
        )


def said(number: int) -> Sequence[dict[str, Any]]:
    """Return what is said of a prediction, in order; the first message comes twice."""
    id_ = f"p{number}"
    course = COURSES[number % len(COURSES)]
    told = [
        {"prediction_id": id_, "feedback_id": f"{id_}-{i}", **({"verdict": x} if x == "wrong" else {"label": x})}
        for i, x in enumerate(course)
    ]
    return [told[0], *told]


def expected(policy: str, number: int) -> tuple[int, list[int], Counter[str]]:
    """Return the learned label, the corrections and the outcomes, worked out by hand from the table in the docs."""
    course = [0 if x == "wrong" else int(x) for x in COURSES[number % len(COURSES)]]
    if policy == "first":
        changes = [b for a, b in pairwise(course) if a != b]
        same = len(course) - 1 - len(changes)
        return course[0], changes, Counter(learned=1, corrected=len(changes), duplicate=same)
    learned = course[-1] if policy == "last" else max(course, key=course.count)
    same = course.count(learned) - 1
    return learned, [], Counter(learned=1, duplicate=same, stored=len(course) - 1 - same)


def send(pipeline: Pipeline, mixed: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": pipeline.bootstrap})
    for name, key, message in mixed:
        producer.produce(topic(pipeline, name), key=key.encode(), value=orjson.dumps(message))
    assert producer.flush(30) == 0


def mixture(count: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Return both sides in a random order, but what is said of one prediction in its own; some predictions twice."""
    rng = random.Random(7)  # noqa: S311 - a shuffle that is the same each time
    placed: list[tuple[float, str, str, dict[str, Any]]] = []
    for number, (id_, message) in enumerate(predictions(count)):
        placed += [(rng.random(), "predictions", id_, message) for _ in range(1 + (number % 7 == 0))]
        times = sorted(rng.random() for _ in said(number))
        placed += [(at, "feedback", id_, each) for at, each in zip(times, said(number), strict=True)]
    return [each[1:] for each in sorted(placed, key=lambda each: each[0])]


def stored(pipeline: Pipeline) -> dict[str, int]:
    return dict(pipeline.rooms.predictions.counts("electricity"))


def until_all_is_said(pipeline: Pipeline, worker: Running, wait_until: Callable[..., None]) -> None:
    """Wait until everything sent is stored, or the worker is gone, then let the time to settle be over."""
    everything = COUNT + sum(len(said(number)) - 1 for number in range(COUNT))
    wait_until(
        lambda: worker.process.poll() is not None or sum(stored(pipeline).values()) == everything,
        150,
        what="all that was sent in the store",
    )
    with pipeline.rooms.engine.begin() as connection:
        settling = serving_tables.predictions.c.settle_at.is_not(None)
        connection.execute(update(serving_tables.predictions).where(settling).values(settle_at=0))


def rows_in_log(pipeline: Pipeline) -> int:
    try:
        return int(pipeline.rooms.stores.log.table("electricity").num_rows)
    except NotFound:
        return 0


@pytest.mark.timeout(1200)
def test_every_pair_is_learned_once_as_its_policy_says_through_two_kills(
    pipeline: Pipeline, policy: str, wait_until: Callable[..., None]
) -> None:
    """The second one dies between sending joined labels and noting it: they are sent once more."""
    rulings = [expected(policy, number) for number in range(COUNT)]
    corrections = sum(len(changes) for _, changes, _ in rulings)
    mixed = mixture(COUNT)
    half = len(mixed) // 2
    send(pipeline, mixed[:half])
    with pipeline.running("worker") as worker:
        wait_until(lambda: stored(pipeline)["predictions"] > COUNT // 4, 150, what="the first predictions")
        worker.kill()
    send(pipeline, mixed[half:])
    with pipeline.running("worker", STREAM_APP_CRASH="sent:3") as worker:
        until_all_is_said(pipeline, worker, wait_until)
        assert worker.ended() == -9, worker.log.read_text()
    with pipeline.running("worker") as worker:
        until_all_is_said(pipeline, worker, wait_until)
        wait_until(lambda: rows_in_log(pipeline) == COUNT + corrections, 150, what="every label in the log")
        assert worker.stop() == 0
    told = sum((outcomes for _, _, outcomes in rulings), Counter())
    assert {name: n for name, n in stored(pipeline).items() if n} == {"predictions": COUNT, **told}
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True, verdict
    assert verdict["counts"]["learned"] == COUNT
    assert verdict["counts"]["corrections"] == corrections
    assert logged(pipeline) == [
        (f"p{number}", learned, changes, 0.5 + number / (3 * COUNT), "1.3", "feedback")
        for number, (learned, changes, _) in enumerate(rulings)
    ]


def logged(pipeline: Pipeline) -> list[tuple[str, int, list[int], float, str, str]]:
    """Return, of each prediction in its order: learned label, corrections in order, what was served, source."""
    paths = [file["path"] for file in pipeline.json("log", "files", "electricity")["files"]]
    rows = duckdb.sql(
        "SELECT prediction_id, kind, label, served_output, served_version, source "
        "FROM read_parquet($paths) ORDER BY seq, pos",
        params={"paths": paths},
    ).fetchall()
    learned = {row[0]: row for row in rows if row[1] == RowKind.RECORD}
    changes: dict[str, list[int]] = {id_: [] for id_ in learned}
    for id_, kind, label, *_ in rows:
        if kind == RowKind.CORRECTION:
            changes[id_].append(int(label))
    in_order = sorted(learned, key=lambda id_: int(id_[1:]))
    return [(id_, int(learned[id_][2]), changes[id_], *learned[id_][3:]) for id_ in in_order]
