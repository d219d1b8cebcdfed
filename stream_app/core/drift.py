"""What watches for change: ADWIN over the online error, and over each numeric feature if asked to.

Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SIAM SDM 2007; River's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, count
from typing import Any

import numpy as np
from river.drift import ADWIN

from stream_app.core.evaluation import row_errors
from stream_app.core.shape import Shape
from stream_app.model_settings import DriftSettings
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
        self._delta = delta
        self._start()

    def _start(self) -> None:
        self._adwin: Any = ADWIN(delta=self._delta)  # type: ignore[no-untyped-call]  # River annotates only a part
        #: sum and number of all values since this start
        self._total, self._count = 0.0, 0

    def update(self, values: Floats) -> list[Change]:
        """Return the changes that float64[n] shows, in order; NaN is left out."""
        return list(self._changes(values))

    def _changes(self, values: Floats) -> Iterator[Change]:
        positions = np.flatnonzero(~np.isnan(values))
        known = values[positions]
        while len(known):
            found = self._find(known.tolist())
            taken = len(known) if found is None else found + 1
            self._add(known[:taken])
            if found is not None:
                yield self._change(int(positions[found]))
            positions, known = positions[taken:], known[taken:]

    def _find(self, values: list[float]) -> int | None:
        """Hand values to the detector up to the first that shows a change, and return its index.

        `_helper` is what `ADWIN.update` calls for each value, with three times its own cost around it.
        """
        hits = map(self._adwin._helper.update, values)  # noqa: SLF001 - see above
        return next(compress(count(), hits), None)

    def _add(self, values: Floats) -> None:
        """Sum up one by one, not pairwise: only that gives the same bits for any cut."""
        self._total = float(np.cumsum(np.concatenate(([self._total], values)))[-1])
        self._count += len(values)

    def _change(self, position: int) -> Change:
        kept = self._adwin.width
        before = (self._total - self._adwin.total) / (self._count - kept)
        change = Change(position=position, before=before, after=self._adwin.estimation)
        self._start()
        return change


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
