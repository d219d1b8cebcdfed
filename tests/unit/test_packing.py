"""Packed models: what was packed predicts the same after unpacking, and nothing else is ever built."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Iterable

import numpy as np
import pytest
import skops.io
from river import linear_model as river_linear
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from stream_app.core.candidates import build_candidates
from stream_app.core.frames import predict_sklearn, to_sklearn
from stream_app.core.models import build
from stream_app.core.preprocessing import pipeline
from stream_app.core.shape import Shape
from stream_app.errors import Corrupt
from stream_app.model_settings import LearnerSettings
from stream_app.storage.packing import Description, Probe, pack_batch, pack_online, unpack
from stream_app.values import Features, Floats, Task

RNG = np.random.default_rng(7)
NUMERIC = Shape(task=Task.BINARY, numeric=("a", "b"), categorical=(), classes=(False, True))
MIXED = Shape(task=Task.BINARY, numeric=("a", "b"), categorical=("c",), classes=(False, True))


def rows(n: int, shape: Shape = NUMERIC) -> Features:
    """Numbers with a missing one, categories with a missing one."""
    numeric = RNG.normal(size=(n, len(shape.numeric)))
    categorical = RNG.choice(np.array(["u", "v", None], dtype=object), size=(n, len(shape.categorical)))
    if shape.categorical:
        numeric[0, 0] = np.nan
    return Features(numeric=numeric, categorical=categorical)


def codes(features: Features, classes: int = 2) -> Floats:
    return np.floor(np.abs(np.nan_to_num(features.numeric[:, 0])) * 10) % classes


def about(shape: Shape = NUMERIC, **changes: object) -> Description:
    fields: dict[str, object] = {
        "model": "m",
        "version": "3",
        "algorithm": "test",
        "schema_json": '{"task": "binary"}',
        "shape": shape,
        "trained_through_seq": 12,
    }
    return Description(**fields | changes)  # type: ignore[arg-type]  # a test's own defaults


def prepared(estimator: BaseEstimator) -> BaseEstimator:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("n", numbers, ["a", "b"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["c"])])
    return make_pipeline(columns, estimator)


def native() -> BaseEstimator:
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("c", ordinal, ["c"]), ("n", "passthrough", ["a", "b"])])
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=3, categorical_features=[0], random_state=1))


USUAL = [
    LogisticRegression(),
    SGDClassifier(loss="log_loss", random_state=1),
    HistGradientBoostingClassifier(max_iter=3, random_state=1),
    RandomForestClassifier(3, random_state=1),
    ExtraTreesClassifier(3, random_state=1),
    GaussianNB(),
    MLPClassifier((3,), max_iter=3, random_state=1),
]


def name(estimator: object) -> str:
    return type(estimator).__name__


def fit(estimator: BaseEstimator, features: Features, labels: Floats, shape: Shape) -> BaseEstimator:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations do not converge, on purpose
        return estimator.fit(to_sklearn(features, shape), labels)


@pytest.mark.parametrize("estimator", USUAL, ids=name)
def test_the_usual_estimators_predict_the_same_after_unpacking(estimator: BaseEstimator) -> None:
    features = rows(60)
    fitted = fit(estimator, features, codes(features), NUMERIC)
    model = unpack(pack_batch(about(), fitted, rows(8)))
    model.check()
    assert model.predict(features).tobytes() == predict_sklearn(fitted, features, NUMERIC).tobytes()
    assert model.predict(features).shape == (60,)


@pytest.mark.parametrize(
    "estimator",
    [prepared(LogisticRegression()), prepared(GaussianNB()), native()],
    ids=["logistic", "bayes", "boosting"],
)
def test_pipelines_over_categories_predict_the_same_after_unpacking(estimator: BaseEstimator) -> None:
    if name(estimator[-1]) == "GaussianNB":
        estimator[0].set_params(sparse_threshold=0)
    features = rows(60, MIXED)
    fitted = fit(estimator, features, codes(features), MIXED)
    model = unpack(pack_batch(about(MIXED), fitted, rows(8, MIXED)))
    model.check()
    assert model.predict(features).tobytes() == predict_sklearn(fitted, features, MIXED).tobytes()


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("categorical", [(), ("c",)])
def test_the_default_candidates_of_a_retrain_can_be_published(task: Task, categorical: tuple[str, ...]) -> None:
    classes: tuple[str, ...] = {Task.BINARY: ("no", "yes"), Task.MULTICLASS: ("x", "y", "z")}.get(task, ())
    shape = Shape(task=task, numeric=("a", "b"), categorical=categorical, classes=classes)
    features = rows(60, shape)
    for candidate in build_candidates(shape, (), seed=1):
        candidate.estimator.set_params(**few(candidate.estimator))
        whole = pipeline(candidate.estimator, shape, features)
        fitted = fit(whole, features, codes(features, len(classes) or 5), shape)
        model = unpack(pack_batch(about(shape, algorithm=candidate.algorithm), fitted, rows(8, shape)))
        model.check()
        assert model.predict(features).tobytes() == predict_sklearn(fitted, features, shape).tobytes()


def few(estimator: BaseEstimator) -> dict[str, int]:
    """Make boosting short; a linear model keeps its iterations."""
    named = estimator.get_params()
    return {key: 3 for key in named if key.endswith("max_iter") and key.replace("max_iter", "max_bins") in named}


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("categorical", [(), ("c",)])
def test_an_online_contender_is_published_bit_for_bit(task: Task, categorical: tuple[str, ...]) -> None:
    classes: tuple[str, ...] = {Task.BINARY: ("no", "yes"), Task.MULTICLASS: ("x", "y", "z")}.get(task, ())
    shape = Shape(task=task, numeric=("a", "b"), categorical=categorical, classes=classes)
    contender = build(shape, LearnerSettings(), seed=1)
    features = rows(200, shape)
    contender.advance(features, codes(features, len(classes) or 5))
    model = unpack(pack_online(about(shape), contender.plain(), rows(8, shape)))
    model.check()
    assert model.predict(features).tobytes() == contender.predict(features).tobytes()


def test_what_was_described_comes_back() -> None:
    description = about(settings={"lr": 0.1}, version="1.57")
    manifest = unpack(pack_online(description, river_linear.LogisticRegression(), rows(4))).manifest
    assert (manifest.model, manifest.version, manifest.trained_through_seq) == ("m", "1.57", 12)
    assert (manifest.shape, manifest.record_schema) == (NUMERIC, '{"task": "binary"}')
    assert (manifest.settings, manifest.libraries.keys()) == ({"lr": 0.1}, {"river", "numpy"})


def test_classes_keep_their_types() -> None:
    for classes in [(False, True), (0, 1), ("0", "1")]:
        shape = Shape(task=Task.BINARY, numeric=("a", "b"), categorical=(), classes=classes)
        manifest = unpack(pack_online(about(shape), river_linear.LogisticRegression(), rows(4))).manifest
        assert [(type(c), c) for c in manifest.classes] == [(type(c), c) for c in classes]


def test_previous_labels_travel_with_the_model() -> None:
    """Callers know the schema's columns only; the labels known at publication complete them."""
    shape = Shape(task=Task.BINARY, numeric=("a", "b", "previous_label_1"), categorical=(), classes=(False, True))
    contender = build(shape, LearnerSettings(), seed=1)
    wide = rows(50, shape)
    contender.advance(wide, codes(wide))
    for probe in (rows(4), rows(4, shape)):
        model = unpack(pack_online(about(shape, known_labels=(1.0,)), contender.plain(), probe))
        model.check()
    narrow = Features(numeric=wide.numeric[:, :2], categorical=wide.categorical)
    completed = Features(numeric=np.column_stack([narrow.numeric, np.ones(50)]), categorical=wide.categorical)
    assert model.predict(narrow).tolist() == contender.predict(completed).tolist()


