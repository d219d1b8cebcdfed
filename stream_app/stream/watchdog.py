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
    #: offsets that follow
    lag: int
    #: when it was first seen there with something to read, and last, in the clock's seconds
    since: float
    seen: float


class Watchdog:
    """Looks at how far partitions are, again and again; time is an argument. Answers on any thread."""

    def __init__(self, stuck_after_s: float) -> None:
        """A partition is stuck after so many seconds of lag without progress."""
        #: seconds
        self.stuck_after_s = stuck_after_s
        #: offsets between the next to take in and the end, by partition, at the last look
        self.lag: Mapping[tuple[str, int], int] = {}
        self._standing: Mapping[tuple[str, int], Standing] = {}

    def look(self, positions: Offsets, ends: Offsets, now: float) -> None:
        """Take in the next offsets to read and the ends; partitions that are not named are no longer ours."""
        self.lag = {place: max(0, ends[place] - position) for place, position in positions.items() if place in ends}
        self._standing = {place: self._stand(place, positions[place], now) for place in self.lag if self.lag[place]}

    def stuck(self) -> str | None:
        """Return which partition stands still and since when, None when none does."""
        for standing in self._standing.values():
            waited_s = standing.seen - standing.since
            if waited_s >= self.stuck_after_s:
                topic, number = standing.place
                return (
                    f"{topic}/{number} stands at offset {standing.position} for {waited_s:.0f} s "
                    f"although {standing.lag} offsets follow"
                )
        return None

    def _stand(self, place: tuple[str, int], position: int, now: float) -> Standing:
        before = self._standing.get(place)
        since = before.since if before is not None and before.position == position else now
        return Standing(place=place, position=position, lag=self.lag[place], since=since, seen=now)
