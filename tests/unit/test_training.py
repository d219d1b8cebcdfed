"""What a retrain learns from, what it holds out, and how its candidates are built and fitted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from stream_app.core.candidates import DEFAULTS, build_candidates
from stream_app.core.shape import Shape
from stream_app.core.training import (
    LogRows,
    Untrainable,
    check_classes,
    fit,
    predict,
    split_by_time,
    usable,
)
from stream_app.errors import Misconfigured
from stream_app.model_settings import CandidateSettings
from stream_app.storage.packing import Description, pack_batch, unpack
from stream_app.values import Features, Floats, RowKind, Task

BINARY = Shape(task=Task.BINARY, numeric=("a", "b"), categorical=(), classes=(0, 1))
MIXED = Shape(task=Task.MULTICLASS, numeric=("a",), categorical=("c", "d"), classes=("x", "y", "z"))
VALUES = Shape(task=Task.REGRESSION, numeric=("a", "b"), categorical=("c",), classes=())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Histogram boosting of a few hundred rows spends its time waiting for its other threads, if it has any."""
    with threadpool_limits(1):
        yield


def log_rows(
    labels: Sequence[float], *, kinds: Sequence[int] | None = None, ids: list[str | None] | None = None
) -> LogRows:
    n = len(labels)
    return LogRows(
        seqs=np.arange(n) // 4 + 1,
        positions=np.arange(n) % 4,
        kinds=np.array(kinds if kinds is not None else [RowKind.RECORD] * n, np.int8),
        ids=ids,
        features=Features(numeric=np.arange(n, dtype=float)[:, None], categorical=np.empty((n, 0), object)),
        labels=np.array(labels, dtype=float),
        outputs={"2": np.arange(n, dtype=float)},
    )


def examples(shape: Shape, n: int = 400) -> LogRows:
    """Return rows whose labels follow from numbers and categories, with missing values among both."""
    chance = np.random.default_rng(0)
    numeric = chance.normal(size=(n, len(shape.numeric)))
    categorical = chance.choice(np.array(["u", "v", None], object), size=(n, len(shape.categorical)))
    hidden = numeric[:, 0] + (categorical[:, 0] == "u" if shape.categorical else 0)
    numeric[chance.random(n) < 0.05, 0] = np.nan
    if shape.task is Task.REGRESSION:
        labels: Floats = hidden
    else:
        edges = np.quantile(hidden, np.arange(1, len(shape.classes)) / len(shape.classes))
        labels = np.searchsorted(edges, hidden).astype(float)
    return replace(log_rows(labels.tolist()), features=Features(numeric=numeric, categorical=categorical))


def test_a_correction_replaces_the_label_of_its_row_and_is_no_row() -> None:
    kinds = [RowKind.RECORD, RowKind.RECORD, RowKind.CORRECTION, RowKind.LATE, RowKind.CORRECTION]
    rows = usable(log_rows([0, 0, 1, 0, 0], kinds=kinds, ids=["e1", "\0p2", "e1", "e3", "\0p2"]))
    assert rows.ids == ["e1", "\0p2", "e3"]
    assert rows.labels.tolist() == [1, 0, 0]
    assert rows.positions.tolist() == [0, 1, 3]


def test_the_newest_correction_counts_and_only_for_rows_before_it() -> None:
    kinds = [RowKind.RECORD, RowKind.CORRECTION, RowKind.CORRECTION, RowKind.RECORD]
    rows = usable(log_rows([0, 1, 2, 3], kinds=kinds, ids=["e", "e", "e", "e"]))
    assert rows.labels.tolist() == [2, 3]


def test_rows_without_keys_are_never_corrected() -> None:
    kinds = [RowKind.RECORD, RowKind.CORRECTION]
    assert usable(log_rows([0, 1], kinds=kinds, ids=[None, None])).labels.tolist() == [0]
    assert usable(log_rows([0, 1], kinds=kinds)).labels.tolist() == [0]


def test_erased_rows_are_left_out_and_late_ones_are_used() -> None:
    rows = usable(log_rows([0, 1, 2], kinds=[RowKind.ERASED, RowKind.LATE, RowKind.RECORD]))
    assert rows.labels.tolist() == [1, 2]
    assert rows.outputs["2"].tolist() == [1, 2]


@given(n=st.integers(10, 300), holdout=st.floats(0.01, 0.99))
def test_every_row_is_on_one_side_and_the_holdout_is_newer(n: int, holdout: float) -> None:
    rows = log_rows([0.0] * n)
    try:
        split = split_by_time(rows, holdout=holdout, min_rows=10)
    except Untrainable:
        assert round(n * holdout) >= n
        return
    assert len(split.holdout) == max(1, round(n * holdout))
    places = [
        list(zip(part.seqs.tolist(), part.positions.tolist(), strict=True)) for part in (split.training, split.holdout)
    ]
    assert max(places[0]) < min(places[1])
    assert places[0] + places[1] == list(zip(rows.seqs.tolist(), rows.positions.tolist(), strict=True))


def test_too_few_rows_are_refused_with_the_numbers() -> None:
    with pytest.raises(Untrainable, match="499 rows can be learned from, at least 500 are needed"):
        split_by_time(log_rows([0.0] * 499), holdout=0.2, min_rows=500)


def test_one_class_is_refused_by_name() -> None:
    with pytest.raises(Untrainable, match=r"all 3 training rows are of one class, \['y'\]"):
        check_classes(log_rows([1, 1, 1]), MIXED)
    check_classes(log_rows([1, 1, 1]), VALUES)


