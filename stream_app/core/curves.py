"""The area under the ROC curve from counts, exact but for one division."""

from operator import mul

import numpy as np
from numpy.typing import NDArray

from stream_app.values import Floats, Ints


def area(positives: Ints, negatives: Ints) -> float | None:
    """Return P(score of a positive > score of a negative), ties counted half; None without both.

    Shapes: int64[m] each, the counts at m rising scores (Mann and Whitney 1947: the area is their U statistic).
    """
    pairs = int(positives.sum()) * int(negatives.sum())
    if not pairs:
        return None
    twice_below = 2 * np.cumsum(negatives) - negatives
    wins: int = sum(map(mul, positives.tolist(), twice_below.tolist()))
    return wins / (2 * pairs)


def exact_area(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Return the area for float64[n] scores and bool[n], each distinct score a threshold."""
    thresholds, places = np.unique(scores, return_inverse=True)
    count = len(thresholds)
    return area(np.bincount(places[positive], minlength=count), np.bincount(places[~positive], minlength=count))


def mean_area(areas: list[float | None]) -> float | None:
    """Return the mean over the classes that have an area (the macro average of one against the rest)."""
    known = [a for a in areas if a is not None]
    return sum(known) / len(known) if known else None
