"""How long a worker has been waiting for its partitions, and what to say about it."""

from typing import Final

#: Seconds without a word; joining a group of the living takes less.
SILENT_S: Final = 5.0


class Joining:
    """The wait between giving partitions up, or starting, and the end of the group's rebalance.

    Time is an argument, in seconds.
    """

    def __init__(self, session_timeout_s: float) -> None:
        """A member that did not say goodbye holds a rebalance up for as long as its session lasts."""
        self._session_timeout_s = session_timeout_s
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """Wait from now on, if not since before."""
        if self._since is None:
            self._since = now

    def end(self) -> None:
        """Wait no more: the group said which partitions are ours, if any."""
        self._since = None

    def overdue(self, now: float) -> str | None:
        """Return what to say about a wait that is long by now, once for each wait."""
        if self._since is None or now - self._since < SILENT_S:
            return None
        self._since = float("inf")
        return (
            "waiting for partitions: the group waits up to kafka.session_timeout_s "
            f"({self._session_timeout_s:g} s) for a member that did not say goodbye"
        )
