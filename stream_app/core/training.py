"""From the rows of the log to fitted candidates: what is trained on, what is held out, and how it is fitted.

The split is by time and nothing is ever shuffled: the holdout is the newest share, so that a candidate is judged
on what came after everything that it has learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import joblib
import numpy as np
from numpy.typing import NDArray

from stream_app.core.frames import predict_sklearn, to_sklearn
from stream_app.core.preprocessing import Estimator, pipeline
from stream_app.core.shape import Shape
from stream_app.errors import StreamAppError
from stream_app.values import Features, Floats, Ints, RowKind, Task

#: Classes that the training rows need at least.
TWO_CLASSES: Final = 2


class Untrainable(StreamAppError):  # noqa: N818 - named for what the rows are
    """These rows cannot be trained on: the retrain is rejected, the champion stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRows:
    """Rows of the log in (seq, pos) order, as columns of equal length."""

    seqs: Ints
    positions: Ints
    #: int8[n] of RowKind
    kinds: NDArray[np.int8]
    #: learning keys; None where the coordinates are the key, or when no row has one
    ids: Sequence[str | None] | None
    features: Features
    #: float64[n]: class codes or values
    labels: Floats
    #: what batch versions said at the time, by version: float64[n] or [n, classes], NaN where they said nothing
    outputs: Mapping[str, Floats]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def take(self, chosen: slice | NDArray[np.bool_]) -> "LogRows":
        """Return the chosen rows, in their order."""
        at = np.arange(len(self))[chosen]
        return LogRows(
            seqs=self.seqs[at],
            positions=self.positions[at],
            kinds=self.kinds[at],
            ids=None if self.ids is None else [self.ids[i] for i in at.tolist()],
            features=self.features.take(at),
            labels=self.labels[at],
            outputs={version: column[at] for version, column in self.outputs.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Older rows to fit on, and the newest to judge by; no row is in both."""

    training: LogRows
    holdout: LogRows


def usable(rows: LogRows) -> LogRows:
    """Return the rows that a retrain learns from, with the labels as they are known by now.

    A correction replaces the label of the rows before it that have its key, and is no row itself; of several
    the newest counts. Erased rows are left out, late ones are used.
    """
    learned = np.isin(rows.kinds, (RowKind.RECORD, RowKind.LATE))
    return _corrected(rows).take(learned)


def _corrected(rows: LogRows) -> LogRows:
    corrections = np.flatnonzero(rows.kinds == RowKind.CORRECTION).tolist()
    if not corrections or rows.ids is None:
        return rows
    newest = {rows.ids[i]: i for i in corrections if rows.ids[i] is not None}
    labels = rows.labels.copy()
    for i, key in enumerate(rows.ids):
        if i < newest.get(key, -1):
            labels[i] = rows.labels[newest[key]]
    return LogRows(
        seqs=rows.seqs,
        positions=rows.positions,
        kinds=rows.kinds,
        ids=rows.ids,
        features=rows.features,
        labels=labels,
        outputs=rows.outputs,
    )


def split_by_time(rows: LogRows, *, holdout: float, min_rows: int) -> Split:
    """Return the newest share as holdout and the rest as training rows; raises Untrainable for too few rows."""
    if len(rows) < min_rows:
        raise Untrainable(f"{len(rows):,} rows can be learned from, at least {min_rows:,} are needed")
    held = max(1, round(len(rows) * holdout))
    if held >= len(rows):
        raise Untrainable(f"a holdout of {holdout:g} leaves none of {len(rows):,} rows to train on")
    return Split(training=rows.take(slice(None, -held)), holdout=rows.take(slice(-held, None)))


def check_classes(training: LogRows, shape: Shape) -> None:
    """Raise Untrainable unless there are two classes to tell apart."""
    if shape.task is Task.REGRESSION:
        return
    present = np.unique(training.labels)
    if len(present) < TWO_CLASSES:
        only = [shape.classes[int(code)] for code in present]
        raise Untrainable(f"all {len(training):,} training rows are of one class, {only}; expected at least two")


def fit(estimator: Estimator, training: LogRows, shape: Shape, *, backend: str, n_jobs: int) -> Estimator:
    """Return the pipeline of preprocessing and estimator, fitted on class codes 0, 1, … or on values.

    What the estimator does through joblib goes to the backend.
    """
    labels = training.labels if shape.task is Task.REGRESSION else training.labels.astype(np.int64)
    with joblib.parallel_config(backend=backend, n_jobs=n_jobs):
        return pipeline(estimator, shape, training.features).fit(to_sklearn(training.features, shape), labels)


def predict(estimator: Estimator, features: Features, shape: Shape) -> Floats:
    """Return the outputs in the shapes of `Contender.predict`; a class that training did not have gets 0."""
    return predict_sklearn(estimator, features, shape)
