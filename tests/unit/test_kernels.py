"""The compiled loops say what River says, to the last bit, on real rows and on rows made to break them."""

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from river import compose, linear_model, multiclass, optim, preprocessing
from sklearn.datasets import load_iris

from stream_app.core.compiled_adapter import CompiledContender
from stream_app.core.contenders import Contender
from stream_app.core.estimators import inner
from stream_app.core.kernels import compiled, minus_log, rescale, standardise
from stream_app.core.models import build
from stream_app.core.outputs import predict_plain
from stream_app.core.river_adapter import RiverContender
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.model_settings import LearnerSettings
from stream_app.values import Floats, Task
from tests.unit.river_oracle import (
    DATA,
    ELECTRICITY,
    bits,
    dicts,
    expected,
    numbers,
    numeric_shape,
    river_labels,
    run_river,
    table,
)

BARE = "linear_model.LinearRegression"
REGRESSION = numeric_shape(3, Task.REGRESSION)
THREE = ("red", "green", "blue")
#: task, classes, name of the learner
KINDS = [
    (Task.BINARY, (False, True), None),
    (Task.REGRESSION, (), None),
    (Task.REGRESSION, (), BARE),
    (Task.MULTICLASS, THREE, None),
]
kinds = pytest.mark.parametrize(
    ("task", "classes", "name"), KINDS, ids=["binary", "scaled regression", "bare regression", "multiclass"]
)


def learner(**options: object) -> LearnerSettings:
    return LearnerSettings.model_validate({"adapter": "compiled", **options})


def pipeline(shape: Shape, name: str | None = None, **params: object) -> compose.Pipeline:
    """Return the plain pipeline of a name or of the task's default; `params` go to the linear model."""
    if shape.task is not Task.REGRESSION:
        model = linear_model.LogisticRegression(**params)
        last = multiclass.OneVsRestClassifier(model) if shape.task is Task.MULTICLASS else model
    elif name == BARE:
        last = linear_model.LinearRegression(**params)
    else:
        model = linear_model.LinearRegression(**{"clip_gradient": 1.0, **params})
        last = preprocessing.TargetStandardScaler(model)
    return preprocessing.StandardScaler() | last


def options(shape: Shape, name: str | None, params: Mapping[str, object]) -> LearnerSettings:
    """Return the settings whose linear model has these parameters."""
    if shape.task is Task.BINARY or name == BARE:
        return learner(name=name, params=dict(params))
    if shape.task is Task.MULTICLASS:
        return learner(params={"classifier": {"class": "linear_model.LogisticRegression", **params}})
    return learner(params={"regressor": {"class": BARE, "clip_gradient": 1.0, **params}})


def in_windows(contender: Contender, matrix: Floats, labels: Floats, edges: list[int]) -> Floats:
    parts = [slice(a, b) for a, b in pairwise([0, *edges, len(labels)])]
    return np.concatenate([contender.advance(numbers(matrix[part]), labels[part]) for part in parts])


