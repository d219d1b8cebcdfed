"""A sieve for ids: says for sure which were never put in, and only suspects the others.

It holds a 64-bit hash of each id in open addressing tables that one compiled loop looks up and fills: 0.15
microseconds a row, where dictionaries of the ids themselves took 0.4 to 0.5, at the door and in the fold. Hashes are
Python's own and differ from process to process, so nothing of it may ever be stored.

Importing this module imports numba, which takes half a second: import it where it is needed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]

#: Slots of an empty table, a power of two as all sizes are.
_SMALLEST: Final = 1 << 12
#: Marks an empty slot; an id with this hash is taken for the one with hash 1, which is only a suspicion more.
_EMPTY: Final = np.uint64(0)


class Sieve:
    """Two generations of tables; `turn` drops the older one."""

    def __init__(self) -> None:
        """Start empty, compiled."""
        self._young, self._old = _table(_SMALLEST), _table(_SMALLEST)
        self._filled = 0
        self.suspects([""])
        self.turn(())
        self.turn(())

    def suspects(self, ids: Sequence[str | None]) -> NDArray[np.bool_]:
        """Return which ids may have been put in before, those ahead in this call too, bool[n]; put all of them in."""
        hashes = np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids)).view(np.uint64)
        self._make_room(len(ids))
        known = np.empty(len(ids), dtype=np.bool_)
        self._filled += _sift(hashes, self._young, self._old, known)
        return known

    def turn(self, kept: Iterable[Sequence[str | None]]) -> None:
        """Drop the older generation, make the younger one the older, and begin the next with what is `kept`."""
        self._old, self._young = self._young, _table(_SMALLEST)
        self._filled = 0
        for ids in kept:
            self.suspects(ids)

    def _make_room(self, count: int) -> None:
        """Keep the younger table at most half full: probing stays short."""
        needed = 2 * (self._filled + count)
        if needed > len(self._young):
            grown = _table(1 << (2 * needed - 1).bit_length())
            held = self._young[self._young != _EMPTY]
            _sift(held, grown, _table(_SMALLEST), np.empty(len(held), dtype=np.bool_))
            self._young = grown


def _table(size: int) -> Hashes:
    return np.zeros(size, dtype=np.uint64)


def _compiled(loop: Any) -> Any:  # noqa: ANN401 - numba has no types
    # with the interpreter's lock held, unlike the learners' loops: it is over before another thread has woken up,
    # and getting the lock back would cost more than all of it
    try:
        return njit(cache=True)(loop)
    except RuntimeError:  # no folder to keep machine code in
        return njit(loop)


@_compiled
def _sift(hashes: Hashes, young: Hashes, old: Hashes, known: NDArray[np.bool_]) -> int:
    """Look hashes up in both tables, put them into the young one; return how many were not there.

    Those that the old one has, too: they were seen again, and must be known for two more turns.
    """
    fresh = 0
    for i in range(len(hashes)):
        wanted = hashes[i] if hashes[i] != np.uint64(0) else np.uint64(1)
        # hashes of similar texts may differ in few bits: multiplying spreads them over the table
        spread = wanted * np.uint64(0x9E3779B97F4A7C15)
        at = _find(wanted, spread, young)
        known[i] = young[at] == wanted or old[_find(wanted, spread, old)] == wanted
        if young[at] != wanted:
            young[at] = wanted
            fresh += 1
    return fresh


@_compiled
def _find(wanted: np.uint64, spread: np.uint64, table: Hashes) -> np.uint64:
    """Return the slot that holds the hash, or the empty one where it belongs."""
    mask = np.uint64(len(table) - 1)
    at = (spread >> np.uint64(20)) & mask
    while table[at] != np.uint64(0) and table[at] != wanted:
        at = (at + np.uint64(1)) & mask
    return at
