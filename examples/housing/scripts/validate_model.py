# noqa: INP001 - a script, not a package
"""Leave with 0 if what serves is worth serving, with 1 if not: for a build, after a retrain.

It is when its mean absolute error over the newest 1,000 records, each predicted before it was learned, is below
that of who always answers with the mean so far. Run it in the folder of stream_app.toml.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.errors import StreamAppError

MODEL: Final = "housing"
SCORE: Final = "rolling_mae"


def main() -> int:
    """Compare, say what was found, and return the exit code."""
    try:
        is_worth_it, found = judged()
    except StreamAppError as error:
        is_worth_it, found = False, str(error)
    print(f"{MODEL}: {found}")  # noqa: T201 - it is a script
    return 0 if is_worth_it else 1


def judged() -> tuple[bool, str]:
    """Return whether what serves is worth it, and the numbers."""
    rooms = Rooms(configuration.load(Path("stream_app.toml"), {}))
    facts = next((facts for facts in rooms.registry.models() if facts["name"] == MODEL), None)
    newest = rooms.log.metrics(MODEL, newest=1) if facts else []
    if facts is None or not newest:
        return False, "nothing learned yet"
    served, baseline = _scores(newest[0], str(facts["champion"]))[SCORE], newest[0]["baselines"]["majority"][SCORE]
    numbers = f"version {facts['champion']}: {SCORE} {served}, who says the mean so far: {baseline}"
    return served is not None and served < baseline, numbers


def _scores(metrics: Mapping[str, Any], champion: str) -> dict[str, Any]:
    """Return the scores of the version that serves: a fitted one, or else the online learner."""
    scores: dict[str, Any] = metrics["contenders"].get(champion, metrics["prequential"])
    return scores


if __name__ == "__main__":
    sys.exit(main())
