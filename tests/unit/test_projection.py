"""Rows of one schema as rows of another: by name, within its bounds, or not at all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_app.core.projection import Projection, check_same
from stream_app.core.schema import Field, Schema
from stream_app.errors import Misconfigured
from stream_app.values import Features, Rows, Task, Window
from tests.unit.folding import rows_of, window

A = Field(name="a", type="number")
B = Field(name="b", type="number", required=False)
TOWN = Field(name="town", type="category", required=False)
STORED = Schema(task=Task.BINARY, target="y", fields=(A, TOWN, B), classes=(False, True))
NUMBERS = np.array([[1.0, 10.0], [2.0, np.nan], [3.0, 30.0], [4.0, 40.0]])
TOWNS = np.array([["x"], ["y"], [None], ["x"]], dtype=object)


def with_fields(*fields: Field) -> Schema:
    return replace(STORED, fields=fields)


@pytest.fixture
def rows() -> Rows:
    return replace(
        rows_of(NUMBERS, np.array([0.0, 1.0, 1.0, 0.0])), features=Features(numeric=NUMBERS, categorical=TOWNS)
    )


def projected(rows: Rows, *fields: Field) -> Window:
    return Projection("m", STORED, with_fields(*fields)).window(window(1, rows))


def test_columns_are_found_by_name_in_any_order(rows: Rows) -> None:
    found = projected(rows, B, TOWN, A).rows
    assert found is not None
    np.testing.assert_array_equal(found.features.numeric, NUMBERS[:, ::-1])
    assert found.features.categorical.tolist() == TOWNS.tolist()
    assert found.labels is rows.labels


def test_features_may_be_left_out(rows: Rows) -> None:
    found = projected(rows, B).rows
    assert found is not None
    np.testing.assert_array_equal(found.features.numeric, NUMBERS[:, 1:])
    assert found.features.categorical.shape == (4, 0)


def test_the_same_fields_leave_every_window_as_it_is(rows: Rows) -> None:
    same = window(1, rows)
    assert Projection("m", STORED, STORED).window(same) is same


def test_a_window_without_rows_stays_one() -> None:
    empty = window(1, None)
    assert Projection("m", STORED, with_fields(A)).window(empty) is empty


@pytest.mark.parametrize(
    ("field", "left"),
    [
        (replace(A, low=2.0), [1, 2, 3]),
        (replace(A, high=2.0), [0, 1]),
        (replace(A, low=2.0, high=3.0), [1, 2]),
        (replace(B, low=20.0), [1, 2, 3]),
        (replace(B, required=True), [0, 2, 3]),
        (replace(TOWN, required=True), [0, 1, 3]),
        (replace(TOWN, values=("x",)), [0, 2, 3]),
        (replace(TOWN, values=("x",), required=True), [0, 3]),
    ],
)
def test_rows_outside_of_tighter_bounds_are_left_out(rows: Rows, field: Field, left: list[int]) -> None:
    found = projected(rows, field).rows
    assert found is not None
    assert found.offsets.tolist() == left
    assert found.labels.tolist() == rows.labels[left].tolist()


def test_a_window_of_which_no_row_is_accepted_has_none(rows: Rows) -> None:
    assert projected(rows, replace(A, low=99.0)).rows is None


NEW = Field(name="new", type="number", required=False)


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        (with_fields(A, NEW), ["models.m.features.new: not in the log, expected some of a, town, b"]),
        (with_fields(replace(A, type="category")), ["models.m.features.a.type: 'category', expected 'number'"]),
        (replace(STORED, target="other"), ["models.m.target: 'other', expected 'y'"]),
        (replace(STORED, classes=(True, False)), ["models.m.classes: [True, False], expected [False, True]"]),
        (replace(STORED, classes=(0, 1)), ["models.m.classes: [0, 1], expected [False, True]"]),
        (
            replace(STORED, task=Task.MULTICLASS, classes=("a", "b"), fields=(NEW,)),
            ["models.m.task: 'multiclass', expected 'binary'", "models.m.classes: ['a', 'b']", "features.new"],
        ),
    ],
)
def test_what_the_log_has_no_rows_for_is_refused_by_key(wanted: Schema, wrong: Sequence[str]) -> None:
    with pytest.raises(Misconfigured) as refused:
        Projection("m", STORED, wanted)
    assert all(part in str(refused.value) for part in wrong), str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        (with_fields(A, TOWN), "models.m.features.b: missing"),
        (with_fields(A, TOWN, B, NEW), "models.m.features.new: not in the log"),
        (with_fields(replace(A, low=0.5), TOWN, B), "models.m.features.a.low: 0.5, expected None"),
        (with_fields(B, TOWN, A), "models.m.features: the order"),
        (replace(STORED, extra_features="reject"), "extra_features"),
    ],
)
def test_a_schema_that_has_to_be_the_models_own_is_refused_by_what_differs(wanted: Schema, wrong: str) -> None:
    check_same("m", STORED, replace(STORED))
    with pytest.raises(Misconfigured) as refused:
        check_same("m", STORED, wanted)
    assert wrong in str(refused.value)
    assert "stream-app replay m --with FILE" in str(refused.value)
