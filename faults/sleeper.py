"""`python -m faults.sleeper POINT:N COMMAND…`: stream-app, which falls asleep at the n-th pass through a crash point.

It stops itself with SIGSTOP, as a paused container or a swapping machine would stop it, at the very place where
that hurts most. Whoever sends SIGCONT wakes it there.
"""

import os
import signal
import sys
from collections import Counter

from stream_app import crashpoints


def fall_asleep_at(name: str, count: int) -> None:
    """Replace the crash points; must happen before any other module of the package is imported."""
    passes: Counter[str] = Counter()

    def sleepy(point: str) -> None:
        passes[point] += 1
        if point == name and passes[point] == count:
            os.kill(os.getpid(), signal.SIGSTOP)

    crashpoints.crashpoint = sleepy  # type: ignore[assignment] # only the name of its argument differs


def main() -> None:
    """Run the command that the other arguments name."""
    name, _, count = sys.argv[1].partition(":")
    if name not in crashpoints.POINTS:
        sys.exit(f"there is no crash point {name!r}, expected one of: {', '.join(crashpoints.POINTS)}")
    fall_asleep_at(name, int(count or 1))
    from stream_app.cli import main as command  # noqa: PLC0415 - it must see the replaced crash points

    command(sys.argv[2:])


if __name__ == "__main__":
    main()
