"""Scores equal scikit-learn's, and no cut into windows moves a bit of them."""

import json
import math
import pickle
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike
from sklearn import metrics

from stream_app.core.evaluation import Evaluation, Majority, NoChange, row_errors
from stream_app.core.exact import fraction, squares, units
from stream_app.core.shape import Shape
from stream_app.core.tallies import NEWEST
from stream_app.values import Floats, Task
from tests.unit.river_oracle import bits, numeric_shape

BINARY = numeric_shape(1)
THREE = numeric_shape(1, Task.MULTICLASS, ("a", "b", "c"))
VALUES = numeric_shape(1, Task.REGRESSION)

finite = st.floats(-1e120, 1e120, allow_subnormal=True)


def evaluated(shape: Shape, outputs: Floats, labels: Floats, cuts: Sequence[int] = ()) -> Evaluation:
    evaluation = Evaluation(shape)
    for a, b in pairwise([0, *sorted(cuts), len(labels)]):
        evaluation.update(outputs[a:b], labels[a:b])
    return evaluation


def binary_stream(n: int = 2_500) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(4)
    labels = (rng.random(n) < 0.4).astype(np.float64)
    return np.round(np.clip(0.3 * labels + rng.random(n) * 0.7, 0, 1), 3), labels


def test_binary_scores_equal_scikit_learn() -> None:
    outputs, labels = binary_stream()
    got = evaluated(BINARY, outputs, labels).metrics()
    for prefix, newest in (("", 0), ("rolling_", -NEWEST)):
        p, y = outputs[newest:], labels[newest:]
        assert got[f"{prefix}accuracy"] == metrics.accuracy_score(y, p > 0.5)
        assert got[f"{prefix}kappa"] == pytest.approx(metrics.cohen_kappa_score(y, p > 0.5), rel=1e-12)
        assert got[f"{prefix}log_loss"] == pytest.approx(metrics.log_loss(y, p), rel=1e-12)
    assert got["rolling_roc_auc"] == pytest.approx(
        metrics.roc_auc_score(labels[-NEWEST:], outputs[-NEWEST:]), rel=1e-12
    )
    binned = np.minimum(np.floor(outputs * 1000), 999)
    assert got["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, binned), rel=1e-12)
    assert (got["rows"], got["left_out"]) == (2_500, 0)


def test_multiclass_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    labels = rng.integers(3, size=900).astype(np.float64)
    outputs = rng.dirichlet((1, 1, 1), size=900) * 0.7 + np.eye(3)[labels.astype(int)] * 0.3
    got = evaluated(THREE, outputs, labels).metrics()
    said = outputs.argmax(axis=1)
    assert got["accuracy"] == metrics.accuracy_score(labels, said)
    assert got["kappa"] == pytest.approx(metrics.cohen_kappa_score(labels, said), rel=1e-12)
    assert got["log_loss"] == pytest.approx(metrics.log_loss(labels, outputs), rel=1e-12)
    exact = metrics.roc_auc_score(labels, outputs, multi_class="ovr")
    assert got["rolling_roc_auc"] == pytest.approx(exact, rel=1e-12)
    assert got["roc_auc"] == pytest.approx(exact, abs=1e-3)


def test_regression_scores_equal_scikit_learn_even_far_from_zero() -> None:
    """A sum of squares of labels near 1e9 has no digits left for their spread, unless it is exact."""
    rng = np.random.default_rng(7)
    labels = 1e9 + rng.normal(size=1_800)
    outputs = labels + rng.normal(size=1_800) * 0.5
    got = evaluated(VALUES, outputs, labels).metrics()
    for prefix, newest in (("", 0), ("rolling_", -NEWEST)):
        p, y = outputs[newest:], labels[newest:]
        assert got[f"{prefix}mae"] == pytest.approx(metrics.mean_absolute_error(y, p), rel=1e-12)
        assert got[f"{prefix}rmse"] == pytest.approx(metrics.root_mean_squared_error(y, p), rel=1e-12)
        assert got[f"{prefix}r2"] == pytest.approx(metrics.r2_score(y, p), rel=1e-9)


@pytest.mark.parametrize(
    ("shape", "outputs", "labels", "undefined"),
    [
        (BINARY, [0.2, 0.9], [1.0, 1.0], {"kappa", "roc_auc"}),
        (THREE, np.eye(3), [2.0, 2.0, 2.0], {"kappa", "roc_auc"}),
        (VALUES, [1.0, 2.0], [3.0, 3.0], {"r2"}),
        (BINARY, [], [], {"accuracy", "kappa", "log_loss", "roc_auc"}),
        (VALUES, [], [], {"mae", "rmse", "r2"}),
        (BINARY, [math.nan], [1.0], {"accuracy", "kappa", "log_loss", "roc_auc"}),
    ],
)
def test_what_is_undefined_is_none_and_nothing_else_is(
    shape: Shape, outputs: ArrayLike, labels: ArrayLike, undefined: set[str]
) -> None:
    got = evaluated(shape, np.asarray(outputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)).metrics()
    missing = {name for name, value in got.items() if value is None}
    assert missing == undefined | {f"rolling_{name}" for name in undefined}


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf, 1e200])
def test_outputs_that_are_no_numbers_are_left_out_and_counted(strange: float) -> None:
    labels = np.array([0.0, 1.0, 1.0])
    for shape, outputs in ((BINARY, np.array([0.1, strange, 0.8])), (VALUES, np.array([0.1, strange, 0.8]))):
        got = evaluated(shape, outputs, labels).metrics()
        assert (got["rows"], got["left_out"]) == (2, 1)
    got = evaluated(THREE, np.array([[1, 0, 0], [-strange, strange, 0], [0, 1, 0]]), labels).metrics()
    assert (got["rows"], got["left_out"], got["accuracy"]) == (2, 1, 1.0)