def assert_equals_river(
    shape: Shape,
    matrix: Floats,
    labels: Floats,
    edges: list[int],
    name: str | None = None,
    params: Mapping[str, object] = MappingProxyType({}),
    river: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Compare outputs, state and what comes after, bit by bit; `river` are the parameters as Python has them."""
    contender = build(shape, options(shape, name, params), seed=1)
    assert isinstance(contender, CompiledContender)
    oracle = pipeline(shape, name, **copy.deepcopy(dict(river)))
    rows = dicts(numbers(matrix), shape)
    wanted = expected(run_river(oracle, rows, river_labels(labels, shape), shape), shape)
    outputs = in_windows(contender, matrix, labels, edges)
    different = [row for row in range(len(labels)) if bits(outputs[row]) != bits(wanted[row])]
    assert not different, f"first differs in row {different[0]}: {outputs[different[0]]} for {wanted[different[0]]}"
    plain = contender.plain()
    assert states(plain, shape) == states(oracle, shape)
    after = predict_plain(oracle, shape, numbers(matrix[:50]))
    assert bits(contender.predict(numbers(matrix[:50]))) == bits(after)
    assert bits(predict_plain(plain, shape, numbers(matrix[:50]))) == bits(after)


def states(learned: compose.Pipeline, shape: Shape) -> list[object]:
    """Return the bits of everything learned, and the classes in the order in which they were first seen."""
    scaler, last = learned.steps.values()
    models = last.classifiers if shape.task is Task.MULTICLASS else {None: inner(last)}
    parts = [[known.get(n, 0.0) for n in shape.numeric] for known in (scaler.counts, scaler.means, scaler.vars)]
    for m in models.values():
        weights = [m.weights.get(n, 0.0) for n in shape.numeric]
        parts.append([*weights, m.intercept, m.optimizer.n_iterations])
    if isinstance(last, preprocessing.TargetStandardScaler):
        parts.append([last.var.mean.n, last.var.mean.get(), last.var.get()])
    return [*models, *(bits(np.array(part, dtype=np.float64)) for part in parts)]


@pytest.mark.parametrize("window", [1, 1_000, 45_312])
def test_electricity(window: int) -> None:
    rows = 3_000 if window == 1 else None
    names, matrix, labels = table(ELECTRICITY, "class", rows)
    shape = Shape(task=Task.BINARY, numeric=names, categorical=(), classes=(0, 1))
    assert_equals_river(shape, matrix, labels, list(range(window, len(labels), window)))


@pytest.mark.parametrize("name", [None, BARE])
def test_housing(name: str | None) -> None:
    names, matrix, labels = table(DATA / "california_housing_3000.csv.gz", "MedHouseValue")
    shape = Shape(task=Task.REGRESSION, numeric=names, categorical=(), classes=())
    assert_equals_river(shape, matrix, labels, [1, 2, 500], name)


def test_liver_with_its_missing_ratios() -> None:
    names, matrix, labels = table(DATA / "liver_583.csv.gz", "Dataset", without=("Gender",))
    assert np.isnan(matrix).sum() == 4
    shape = Shape(task=Task.BINARY, numeric=names, categorical=(), classes=(2, 1))
    assert_equals_river(shape, matrix, (labels == 1.0).astype(np.float64), [100])


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_iris(order: str) -> None:
    """Sorted, the classes come one after the other: a head begins to learn when its class is first seen."""
    matrix, target = load_iris(return_X_y=True)
    rows = np.arange(150) if order == "sorted" else np.argsort((np.arange(150) * 67) % 150)
    shape = numeric_shape(4, Task.MULTICLASS, (2, 0, 1))
    codes = np.array([shape.classes.index(c) for c in target[rows].tolist()], dtype=np.float64)
    assert_equals_river(shape, matrix[rows], codes, [10, 11, 90])


OPTIONS = [
    ({"l2": 0.01}, {"l2": 0.01}),
    ({"clip_gradient": 0.1}, {"clip_gradient": 0.1}),
    ({"intercept_lr": 0}, {"intercept_lr": 0}),
    ({"intercept_init": 2}, {"intercept_init": 2}),
    ({"optimizer": {"class": "optim.SGD", "lr": 0.3}}, {"optimizer": optim.SGD(0.3)}),
    (
        {
            "optimizer": {
                "class": "optim.SGD",
                "lr": {"class": "optim.schedulers.InverseScaling", "learning_rate": 0.5, "power": 0.3},
            },
            "intercept_lr": {"class": "optim.schedulers.InverseScaling", "learning_rate": 0.1},
        },
        {
            "optimizer": optim.SGD(optim.schedulers.InverseScaling(0.5, 0.3)),
            "intercept_lr": optim.schedulers.InverseScaling(0.1),
        },
    ),
]


@kinds
@pytest.mark.parametrize(("params", "river"), OPTIONS, ids="-".join)
def test_every_option_it_knows(
    task: Task, classes: tuple[Any, ...], name: str | None, params: dict[str, Any], river: dict[str, Any]
) -> None:
    rng = np.random.default_rng(8)
    matrix = rng.normal(size=(600, 3)) * [1.0, 50.0, 1e-3]
    matrix[rng.random((600, 3)) < 0.05] = np.nan
    labels = rng.integers(len(classes) or 5, size=600).astype(np.float64)
    assert_equals_river(numeric_shape(3, task, classes), matrix, labels, [7, 300], name, params, river)


def test_weights_of_the_log_loss_and_the_optimal_schedule() -> None:
    rng = np.random.default_rng(9)
    matrix, labels = rng.normal(size=(600, 2)), (rng.random(600) < 0.1).astype(np.float64)
    loss = {"class": "optim.losses.Log", "weight_pos": 9, "weight_neg": 0.5}
    schedule = {"class": "optim.schedulers.Optimal", "loss": {"class": "optim.losses.Log"}, "alpha": 1e-3}
    params = {"loss": loss, "optimizer": {"class": "optim.SGD", "lr": schedule}}
    optimizer = optim.SGD(optim.schedulers.Optimal(optim.losses.Log(), alpha=1e-3))
    river = {"loss": optim.losses.Log(9, 0.5), "optimizer": optimizer}
    assert_equals_river(numeric_shape(2), matrix, labels, [100], params=params, river=river)


STRANGE = [0.0, -0.0, 1.0, -1.0, 1e12, -1e12, 1e15, 1e-300, -1e-300, 5e-324, 0.1, 3.0, float("nan")]


@kinds
@pytest.mark.parametrize(
    "matrix",
    [
        np.full((300, 3), 0.1),
        np.full((300, 3), 1e12),
        np.full((300, 3), np.nan),
        np.full((300, 3), 1e-300) * np.arange(300)[:, None],
        np.resize(STRANGE, (300, 3)),
        np.resize([1e15, -1e15, 1e-300, 0.1], (300, 3)),
        1e12 + np.resize([1e-4, 2e-4, 0.0, 5.0], (300, 3)),
    ],
    ids=["constant", "huge constant", "missing", "tiny", "strange", "jumps", "huge with small changes"],
)
def test_rows_made_to_break_it(task: Task, classes: tuple[Any, ...], name: str | None, matrix: Floats) -> None:
    labels = np.resize([0.0, 1.0, 1.0], 300) if classes else np.resize([1e12, -1e12, 1e-300, 0.0], 300)
    assert_equals_river(numeric_shape(3, task, classes), matrix, labels, [1, 2, 3, 100], name)


@kinds
@pytest.mark.parametrize("code", [0.0, 1.0])
def test_one_class_only_until_it_is_sure(task: Task, classes: tuple[Any, ...], name: str | None, code: float) -> None:
    """With a large step the sums pass the bounds beyond which River's sigmoid and gradient stop calling exp."""
    params = {"optimizer": {"class": "optim.SGD", "lr": 5.0}, "intercept_lr": 5.0}
    river = {"optimizer": optim.SGD(5.0), "intercept_lr": 5.0}
    # A bare regression with this step overflows, and then River itself stops with an error.
    rows = 20 if task is Task.REGRESSION else 400
    matrix, labels = np.random.default_rng(10).normal(size=(rows, 3)) * 10, np.full(rows, code)
    assert_equals_river(numeric_shape(3, task, classes), matrix, labels, [5], name, params, river)


value = st.sampled_from(STRANGE) | st.floats(-1e15, 1e15)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Shape, Floats, Floats, list[int], str | None]:
    n, k = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    task, classes, name = draw(st.sampled_from(KINDS))
    matrix = draw(arrays(np.float64, (n, k), elements=value))
    label = st.integers(0, len(classes) - 1).map(float) if classes else st.floats(-1e15, 1e15)
    labels = draw(arrays(np.float64, n, elements=label))
    edges = sorted(draw(st.lists(st.integers(0, n), max_size=4)))
    return numeric_shape(k, task, classes), matrix, labels, edges, name


