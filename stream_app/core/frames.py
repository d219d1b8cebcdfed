"""How canonical features become what scikit-learn is fitted on, and how its answers become outputs.

Training and serving call the same two functions, so that they cannot differ.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

from stream_app.core.shape import Shape
from stream_app.values import Features, Floats, Task

#: A fitted scikit-learn estimator.
Estimator: TypeAlias = Any


class Columns(Protocol):
    """What must be known of a schema; a `Schema` and a `Shape` both do."""

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the numeric columns, in order."""

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the categorical columns, in order."""


def to_sklearn(features: Features, schema: Columns) -> Floats | pd.DataFrame:
    """Return what scikit-learn is fitted on and predicts from.

    float64[n, k] when all features are numeric (missing: NaN), else a frame with the schema's names, numbers
    first: numbers float64, categories in pandas' `str` type, whose missing value is NaN as well.
    """
    if not schema.categorical:
        return features.numeric
    numbers = {name: features.numeric[:, j] for j, name in enumerate(schema.numeric)}
    categories = {name: pd.array(features.categorical[:, j], dtype="str") for j, name in enumerate(schema.categorical)}
    return pd.DataFrame({**numbers, **categories})


def predict_sklearn(estimator: Estimator, features: Features, shape: Shape) -> Floats:
    """Return what an estimator that was fitted on class codes 0, 1, … (or on values) says about n records.

    P(positive) for binary models, float64[n, classes] in the schema's order for multiclass, the value for
    regression. A class that the training rows did not have gets 0; an estimator without probabilities gives
    1 to the class it names.
    """
    data = to_sklearn(features, shape)
    if shape.task is Task.REGRESSION:
        return np.asarray(estimator.predict(data), dtype=np.float64).reshape(len(features))
    probabilities = _probabilities(estimator, data, len(shape.classes))
    return probabilities[:, 1].copy() if shape.task is Task.BINARY else probabilities


def _probabilities(estimator: Estimator, data: Floats | pd.DataFrame, classes: int) -> Floats:
    if not hasattr(estimator, "predict_proba"):
        chosen = np.asarray(estimator.predict(data)).astype(np.int64)
        return np.eye(classes)[chosen]
    known = np.asarray(estimator.classes_).astype(np.int64)
    probabilities = np.zeros((len(data), classes))
    probabilities[:, known] = estimator.predict_proba(data)
    return probabilities
