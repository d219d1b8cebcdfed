"""Previous labels as features, honest about when a label becomes known.

A prediction for record i can use the labels of records up to i - 1 - delay and no newer ones. Training uses
exactly the same ones, so that what looks good in the log is also good in service.
"""

import numpy as np

from stream_app.values import Features, Floats


class PreviousLabels:
    """Appends the newest `count` labels known at prediction time, newest first, as numeric columns."""

    def __init__(self, count: int, delay: int) -> None:
        self._count = count
        self._delay = delay
        #: the newest count + delay labels, oldest first; NaN where the log is not that old yet
        self._tail: Floats = np.full(count + delay, np.nan)

    def names(self) -> tuple[str, ...]:
        """Return the names of the appended columns."""
        return tuple(f"previous_label_{i + 1}" for i in range(self._count))

    def append(self, features: Features, labels: Floats) -> Features:
        """Return features float64[n, k + count] for n records with these labels, and remember the labels."""
        if not self._count:
            return features
        known = np.concatenate([self._tail, labels])
        newest = self._count - 1 + np.arange(len(labels))
        columns = [known[newest - i] for i in range(self._count)]
        self._tail = known[len(labels) :]
        return Features(numeric=np.column_stack([features.numeric, *columns]), categorical=features.categorical)

    def append_known(self, features: Features) -> Features:
        """Return features with the newest known labels for records whose own labels are not known yet."""
        if not self._count:
            return features
        known = np.tile(self.known(), (len(features), 1))
        return Features(numeric=np.column_stack([features.numeric, known]), categorical=features.categorical)

    def known(self) -> Floats:
        """Return the newest `count` labels that a prediction made now may use, newest first."""
        return self._tail[: self._count][::-1].copy()
