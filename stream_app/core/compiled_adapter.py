"""The compiled adapter: scaled linear models with SGD, bit for bit what River says, many times faster.

Its state lives in arrays and moves into River's objects whenever somebody asks for it, so what is saved and
published is plain River, and either adapter goes on from the other's snapshot. Importing it imports numba.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
from river import compose, linear_model, multiclass, optim, preprocessing
from river.utils import VectorDict

from stream_app.core import linear
from stream_app.core.estimators import Estimator, inner
from stream_app.core.kernels import loopable
from stream_app.core.river_adapter import RiverContender
from stream_app.values import Features, Floats, Task

Learn: TypeAlias = Callable[[linear.Heads, linear.Options, linear.Rows], Floats]
Predict: TypeAlias = Callable[[linear.Heads, Floats, Floats], Floats]

#: The loops that learn and that predict, by River class.
LOOPS: Final[Mapping[type, tuple[Learn, Predict]]] = {
    linear_model.LogisticRegression: (linear.learn_binary, linear.predict_binary),
    linear_model.LinearRegression: (linear.learn_values, linear.predict_values),
    preprocessing.TargetStandardScaler: (linear.learn_scaled, linear.predict_scaled),
    multiclass.OneVsRestClassifier: (linear.learn_classes, linear.predict_classes),
}


class CompiledContender:
    """A River contender whose loops are compiled; see `Contender`."""

    def __init__(self, river: RiverContender) -> None:
        """`river` carries the state between windows' loops; it must be one that the loops know."""
        self.algorithm = river.algorithm
        self._river = river
        self._many = river.shape.task is Task.MULTICLASS
        self._learn, self._predict = LOOPS[type(river.estimator)]
        self._load()
        self._warm()

    def _warm(self) -> None:
        """Compile now, on no rows, rather than in the middle of the first window."""
        none = Features(numeric=np.empty((0, len(self._river.shape.numeric))), categorical=np.empty((0, 0), object))
        self.advance(none, np.empty(0))
        self.predict(none)

    def advance(self, features: Features, labels: Floats) -> Floats:
        """Score, then learn, row by row; raises ValueError, having learned nothing, for what does not fit the shape."""
        x, codes = self._columns(features), self._codes(labels, len(features))
        before, after = self._river.steps.numbers.learn(x)
        rows = linear.Rows(x=x, before=before, after=after, labels=codes)
        return self._learn(self._heads, self._options, rows)

    def predict(self, features: Features) -> Floats:
        """Return the outputs without learning; raises ValueError for what does not fit the shape."""
        x = self._columns(features)
        return self._predict(self._heads, x, self._river.steps.numbers.read(x))

    def _columns(self, features: Features) -> Floats:
        # once a window, since the loops check no index: what does not fit would be read outside of the arrays
        found = (*features.numeric.shape[1:], *features.categorical.shape[1:])
        if found != (self._heads.weights.shape[1], 0):
            numbers = self._heads.weights.shape[1]
            raise ValueError(f"rows have {found} numeric and categorical columns, expected ({numbers}, 0)")
        return loopable(features.numeric)

    def _codes(self, labels: Floats, rows: int) -> Floats:
        if labels.shape != (rows,):
            raise ValueError(f"labels are of shape {labels.shape}, expected ({rows},): one for each row")
        classes = len(self._heads.intercepts)
        # written so that NaN, which is no class either, does not pass
        if self._many and not np.all((labels >= 0) & (labels < classes)):
            raise ValueError(f"labels hold a code outside of 0 to {classes - 1}, expected those of the classes")
        return loopable(labels)

    def is_finite(self) -> bool:
        """Return whether every statistic and every weight is finite."""
        state = (self._heads.weights, self._heads.intercepts, self._heads.target)
        return all(bool(np.isfinite(part).all()) for part in state) and self._river.steps.is_finite()

    def snapshot(self) -> bytes:
        """Return the state as the River adapter would."""
        self._store()
        return self._river.snapshot()

    def restore(self, state: bytes) -> None:
        """Go back to a state of either adapter."""
        self._river.restore(state)
        self._load()

    def plain(self) -> compose.Pipeline:
        """Return a River pipeline in the same state, sharing nothing with this contender."""
        self._store()
        return self._river.plain()

    def _load(self) -> None:
        """Read options and state out of the River estimator."""
        prototype = inner(self._river.estimator)
        self._options = _options(prototype)
        self._heads = self._empty_heads(prototype.intercept)
        if isinstance(self._river.estimator, preprocessing.TargetStandardScaler):
            self._heads.target[:] = _target(self._river.estimator.var)
        for place, (head, model) in enumerate(self._models().items()):
            self._heads.order[place] = head
            self._heads.weights[head] = [model.weights.get(name, 0.0) for name in self._river.shape.numeric]
            self._heads.intercepts[head] = model.intercept
            self._heads.steps[head] = model.optimizer.n_iterations
            self._heads.seen[0] = place + 1

    def _empty_heads(self, intercept: float) -> linear.Heads:
        count = len(self._river.shape.classes) if self._many else 1
        return linear.Heads(
            weights=np.zeros((count, len(self._river.shape.numeric))),
            intercepts=np.full(count, intercept, dtype=np.float64),
            steps=np.zeros(count, dtype=np.int64),
            order=np.zeros(count, dtype=np.int64),
            seen=np.zeros(1, dtype=np.int64),
            target=np.zeros(3),
        )

    def _models(self) -> Mapping[int, Estimator]:
        """Return River's linear models by head, in the order in which their classes were first seen."""
        if not self._many:
            return {0: inner(self._river.estimator)}
        classes = self._river.shape.classes
        return {classes.index(label): model for label, model in self._river.estimator.classifiers.items()}

    def _store(self) -> None:
        """Write the state into the River estimator."""
        self._add_met_classes()
        if isinstance(self._river.estimator, preprocessing.TargetStandardScaler):
            _set_target(self._river.estimator.var, self._heads.target)
        for head, model in self._models().items():
            # The only way in: River has no public setter, and `_weights` is what its own learning replaces.
            model._weights = VectorDict(self._named_weights(head))  # noqa: SLF001 - see above
            model.intercept = float(self._heads.intercepts[head])
            model.optimizer.n_iterations = int(self._heads.steps[head])

    def _add_met_classes(self) -> None:
        if not self._many:
            return
        estimator, classes = self._river.estimator, self._river.shape.classes
        for head in self._heads.order[: self._heads.seen[0]].tolist():
            if classes[head] not in estimator.classifiers:
                estimator.classifiers[classes[head]] = estimator.classifier.clone()

    def _named_weights(self, head: int) -> dict[str, float]:
        """Return the weights by name; none before the first step, as in River."""
        if not self._heads.steps[head]:
            return {}
        return dict(zip(self._river.shape.numeric, self._heads.weights[head].tolist(), strict=True))


