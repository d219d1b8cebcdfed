"""Recognising what was learned before: by id within a horizon, by origin for ever."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stream_app.core.rows import Text
from stream_app.values import Floats


class Sight(IntEnum):
    """What an id is to the memory."""

    NEW = 0
    DUPLICATE = 1
    #: seen with another label
    CORRECTION = 2


class IdMemory:
    """The ids of at least the newest `horizon` rows and their labels; part of the folded state.

    Two generations: the older is dropped as a whole when the younger is full, so that memory is bounded by
    twice the horizon and forgetting costs nothing per row.
    """

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}

    def remember(self, ids: Text, labels: Floats) -> None:
        """Take in ids (None: nothing to remember) with their labels; the newest label counts."""
        pairs = zip(ids, labels.tolist(), strict=True)
        if None in ids:
            self._young.update((i, label) for i, label in pairs if i is not None)
        else:
            self._young.update(pairs)  # type: ignore[arg-type]  # no None in it
        if len(self._young) >= self._horizon:
            # the older generation is replaced before the younger is emptied: intake reads from another
            # thread, young first, and must find every id in at least one of them at any moment
            self._old = self._young
            self._young = {}

    def knows_any(self, ids: AbstractSet[str]) -> bool:
        """Return whether any of the ids is remembered."""
        return not (self._young.keys().isdisjoint(ids) and self._old.keys().isdisjoint(ids))

    def label(self, id_: str) -> float | None:
        """Return the label that the id was seen with, None if it is not remembered."""
        label = self._young.get(id_)
        return self._old.get(id_) if label is None else label


class Intake:
    """Sorts ids at the door: what the fold remembers, plus what is on its way there."""

    def __init__(self, memory: IdMemory) -> None:
        self._memory = memory
        self._open: dict[str, float] = {}
        self._closed: list[dict[str, float]] = []

    def sort(self, ids: Text, labels: Floats) -> NDArray[np.int8]:
        """Return a Sight for each row, int8[n], and remember the ids until their window is folded."""
        fresh: dict[str, float] = dict(zip(ids, labels.tolist(), strict=True))  # type: ignore[arg-type]  # None: below
        if len(fresh) == len(ids) and None not in fresh and not self._knows_any(fresh.keys()):
            self._open.update(fresh)
            return np.zeros(len(ids), dtype=np.int8)
        sights = [self._sight(i, label) for i, label in zip(ids, labels.tolist(), strict=True)]
        return np.array(sights, dtype=np.int8)

    def _knows_any(self, ids: AbstractSet[str]) -> bool:
        waiting = (self._open, *self._closed)
        return any(not seen.keys().isdisjoint(ids) for seen in waiting) or self._memory.knows_any(ids)

    def _sight(self, id_: str | None, label: float) -> Sight:
        if id_ is None:
            return Sight.NEW
        known = self._label(id_)
        if known == label:
            return Sight.DUPLICATE
        self._open[id_] = label
        return Sight.NEW if known is None else Sight.CORRECTION

    def _label(self, id_: str) -> float | None:
        for seen in (self._open, *reversed(self._closed)):
            if id_ in seen:
                return seen[id_]
        return self._memory.label(id_)

    def close(self) -> None:
        """The open window was closed: its ids wait for the fold."""
        self._closed.append(self._open)
        self._open = {}

    def folded(self) -> None:
        """The oldest closed window was folded: the memory has its ids now."""
        del self._closed[0]


def beyond_marks(
    marks: Mapping[str, tuple[int, int]], origins: Sequence[str | None]
) -> tuple[NDArray[np.bool_], dict[str, tuple[int, int]]]:
    """Return which forwarded records are new, bool[n], and the marks that they move.

    A forwarder sends each origin partition in order and stops on failure, so whatever is at or below the
    mark of its origin has been taken in before, however long ago. Rows without an origin are new.
    """
    moved: dict[str, tuple[int, int]] = {}
    fresh = np.ones(len(origins), dtype=np.bool_)
    for i, origin in enumerate(origins):
        if origin is None:
            continue
        partition, offset, index = origin.rsplit("/", 2)
        at = (int(offset), int(index))
        fresh[i] = at > moved.get(partition, marks.get(partition, (-1, -1)))
        if fresh[i]:
            moved[partition] = at
    return fresh, moved
