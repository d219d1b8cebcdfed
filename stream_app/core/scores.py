"""The scores of one model: who said what before the label was known, and how good was it.

*Prequential* is the output just before learning; *served* is the prediction that was really given, by
whatever version was loaded then. The two are never mixed, and beside each stands what "the same label as
last time" and "the commonest label" would have scored under the same information.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_app.core.evaluation import Evaluation, Majority, NoChange, certain
from stream_app.core.shape import Shape
from stream_app.values import Floats, Rows


class Scores:
    """Evaluations of the online learner, the batch contenders, what was served, and the baselines."""

    def __init__(self, shape: Shape, *, delay: int) -> None:
        self._shape = shape
        self._online = Evaluation(shape)
        self._contenders: dict[str, Evaluation] = {}
        self._served = Evaluation(shape)
        self._served_no_change = Evaluation(shape)
        self._no_change = (NoChange(shape, delay=delay), Evaluation(shape))
        self._majority = (Majority(shape, delay=delay), Evaluation(shape))

    def follow(self, versions: Sequence[int]) -> None:
        """Score these batch versions from now on, and no others."""
        names = [str(v) for v in versions]
        self._contenders = {name: self._contenders.get(name, Evaluation(self._shape)) for name in names}

    def update(self, rows: Rows, online: Floats) -> None:
        """Score the outputs for these rows, float64[n] or float64[n, classes]."""
        self._online.update(online, rows.labels)
        for name, evaluation in self._contenders.items():
            if name in rows.outputs:
                evaluation.update(rows.outputs[name], rows.labels)
        for baseline, evaluation in (self._no_change, self._majority):
            evaluation.update(baseline.advance(rows.labels), rows.labels)
        self._update_served(rows)

    def _update_served(self, rows: Rows) -> None:
        if rows.served_outputs is None:
            return
        given = ~np.isnan(rows.served_outputs)
        self._served.update(certain(self._shape, rows.served_outputs[given]), rows.labels[given])
        if rows.served_known_labels is not None:
            known = rows.served_known_labels[given]
            self._served_no_change.update(certain(self._shape, known), rows.labels[given])

    def metrics(self) -> dict[str, Any]:
        """Return all scores, JSON-able."""
        return {
            "prequential": self._online.metrics(),
            "contenders": {name: evaluation.metrics() for name, evaluation in self._contenders.items()},
            "served": self._served.metrics(),
            "baselines": {
                "no_change": self._no_change[1].metrics(),
                "majority": self._majority[1].metrics(),
                "served_no_change": self._served_no_change.metrics(),
            },
        }

    def headline(self) -> dict[str, float | None]:
        """Return the online learner's scores, as a publication shows them."""
        return {name: None if value is None else float(value) for name, value in self._online.metrics().items()}
