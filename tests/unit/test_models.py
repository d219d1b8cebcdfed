"""Every learner equals ten plain lines of River, and a wrong setting is named."""

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, compose, forest, linear_model, multiclass, optim, preprocessing

from stream_app.core.models import build, fold_libraries
from stream_app.core.outputs import predict_plain
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.model_settings import LearnerSettings
from stream_app.values import Features, Floats, Task
from tests.unit.river_oracle import (
    DATA,
    bits,
    column,
    dicts,
    expected,
    numbers,
    numeric_shape,
    river_labels,
    run_river,
    table,
)

MIXED = Shape(task=Task.BINARY, numeric=("age", "pay"), categorical=("plan", "town"), classes=("no", "yes"))


def learner(**options: object) -> LearnerSettings:
    return LearnerSettings.model_validate({"adapter": "river", **options})


def mixed_rows(n: int, names: int = 5, seed: int = 3) -> tuple[Features, Floats]:
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(n, 2)) * [10.0, 1e4]
    numeric[rng.random((n, 2)) < 0.1] = np.nan
    categorical = np.array([f"n{i}" for i in range(names)], dtype=object)[rng.integers(names, size=(n, 2))]
    categorical[rng.random((n, 2)) < 0.1] = None
    return Features(numeric=numeric, categorical=categorical), (rng.random(n) < 0.4).astype(np.float64)


def mixed_pipeline(encoder: base.Transformer, final: base.Estimator) -> base.Estimator:
    numeric = compose.SelectType(float) | preprocessing.StandardScaler()
    return (numeric + (compose.SelectType(str) | encoder)) | final


@pytest.mark.parametrize(
    ("options", "pipeline"),
    [
        (
            {},
            mixed_pipeline(
                preprocessing.OrdinalEncoder() | preprocessing.OneHotEncoder(drop_zeros=True),
                linear_model.LogisticRegression(),
            ),
        ),
        (
            {"encode": "ordinal", "params": {"optimizer": {"class": "optim.Adam", "lr": 0.05}, "l2": 0.1}},
            mixed_pipeline(
                preprocessing.OrdinalEncoder(), linear_model.LogisticRegression(optim.Adam(lr=0.05), l2=0.1)
            ),
        ),
        (
            {"name": "forest.ARFClassifier", "params": {"n_models": 3}},
            mixed_pipeline(
                preprocessing.OrdinalEncoder() | preprocessing.OneHotEncoder(),
                forest.ARFClassifier(n_models=3, seed=7),
            ),
        ),
    ],
    ids=["linear", "ordinal", "forest"],
)
def test_mixed_and_missing_values_equal_plain_river(options: dict[str, Any], pipeline: base.Estimator) -> None:
    features, labels = mixed_rows(400)
    contender = build(MIXED, learner(**options), seed=7)
    outputs = np.concatenate(
        [contender.advance(features.take(part), labels[part]) for part in (slice(0, 0), slice(0, 150), slice(150, 400))]
    )
    oracle = run_river(pipeline, dicts(features, MIXED), river_labels(labels, MIXED), MIXED)
    assert bits(outputs) == bits(expected(oracle, MIXED))
    assert len(set(outputs.tolist())) > 100


def test_liver_with_its_category_and_missing_ratios() -> None:
    names, matrix, labels = table(DATA / "liver_583.csv.gz", "Dataset", without=("Gender",))
    shape = Shape(task=Task.BINARY, numeric=names, categorical=("Gender",), classes=(2, 1))
    genders = column(DATA / "liver_583.csv.gz", "Gender")
    features = Features(numeric=matrix, categorical=np.array([genders], dtype=object).T)
    encoder = preprocessing.OrdinalEncoder() | preprocessing.OneHotEncoder(drop_zeros=True)
    rows = dicts(features, shape)
    oracle = run_river(mixed_pipeline(encoder, linear_model.LogisticRegression()), rows, (labels == 1).tolist(), shape)
    outputs = build(shape, learner(), seed=1).advance(features, (labels == 1).astype(np.float64))
    assert bits(outputs) == bits(expected(oracle, shape))


