"""Streams of records as producers write them, each with the plain River pipeline that must say the same."""

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from river import base, compose, linear_model, multiclass, preprocessing

from stream_app.core.shape import Shape
from stream_app.values import Floats, Task
from tests.unit.river_oracle import DATA, ELECTRICITY, table

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Records as a producer writes them, and what the settings say of them."""

    task: Task
    features: dict[str, dict[str, Any]]
    records: Sequence[Record]
    classes: tuple[Any, ...] | None = None
    pipeline: Callable[[], base.Estimator]

    @property
    def shape(self) -> Shape:
        names = {
            kind: tuple(n for n, f in self.features.items() if f["type"] == kind) for kind in ("number", "category")
        }
        return Shape(task=self.task, numeric=names["number"], categorical=names["category"], classes=self.classes or ())

    @property
    def labels(self) -> list[Any]:
        given = [record["y"] for record in self.records]
        return [label == self.classes[1] for label in given] if self.task is Task.BINARY and self.classes else given

    @property
    def rows(self) -> list[Record]:
        """What River is given: numbers as floats, absent values left out."""
        kept = [{k: v for k, v in record.items() if k != "y" and v is not None} for record in self.records]
        return [{k: v if isinstance(v, str) else float(v) for k, v in row.items()} for row in kept]


def scaled(model: base.Estimator) -> base.Estimator:
    return preprocessing.StandardScaler() | model


def logistic() -> base.Estimator:
    return scaled(linear_model.LogisticRegression())


def one_of_many() -> base.Estimator:
    return scaled(multiclass.OneVsRestClassifier(linear_model.LogisticRegression()))


def squares() -> base.Estimator:
    linear = linear_model.LinearRegression(clip_gradient=1.0)
    return scaled(preprocessing.TargetStandardScaler(regressor=linear))


def encoded(model: base.Estimator) -> base.Estimator:
    numeric = compose.SelectType(float) | preprocessing.StandardScaler()
    names = preprocessing.OrdinalEncoder() | preprocessing.OneHotEncoder(drop_zeros=True)
    return (numeric + (compose.SelectType(str) | names)) | model


def numeric(task: Task, names: Sequence[str], matrix: Floats, labels: Sequence[Any], **more: Any) -> Stream:  # noqa: ANN401 - fields of Stream
    """Return a stream of numbers, in which NaN is a missing value."""
    absent = [[None if value != value else value for value in row] for row in matrix.tolist()]  # noqa: PLR0124 - NaN
    records = [dict(zip(names, row, strict=True)) | {"y": y} for row, y in zip(absent, labels, strict=True)]
    features = {
        name: {"type": "number", "required": not np.isnan(column).any()}
        for name, column in zip(names, matrix.T, strict=True)
    }
    pipeline = squares if task is Task.REGRESSION else logistic
    return Stream(**{"task": task, "features": features, "records": records, "pipeline": pipeline, **more})


def electricity() -> Stream:
    names, matrix, labels = table(ELECTRICITY, "class")
    return numeric(Task.BINARY, names, matrix, [int(y) for y in labels], classes=(0, 1))


def housing() -> Stream:
    names, matrix, labels = table(DATA / "california_housing_3000.csv.gz", "MedHouseValue")
    return numeric(Task.REGRESSION, names, matrix, labels.tolist())


def liver() -> Stream:
    names, matrix, labels = table(DATA / "liver_583.csv.gz", "Dataset", without=("Gender",))
    return numeric(Task.BINARY, names, matrix, [int(y) for y in labels], classes=(2, 1))


def constant() -> Stream:
    """Columns that never change, and one that does once."""
    matrix = np.tile([3.0, 0.0, -7.5], (400, 1))
    matrix[200:, 2] = 7.5
    return numeric(Task.BINARY, "abc", matrix, [i % 3 % 2 for i in range(400)], classes=(0, 1))


def extreme() -> Stream:
    """Values from 1e-300 to 1e12 in one stream, signs and negative zeros."""
    rng = np.random.default_rng(2)
    scales = np.array([1e12, 1e-300, 1.0, 5e-324])
    matrix = rng.normal(size=(400, 4)).round(3) * scales
    matrix[rng.random(matrix.shape) < 0.05] = -0.0
    labels = (matrix[:, 0] > 0).astype(int).tolist()
    return numeric(Task.BINARY, "abcd", matrix, labels, classes=(0, 1))


def one_class() -> Stream:
    matrix = np.random.default_rng(4).normal(size=(400, 2))
    return numeric(Task.BINARY, "ab", matrix, [1] * 400, classes=(0, 1))


def far_values() -> Stream:
    """A regression whose target leaps between 1e-12 and 1e12."""
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(400, 2))
    return numeric(Task.REGRESSION, "ab", matrix, (matrix[:, 0] * 10.0 ** rng.integers(-12, 12, 400)).tolist())


def three_classes() -> Stream:
    matrix = np.random.default_rng(6).normal(size=(400, 3))
    labels = [("low", "mid", "high")[int(v)] for v in np.digitize(matrix[:, 0], [-0.5, 0.5])]
    return numeric(Task.MULTICLASS, "abc", matrix, labels, classes=("high", "low", "mid"), pipeline=one_of_many)


def telco(target: str, task: Task, classes: tuple[str, ...], model: base.Estimator) -> Stream:
    """Categories and numbers, some blank."""
    numbers = ("SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges")
    with gzip.open(DATA / "telco_1000.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in {"customerID", target}]
    features = {
        name: {"type": "number" if name in numbers else "category", "required": name != "TotalCharges"}
        for name in names
    }
    records = [
        {n: (float(r[n]) if r[n].strip() else None) if n in numbers else r[n] for n in names} | {"y": r[target]}
        for r in rows
    ]
    return Stream(
        task=task, features=features, records=records, classes=classes, pipeline=lambda: encoded(model.clone())
    )


def contract() -> Stream:
    model = multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    return telco("Contract", Task.MULTICLASS, ("Month-to-month", "One year", "Two year"), model)


def churn() -> Stream:
    return telco("Churn", Task.BINARY, ("No", "Yes"), linear_model.LogisticRegression())


def lagged(count: int, delay: int) -> Stream:
    """The housing data with the labels known at each prediction as columns, as River is to see them."""
    plain = housing()
    labels = plain.labels
    known = [
        [labels[i - 1 - delay - j] if i - 1 - delay - j >= 0 else None for j in range(count)]
        for i in range(len(labels))
    ]
    names = [f"previous_label_{j + 1}" for j in range(count)]
    records = [r | dict(zip(names, row, strict=True)) for r, row in zip(plain.records, known, strict=True)]
    return replace(plain, records=records)