# River's `Var` has no public way in that keeps the bits: `_from_state` takes the variance and multiplies it back.
def _target(var: Estimator) -> tuple[float, float, float]:
    return var.mean.n, var.mean.get(), var._S  # noqa: SLF001 - see above


def _set_target(var: Estimator, target: Floats) -> None:
    var.mean.n, var.mean._mean, var._S = target.tolist()  # noqa: SLF001 - see above


def _options(model: Estimator) -> linear.Options:
    return linear.Options(
        l2=float(model.l2),
        clip=float(model.clip_gradient),
        positive=float(getattr(model.loss, "weight_pos", 1.0)),
        negative=float(getattr(model.loss, "weight_neg", 1.0)),
        rate=_schedule(model.optimizer.lr),
        intercept_rate=_schedule(model.intercept_lr),
    )


def _schedule(scheduler: Estimator) -> Floats:
    """Return what `linear.Options` says of a River scheduler."""
    if isinstance(scheduler, optim.schedulers.InverseScaling):
        return np.array([linear.INVERSE, scheduler.learning_rate, scheduler.power])
    if isinstance(scheduler, optim.schedulers.Optimal):
        return np.array([linear.OPTIMAL, scheduler.alpha, scheduler.t0])
    return np.array([linear.CONSTANT, scheduler.learning_rate, 0.0])