@pytest.mark.parametrize("scale", [True, False])
def test_multiclass_equals_one_against_the_rest(scale: bool) -> None:
    rng = np.random.default_rng(5)
    matrix, labels = rng.normal(size=(300, 3)), rng.integers(3, size=300).astype(np.float64)
    shape = numeric_shape(3, Task.MULTICLASS, ("red", "green", "blue"))
    pipeline: Any = multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    pipeline = preprocessing.StandardScaler() | pipeline if scale else compose.Pipeline(pipeline)
    oracle = run_river(pipeline, dicts(numbers(matrix), shape), river_labels(labels, shape), shape)
    outputs = build(shape, learner(scale=scale), seed=1).advance(numbers(matrix), labels)
    assert outputs.shape == (300, 3)
    assert bits(outputs) == bits(expected(oracle, shape))


FAMILIES = [
    (Task.BINARY, "linear_model.LogisticRegression"),
    (Task.BINARY, "linear_model.PAClassifier"),
    (Task.BINARY, "linear_model.Perceptron"),
    (Task.BINARY, "linear_model.ALMAClassifier"),
    (Task.BINARY, "tree.HoeffdingTreeClassifier"),
    (Task.BINARY, "tree.HoeffdingAdaptiveTreeClassifier"),
    (Task.BINARY, "tree.ExtremelyFastDecisionTreeClassifier"),
    (Task.BINARY, "forest.ARFClassifier"),
    (Task.BINARY, "forest.AMFClassifier"),
    (Task.BINARY, "naive_bayes.GaussianNB"),
    (Task.BINARY, "neighbors.KNNClassifier"),
    (Task.BINARY, "dummy.NoChangeClassifier"),
    (Task.MULTICLASS, "linear_model.SoftmaxRegression"),
    (Task.MULTICLASS, "tree.HoeffdingTreeClassifier"),
    (Task.MULTICLASS, "naive_bayes.GaussianNB"),
    (Task.REGRESSION, "preprocessing.TargetStandardScaler"),
    (Task.REGRESSION, "linear_model.LinearRegression"),
    (Task.REGRESSION, "linear_model.PARegressor"),
    (Task.REGRESSION, "linear_model.BayesianLinearRegression"),
    (Task.REGRESSION, "tree.HoeffdingTreeRegressor"),
    (Task.REGRESSION, "forest.ARFRegressor"),
    (Task.REGRESSION, "neighbors.KNNRegressor"),
    (Task.REGRESSION, "rules.AMRules"),
    (Task.REGRESSION, "dummy.StatisticRegressor"),
]


@pytest.mark.parametrize(("task", "name"), FAMILIES)
def test_a_restored_learner_goes_on_bit_for_bit_and_its_plain_form_says_the_same(task: Task, name: str) -> None:
    rng = np.random.default_rng(11)
    matrix = rng.normal(size=(120, 3))
    labels = matrix[:, 0] * 2 if task is Task.REGRESSION else (matrix[:, 0] > 0).astype(np.float64)
    shape = numeric_shape(3, task, (0, 1, 2) if task is Task.MULTICLASS else (False, True))
    params = {"statistic": {"class": "stats.Mean"}} if name == "dummy.StatisticRegressor" else {}
    first, second = (build(shape, learner(name=name, params=params), seed=1) for _ in range(2))
    first.advance(numbers(matrix[:80]), labels[:80])
    second.restore(first.snapshot())
    assert bits(predict_plain(first.plain(), shape, numbers(matrix))) == bits(first.predict(numbers(matrix)))
    outputs = [c.advance(numbers(matrix[80:]), labels[80:]) for c in (first, second)]
    assert bits(outputs[0]) == bits(outputs[1])
    assert first.is_finite()


