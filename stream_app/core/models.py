"""Online learners behind one face: a window in, outputs out, row by row inside.

`build` chooses the adapter. The River adapter takes every River estimator; the compiled one takes the
commonest pipelines, says the same to the last bit, and is two orders of magnitude faster.
"""

import copy
import math
import pickle
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from river import compose

from stream_app.core.contenders import Contender
from stream_app.core.estimators import Estimator, build_estimator, is_linear, weights
from stream_app.core.features import Preprocessing
from stream_app.core.outputs import as_array, reader
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.settings import LearnerSettings
from stream_app.values import Features, Floats, Task

#: Libraries whose release may move a bit of the state.
LIBRARIES: Final = ("river", "numpy", "numba")


def fold_libraries() -> dict[str, str]:
    """Return the versions that belong into the fold digest."""
    return {name: version(name) for name in LIBRARIES}


def build(shape: Shape, learner: LearnerSettings, seed: int) -> Contender:
    """Return a fresh online learner for rows of this shape.

    Raises Misconfigured, naming the key, for a name, parameter or combination that cannot work.
    """
    _check_columns(shape, learner)
    estimator = build_estimator(shape, learner, seed)
    contender = RiverContender(shape, learner, estimator)
    contender.check()
    return contender


def _check_columns(shape: Shape, learner: LearnerSettings) -> None:
    """Refuse a number whose name a one-hot column could take: one would silently overwrite the other."""
    if learner.encode != "one_hot":
        return
    for category in shape.categorical:
        for number in shape.numeric:
            if number.startswith(f"{category}_") and number.removeprefix(f"{category}_").isdigit():
                raise Misconfigured(
                    f"features.{number}: collides with the one-hot columns of {category!r}; "
                    "expected another name, or online.encode = 'ordinal'"
                )


class RiverContender:
    """Any River estimator behind scaling and encoding, row by row.

    Outputs and state equal those of `p = plain(); p.predict_proba_one(x); p.learn_one(x, y)` to the last bit.
    """

    def __init__(self, shape: Shape, learner: LearnerSettings, estimator: Estimator) -> None:
        self.algorithm = f"river:{type(estimator).__name__}"
        self._shape = shape
        # A linear model's missing column and its zero say the same; a tree must see the zero to split on it.
        self._steps = Preprocessing(shape, learner, zeros=not is_linear(estimator))
        self._estimator = estimator

    def advance(self, features: Features, labels: Floats) -> Floats:
        """Score, then learn, row by row; see `Contender`."""
        read, learn = reader(self._estimator, self._shape), self._estimator.learn_one
        outputs = []
        for (seen, learned), label in zip(self._steps.learn(features), self._targets(labels), strict=True):
            outputs.append(read(seen))
            learn(learned, label)
        return as_array(outputs, self._shape)

    def _targets(self, labels: Floats) -> Sequence[Any]:
        """Return labels as River wants them: booleans, the classes themselves, or numbers."""
        values: Sequence[Any] = (labels == 1.0 if self._shape.task is Task.BINARY else labels).tolist()
        if self._shape.task is not Task.MULTICLASS:
            return values
        return [self._shape.classes[int(code)] for code in values]

    def predict(self, features: Features) -> Floats:
        """Return the outputs without learning."""
        read = reader(self._estimator, self._shape)
        return as_array([read(row) for row in self._steps.read(features)], self._shape)

    def is_finite(self) -> bool:
        """Return whether every statistic and every linear weight is finite; see the outputs for other learners."""
        return self._steps.is_finite() and all(map(math.isfinite, weights(self._estimator)))

    def snapshot(self) -> bytes:
        """Return the pickled state."""
        return pickle.dumps((self._steps, self._estimator), protocol=pickle.HIGHEST_PROTOCOL)

    def restore(self, state: bytes) -> None:
        """Go back to a state; the caller has verified where the bytes come from."""
        self._steps, self._estimator = pickle.loads(state)

    def check(self) -> None:
        """Learn two rows with a twin; raises Misconfigured if this estimator cannot take rows of this shape."""
        twin = copy.copy(self)
        try:
            twin.restore(self.snapshot())
            twin.advance(*_examples(self._shape))
        except Exception as error:
            raise Misconfigured(
                f"online: {self.algorithm} cannot learn rows of this model: {error!r}; expected an estimator that can"
            ) from error

    def plain(self) -> compose.Pipeline:
        """Return a River pipeline in the same state, sharing nothing with this contender."""
        return compose.Pipeline(*self._steps.plain(), copy.deepcopy(self._estimator))


def _examples(shape: Shape) -> tuple[Features, Floats]:
    """Return two rows and two different labels."""
    steps = np.arange(2.0)
    numeric = np.repeat(steps[:, None], len(shape.numeric), axis=1)
    categorical = np.full((2, len(shape.categorical)), "a", dtype=object)
    return Features(numeric=numeric, categorical=categorical), steps