@pytest.mark.parametrize("shape", [BINARY, MIXED, VALUES], ids=lambda s: s.task.value)
def test_the_default_candidates_learn_survive_packing_and_meet_the_unknown(shape: Shape) -> None:
    rows = examples(shape)
    split = split_by_time(rows, holdout=0.25, min_rows=100)
    strange = Features(
        numeric=np.full((2, len(shape.numeric)), np.nan),
        categorical=np.array([["never seen"] * len(shape.categorical), [None] * len(shape.categorical)], object),
    )
    for candidate in build_candidates(shape, (), seed=1):
        fitted = fit(candidate.estimator, split.training, shape, backend="threading", n_jobs=1)
        outputs = predict(fitted, split.holdout.features, shape)
        assert _skill(shape, outputs, split.holdout.labels) > 0.15, candidate.name
        description = Description(
            model="m",
            version="2",
            algorithm=candidate.algorithm,
            schema_json="{}",
            shape=shape,
            trained_through_seq=1,
        )
        unpacked = unpack(pack_batch(description, fitted, strange))
        unpacked.check()
        assert np.array_equal(unpacked.predict(split.holdout.features), outputs)


def _skill(shape: Shape, outputs: Floats, labels: Floats) -> float:
    """Return by how much the outputs beat the mean or the commonest class."""
    if shape.task is Task.REGRESSION:
        return float(1 - np.abs(outputs - labels).mean() / np.abs(labels - labels.mean()).mean())
    said = outputs > 0.5 if outputs.ndim == 1 else outputs.argmax(axis=1)
    return float((said == labels).mean() - np.bincount(labels.astype(int)).max() / len(labels))


def test_a_class_that_training_lacks_keeps_its_column() -> None:
    rows = examples(MIXED)
    rows = rows.take(rows.labels != 1)
    for candidate in build_candidates(MIXED, (), seed=1):
        outputs = predict(fit(candidate.estimator, rows, MIXED, backend="threading", n_jobs=1), rows.features, MIXED)
        assert outputs.shape == (len(rows), 3)
        assert not outputs[:, 1].any()


@pytest.mark.parametrize("name", ["ensemble.HistGradientBoostingClassifier", "linear_model.LogisticRegression"])
def test_a_column_that_was_missing_throughout_harms_nothing(name: str) -> None:
    rows = examples(BINARY)
    rows.features.numeric[:, 1] = np.nan
    [candidate] = build_candidates(BINARY, [CandidateSettings(name=name)], seed=1)
    fitted = fit(candidate.estimator, rows, BINARY, backend="threading", n_jobs=1)
    full = Features(numeric=np.ones((3, 2)), categorical=np.empty((3, 0), object))
    assert np.isfinite(predict(fitted, full, BINARY)).all()


def test_names_without_bound_make_no_model_without_bound() -> None:
    rows = examples(VALUES, 1_000)
    rows.features.categorical[:, 0] = [f"name {i}" for i in range(1_000)]
    for candidate in build_candidates(VALUES, (), seed=1):
        fitted = fit(candidate.estimator, rows, VALUES, backend="threading", n_jobs=1)
        assert np.isfinite(predict(fitted, rows.features, VALUES)).all()
    assert fitted.named_steps["model"].n_features_in_ <= 102


def test_the_same_rows_give_the_same_model() -> None:
    rows = examples(BINARY)
    chosen = [CandidateSettings(name="ensemble.RandomForestClassifier", params={"n_estimators": 5})]
    outputs = [
        predict(
            fit(build_candidates(BINARY, chosen, seed)[0].estimator, rows, BINARY, backend="threading", n_jobs=1),
            rows.features,
            BINARY,
        )
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_seeds_are_set_inside_meta_estimators_but_never_over_those_given() -> None:
    params = {"estimator": {"class": "tree.DecisionTreeClassifier", "max_depth": 2}, "random_state": 7}
    [candidate] = build_candidates(BINARY, [CandidateSettings(name="ensemble.BaggingClassifier", params=params)], 3)
    model = candidate.estimator
    assert (model.random_state, model.estimator.random_state, model.estimator.max_depth) == (7, 3, 2)


def test_candidates_of_one_kind_have_names_of_their_own() -> None:
    chosen = [CandidateSettings(name="linear_model.Ridge", params={"alpha": a}) for a in (1, 2, 3)]
    assert [c.name for c in build_candidates(VALUES, chosen, 1)] == ["Ridge", "Ridge#2", "Ridge#3"]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("os.system", {}, r"candidates\[0\].name: 'os.system' is no scikit-learn estimator"),
        ("LogisticRegression", {}, "is no scikit-learn estimator; expected a name below the package sklearn"),
        ("linear_model.Nothing", {}, "'linear_model.Nothing' is no scikit-learn estimator"),
        ("utils._testing.os", {}, "is no scikit-learn estimator"),
        ("base.np.ndarray", {}, "is no scikit-learn estimator"),
        ("linear_model.Ridge", {}, "does not fit task = binary; expected a classifier"),
        ("cluster.KMeans", {}, "does not fit task = binary; expected a classifier"),
        ("linear_model.LogisticRegression", {"c": 1}, r"params.c: .* has no such parameter; expected one of: .*C"),
        ("linear_model.LogisticRegression", {"C": -1}, r"params: .* refuses \{'C': -1\}: The 'C' parameter"),
        (
            "ensemble.BaggingClassifier",
            {"estimator": {"class": "subprocess.Popen"}},
            r"params.estimator.class: 'subprocess.Popen' is no scikit-learn estimator",
        ),
    ],
)
def test_a_wrong_candidate_is_named_with_its_key(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        build_candidates(BINARY, [CandidateSettings(name=name, params=params)], seed=1)


def test_every_task_has_defaults() -> None:
    assert DEFAULTS.keys() == set(Task)