def test_predicting_changes_nothing() -> None:
    features, labels = mixed_rows(200)
    plain, watched = (build(MIXED, learner(), seed=1) for _ in range(2))
    for part in (slice(0, 50), slice(50, 200)):
        watched.predict(mixed_rows(40, names=9, seed=8)[0])
        window = features.take(part), labels[part]
        assert bits(plain.advance(*window)) == bits(watched.advance(*window))


def test_the_plain_form_equals_predict_with_missing_new_and_capped_categories() -> None:
    features, labels = mixed_rows(300, names=30)
    contender = build(MIXED, learner(max_categories=10), seed=1)
    contender.advance(features, labels)
    others = mixed_rows(100, names=60, seed=9)[0]
    assert bits(predict_plain(contender.plain(), MIXED, others)) == bits(contender.predict(others))


def test_names_beyond_the_cap_share_one_bucket() -> None:
    shape = Shape(task=Task.BINARY, numeric=(), categorical=("town",), classes=(0, 1))
    contender = build(shape, learner(max_categories=2), seed=1)

    def rows(*names: str) -> Features:
        return Features(numeric=np.empty((len(names), 0)), categorical=np.array([names], dtype=object).T)

    contender.advance(rows("a", "b", "c", "d"), np.array([1.0, 1.0, 0.0, 0.0]))
    a, b, c, d, never = contender.predict(rows("a", "b", "c", "d", "never seen")).tolist()
    assert c == d == never
    assert len({a, b, c}) == 3