def test_a_class_that_was_absent_in_training_gets_nothing() -> None:
    shape = Shape(task=Task.MULTICLASS, numeric=("a", "b"), categorical=(), classes=("x", "y", "z"))
    features = rows(60)
    fitted = LogisticRegression().fit(features.numeric, codes(features) * 2)
    model = unpack(pack_batch(about(shape), fitted, rows(4)))
    outputs = model.predict(features)
    assert outputs.shape == (60, 3)
    assert not outputs[:, 1].any()
    assert np.allclose(outputs.sum(axis=1), 1)


def test_an_estimator_without_probabilities_is_sure_of_its_class() -> None:
    features = rows(60)
    model = unpack(pack_batch(about(), RidgeClassifier().fit(features.numeric, codes(features)), rows(4)))
    assert set(model.predict(features)) <= {0.0, 1.0}


def test_a_regression_predicts_values() -> None:
    shape = Shape(task=Task.REGRESSION, numeric=("a", "b"), categorical=(), classes=())
    features = rows(60)
    fitted = LinearRegression().fit(features.numeric, features.numeric[:, 0] * 2)
    assert np.allclose(unpack(pack_batch(about(shape), fitted, rows(4))).predict(features), features.numeric[:, 0] * 2)


def test_a_model_that_is_not_finite_is_not_packed() -> None:
    fitted = LogisticRegression().fit(rows(10).numeric, [0.0, 1.0] * 5)
    fitted.coef_[:] = np.nan
    with pytest.raises(Corrupt, match="not all outputs for the probe records are finite"):
        pack_batch(about(), fitted, rows(4))


