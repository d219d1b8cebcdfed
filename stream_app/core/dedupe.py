"""Recognising what was learned before: by id within a horizon, by origin for ever."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

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


#: Of ids in characters, -1 for None.
Lengths: TypeAlias = NDArray[np.int32]


@dataclass(slots=True)
class Seen:
    """Ids with their labels, as they came."""

    #: ids (None: a row without one) and labels of equal length, a window each
    parts: list[tuple[Text, Floats]] = field(default_factory=list)
    #: ids, repeated ones counted each time
    count: int = 0

    def add(self, ids: Text, labels: Floats) -> None:
        """Add a window."""
        self.parts.append((ids, labels))
        self.count += len(ids) - ids.count(None)

    def __getstate__(self) -> tuple[list[tuple[str, Lengths, Floats]], int]:
        """Return one text for all ids of a window: a pickle would remember each of them by itself."""
        return [(*_joined(ids), labels) for ids, labels in self.parts], self.count

    def __setstate__(self, state: tuple[list[tuple[str, Lengths, Floats]], int]) -> None:
        """Take the texts apart again."""
        packed, self.count = state
        self.parts = [(_taken_apart(text, lengths), labels) for text, lengths, labels in packed]


def _joined(ids: Text) -> tuple[str, Lengths]:
    lengths = np.fromiter((-1 if id_ is None else len(id_) for id_ in ids), dtype=np.int32, count=len(ids))
    return "".join(filter(None, ids)), lengths


def _taken_apart(text: str, lengths: Lengths) -> Text:
    ends = np.cumsum(np.maximum(lengths, 0)).tolist()
    found = [text[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
    return [None if length < 0 else id_ for id_, length in zip(found, lengths.tolist(), strict=True)]


class IdMemory:
    """The ids of at least the newest `horizon` rows that have one, and their labels; part of the folded state.

    Two generations: the older is dropped as a whole when the younger is full, so that memory is bounded by
    twice the horizon and forgetting costs nothing per row. Nothing is looked up here: that is the intake's,
    which has better means than a state that has to be stored.
    """

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        #: the younger and the older one; replaced together, since intake reads them from another thread
        self.generations = (Seen(), Seen())

    def remember(self, ids: Text, labels: Floats) -> None:
        """Take in ids (None: nothing to remember) with their labels; the newest label counts."""
        young, _ = self.generations
        young.add(ids, labels)
        if young.count >= self._horizon:
            self.generations = (Seen(), young)


class _Index:
    """The newest label of each id of what was seen, looked up exactly; made when first asked, and kept up."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self._labels: dict[str | None, float] = {}
        self._upto = 0

    def label(self, id_: str) -> float | None:
        """Return the label that the id was seen with, None if it was not."""
        while self._upto < len(self.seen.parts):  # another thread may append to it
            ids, labels = self.seen.parts[self._upto]
            self._labels.update(zip(ids, labels.tolist(), strict=True))
            self._upto += 1
        return self._labels.get(id_)


class Intake:
    """Sorts ids at the door: what the fold remembers, plus what is on its way there.

    A sieve lets new ids through; what it suspects is looked up exactly. It holds whatever the memory and the
    windows on their way hold, and turns its generations after the memory does.
    """

    def __init__(self, memory: IdMemory) -> None:
        """Start with what the memory has; nobody may be folding yet."""
        from stream_app.core.sieve import Sieve  # noqa: PLC0415 - numba loads when first needed

        self._memory = memory
        self._young, self._old = map(_Index, memory.generations)
        self._open = _Index(Seen())
        self._closed: list[_Index] = []
        self._sieve = Sieve()
        self._sieve.turn(ids for ids, _ in self._old.seen.parts)
        self._sieve.turn(ids for ids, _ in self._young.seen.parts)
        self._turned_for = memory.generations[0]

    def sort(self, ids: Text, labels: Floats) -> NDArray[np.int8]:
        """Return a Sight for each row, int8[n], and remember the ids until their window is folded."""
        sights = np.zeros(len(ids), dtype=np.int8)
        suspects = self._sieve.suspects(ids)
        if suspects.any():
            self._look_closer(ids, labels, {ids[i] for i in np.flatnonzero(suspects).tolist()} - {None}, sights)
        self._open.seen.add(ids, labels)
        return sights

    def _look_closer(self, ids: Text, labels: Floats, suspects: set[str | None], sights: NDArray[np.int8]) -> None:
        before: dict[str | None, float | None] = {id_: self._label(id_) for id_ in suspects if id_ is not None}
        for i, id_ in enumerate(ids):
            if id_ in suspects:
                known, label = before[id_], float(labels[i])
                if known is not None:
                    sights[i] = Sight.DUPLICATE if known == label else Sight.CORRECTION
                before[id_] = label

    def _label(self, id_: str) -> float | None:
        self._follow()
        places = (self._open, *reversed(self._closed), self._young, self._old)
        return next((label for place in places if (label := place.label(id_)) is not None), None)

    def _follow(self) -> None:
        """Turn to the memory's generations of now."""
        young, old = self._memory.generations
        if young is not self._young.seen:
            self._old = self._young if old is self._young.seen else _Index(old)
            self._young = _Index(young)

    def close(self) -> None:
        """The open window was closed: its ids wait for the fold."""
        self._closed.append(self._open)
        self._open = _Index(Seen())

    def folded(self) -> None:
        """The oldest closed window was folded: the memory has its ids now."""
        del self._closed[0]
        if self._memory.generations[0] is not self._turned_for:
            self._turned_for = self._memory.generations[0]
            self._sieve.turn(ids for place in (*self._closed, self._open) for ids, _ in place.seen.parts)


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
