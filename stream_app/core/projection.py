"""Rows of one schema as rows of another: the door of every backtest.

The log holds canonical rows: columns in the order of the schema that the model was created with, labels as the
codes of its classes. Whoever folds them with another schema must say which column is which, by name.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.core.rows import choose
from stream_app.core.schema import Field, Schema
from stream_app.errors import Misconfigured
from stream_app.values import Features, Rows, Window

Mask = NDArray[np.bool_]

#: Parts of a field that say which of its values are accepted.
_BOUNDS: Final = ("low", "high", "required", "values")


class Projection:
    """Takes rows of a log to another schema: fewer features or other bounds, never other columns or labels."""

    def __init__(self, model: str, stored: Schema, wanted: Schema) -> None:
        """Raise Misconfigured, which names every key that the log has no rows for."""
        wrong = [*_labels_differ(stored, wanted), *_columns_differ(stored, wanted)]
        if wrong:
            raise Misconfigured("; ".join(f"models.{model}.{text}" for text in wrong))
        self._is_same = wanted.fields == stored.fields
        self._fields = wanted.fields
        self._numeric = [stored.numeric.index(name) for name in wanted.numeric]
        self._categorical = [stored.categorical.index(name) for name in wanted.categorical]

    def window(self, window: Window) -> Window:
        """Return the window with the rows that the schema accepts, as a worker with that schema would have."""
        if self._is_same or window.rows is None:
            return window
        return replace(window, rows=self._rows(window.rows))

    def features(self, features: Features) -> Features:
        """Return the columns of the schema, of every record."""
        return Features(
            numeric=features.numeric[:, self._numeric], categorical=features.categorical[:, self._categorical]
        )

    def _rows(self, rows: Rows) -> Rows | None:
        projected = replace(rows, features=self.features(rows.features))
        accepted = self._accepted(projected.features)
        return choose(projected, accepted) if accepted.any() else None

    def _accepted(self, features: Features) -> Mask:
        accepted = np.ones(len(features), dtype=np.bool_)
        numbers, names = iter(features.numeric.T), iter(features.categorical.T)
        for field in self._fields:
            accepted &= _numbers(field, next(numbers)) if field.type == "number" else _names(field, next(names))
        return accepted


def _numbers(field: Field, column: NDArray[Any]) -> Mask:
    low = -np.inf if field.low is None else field.low
    high = np.inf if field.high is None else field.high
    inside: Mask = (column >= low) & (column <= high)
    return inside if field.required else inside | np.isnan(column)


def _names(field: Field, column: NDArray[Any]) -> Mask:
    return np.array([_is_name(field, value) for value in column], dtype=np.bool_)


def _is_name(field: Field, value: str | None) -> bool:
    if value is None:
        return not field.required
    return field.values is None or value in field.values


def check_same(model: str, stored: Schema, wanted: Schema) -> None:
    """Raise Misconfigured, which names what differs, unless the schemas are the same to the last key."""
    if wanted.id == stored.id:
        return
    wrong = [*_labels_differ(stored, wanted), *_columns_differ(stored, wanted), *_bounds_differ(stored, wanted)]
    wrong += [
        f"features.{f.name}: missing, expected it as the model was created with it"
        for f in stored.fields
        if not wanted.declares(f.name)
    ]
    if not wrong:
        wrong = ["features: the order or extra_features differ from those that the model was created with"]
    hint = f"to try other settings on the same history: stream-app replay {model} --with FILE"
    raise Misconfigured("; ".join([*(f"models.{model}.{text}" for text in wrong), hint]))


def _labels_differ(stored: Schema, wanted: Schema) -> list[str]:
    wrong = []
    if wanted.task is not stored.task:
        wrong.append(f"task: {wanted.task.value!r}, expected {stored.task.value!r} as in the log")
    if wanted.target != stored.target:
        wrong.append(f"target: {wanted.target!r}, expected {stored.target!r}, whose labels the log holds")
    # with their types: False equals 0, but is another class
    if [(type(c), c) for c in wanted.classes] != [(type(c), c) for c in stored.classes]:
        expected = f"expected {list(stored.classes)[:20]} in this order: the log holds their codes"
        wrong.append(f"classes: {list(wanted.classes)[:20]}, {expected}")
    return wrong


def _columns_differ(stored: Schema, wanted: Schema) -> list[str]:
    types = {f.name: f.type for f in stored.fields}
    wrong = []
    for field in wanted.fields:
        if field.name not in types:
            wrong.append(f"features.{field.name}: not in the log, expected some of {', '.join(types)}")
        elif field.type != types[field.name]:
            wrong.append(f"features.{field.name}.type: {field.type!r}, expected {types[field.name]!r} as in the log")
    return wrong


def _bounds_differ(stored: Schema, wanted: Schema) -> list[str]:
    before = {f.name: f for f in stored.fields}
    return [
        f"features.{f.name}.{part}: {getattr(f, part)!r}, expected {getattr(before[f.name], part)!r}"
        for f in wanted.fields
        if f.name in before
        for part in _BOUNDS
        if getattr(f, part) != getattr(before[f.name], part)
    ]
