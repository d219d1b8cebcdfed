"""The probe rows come from the schema alone, and their hash tells models apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.models import build
from stream_app.core.probes import REACH, probe_hash, probe_set
from stream_app.core.schema import Field, Schema
from stream_app.model_settings import LearnerSettings
from stream_app.values import Floats, Task
from tests.unit.river_oracle import bits


def schema(*fields: Field) -> Schema:
    return Schema(task=Task.BINARY, target="y", fields=fields, classes=(False, True))


def number(name: str = "x", low: float | None = None, high: float | None = None, *, required: bool = True) -> Field:
    return Field(name=name, type="number", low=low, high=high, required=required)


def column(field: Field, n: int = 32) -> Floats:
    return probe_set(schema(field), n).numeric[:, 0]


@given(st.floats(-1e15, 1e15), st.floats(-1e15, 1e15))
def test_numbers_stay_within_their_bounds(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert ((low <= column(number(low=low, high=high))) & (column(number(low=low, high=high)) <= high)).all()
    assert (column(number(low=low)) >= low).all()
    assert (column(number(high=high)) <= high).all()


def test_bounded_numbers_fill_their_range_evenly() -> None:
    tenths = np.floor(column(number(low=0.0, high=10.0), 100))
    assert np.bincount(tenths.astype(int), minlength=10).tolist() == pytest.approx([10] * 10, abs=1)


def test_unbounded_numbers_lie_on_both_sides_and_over_magnitudes() -> None:
    values = column(number())
    assert 10 <= (values < 0).sum() <= 22
    sizes = np.log10(np.abs(values))
    assert sizes.max() > np.log10(REACH) - 1
    assert sizes.min() < 1
    assert len(set(values.tolist())) == 32


def test_columns_do_not_move_together() -> None:
    names = [f"x{i}" for i in range(12)]
    matrix = probe_set(schema(*(number(n, low=0.0, high=1.0) for n in names)), 200).numeric
    assert np.linalg.matrix_rank(matrix - matrix.mean(axis=0)) == 12
    assert np.abs(np.corrcoef(matrix.T) - np.eye(12)).max() < 0.9


def test_categories_come_from_the_schema_or_are_fixed() -> None:
    declared = Field(name="plan", type="category", values=("basic", "premium"))
    free = Field(name="town", type="category", required=False)
    categorical = probe_set(schema(declared, free)).categorical
    assert set(categorical[:, 0]) == {"basic", "premium"}
    assert set(categorical[:, 1]) == {"a", "b", "c", None}


def test_optional_numbers_are_missing_sometimes_and_required_ones_never() -> None:
    assert np.isnan(column(number(required=False))).sum() == 4
    assert not np.isnan(column(number())).any()


def test_the_rows_are_the_same_for_ever() -> None:
    """The hash of a live model is compared with one that was written years ago: these rows may never change."""
    fields = number("a", 0, 10), number("b"), number("c", low=1), Field(name="d", type="category", values=("p", "q"))
    probes = probe_set(schema(*fields), 8)
    codes = np.array([[float(ord(name))] for name in probes.categorical[:, 0]])
    assert probe_hash([probes.numeric, codes]) == GOLDEN_HASH


GOLDEN_HASH = "512e954fdae5d428d119df52a64ed822d3d7a172b10994257214c30bf76653ae"


def test_a_hash_sees_values_shapes_and_order_but_not_the_kind_of_nan() -> None:
    one, other = np.array([1.0, 2.0]), np.array([[1.0, 2.0]])
    odd = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)
    assert probe_hash([one]) != probe_hash([other]) != probe_hash([one, one])
    assert probe_hash([one]) != probe_hash([one[::-1]])
    assert probe_hash([np.array([0.0])]) != probe_hash([np.array([-0.0])])
    assert bits(odd) != bits(np.array([np.nan]))
    assert probe_hash([odd]) == probe_hash([np.array([np.nan])])


def test_a_model_that_learned_one_more_row_has_another_hash() -> None:
    described = schema(number("a"), number("b", required=False), Field(name="town", type="category"))
    probes = probe_set(described)
    hashes = set()
    contender = build(described.shape, LearnerSettings(), seed=1)
    for step in range(4):
        outputs = contender.predict(probes)
        assert np.isfinite(outputs).all()
        hashes.add(probe_hash([outputs]))
        contender.advance(probes.take(slice(step * 5, step * 5 + 5)), np.array([0.0, 1.0, 1.0, 0.0, 1.0]))
    assert len(hashes) == 4
