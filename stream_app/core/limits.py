"""When a stream is too broken to go on with."""

from collections import deque


class BadShare:
    """Watches the share of bad records among the newest ones.

    A broken producer makes every record bad; draining its topic into the dead letters would move the position
    over data that a corrected reader could still have read.
    """

    def __init__(self, max_share: float, over_records: int) -> None:
        self._max_share = max_share
        self._over = over_records
        self._newest: deque[tuple[int, int]] = deque()
        self._seen = 0
        self._bad = 0

    def add(self, seen: int, bad: int) -> float | None:
        """Note `bad` among `seen` records; return the share if it is above the limit, else None."""
        self._newest.append((seen, bad))
        self._seen += seen
        self._bad += bad
        while self._seen - self._newest[0][0] >= self._over:
            gone, gone_bad = self._newest.popleft()
            self._seen -= gone
            self._bad -= gone_bad
        share = self._bad / max(self._seen, 1)
        return share if self._seen >= self._over and share > self._max_share else None