@pytest.mark.parametrize("encode", ["one_hot", "ordinal"])
def test_memory_stays_flat_over_ever_new_names(encode: str) -> None:
    """Each window brings 2,000 names that never come again; the state must not grow with them."""
    shape = Shape(task=Task.BINARY, numeric=(), categorical=("user",), classes=(0, 1))
    contender = build(shape, learner(max_categories=100, encode=encode), seed=1)
    labels = np.tile([0.0, 1.0], 1000)
    sizes = []
    for window in range(10):
        names = np.array([[f"user-{window}-{i}"] for i in range(2000)], dtype=object)
        contender.advance(Features(numeric=np.empty((2000, 0)), categorical=names), labels)
        sizes.append(len(contender.snapshot()))
    assert sizes[-1] <= sizes[0] * 1.01


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=5), st.booleans())
def test_no_cut_into_windows_changes_a_bit(cuts: list[int], scale: bool) -> None:
    features, labels = mixed_rows(60)
    whole, cut = (build(MIXED, learner(scale=scale, max_categories=3), seed=1) for _ in range(2))
    edges = [0, *sorted(cuts), 60]
    parts = [slice(a, b) for a, b in pairwise(edges)]
    outputs = np.concatenate([cut.advance(features.take(part), labels[part]) for part in parts])
    assert bits(outputs) == bits(whole.advance(features, labels))
    assert bits(cut.predict(features)) == bits(whole.predict(features))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "linear_model.Logistic"}, "online.name.*'linear_model.Logistic'"),
        ({"name": "os.system"}, "online.name.*'os.system'.*below the package river"),
        ({"name": "linear_model._glm.X"}, "online.name"),
        ({"name": "LogisticRegression"}, "online.name"),
        ({"name": "linear_model.base.VectorDict"}, "online.name"),
        ({"name": "base.Classifier"}, "online.name.*base class"),
        ({"name": "linear_model.LinearRegression"}, "online.name.*task = binary.*classifier"),
        ({"name": "preprocessing.StandardScaler"}, "online.name.*classifier"),
        ({"params": {"lr": 0.1}}, "online.params.lr.*no such parameter.*optimizer"),
        ({"params": {"optimizer": {"class": "optim.Sgd"}}}, "online.params.optimizer.class.*'optim.Sgd'"),
        ({"params": {"optimizer": {"class": "optim.SGD", "rate": 1}}}, "online.params.optimizer.rate"),
        ({"params": {"l1": 0.1, "l2": 0.1}}, "online.params.*L1 and L2"),
        ({"params": {"optimizer": 3}}, "online.*LogisticRegression cannot learn"),
        ({"name": "multiclass.OneVsRestClassifier", "params": {"classifier": 1}}, "online.*cannot learn"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        build(numeric_shape(2), learner(**options), seed=1)


def test_a_binary_learner_alone_is_no_multiclass_learner() -> None:
    with pytest.raises(Misconfigured, match=r"multiclass\.OneVsRestClassifier"):
        build(numeric_shape(2, Task.MULTICLASS, (0, 1, 2)), learner(name="linear_model.LogisticRegression"), seed=1)


def test_a_number_named_like_a_one_hot_column_is_refused() -> None:
    shape = Shape(task=Task.BINARY, numeric=("plan_1",), categorical=("plan",), classes=(0, 1))
    with pytest.raises(Misconfigured, match=r"plan_1.*ordinal"):
        build(shape, learner(), seed=1)
    build(shape, learner(encode="ordinal"), seed=1)


def test_everything_random_gets_the_models_seed() -> None:
    params = {
        "model": {"class": "forest.ARFClassifier", "n_models": 2},
        "n_models": 2,
    }
    shape = numeric_shape(3)
    rng = np.random.default_rng(2)
    matrix, labels = rng.normal(size=(400, 3)), (rng.random(400) < 0.5).astype(np.float64)
    options = learner(name="ensemble.BaggingClassifier", params=params)
    one, same, other = (build(shape, options, seed=seed) for seed in (1, 1, 2))
    outputs = [bits(c.advance(numbers(matrix), labels)) for c in (one, same, other)]
    assert outputs[0] == outputs[1] != outputs[2]


def test_randomness_without_a_seed_is_refused() -> None:
    params = {"models": [forest.ARFClassifier(), forest.ARFClassifier()]}
    with pytest.raises(Misconfigured, match=r"online\.params.*ARFClassifier.*seed"):
        build(numeric_shape(2), learner(name="ensemble.VotingClassifier", params=params), seed=1)


def test_weights_that_are_not_finite_are_noticed() -> None:
    shape = numeric_shape(1, Task.REGRESSION)
    params = {"optimizer": {"class": "optim.SGD", "lr": 1e9}, "clip_gradient": 1e300}
    contender = build(shape, learner(name="linear_model.LinearRegression", scale=False, params=params), seed=1)
    contender.advance(numbers(np.full((200, 1), 1e9)), np.full(200, -1e9))
    assert not contender.is_finite()


def test_a_snapshot_is_of_its_moment() -> None:
    features, labels = mixed_rows(100)
    contender = build(MIXED, learner(), seed=1)
    contender.advance(features, labels)
    state, before = contender.snapshot(), contender.predict(features)
    contender.advance(features, labels)
    assert bits(contender.predict(features)) != bits(before)
    contender.restore(state)
    assert bits(contender.predict(features)) == bits(before)
    assert pickle.loads(pickle.dumps(contender.plain())) is not None


def test_the_default_regressor_stands_one_far_row_and_labels_of_any_size() -> None:
    """A bare linear regression does not: a row 300 deviations away is a step 300 squared times too long."""
    rng = np.random.default_rng(14)
    matrix = rng.normal(size=(4_000, 3))
    matrix[2_000] = 300.0
    labels = matrix[:, 0] * 2 + 1
    scores = []
    for size in (1.0, 1e6):
        outputs = build(numeric_shape(3, Task.REGRESSION), learner(), seed=1).advance(numbers(matrix), labels * size)
        scores.append(np.abs(outputs / size - labels)[-1_000:].mean())
    assert max(scores) < 0.5
    assert scores[0] == pytest.approx(scores[1])


def test_algorithms_are_named_for_people() -> None:
    names = [build(numeric_shape(2, task), learner(), seed=1).algorithm for task in Task]
    assert names == [
        "river:LogisticRegression",
        "river:OneVsRestClassifier(LogisticRegression)",
        "river:TargetStandardScaler(LinearRegression)",
    ]


def test_the_digest_names_every_library_that_moves_a_bit() -> None:
    assert set(fold_libraries()) == {"river", "numpy", "numba"}