@settings(max_examples=150)
@given(streams())
def test_any_rows_in_any_windows(stream: tuple[Shape, Floats, Floats, list[int], str | None]) -> None:
    assert_equals_river(*stream)


@settings(max_examples=50)
@given(streams())
def test_either_adapter_goes_on_from_the_others_snapshot(
    stream: tuple[Shape, Floats, Floats, list[int], str | None],
) -> None:
    shape, matrix, labels, edges, name = stream
    whole = build(shape, learner(adapter="river", name=name), seed=1)
    wanted = whole.advance(numbers(matrix), labels)
    chain = [
        build(shape, learner(adapter=a, name=name), seed=1)
        for a in ("compiled", "river", "compiled", "river", "compiled")
    ]
    assert [type(c) for c in chain[:2]] == [CompiledContender, RiverContender]
    outputs, state = [], chain[0].snapshot()
    for contender, (a, b) in zip(chain, pairwise([0, *edges[:4], len(labels)]), strict=False):
        contender.restore(state)
        outputs.append(contender.advance(numbers(matrix[a:b]), labels[a:b]))
        state = contender.snapshot()
    assert bits(np.concatenate(outputs)) == bits(wanted)


@settings(max_examples=100)
@given(arrays(np.float64, st.integers(1, 60), elements=value))
def test_scaling_equals_rivers(values: Floats) -> None:
    scaler = preprocessing.StandardScaler()
    wanted = []
    for v in values.tolist():
        x = {"x": v} if v == v else {}  # noqa: PLR0124 - NaN
        before = scaler.transform_one(x).get("x", v)
        scaler.learn_one(x)
        wanted.append((before, scaler.transform_one(x).get("x", v)))
    counts, means, variances = (np.zeros(1) for _ in range(3))
    before, after = standardise(values[:, None], counts, means, variances)
    assert bits(np.column_stack([before, after])) == bits(np.array(wanted))
    assert bits(rescale(values[-1:, None], means, variances)) == bits(after[-1:])


def test_a_square_root_would_not_do() -> None:
    """CPython's v ** 0.5 is not the rounded square root; if this fails, the exponent need not be an argument."""
    variances = np.random.default_rng(12).random(20_000)
    powers = np.array([v**0.5 for v in variances.tolist()])
    assert (powers != np.sqrt(variances)).any()
    zeros = np.zeros(len(variances))
    scaled = rescale(np.ones((1, len(variances))), zeros, variances)
    assert bits(scaled[0]) == bits(np.array([1.0 / p for p in powers.tolist()]))


