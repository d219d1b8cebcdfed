"""Predictions and feedback become values, or reasons that name field, value and what was expected."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from stream_app.core.joining import Opinion
from stream_app.core.schema import Field, Schema
from stream_app.kafka.codec import decode
from stream_app.messages import PredictionMade
from stream_app.values import Partition, Run, Task
from stream_app.worker.statements import Form, Predictions, Statements, read_feedback

NOW_S = 1_750_000_000
SCHEMA = Schema(
    task=Task.BINARY,
    target="y",
    fields=(Field(name="a", type="number", low=0, high=10), Field(name="c", type="category", required=False)),
    classes=("no", "yes"),
)
READ = Predictions({"m": Form(schema=SCHEMA, max_skew_s=60)})
SERVED = {"version": "3", "output": 0.75, "digest": "ab" * 32, "known_label": "no"}
MADE = {
    "prediction_id": "p1",
    "model": "m",
    "features": {"a": 1, "c": "x"},
    "served": SERVED,
    "label": "yes",
    "served_at": NOW_S,
}
SAID = {"prediction_id": "p1", "verdict": "wrong", "feedback_id": "f1", "given_at": NOW_S, "source": "web"}


def run_of(records: Sequence[Any], topic: str = "feedback") -> Run:
    n = len(records)
    return Run(
        partition=Partition(incarnation="one", topic=topic, number=3),
        offsets=range(40, 40 + n),
        keys=[b"p1"] * n,
        values=[orjson.dumps(record) for record in records],
        headers=[()] * n,
        timestamps_ms=[NOW_S * 1000] * n,
    )


def made(*records: Any) -> Statements[PredictionMade]:  # noqa: ANN401 - JSON
    run = run_of(records)
    return READ(run, decode(run, max_message_bytes=10_000))


def said(*records: Any) -> Statements[Opinion]:  # noqa: ANN401 - JSON
    run = run_of(records)
    return read_feedback(run, decode(run, max_message_bytes=10_000))


def test_good_predictions_keep_their_order_and_types() -> None:
    found = made(MADE, {**MADE, "prediction_id": "p2", "features": {"a": 2.5}, "event_id": "dlq:x"}, MADE)
    assert [prediction.prediction_id for prediction in found.good] == ["p1", "p2", "p1"]
    assert found.good[0] == PredictionMade.model_validate(MADE)
    assert type(found.good[0].features["a"]) is int
    assert not found.bad


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"model": "n"}, "unknown_model", "model 'n' is not in the settings"),
        ({"features": {"a": 11}}, "out_of_bounds", "field 'a' is 11, expected 0 to 10"),
        ({"features": {}}, "missing_field", "field 'a' is missing"),
        ({"features": {"a": [1]}}, "wrong_type", "field 'features.a' is '[1]'"),
        ({"features": 7}, "wrong_type", "field 'features' is '7'"),
        ({"label": "maybe"}, "unknown_class", "label 'y' is str 'maybe'"),
        ({"label": None}, "wrong_type", "field 'label' is 'None'"),
        ({"served_at": "now"}, "wrong_type", "field 'served_at' is 'now'"),
        ({"served_at": NOW_S + 120}, "bad_time", "'served_at' lies more than 60 s after the message"),
        ({"served_at": 0}, "bad_time", "field 'served_at' is '0.0'"),
        ({"served": {**SERVED, "output": 2}}, "bad_served", "expected P"),
        ({"served": {**SERVED, "version": "v" * 41}}, "bad_served", "expected a version's name"),
        ({"served": {**SERVED, "version": "\0"}}, "bad_id", "field 'served.version'"),
        ({"served": {**SERVED, "digest": "x" * 65}}, "bad_id", "field 'served.digest'"),
        ({"served": {"output": 1}}, "missing_field", "field 'served.version'"),
        ({"prediction_id": "x" * 65}, "bad_id", "field 'prediction_id'"),
        ({"prediction_id": "a\0b"}, "bad_id", "holds a NUL character"),
        ({"prediction_id": 5}, "wrong_type", "field 'prediction_id' is '5'"),
        ({"more": 1}, "unknown_field", "field 'more' is '1'"),
    ],
)
def test_a_bad_prediction_is_named_and_its_neighbours_are_kept(
    change: Mapping[str, Any], reason: str, words: str
) -> None:
    found = made(MADE, {**MADE, **change}, MADE)
    assert [prediction.prediction_id for prediction in found.good] == ["p1", "p1"]
    ((at, error),) = found.bad
    assert (at, error.reason) == (1, reason)
    assert words in str(error)


def test_feedback_is_an_opinion_named_by_its_sender_or_by_where_it_lies() -> None:
    found = said(SAID, {"prediction_id": "p2", "label": 1.5}, [{"prediction_id": "p3"}, {"prediction_id": "p4"}])
    assert found.good[0] == Opinion(
        feedback_id="f1", prediction_id="p1", verdict="wrong", label=None, source="web", given_at=float(NOW_S)
    )
    assert (found.good[1].label, found.good[1].given_at) == (1.5, float(NOW_S))
    assert [opinion.feedback_id for opinion in found.good[1:]] == [
        "one/feedback/3/41/0",
        "one/feedback/3/42/0",
        "one/feedback/3/42/1",
    ]


def test_a_dead_letter_that_was_sent_back_keeps_the_id_it_was_given() -> None:
    replayed, named = said({"prediction_id": "p1", "event_id": "dlq:x/f/0/7/0"}, {**SAID, "event_id": "other"}).good
    assert (replayed.feedback_id, named.feedback_id) == ("dlq:x/f/0/7/0", "f1")


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"verdict": "maybe"}, "bad_verdict", "Input should be 'correct', 'wrong' or 'unsure'"),
        ({"prediction_id": ""}, "bad_id", "field 'prediction_id' is ''"),
        ({"label": [1]}, "wrong_type", "field 'label' is '[1]'"),
        ({"given_at": "soon"}, "bad_time", "field 'given_at' is 'soon', expected ISO 8601"),
        ({"feedback_id": "x" * 257}, "bad_id", "field 'feedback_id'"),
        ({"feedback_id": None, "event_id": {"x": 1}}, "bad_id", "field 'feedback_id'"),
        ({"source": "\0"}, "bad_id", "field 'source'"),
        ({"actual": 1}, "unknown_field", "field 'actual'"),
    ],
)
def test_bad_feedback_is_named(change: Mapping[str, Any], reason: str, words: str) -> None:
    found = said(SAID, {**SAID, **change})
    assert len(found.good) == 1
    ((at, error),) = found.bad
    assert (at, error.reason) == (1, reason)
    assert words in str(error)
