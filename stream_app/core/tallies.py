"""What scores are made of: integer counts, exact sums and the newest rows, for classes and for values."""

import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_app.core.curves import area, exact_area, mean_area
from stream_app.core.exact import fraction, nearest, squares, units
from stream_app.values import Floats, Ints

Metrics: TypeAlias = dict[str, float | int | None]

#: Rows of the rolling scores.
NEWEST: Final = 1_000
#: Thresholds of the lifetime ROC curve: scores in the same thousandth count as ties.
THRESHOLDS: Final = 1_000
#: Probabilities are kept this far from 0 and 1, so that one sure mistake does not make the log loss infinite.
CLIP: Final = 1e-15
#: From here on the answer is the positive class; River's own `predict_one` says the same.
HALF: Final = 0.5


def predicted(outputs: Floats) -> Ints:
    """Return the class codes that outputs stand for; float64[n, classes] or float64[n] with P(positive)."""
    codes = outputs > HALF if outputs.ndim == 1 else outputs.argmax(axis=1)
    return codes.astype(np.int64)


class Tail:
    """The newest rows of some columns."""

    def __init__(self, *columns: NDArray[Any]) -> None:
        self.columns = columns

    def append(self, *columns: NDArray[Any]) -> None:
        """Add rows, and forget the oldest beyond the limit."""
        pairs = zip(self.columns, columns, strict=True)
        self.columns = tuple(np.concatenate((old, new[-NEWEST:]))[-NEWEST:] for old, new in pairs)


class ClassScores:
    """Scores of a classifier with k classes; lifetime counts and the newest rows."""

    def __init__(self, classes: int, *, binary: bool) -> None:
        self.binary = binary
        self.columns = 1 if binary else classes
        #: int64[k, k]: label, predicted
        self.confusion = np.zeros((classes, classes), dtype=np.int64)
        #: int64[columns, 2, thresholds]: of each class against the rest, negatives and positives by score
        self.curves = np.zeros((self.columns, 2, THRESHOLDS), dtype=np.int64)
        self.loss_units = 0
        #: labels, predicted, scores float64[n, columns], losses
        self.tail = Tail(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, self.columns)), np.empty(0))

    def update(self, outputs: Floats, labels: Floats) -> None:
        """Take in finite rows: outputs float64[n] or float64[n, classes], labels float64[n]."""
        true, said, scores = labels.astype(np.int64), predicted(outputs), outputs.reshape(-1, self.columns)
        losses = self._losses(scores, true)
        self.confusion += self._cells(true, said)
        self.loss_units += units(losses)
        self._add_to_curves(scores, true)
        self.tail.append(true, said, scores, losses)

    def _cells(self, true: Ints, said: Ints) -> Ints:
        k = len(self.confusion)
        return np.bincount(true * k + said, minlength=k * k).reshape(k, k)

    def _losses(self, scores: Floats, true: Ints) -> Floats:
        """Return -log P(label), float64[n]; the C library's log, since numpy's depends on the processor."""
        if self.binary:
            chances = np.where(true == 1, scores[:, 0], 1.0 - scores[:, 0])
        else:
            chances = scores[np.arange(len(true)), true]
        from stream_app.core.kernels import minus_log  # noqa: PLC0415 - numba loads when first needed

        return minus_log(np.clip(chances, CLIP, 1.0 - CLIP))

    def _add_to_curves(self, scores: Floats, true: Ints) -> None:
        places = np.clip(scores * THRESHOLDS, 0, THRESHOLDS - 1).astype(np.int64)
        for column in range(self.columns):
            cells = self._positive(true, column) * THRESHOLDS + places[:, column]
            self.curves[column] += np.bincount(cells, minlength=2 * THRESHOLDS).reshape(2, THRESHOLDS)

    def _positive(self, true: Ints, column: int) -> NDArray[np.bool_]:
        positive: NDArray[np.bool_] = true == (1 if self.binary else column)
        return positive

    def merge(self, later: "ClassScores") -> None:
        """Take in all that another one has seen after this one."""
        self.confusion += later.confusion
        self.curves += later.curves
        self.loss_units += later.loss_units
        self.tail.append(*later.tail.columns)

    def lifetime(self) -> Metrics:
        """Return the scores over all rows."""
        rows = int(self.confusion.sum())
        return {
            **_agreement(self.confusion),
            "log_loss": nearest(fraction(self.loss_units) / rows) if rows else None,
            "roc_auc": mean_area([area(positives, negatives) for negatives, positives in self.curves]),
        }

    def rolling(self) -> Metrics:
        """Return the scores over the newest rows."""
        true, said, scores, losses = self.tail.columns
        areas = [exact_area(scores[:, c], self._positive(true, c)) for c in range(self.columns)]
        return {
            **_agreement(self._cells(true, said)),
            "log_loss": math.fsum(losses.tolist()) / len(losses) if len(losses) else None,
            "roc_auc": mean_area(areas),
        }


def _agreement(confusion: Ints) -> Metrics:
    """Return accuracy and Cohen's kappa (1960) of int64[k, k]; kappa is undefined while labels are of one class."""
    rows, right = int(confusion.sum()), int(confusion.trace())
    true, said = confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist()
    chance = sum(t * s for t, s in zip(true, said, strict=True))
    kappa = (rows * right - chance) / (rows * rows - chance) if sum(map(bool, true)) > 1 else None
    return {"accuracy": right / rows if rows else None, "kappa": kappa}


class ValueScores:
    """Scores of a regressor; exact lifetime sums and the newest rows."""

    def __init__(self) -> None:
        self.rows = self.absolute = self.squared = self.labels = self.squared_labels = 0
        #: errors, labels
        self.tail = Tail(np.empty(0), np.empty(0))

    def update(self, outputs: Floats, labels: Floats) -> None:
        """Take in finite rows."""
        errors = outputs - labels
        self.rows += len(labels)
        self.absolute += units(np.abs(errors))
        self.squared += squares(errors)
        self.labels += units(labels)
        self.squared_labels += squares(labels)
        self.tail.append(errors, labels)

    def merge(self, later: "ValueScores") -> None:
        """Take in all that another one has seen after this one."""
        for name in ("rows", "absolute", "squared", "labels", "squared_labels"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.tail.append(*later.tail.columns)

    def lifetime(self) -> Metrics:
        """Return the scores over all rows."""
        if not self.rows:
            return {"mae": None, "rmse": None, "r2": None}
        squared = fraction(self.squared)
        spread = fraction(self.squared_labels) - fraction(self.labels) ** 2 / self.rows
        mse = nearest(squared / self.rows)
        return {
            "mae": nearest(fraction(self.absolute) / self.rows),
            "rmse": None if mse is None else math.sqrt(mse),
            "r2": nearest(1 - squared / spread) if spread else None,
        }

    def rolling(self) -> Metrics:
        """Return the scores over the newest rows."""
        window = ValueScores()
        errors, labels = self.tail.columns
        window.rows = len(labels)
        window.absolute, window.squared = units(np.abs(errors)), squares(errors)
        window.labels, window.squared_labels = units(labels), squares(labels)
        return window.lifetime()
