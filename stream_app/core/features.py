"""Numbers and categories on their way to a River learner: arrays in, dicts out, River's steps inside.

A missing value is left out of the dict, River's own convention: it moves no statistic and no weight. A
category beyond the cap, or not learned yet, shares the code 0 with all others of its kind, so that memory
stays flat however many names come.
"""

import copy
from collections.abc import Iterator
from itertools import repeat
from typing import Any, Final

import numpy as np
from river import compose, preprocessing

from stream_app.core.estimators import Estimator
from stream_app.core.shape import Shape
from stream_app.model_settings import LearnerSettings
from stream_app.values import Features, Floats

Record = dict[str, Any]


def records(features: Features, shape: Shape) -> Iterator[Record]:
    """Yield each row as {name: value} without its missing values: what a plain River pipeline takes."""
    numbers = named(features.numeric, shape.numeric)
    return (_join(row, names) for row, names in zip(numbers, _names(features, shape), strict=True))


def named(matrix: Floats, names: tuple[str, ...]) -> Iterator[Record]:
    """Yield the rows of float64[n, k] as dicts in the order of the names, NaN left out.

    One row at a time and from columns: thousands of live lists and dicts would cost more in garbage collection
    than all of their making.
    """
    rows = zip(*(column.tolist() for column in matrix.T), strict=True) if names else repeat((), len(matrix))
    if not np.isnan(matrix).any():
        return (dict(zip(names, row)) for row in rows)  # noqa: B905 - equal by shape; the check costs a tenth
    return ({name: value for name, value in zip(names, row, strict=True) if value == value} for row in rows)  # noqa: PLR0124 - NaN


def _names(features: Features, shape: Shape) -> list[Record]:
    rows = features.categorical.tolist()
    return [{n: v for n, v in zip(shape.categorical, row, strict=True) if v is not None} for row in rows]


def _join(first: Record, second: Record) -> Record:
    return {**first, **second} if second else first


class Numbers:
    """The state of `preprocessing.StandardScaler`, as arrays that the compiled loop moves."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.counts, self.means, self.variances = (np.zeros(len(names)) for _ in range(3))

    def learn(self, matrix: Floats) -> tuple[Floats, Floats]:
        """Return float64[n, k] scaled as predictions and as learning see it, and move the state on."""
        from stream_app.core.kernels import standardise  # noqa: PLC0415 - numba loads when first needed

        return standardise(matrix, self.counts, self.means, self.variances)

    def read(self, matrix: Floats) -> Floats:
        """Return float64[n, k] scaled, the state unchanged."""
        from stream_app.core.kernels import rescale  # noqa: PLC0415 - numba loads when first needed

        return rescale(matrix, self.means, self.variances)

    def is_finite(self) -> bool:
        """Return whether every mean and variance is a finite number."""
        return bool(np.isfinite(self.means).all() and np.isfinite(self.variances).all())

    def plain(self) -> preprocessing.StandardScaler:
        """Return River's scaler in the same state."""
        scaler = preprocessing.StandardScaler()
        seen = np.flatnonzero(self.counts).tolist()
        scaler.counts.update({self.names[j]: int(self.counts[j]) for j in seen})
        scaler.means.update({self.names[j]: float(self.means[j]) for j in seen})
        scaler.vars.update({self.names[j]: float(self.variances[j]) for j in seen})
        return scaler


class Unscaled:
    """Numbers that reach the learner as they are."""

    def learn(self, matrix: Floats) -> tuple[Floats, Floats]:
        """Return the matrix twice."""
        return matrix, matrix

    def read(self, matrix: Floats) -> Floats:
        """Return the matrix."""
        return matrix

    def is_finite(self) -> bool:
        """Return True: there is no state."""
        return True

    def plain(self) -> None:
        """Return nothing: no step is needed."""


class Categories:
    """River's encoders over category names, with a cap on the names that get a code of their own."""

    #: `OrdinalEncoder`'s word for a name without a code
    SHARED: Final = 0

    def __init__(self, cap: int, one_hot: Estimator | None) -> None:
        self.cap = cap
        self.ordinal: Estimator = preprocessing.OrdinalEncoder(unknown_value=self.SHARED)
        self.one_hot = one_hot

    def learn(self, names: Record) -> Record:
        """Give new names a code while there is room, and return the encoded row."""
        known = self.ordinal.values
        self.ordinal.learn_one({n: v for n, v in names.items() if len(known[n]) < self.cap})
        if self.one_hot is not None:
            self.one_hot.learn_one(self.ordinal.transform_one(names))
        return self.read(names)

    def read(self, names: Record) -> Record:
        """Return the encoded row."""
        codes: Record = self.ordinal.transform_one(names)
        encoded: Record = codes if self.one_hot is None else self.one_hot.transform_one(codes)
        return encoded

    def plain(self) -> compose.Pipeline:
        """Return River's encoders in the same state."""
        steps = (self.ordinal, self.one_hot)
        return compose.Pipeline(*(copy.deepcopy(step) for step in steps if step is not None))


class Preprocessing:
    """Everything between canonical rows and the learner, equal to the River steps of `plain`."""

    def __init__(self, shape: Shape, learner: LearnerSettings, *, zeros: bool) -> None:
        """`zeros`: whether a one-hot row names the categories it does not have; see `RiverContender`."""
        self.shape = shape
        self.numbers: Numbers | Unscaled = Numbers(shape.numeric) if learner.scale else Unscaled()
        one_hot = preprocessing.OneHotEncoder(drop_zeros=not zeros) if learner.encode == "one_hot" else None
        self.categories = Categories(learner.max_categories, one_hot)

    def learn(self, features: Features) -> Iterator[tuple[Record, Record]]:
        """Yield each row as a prediction sees it and as learning sees it; the state moves on as they are drawn."""
        before, after = (named(m, self.shape.numeric) for m in self.numbers.learn(features.numeric))
        if not self.shape.categorical:
            yield from zip(before, after, strict=True)
            return
        encode, learn = self.categories.read, self.categories.learn
        for seen, learned, names in zip(before, after, _names(features, self.shape), strict=True):
            yield {**encode(names), **seen}, {**learn(names), **learned}

    def read(self, features: Features) -> Iterator[Record]:
        """Yield each row as a prediction sees it; the state stays as it is."""
        rows = named(self.numbers.read(features.numeric), self.shape.numeric)
        if not self.shape.categorical:
            return rows
        encode, names = self.categories.read, _names(features, self.shape)
        return ({**encode(n), **row} for n, row in zip(names, rows, strict=True))

    def is_finite(self) -> bool:
        """Return whether every statistic is a finite number."""
        return self.numbers.is_finite()

    def plain(self) -> list[Estimator]:
        """Return River's own steps in the same state, to stand before the learner in a pipeline.

        The union puts its later parts first into a row, as `learn` and `read` do: categories, then numbers.
        `Select` would not do: it orders a row by the hash seed of the process.
        """
        scaler = self.numbers.plain()
        if not self.shape.categorical:
            return [] if scaler is None else [scaler]
        names = compose.Pipeline(compose.SelectType(str), self.categories.plain())
        if not self.shape.numeric:
            return [names]
        steps = [compose.SelectType(float, int), *([] if scaler is None else [scaler])]
        return [compose.TransformerUnion(compose.Pipeline(*steps), names)]