def test_a_sure_mistake_costs_much_but_not_everything() -> None:
    got = evaluated(BINARY, np.array([0.0, 1.0]), np.array([1.0, 0.0])).metrics()
    assert got["log_loss"] == pytest.approx(-math.log(1e-15), rel=1e-3)


streams = st.integers(0, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.floats(0, 1) | st.just(math.nan)),
        arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0])),
    )
)
value_streams = st.integers(0, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=finite | st.just(math.nan)), arrays(np.float64, n, elements=finite)
    )
)
cuts = st.lists(st.integers(0, 60), max_size=6)


@given(streams, cuts)
def test_no_cut_moves_a_bit_of_a_classifiers_scores(stream: tuple[Floats, Floats], where: list[int]) -> None:
    outputs, labels = stream
    parts = [min(c, len(labels)) for c in where]
    cut = evaluated(BINARY, outputs, labels, parts).metrics()
    assert cut == evaluated(BINARY, outputs, labels).metrics()
    assert json.loads(json.dumps(cut, allow_nan=False)) == cut


@given(value_streams, cuts)
def test_no_cut_moves_a_bit_of_a_regressors_scores(stream: tuple[Floats, Floats], where: list[int]) -> None:
    outputs, labels = stream
    parts = [min(c, len(labels)) for c in where]
    cut = evaluated(VALUES, outputs, labels, parts).metrics()
    assert cut == evaluated(VALUES, outputs, labels).metrics()
    json.dumps(cut, allow_nan=False)


@pytest.mark.parametrize("cut", [1, 700, 1_000, 1_600, 2_499])
def test_merging_equals_having_seen_all(cut: int) -> None:
    outputs, labels = binary_stream()
    for shape in (BINARY, VALUES):
        first, second = (evaluated(shape, outputs[part], labels[part]) for part in (slice(cut), slice(cut, None)))
        first.merge(second)
        assert first.metrics() == evaluated(shape, outputs, labels).metrics()


def test_a_pickled_evaluation_goes_on() -> None:
    outputs, labels = binary_stream()
    evaluation = pickle.loads(pickle.dumps(evaluated(BINARY, outputs[:900], labels[:900])))
    evaluation.update(outputs[900:], labels[900:])
    assert evaluation.metrics() == evaluated(BINARY, outputs, labels).metrics()


@given(arrays(np.float64, st.integers(0, 30), elements=st.floats(-1e150, 1e150)))
def test_exact_sums_are_exact(values: Floats) -> None:
    assert fraction(units(values)) == sum(map(Fraction, values.tolist()))


@given(arrays(np.float64, st.integers(0, 30), elements=st.floats(-1e100, 1e100).filter(lambda v: abs(v) > 1e-100)))
def test_exact_squares_are_exact(values: Floats) -> None:
    assert fraction(squares(values)) == sum(Fraction(v) ** 2 for v in values.tolist())


def test_no_change_says_the_newest_label_known() -> None:
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    nan = math.nan
    assert bits(NoChange(BINARY).advance(labels)) == bits(np.array([nan, 1.0, 0.0, 1.0]))
    assert bits(NoChange(BINARY, delay=2).advance(labels)) == bits(np.array([nan, nan, nan, 1.0]))
    certain = NoChange(THREE).advance(np.array([2.0, 0.0]))
    assert bits(certain) == bits(np.array([[nan, nan, nan], [0.0, 0.0, 1.0]]))


def test_majority_says_the_commonest_class_or_the_mean() -> None:
    nan = math.nan
    assert bits(Majority(BINARY).advance(np.array([1.0, 0.0, 0.0, 1.0]))) == bits(np.array([nan, 1.0, 0.0, 0.0]))
    assert bits(Majority(VALUES).advance(np.array([1.0, 3.0, 8.0]))) == bits(np.array([nan, 1.0, 2.0]))
    assert bits(Majority(VALUES, delay=1).advance(np.array([1.0, 3.0, 8.0]))) == bits(np.array([nan, nan, 1.0]))


@given(value_streams, cuts, st.integers(0, 5))
def test_no_cut_moves_a_bit_of_the_baselines(stream: tuple[Floats, Floats], where: list[int], delay: int) -> None:
    labels = stream[1]
    edges = [0, *sorted(min(c, len(labels)) for c in where), len(labels)]
    for make in (NoChange, Majority):
        whole, cut = make(VALUES, delay=delay), make(VALUES, delay=delay)
        parts = [cut.advance(labels[a:b]) for a, b in pairwise(edges)]
        assert bits(np.concatenate(parts)) == bits(whole.advance(labels))


def test_errors_of_rows() -> None:
    nan = math.nan
    labels = np.array([1.0, 0.0, 1.0])
    assert bits(row_errors(BINARY, np.array([0.5, 0.2, nan]), labels)) == bits(np.array([1.0, 0.0, nan]))
    assert bits(row_errors(VALUES, np.array([0.5, 2.0, nan]), labels)) == bits(np.array([0.5, 2.0, nan]))
    assert bits(row_errors(VALUES, np.array([math.inf, 1e200, 1.0]), labels)) == bits(np.array([nan, nan, 0.0]))
    rows = np.array([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [nan, nan, nan]])
    assert bits(row_errors(THREE, rows, labels)) == bits(np.array([0.0, 1.0, nan]))
