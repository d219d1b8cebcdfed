"""Records become rows: envelope or flat, uniform or not, good or bad."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.records import Batch, TimePolicy, canonicalise
from stream_app.core.schema import LARGEST, Field, Schema
from stream_app.errors import InvalidRecord
from stream_app.values import Partition, RowKind, Rows, Task

NOW_MS = 1_750_000_000_000
PLACE = Partition(incarnation="abc", topic="ground-truth", number=0)
TIMES = TimePolicy(max_skew_s=3600, lateness_s=None)
SCHEMA = Schema(
    task=Task.BINARY,
    target="y",
    fields=(
        Field(name="a", type="number", low=0, high=10),
        Field(name="b", type="number", required=False),
        Field(name="c", type="category", required=False),
    ),
    classes=("no", "yes"),
)
GOOD = {"a": 1, "b": 2.5, "c": "red", "y": "yes"}


def batch(records: Sequence[Mapping[str, Any]]) -> Batch:
    n = len(records)
    return Batch(
        partition=PLACE,
        records=records,
        offsets=np.arange(n, dtype=np.int64),
        indexes=np.zeros(n, dtype=np.int64),
        timestamps_ms=np.full(n, NOW_MS, dtype=np.int64),
    )


def rows_of(*records: Mapping[str, Any]) -> Rows:
    rows, rejected = canonicalise(SCHEMA, TIMES, batch(records))
    assert not rejected
    return rows


def reason_of(record: Mapping[str, Any]) -> str:
    rows, rejected = canonicalise(SCHEMA, TIMES, batch([GOOD, record, GOOD]))
    assert len(rows) == 2
    assert [r.position for r in rejected] == [1]
    return rejected[0].error.reason


def test_flat_and_envelope_say_the_same() -> None:
    flat = rows_of({**GOOD, "event_id": "e1"})
    enveloped = rows_of({"features": {"a": 1, "b": 2.5, "c": "red"}, "label": "yes", "event_id": "e1"})
    for rows in (flat, enveloped):
        assert rows.features.numeric.tolist() == [[1.0, 2.5]]
        assert rows.features.categorical.tolist() == [["red"]]
        assert rows.labels.tolist() == [1.0]
        assert rows.event_ids == ["e1"]


def test_mixed_forms_in_one_run_are_taken_apart_one_by_one() -> None:
    rows = rows_of(GOOD, {"features": {"a": 2}, "label": "no", "source": "s"}, {"a": 3, "y": "no"})
    assert rows.features.numeric[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(rows.features.numeric[1:, 1]).all()
    assert rows.features.categorical[:, 0].tolist() == ["red", None, None]
    assert rows.sources == [None, "s", None]


def test_a_feature_called_features_is_a_feature_in_both_forms() -> None:
    schema = Schema(task=Task.BINARY, target="y", fields=(Field(name="features", type="number"),), classes=(0, 1))
    flat, enveloped = {"features": 2.5, "y": 1}, {"features": {"features": 2.5}, "label": 1}
    for record in (flat, enveloped):
        rows, rejected = canonicalise(schema, TIMES, batch([record]))
        assert not rejected
        assert (rows.features.numeric.tolist(), rows.labels.tolist()) == ([[2.5]], [1.0])


def test_the_target_under_its_own_name_is_a_label_in_an_envelope() -> None:
    assert rows_of({"features": {"a": 1}, "actual_value": "yes"}).labels.tolist() == [1.0]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**GOOD, "a": "1"}, "wrong_type"),
        ({**GOOD, "a": True}, "wrong_type"),
        ({**GOOD, "a": None}, "missing_field"),
        ({"y": "yes"}, "missing_field"),
        ({**GOOD, "a": 11}, "out_of_bounds"),
        ({**GOOD, "b": 1e308}, "out_of_bounds"),
        ({**GOOD, "b": [1]}, "wrong_type"),
        ({**GOOD, "c": {"x": 1}}, "wrong_type"),
        ({**GOOD, "c": "x" * 300}, "out_of_bounds"),
        ({**GOOD, "y": "maybe"}, "unknown_class"),
        ({**GOOD, "y": 1}, "unknown_class"),
        ({**GOOD, "y": ["yes"]}, "bad_label"),
        ({"a": 1}, "missing_label"),
        ({**GOOD, "event_id": {"x": 1}}, "bad_id"),
        ({**GOOD, "event_id": "x" * 257}, "bad_id"),
        ({**GOOD, "occurred_at": "soon"}, "bad_time"),
        ({**GOOD, "occurred_at": 0}, "bad_time"),
        ({**GOOD, "occurred_at": NOW_MS / 1000 + 7200}, "bad_time"),
        ({**GOOD, "corrects": 1}, "wrong_type"),
        ({**GOOD, "served": "1"}, "bad_served"),
        ({**GOOD, "served": {"version": "1", "output": 1.5}}, "bad_served"),
        ({}, "missing_label"),
    ],
)
def test_a_bad_record_is_named_and_its_neighbours_are_kept(record: dict[str, Any], reason: str) -> None:
    assert reason_of(record) == reason


def test_a_record_that_corrects_is_a_correction_however_late() -> None:
    old = {**GOOD, "occurred_at": NOW_MS / 1000 - 100}
    late = TimePolicy(max_skew_s=3600, lateness_s=10)
    rows, _ = canonicalise(SCHEMA, late, batch([old, {**old, "corrects": True}, {**old, "corrects": False}]))
    assert rows.kinds.tolist() == [RowKind.LATE, RowKind.CORRECTION, RowKind.LATE]


def test_messages_name_field_value_and_expectation() -> None:
    _, rejected = canonicalise(SCHEMA, TIMES, batch([{**GOOD, "a": 11}]))
    assert str(rejected[0].error) == "field 'a' is 11, expected 0 to 10"


def test_a_bool_is_no_class_even_if_it_equals_one() -> None:
    schema = Schema(task=Task.BINARY, target="y", fields=(), classes=(0, 1))
    assert schema.encode_labels([0, 1.0, 1]).tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(InvalidRecord, match="bool"):
        schema.encode_labels([True])


def test_unnamed_fields_are_ignored_or_refused_as_the_schema_says() -> None:
    assert len(rows_of({**GOOD, "zzz": 1})) == 1
    strict = Schema(task=Task.BINARY, target="y", fields=SCHEMA.fields, classes=SCHEMA.classes, extra_features="reject")
    rows, rejected = canonicalise(strict, TIMES, batch([{**GOOD, "event_id": "e"}, {**GOOD, "zzz": 1}]))
    assert len(rows) == 1
    assert rejected[0].error.reason == "unknown_field"


def test_what_was_served_comes_along() -> None:
    rows = rows_of({**GOOD, "served": {"version": "1.7", "output": 0.25, "known_label": "no"}}, GOOD)
    assert rows.served_versions == ("1.7", None)
    assert rows.served_outputs is not None
    assert rows.served_outputs[0] == 0.25
    assert np.isnan(rows.served_outputs[1])
    assert rows.served_known_labels is not None
    assert rows.served_known_labels[0] == 0.0


def test_records_beyond_the_allowed_lateness_are_flagged() -> None:
    times = TimePolicy(max_skew_s=3600, lateness_s=60)
    rows, _ = canonicalise(SCHEMA, times, batch([{**GOOD, "occurred_at": NOW_MS / 1000 - 61}, GOOD]))
    assert rows.kinds.tolist() == [RowKind.LATE, RowKind.RECORD]


def test_a_schema_survives_its_json() -> None:
    assert Schema.from_json(SCHEMA.to_json()) == SCHEMA
    assert Schema.from_json(SCHEMA.to_json()).id == SCHEMA.id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


names = st.sampled_from(["a", "b", "c", "y", "label", "features", "served"])


@given(st.lists(st.dictionaries(names, json_values), max_size=6))
def test_whatever_comes_is_a_row_or_rejected_and_rows_are_finite(records: list[dict[str, Any]]) -> None:
    rows, rejected = canonicalise(SCHEMA, TIMES, batch(records))
    assert len(rows) + len(rejected) == len(records)
    kept = sorted({*range(len(records))} - {r.position for r in rejected})
    assert rows.offsets.tolist() == kept
    numbers = rows.features.numeric
    assert np.all(np.isnan(numbers) | (np.abs(numbers) <= LARGEST))
