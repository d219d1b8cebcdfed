"""Online learners by their settings: one face, two adapters.

The River adapter takes every River estimator. The compiled one takes the commonest pipelines, says the same to
the last bit, and is some thirty times faster.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from river import linear_model, optim

from stream_app.core.contenders import Contender
from stream_app.core.estimators import Estimator, build_estimator, inner
from stream_app.core.river_adapter import RiverContender
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.model_settings import LearnerSettings
from stream_app.values import Task

#: Libraries whose release may move a bit of the state.
LIBRARIES: Final = ("river", "numpy", "numba")
#: What the compiled adapter knows; exact types, since a subclass may do something else.
LOSSES: Final[Mapping[object, object]] = {
    linear_model.LogisticRegression: optim.losses.Log,
    linear_model.LinearRegression: optim.losses.Squared,
}
SCHEDULERS: Final = (optim.schedulers.Constant, optim.schedulers.InverseScaling, optim.schedulers.Optimal)


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
    misfit = _misfit(shape, learner, estimator)
    if learner.adapter == "compiled" and misfit is not None:
        raise Misconfigured(f"online.adapter: 'compiled' does not apply: {misfit}; expected 'auto' or 'river'")
    if learner.adapter == "river" or misfit is not None:
        return contender
    from stream_app.core.compiled_adapter import CompiledContender  # noqa: PLC0415 - numba loads when it is needed

    return CompiledContender(contender)


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


def _misfit(shape: Shape, learner: LearnerSettings, estimator: Estimator) -> str | None:
    """Return why the compiled adapter cannot stand in for River's pipeline, None if it can."""
    model = inner(estimator)
    if shape.categorical:
        return f"it takes numbers only, and {shape.categorical[0]!r} is a category"
    if not (shape.numeric and learner.scale):
        return "it takes scaled numbers only (online.scale = true)"
    if shape.task is Task.BINARY and model is not estimator:
        return f"it knows no {type(estimator).__name__} for two classes"
    if type(model) not in LOSSES:
        return f"it knows no {type(model).__name__}"
    return _unknown_part(model)


def _unknown_part(model: Estimator) -> str | None:
    known = {
        "optimizer": type(model.optimizer) is optim.SGD,
        "optimizer.lr": type(model.optimizer.lr) in SCHEDULERS,
        "intercept_lr": type(model.intercept_lr) in SCHEDULERS,
        "loss": type(model.loss) is LOSSES[type(model)],
        "initializer": type(model.initializer) is optim.initializers.Zeros,
        "l1": not model.l1,
    }
    strange = [name for name, ok in known.items() if not ok]
    return f"it does not know this online.params.{strange[0]}" if strange else None
