"""Finds partitions that stand still although there is something to read.

Faust is known to stop fetching a partition for good after some outages, with no agreed cause; a restart helps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

#: By partition; the keys are pairs of topic and number, as a tuple or Faust's TP.
Offsets: TypeAlias = Mapping[Any, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A partition that waits."""

    #: (topic, number)
    place: tuple[str, int]
    #: next offset to take in
    position: int
    #: when it was first seen there with something to read, in the clock's seconds
    since: float


class Watchdog:
    """Looks at how far partitions are, again and again; time is an argument."""

    def __init__(self, stuck_after_s: float) -> None:
        """A partition is stuck after so many seconds of lag without progress."""
        #: seconds
        self.stuck_after_s = stuck_after_s
        self._standing: dict[tuple[str, int], Standing] = {}
        self._now = 0.0
        #: offsets between the next to take in and the end, by partition, at the last look
        self.lag: Mapping[tuple[str, int], int] = {}

    def look(self, positions: Offsets, ends: Offsets, now: float) -> None:
        """Take in the next offsets to read and the ends; partitions that are not named are no longer ours."""
        self._now = now
        self.lag = {place: max(0, ends[place] - position) for place, position in positions.items() if place in ends}
        self._standing = {
            place: self._still(place, positions[place], now) for place, behind in self.lag.items() if behind
        }

    def stuck(self) -> str | None:
        """Return which partition stands still and since when, None when none does."""
        for standing in self._standing.values():
            waited_s = self._now - standing.since
            if waited_s >= self.stuck_after_s:
                topic, number = standing.place
                return (
                    f"{topic}/{number} stands at offset {standing.position} for {waited_s:.0f} s "
                    f"although {self.lag[standing.place]} offsets follow"
                )
        return None

    def _still(self, place: tuple[str, int], position: int, now: float) -> Standing:
        before = self._standing.get(place)
        if before is not None and before.position == position:
            return before
        return Standing(place=place, position=position, since=now)
