"""The River adapter: any River estimator behind scaling and encoding, row by row."""

import copy
import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from river import compose

from stream_app.core.estimators import Estimator, describe, is_linear, weights
from stream_app.core.features import Preprocessing
from stream_app.core.outputs import as_array, reader
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.model_settings import LearnerSettings
from stream_app.values import Features, Floats, Task


class RiverContender:
    """Any River estimator behind scaling and encoding, row by row.

    Outputs and state equal those of `p = plain(); p.predict_proba_one(x); p.learn_one(x, y)` to the last bit.
    """

    def __init__(self, shape: Shape, learner: LearnerSettings, estimator: Estimator) -> None:
        self.algorithm = f"river:{describe(estimator)}"
        self.shape = shape
        # A linear model's missing column and its zero say the same; a tree must see the zero to split on it.
        self.steps = Preprocessing(shape, learner, zeros=not is_linear(estimator))
        self.estimator = estimator

    def advance(self, features: Features, labels: Floats) -> Floats:
        """Score, then learn, row by row; see `Contender`."""
        read, learn = reader(self.estimator, self.shape), self.estimator.learn_one
        outputs = []
        for (seen, learned), label in zip(self.steps.learn(features), self._targets(labels), strict=True):
            outputs.append(read(seen))
            learn(learned, label)
        return as_array(outputs, self.shape)

    def _targets(self, labels: Floats) -> Sequence[Any]:
        """Return labels as River wants them: booleans, the classes themselves, or numbers."""
        values: Sequence[Any] = (labels == 1.0 if self.shape.task is Task.BINARY else labels).tolist()
        if self.shape.task is not Task.MULTICLASS:
            return values
        return [self.shape.classes[int(code)] for code in values]

    def predict(self, features: Features) -> Floats:
        """Return the outputs without learning."""
        read = reader(self.estimator, self.shape)
        return as_array([read(row) for row in self.steps.read(features)], self.shape)

    def is_finite(self) -> bool:
        """Return whether every statistic and every linear weight is finite; see the outputs for other learners."""
        return self.steps.is_finite() and all(map(math.isfinite, weights(self.estimator)))

    def snapshot(self) -> bytes:
        """Return the pickled state."""
        return pickle.dumps((self.steps, self.estimator), protocol=pickle.HIGHEST_PROTOCOL)

    def restore(self, state: bytes) -> None:
        """Go back to a state; the caller has verified where the bytes come from."""
        self.steps, self.estimator = pickle.loads(state)

    def check(self) -> None:
        """Learn two rows with a twin; raises Misconfigured if this estimator cannot take rows of this shape."""
        twin = copy.copy(self)
        try:
            twin.restore(self.snapshot())
            twin.advance(*_examples(self.shape))
        except Exception as error:
            raise Misconfigured(
                f"online: {self.algorithm} cannot learn rows of this model: {error!r}; expected an estimator that can"
            ) from error

    def plain(self) -> compose.Pipeline:
        """Return a River pipeline in the same state, sharing nothing with this contender."""
        return compose.Pipeline(*self.steps.plain(), copy.deepcopy(self.estimator))


def _examples(shape: Shape) -> tuple[Features, Floats]:
    """Return two rows and two different labels."""
    steps = np.arange(2.0)
    numeric = np.repeat(steps[:, None], len(shape.numeric), axis=1)
    categorical = np.full((2, len(shape.categorical)), "a", dtype=object)
    return Features(numeric=numeric, categorical=categorical), steps
