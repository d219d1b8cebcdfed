"""Scores of one stream of (output, label) pairs, and of the baselines that a model must beat.

Numbers do not depend on how the rows were cut into windows: counts are integers, sums are exact or run row
by row.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.core.shape import Shape
from stream_app.core.tallies import ClassScores, Metrics, ValueScores, predicted
from stream_app.values import Floats, Task

#: Larger outputs and labels are left out as if they were not finite: their squares would not be.
LARGEST: Final = 1e150


def row_errors(shape: Shape, outputs: Floats, labels: Floats) -> Floats:
    """Return float64[n]: 0 or 1 for a right or wrong class, the absolute error for a value; NaN where left out."""
    errors = np.abs(outputs - labels) if shape.task is Task.REGRESSION else predicted(outputs) != labels
    return np.where(_usable(outputs), errors, np.nan)


def _usable(outputs: Floats) -> NDArray[np.bool_]:
    """Return bool[n]: which rows have outputs to judge, all of them finite and not beyond the largest."""
    sizes = np.abs(outputs)
    usable: NDArray[np.bool_] = (sizes if sizes.ndim == 1 else sizes.max(axis=1)) <= LARGEST
    return usable


def certain(shape: Shape, answers: Floats) -> Floats:
    """Return class codes or values float64[n] as the outputs of a contender that is sure of them; NaN stays."""
    if shape.task is not Task.MULTICLASS:
        return answers
    hits = answers[:, None] == np.arange(len(shape.classes))
    return np.where(np.isnan(answers)[:, None], np.nan, hits)


class Evaluation:
    """Scores of one stream of outputs and labels, by whole arrays; picklable and mergeable.

    Classification: accuracy, Cohen's kappa, log loss, ROC-AUC (over the lifetime with 1,000 thresholds, over
    the newest 1,000 rows exact; for more than two classes the mean of each class against the rest).
    Regression: MAE, RMSE, R². What is undefined is None: kappa and AUC while all labels are of one class, R²
    while they are all equal. Rows whose output or label is not finite are left out and counted.
    """

    def __init__(self, shape: Shape) -> None:
        self.left_out = 0
        self.rows = 0
        self.scores: ClassScores | ValueScores = (
            ValueScores()
            if shape.task is Task.REGRESSION
            else ClassScores(len(shape.classes), binary=shape.task is Task.BINARY)
        )

    def update(self, outputs: Floats, labels: Floats) -> None:
        """Take in n rows: outputs float64[n] or float64[n, classes] as `Contender` says, labels float64[n]."""
        usable = _usable(outputs) & (np.abs(labels) <= LARGEST)
        kept = int(usable.sum())
        self.rows += kept
        self.left_out += len(labels) - kept
        if kept:
            self.scores.update(outputs[usable], labels[usable])

    def merge(self, later: "Evaluation") -> None:
        """Become the evaluation of this one's rows followed by the other's."""
        self.rows += later.rows
        self.left_out += later.left_out
        self.scores.merge(later.scores)  # type: ignore[arg-type]  # both of the same model

    def metrics(self) -> Metrics:
        """Return all scores by name, JSON-able; those of the newest rows begin with `rolling_`."""
        rolling = {f"rolling_{name}": value for name, value in self.scores.rolling().items()}
        return {"rows": self.rows, "left_out": self.left_out, **self.scores.lifetime(), **rolling}


class Known:
    """Labels become known a number of records after the row that they belong to."""

    def __init__(self, delay: int) -> None:
        #: labels that are not yet known, oldest first; NaN before there are any
        self.held = np.full(delay + 1, np.nan)

    def advance(self, labels: Floats) -> Floats:
        """Return float64[n]: the label that became known just before each row, NaN while there is none."""
        line = np.concatenate((self.held, labels))
        self.held = line[len(labels) :].copy()
        return line[: len(labels)]


class NoChange:
    """Answers with the newest label known; good where labels persist, and nothing to be proud of."""

    def __init__(self, shape: Shape, *, delay: int = 0) -> None:
        """`delay`: records between a prediction and its label; 0 means that the previous label is known."""
        self._shape = shape
        self._known = Known(delay)

    def advance(self, labels: Floats) -> Floats:
        """Return its outputs for n rows in the shapes of `Contender`, NaN while no label is known."""
        return certain(self._shape, self._known.advance(labels))


class Majority:
    """Answers with the commonest class so far (the lowest code of equals), or with the mean value so far."""

    def __init__(self, shape: Shape, *, delay: int = 0) -> None:
        """`delay`: as for `NoChange`."""
        self._shape = shape
        self._known = Known(delay)
        self._tally: _Means | _Counts = _Means() if shape.task is Task.REGRESSION else _Counts(len(shape.classes))

    def advance(self, labels: Floats) -> Floats:
        """Return its outputs for n rows in the shapes of `Contender`, NaN while no label is known."""
        return certain(self._shape, self._tally.advance(self._known.advance(labels)))


class _Counts:
    def __init__(self, classes: int) -> None:
        self.counts = np.zeros(classes, dtype=np.int64)

    def advance(self, known: Floats) -> Floats:
        """Return the commonest class after each newly known label."""
        hits = known[:, None] == np.arange(len(self.counts))
        counts = self.counts + np.cumsum(hits, axis=0)
        if len(known):
            self.counts = counts[-1].copy()
        return np.where(counts.any(axis=1), counts.argmax(axis=1), np.nan)


class _Means:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def advance(self, known: Floats) -> Floats:
        """Return the mean after each newly known label; sums run row by row, so no cut changes a bit."""
        present = ~np.isnan(known)
        totals = np.cumsum(np.concatenate(([self.total], np.where(present, known, 0.0))))[1:]
        counts = self.count + np.cumsum(present)
        if len(known):
            self.total, self.count = float(totals[-1]), int(counts[-1])
        return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
