"""Ten plain lines of River: what every adapter must equal to the last bit."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from river import base

from stream_app.core.shape import Shape
from stream_app.values import Features, Floats, Task

DATA = Path(__file__).parents[1] / "data"
ELECTRICITY = Path(__file__).parents[2] / "stream_app" / "data" / "electricity.csv.gz"


def run_river(
    pipeline: base.Estimator, rows: Sequence[dict[str, Any]], labels: Sequence[Any], shape: Shape
) -> list[Any]:
    """Return the outputs given just before learning each row."""
    outputs = []
    for x, y in zip(rows, labels, strict=True):
        if shape.task is Task.REGRESSION:
            outputs.append(pipeline.predict_one(x))
        else:
            known = pipeline.predict_proba_one(x)
            outputs.append([known.get(c, 0.0) if known else 1 / len(shape.classes) for c in _keys(shape)])
        pipeline.learn_one(x, y)
    return outputs


def _keys(shape: Shape) -> Sequence[Any]:
    return (False, True) if shape.task is Task.BINARY else shape.classes


def expected(outputs: list[Any], shape: Shape) -> Floats:
    array = np.array(outputs, dtype=np.float64)
    return array[:, 1] if shape.task is Task.BINARY else array


def river_labels(labels: Floats, shape: Shape) -> list[Any]:
    if shape.task is Task.REGRESSION:
        return labels.tolist()
    return [(code == 1) if shape.task is Task.BINARY else shape.classes[int(code)] for code in labels.tolist()]


def dicts(features: Features, shape: Shape) -> list[dict[str, Any]]:
    """Rows as a user would write them, missing values left out."""
    numbers = [dict(zip(shape.numeric, row, strict=True)) for row in features.numeric.tolist()]
    names = [dict(zip(shape.categorical, row, strict=True)) for row in features.categorical.tolist()]
    joined = [{**a, **b} for a, b in zip(numbers, names, strict=True)]
    return [{k: v for k, v in x.items() if v is not None and v == v} for x in joined]  # noqa: PLR0124 - NaN


def numeric_shape(k: int, task: Task = Task.BINARY, classes: tuple[Any, ...] = (False, True)) -> Shape:
    names = tuple(f"x{i}" for i in range(k))
    return Shape(task=task, numeric=names, categorical=(), classes=() if task is Task.REGRESSION else classes)


def numbers(matrix: Floats) -> Features:
    return Features(numeric=matrix, categorical=np.empty((len(matrix), 0), dtype=object))


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def column(path: Path, name: str) -> list[str]:
    return [row[name] for row in _lines(path)]


def table(
    path: Path, target: str, limit: int | None = None, without: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Return names, float64[n, k] and labels of a gzipped CSV file; an empty cell is NaN."""
    rows = _lines(path)[:limit]
    names = tuple(name for name in rows[0] if name not in (target, *without))
    values = np.array([[float(row[name] or "nan") for name in (*names, target)] for row in rows])
    return names, values[:, :-1], values[:, -1]


def bits(array: Floats) -> bytes:
    """Return the bytes: equality of floats would hide the sign of a zero, and no NaN equals itself."""
    return np.ascontiguousarray(array, dtype=np.float64).tobytes()
