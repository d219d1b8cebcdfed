"""River estimators by dotted name: resolved below `river` only, built with seeds, checked against the task."""

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final, TypeAlias

from river import base, linear_model, multiclass, preprocessing
from river.base.base import Base

from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.model_settings import LearnerSettings
from stream_app.values import Task

#: A River estimator. Its own annotations cover only a part of its methods, so they are of no use here.
Estimator: TypeAlias = Any
#: In a parameter, `{"class": "optim.SGD", "lr": 0.1}` builds an object.
CLASS_KEY: Final = "class"
#: With River's own parameters: SGD with step 0.01, no penalty; never unstable for classes, whose gradients are
#: bounded. Those of squares are not: far rows of the housing data drove a bare `LinearRegression` to a root mean
#: squared error of 7e10, so the target is scaled as well and gradients are clipped at one standard deviation.
DEFAULTS: Final[Mapping[Task, str]] = {
    Task.BINARY: "linear_model.LogisticRegression",
    Task.MULTICLASS: "multiclass.OneVsRestClassifier",
    Task.REGRESSION: "preprocessing.TargetStandardScaler",
}
#: What stands inside the defaults that wrap another learner, unless the settings say.
INNER: Final[Mapping[str, Mapping[str, Any]]] = {
    DEFAULTS[Task.MULTICLASS]: {"classifier": {CLASS_KEY: DEFAULTS[Task.BINARY]}},
    DEFAULTS[Task.REGRESSION]: {"regressor": {CLASS_KEY: "linear_model.LinearRegression", "clip_gradient": 1.0}},
}
_DOTTED = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")


def build_estimator(shape: Shape, learner: LearnerSettings, seed: int) -> Estimator:
    """Return the learner that the settings name, every random part of it seeded.

    Raises Misconfigured, naming the key, for a name that is not River's, for wrong parameters, for an
    estimator of another task and for randomness that no seed governs.
    """
    name = learner.name or DEFAULTS[shape.task]
    built = _seeded(_build(name, {**INNER.get(name, {}), **learner.params}, seed, key="online"), seed)
    _check_task(built, shape.task, name)
    for part in _unseeded(built):
        raise Misconfigured(f"online.params: the {part} in it has no seed; expected one, so that a refold is equal")
    return built


def inner(estimator: Estimator) -> Estimator:
    """Return the learner inside one of the wrappers that the defaults use, else the estimator itself."""
    if isinstance(estimator, multiclass.OneVsRestClassifier):
        return estimator.classifier
    return estimator.regressor if isinstance(estimator, preprocessing.TargetStandardScaler) else estimator


def describe(estimator: Estimator) -> str:
    """Return the class's name, with that of the learner inside, e.g. "OneVsRestClassifier(LogisticRegression)"."""
    name, within = type(estimator).__name__, inner(estimator)
    return name if within is estimator else f"{name}({type(within).__name__})"


def is_linear(estimator: Estimator) -> bool:
    """Return whether the estimator, or the one it wraps, is a linear model."""
    return type(inner(estimator)).__module__.startswith("river.linear_model")


def weights(estimator: Estimator) -> Iterator[float]:
    """Yield every weight and intercept of the linear models inside an estimator."""
    if isinstance(estimator, linear_model.base.GLM):
        yield from estimator.weights.values()
        yield estimator.intercept
    for part in _parts(estimator):
        yield from weights(part)


def _parts(estimator: Estimator) -> Iterator[Estimator]:
    """Yield the estimators that an estimator holds in its attributes, lists and dicts."""
    for value in vars(estimator).values():
        held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        yield from (part for part in held if isinstance(part, base.Estimator))


def _build(name: str, params: Mapping[str, Any], seed: int, *, key: str) -> Any:  # noqa: ANN401 - any River object
    made = _resolve(name, f"{key}.name" if key == "online" else f"{key}.{CLASS_KEY}")
    prefix = f"{key}.params" if key == "online" else key
    given = {n: _value(v, seed, f"{prefix}.{n}") for n, v in params.items()}
    accepted = inspect.signature(made).parameters
    _check_names(given, accepted, name, prefix)
    if "seed" in accepted and given.get("seed") is None:
        given["seed"] = seed
    try:
        return made(**given)
    except Exception as error:
        raise Misconfigured(f"{prefix}: {name} refuses {dict(params)}: {error}") from error


def _check_names(given: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter], name: str, prefix: str) -> None:
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return
    for wrong in given.keys() - accepted.keys():
        expected = ", ".join(accepted) or "no parameters"
        raise Misconfigured(f"{prefix}.{wrong}: {name} has no such parameter; expected one of: {expected}")


def _value(value: Any, seed: int, key: str) -> Any:  # noqa: ANN401 - what a settings file may hold
    if isinstance(value, Mapping) and CLASS_KEY in value:
        params = {n: v for n, v in value.items() if n != CLASS_KEY}
        return _build(str(value[CLASS_KEY]), params, seed, key=key)
    if isinstance(value, list | tuple):
        return [_value(v, seed, f"{key}[{i}]") for i, v in enumerate(value)]
    return value


def _resolve(name: str, key: str) -> type[Base]:
    """Return the class; private parts and modules that River merely imports do not count as River's."""
    wrong = f"{key}: {name!r} is no River class; expected a name below the package river, e.g. {DEFAULTS[Task.BINARY]}"
    if not _DOTTED.fullmatch(name):
        raise Misconfigured(wrong)
    module, _, leaf = name.rpartition(".")
    try:
        found = getattr(import_module(f"river.{module}"), leaf)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(wrong) from error
    if not (isinstance(found, type) and issubclass(found, Base) and found.__module__.startswith("river.")):
        raise Misconfigured(wrong)
    if inspect.isabstract(found):
        raise Misconfigured(f"{key}: {name!r} is a base class; expected a class that learns")
    return found


def _check_task(built: Estimator, task: Task, name: str) -> None:
    wanted = base.Regressor if task is Task.REGRESSION else base.Classifier
    if not isinstance(built, wanted):
        raise Misconfigured(f"online.name: {name!r} does not fit task = {task}; expected a {wanted.__name__.lower()}")
    if task is Task.MULTICLASS and not getattr(built, "_multiclass", False):
        wrap = f"{DEFAULTS[task]} around it, as params.classifier"
        raise Misconfigured(f"online.name: {name!r} tells two classes apart, but task = {task}; expected {wrap}")


def _seeded(built: Estimator, seed: int) -> Estimator:
    """Return the same with seeds in the parts that River itself put in as defaults, e.g. the engine of a KNN."""
    given = {"seed": seed} if getattr(built, "seed", 0) is None else {}
    parts = {n: v for n, v in vars(built).items() if n in inspect.signature(type(built)).parameters}
    inner = {n: _seeded(v, seed) for n, v in parts.items() if isinstance(v, Base) and any(_unseeded(v))}
    return built.clone({**given, **inner}) if given or inner else built


def _unseeded(value: object) -> Iterator[str]:
    """Yield the parts whose `seed` is still None: River then seeds them from the system."""
    if isinstance(value, Base):
        if getattr(value, "seed", 0) is None:
            yield type(value).__name__
        value = vars(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _unseeded(part)
