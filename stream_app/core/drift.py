"""What watches for change: ADWIN over the online error, and over each numeric feature if asked to.

Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SIAM SDM 2007; River's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from river.drift import ADWIN

from stream_app.core.evaluation import row_errors
from stream_app.core.shape import Shape
from stream_app.settings import DriftSettings
from stream_app.values import Drift, Floats, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change in a stream of numbers."""

    #: index in the array that showed it
    position: int
    #: mean of what the detector dropped, and of what it kept
    before: float
    after: float


class ErrorDrift:
    """ADWIN over a stream of numbers that comes in arrays; no cut of the stream changes what it finds.

    After a change it starts anew, as River's does.
    """

    def __init__(self, delta: float) -> None:
        self._adwin: Any = ADWIN(delta=delta)  # type: ignore[no-untyped-call]  # River annotates only a part
        #: sum and number of all values since the start or the last change
        self._total, self._count = 0.0, 0

    def update(self, values: Floats) -> list[Change]:
        """Return the changes that float64[n] shows, in order; NaN is left out."""
        return list(self._changes(values))

    def _changes(self, values: Floats) -> Iterator[Change]:
        positions = np.flatnonzero(~np.isnan(values)).tolist()
        known = values[positions].tolist()
        start = 0
        while (found := self._next(known, start)) < len(known):
            yield self._change(known[start : found + 1], positions[found])
            start = found + 1
        self._total, self._count = self._sum(known[start:]), self._count + len(known) - start

    def _next(self, values: list[float], start: int) -> int:
        """Return the index of the first value at or after `start` that shows a change, else how many there are."""
        adwin, update = self._adwin, self._adwin.update
        for index in range(start, len(values)):
            update(values[index])
            if adwin.drift_detected:
                return index
        return len(values)

    def _change(self, values: list[float], position: int) -> Change:
        total, count = self._sum(values), self._count + len(values)
        kept = self._adwin.width
        self._total, self._count = 0.0, 0
        before = (total - self._adwin.total) / (count - kept)
        return Change(position=position, before=before, after=self._adwin.estimation)

    def _sum(self, values: list[float]) -> float:
        """Add one by one, not pairwise: only that gives the same bits for any cut."""
        return float(np.cumsum([self._total, *values])[-1])


class DriftWatch:
    """The detectors of one model."""

    def __init__(self, shape: Shape, settings: DriftSettings) -> None:
        self._shape = shape
        self._error = ErrorDrift(settings.delta)
        self._features = [ErrorDrift(settings.delta) for _ in shape.numeric] if settings.features else []

    def update(self, seq: int, outputs: Floats, rows: Rows) -> Iterator[Drift]:
        """Yield what the rows of window `seq` show, given the online outputs before each was learned."""
        yield from self._named(seq, "error", self._error.update(row_errors(self._shape, outputs, rows.labels)))
        for column, detector in enumerate(self._features):
            changes = detector.update(rows.features.numeric[:, column])
            yield from self._named(seq, self._shape.numeric[column], changes)

    @staticmethod
    def _named(seq: int, feature: str, changes: list[Change]) -> Iterator[Drift]:
        for c in changes:
            yield Drift(seq=seq, pos=c.position, feature=feature, detector="ADWIN", before=c.before, after=c.after)