def repacked(content: bytes, **changes: bytes | None) -> bytes:
    """Replace entries by keyword ('_' stands for '.'), or remove those given as None."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        entries: dict[str, bytes | None] = {entry: file.read(entry) for entry in file.namelist()}
    entries |= {entry.replace("_", "."): changed for entry, changed in changes.items()}
    return zipped((entry, changed) for entry, changed in entries.items() if changed is not None)


def zipped(entries: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for entry, content in entries:
            file.writestr(entry, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def packed() -> bytes:
    fitted = LogisticRegression().fit(rows(10).numeric, [0.0, 1.0] * 5)
    return pack_batch(about(), fitted, rows(4))


def manifest_of(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return file.read("manifest.json")


def test_another_estimator_under_the_same_manifest_is_found_by_the_probe(packed: bytes) -> None:
    other = LogisticRegression().fit(rows(10).numeric, [1.0, 0.0] * 5)
    model = unpack(repacked(packed, model_skops=skops.io.dumps(other)))
    with pytest.raises(Corrupt, match="the probe records get other outputs than at its publication"):
        model.check()


def test_an_estimator_that_became_nonsense_is_found_by_the_probe(packed: bytes) -> None:
    broken = unpack(packed)
    broken.estimator.coef_[:] = np.nan
    with pytest.raises(Corrupt, match="finite"):
        broken.check()


def test_rounding_is_forgiven_to_scikit_learn_and_not_to_river(packed: bytes) -> None:
    moved = unpack(packed)
    moved.estimator.coef_ *= 1 + 1e-11
    assert moved.predict(rows(3)).shape == (3,)
    moved.check()
    contender = build(NUMERIC, LearnerSettings(), seed=1)
    features = rows(50)
    contender.advance(features, codes(features))
    online = unpack(pack_online(about(), contender.plain(), rows(8)))
    online.estimator.steps["LogisticRegression"].intercept *= 1 + 1e-11
    with pytest.raises(Corrupt, match="other outputs"):
        online.check()


class Evil(BaseEstimator):
    """Stands for an operator's own transformer, or for a type that an attacker planted."""

    def fit(self, *_: object) -> "Evil":
        return self

    def predict(self, data: Floats) -> Floats:
        return np.zeros(len(data))


def test_a_type_that_nobody_trusts_is_named_and_not_built() -> None:
    content = pack_batch(about(), Evil(), rows(4))
    own = f"{Evil.__module__}.{Evil.__qualname__}"
    with pytest.raises(Corrupt, match="Evil"):
        unpack(content)
    assert isinstance(unpack(content, trusted=[own]).estimator, Evil)


def test_a_function_that_nobody_trusts_is_not_called(packed: bytes) -> None:
    evil = skops.io.dumps(FunctionTransformer(exec))
    with pytest.raises(Corrupt, match="exec"):
        unpack(repacked(packed, model_skops=evil))


def touched(path: str) -> bytes:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (path, "w")

    return pickle.dumps(Payload())


def test_no_other_format_is_tried(packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pickle under skops' name is refused, not unpickled as a fallback."""
    trap = tmp_path_factory.mktemp("trap") / "sprung"
    for content in (
        repacked(packed, model_skops=touched(str(trap))),
        repacked(packed, model_skops=None, model_pickle=touched(str(trap))),
        touched(str(trap)),
    ):
        with pytest.raises(Corrupt):
            unpack(content)
    assert not trap.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "manifest", "unknown field", "no model", "more", "twice"])
def test_what_is_no_packed_model_is_refused(packed: bytes, damage: str) -> None:
    manifest = manifest_of(packed)
    content = {
        "cut": packed[: len(packed) // 2],
        "empty": b"",
        "text": b"hello",
        "manifest": repacked(packed, manifest_json=b"{}"),
        "unknown field": repacked(packed, manifest_json=manifest[:-1] + b', "more": 1}'),
        "no model": zipped([("manifest.json", manifest)]),
        "more": zipped([("manifest.json", manifest), ("model.skops", b""), ("../../etc/passwd", b"")]),
        "twice": zipped([("manifest.json", manifest), ("model.skops/", b"")]),
    }[damage]
    with pytest.raises(Corrupt):
        unpack(content)


def test_a_compressed_file_is_refused_before_it_unfolds(packed: bytes) -> None:
    entries = [("manifest.json", manifest_of(packed)), ("model.skops", b"\0" * 10_000_000)]
    with pytest.raises(Corrupt, match="compressed"):
        unpack(zipped(entries, zipfile.ZIP_DEFLATED))
    inner = zipped([("schema.json", b" " * 10_000_000)], zipfile.ZIP_DEFLATED)
    with pytest.raises(Corrupt, match="unfold"):
        unpack(repacked(packed, model_skops=inner))


def test_another_release_is_named_when_the_model_does_not_load(packed: bytes) -> None:
    version = skops.__version__.encode()
    older = manifest_of(packed).replace(b'"skops":"' + version + b'"', b'"skops":"0.0.1"')
    with pytest.raises(Corrupt, match=r"packed with skops 0\.0\.1, here"):
        unpack(repacked(packed, manifest_json=older, model_skops=b"nothing"))


def test_a_probe_keeps_missing_values() -> None:
    features = rows(8, MIXED)
    contender = build(MIXED, LearnerSettings(), seed=1)
    probe: Probe = unpack(pack_online(about(MIXED), contender.plain(), features)).manifest.probe
    assert probe.numeric[0][0] is None
    assert probe.categorical == features.categorical.tolist()