def test_read_only_and_strided_arrays_are_as_good_as_any() -> None:
    rng = np.random.default_rng(13)
    matrix, labels = rng.normal(size=(200, 6)), (rng.random(400) < 0.5).astype(np.float64)
    plain, strange = (build(numeric_shape(3), learner(), seed=1) for _ in range(2))
    wanted = plain.advance(numbers(matrix[:, ::2].copy()), labels[::2].copy())
    matrix.setflags(write=False)
    labels.setflags(write=False)
    assert bits(strange.advance(numbers(matrix[:, ::2]), labels[::2])) == bits(wanted)
    assert bits(strange.predict(numbers(matrix[:, ::2]))) == bits(plain.predict(numbers(matrix[:, ::2].copy())))


@kinds
def test_rows_of_another_shape_are_refused_before_anything_is_read(
    task: Task, classes: tuple[Any, ...], name: str | None
) -> None:
    contender = build(numeric_shape(3, task, classes), learner(name=name), seed=1)
    before, labels = contender.snapshot(), np.zeros(4)
    for strange in (np.ones((4, 2)), np.ones((4, 5)), np.ones(4)):
        with pytest.raises(ValueError, match=r"columns, expected \(3, 0\)"):
            contender.advance(numbers(strange), labels)
        with pytest.raises(ValueError, match=r"columns, expected \(3, 0\)"):
            contender.predict(numbers(strange))
    with pytest.raises(ValueError, match=r"labels are of shape \(3,\), expected \(4,\)"):
        contender.advance(numbers(np.ones((4, 3))), labels[:3])
    assert contender.snapshot() == before


@pytest.mark.parametrize("code", [-1.0, 3.0, math.nan])
def test_labels_that_are_no_code_of_a_class_are_refused(code: float) -> None:
    contender = build(numeric_shape(2, Task.MULTICLASS, THREE), learner(), seed=1)
    with pytest.raises(ValueError, match="outside of 0 to 2"):
        contender.advance(numbers(np.ones((2, 2))), np.array([0.0, code]))


def test_a_scaler_takes_only_as_many_columns_as_it_has_numbers() -> None:
    state = [np.zeros(2) for _ in range(3)]
    for strange in (np.ones((4, 1)), np.ones((4, 3)), np.ones(2)):
        with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
            standardise(strange, *state)
        with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
            rescale(strange, *state[1:])


def test_code_that_cannot_be_kept_on_disk_is_compiled_all_the_same() -> None:
    """A function without a file stands for a host without a folder to write to: numba refuses to cache both."""
    names: dict[str, Any] = {}
    exec("def double(x): return 2.0 * x", names)  # noqa: S102 - the only way to a function without a file
    assert compiled(names["double"])(4.0) == 8.0


def test_overflow_is_noticed() -> None:
    params = {"optimizer": {"class": "optim.SGD", "lr": 1e9}, "clip_gradient": 1e300}
    contender = build(REGRESSION, learner(name=BARE, params=params), seed=1)
    contender.advance(numbers(np.random.default_rng(1).normal(size=(200, 3))), np.full(200, 1e15))
    assert not contender.is_finite()


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        (numeric_shape(2), {"scale": False}, "online.scale"),
        (numeric_shape(2), {"params": {"l1": 0.1}}, "online.params.l1"),
        (numeric_shape(2), {"params": {"optimizer": {"class": "optim.Adam"}}}, "online.params.optimizer"),
        (numeric_shape(2), {"params": {"loss": {"class": "optim.losses.Hinge"}}}, "online.params.loss"),
        (
            numeric_shape(2),
            {"params": {"initializer": {"class": "optim.initializers.Constant", "value": 1.0}}},
            "online.params.initializer",
        ),
        (
            numeric_shape(2),
            {"name": "multiclass.OneVsRestClassifier"},
            "no OneVsRestClassifier for two classes",
        ),
        (numeric_shape(2), {"name": "tree.HoeffdingTreeClassifier"}, "no HoeffdingTreeClassifier"),
        (Shape(task=Task.BINARY, numeric=("a",), categorical=("town",), classes=(0, 1)), {}, "'town' is a category"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name_and_auto_goes_through_river(
    shape: Shape, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Misconfigured, match=rf"online\.adapter.*{reason}.*'auto' or 'river'"):
        build(shape, learner(**options), seed=1)
    assert isinstance(build(shape, learner(**{**options, "adapter": "auto"}), seed=1), RiverContender)


def test_auto_compiles_where_it_can() -> None:
    assert isinstance(build(numeric_shape(2), learner(adapter="auto"), seed=1), CompiledContender)


@given(st.lists(st.floats(1e-15, 1.0), max_size=50))
def test_logarithms_are_those_of_the_interpreter(chances: list[float]) -> None:
    assert minus_log(np.array(chances)).tolist() == [-math.log(chance) for chance in chances]
