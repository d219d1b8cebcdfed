"""What a River estimator says about one row, as numbers: the only place that knows River's answer formats."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from river import base

from stream_app.core.estimators import Estimator
from stream_app.core.features import Record, records
from stream_app.core.shape import Shape
from stream_app.values import Features, Floats, Task

Read: TypeAlias = Callable[[Record], Any]


def reader(estimator: Estimator, shape: Shape) -> Read:
    """Return the function from a row to P(positive), a list of P by class, or the value.

    A classifier that has not learned anything knows no class yet: it says 1/classes. One that gives no
    probabilities says 1 for its class. A regressor without an answer says 0.
    """
    if shape.task is Task.REGRESSION:
        return _value(estimator)
    if _gives_probabilities(estimator):
        return _probability(estimator) if shape.task is Task.BINARY else _probabilities(estimator, shape)
    return _choice(estimator) if shape.task is Task.BINARY else _choices(estimator, shape)


def predict_plain(pipeline: Estimator, shape: Shape, features: Features) -> Floats:
    """Return what a plain River pipeline says about canonical rows, in the shapes of `Contender.predict`."""
    read = reader(pipeline, shape)
    return as_array([read(row) for row in records(features, shape)], shape)


def as_array(outputs: list[Any], shape: Shape) -> Floats:
    """Return float64[n], or float64[n, classes] for multiclass."""
    columns = (len(shape.classes),) if shape.task is Task.MULTICLASS else ()
    return np.array(outputs, dtype=np.float64).reshape(len(outputs), *columns)


def _gives_probabilities(estimator: Estimator) -> bool:
    last = estimator._last_step if hasattr(estimator, "_last_step") else estimator  # noqa: SLF001 - River's own way
    return getattr(type(last), "predict_proba_one", None) is not base.Classifier.predict_proba_one


def _value(estimator: Estimator) -> Read:
    predict = estimator.predict_one

    def read(x: Record) -> float:
        value = predict(x)
        return 0.0 if value is None else value

    return read


def _probability(estimator: Estimator) -> Read:
    predict = estimator.predict_proba_one

    def read(x: Record) -> float:
        known = predict(x)
        return known.get(True, 0.0) if known else 0.5

    return read


def _probabilities(estimator: Estimator, shape: Shape) -> Read:
    predict, classes = estimator.predict_proba_one, shape.classes

    def read(x: Record) -> list[float]:
        known = predict(x)
        return [known.get(c, 0.0) for c in classes] if known else [1.0 / len(classes)] * len(classes)

    return read


def _choice(estimator: Estimator) -> Read:
    predict = estimator.predict_one

    def read(x: Record) -> float:
        said = predict(x)
        return 0.5 if said is None else float(said)

    return read


def _choices(estimator: Estimator, shape: Shape) -> Read:
    predict, classes = estimator.predict_one, shape.classes

    def read(x: Record) -> list[float]:
        said = predict(x)
        return [1.0 / len(classes)] * len(classes) if said is None else [float(said == c) for c in classes]

    return read
