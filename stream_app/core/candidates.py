"""Batch candidates by dotted name: resolved below `sklearn` only, checked against the task, seeded everywhere."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from sklearn.base import BaseEstimator, is_classifier, is_regressor

from stream_app.core.preprocessing import Estimator
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.model_settings import CandidateSettings
from stream_app.values import Task

#: In a parameter, `{"class": "tree.DecisionTreeClassifier", "max_depth": 3}` builds an estimator.
CLASS_KEY: Final = "class"
_LOGISTIC: Final = CandidateSettings(name="linear_model.LogisticRegression", params={"max_iter": 1_000})
_BOOSTED: Final = CandidateSettings(name="ensemble.HistGradientBoostingClassifier")
#: Boosted trees for what bends, a scaled linear model for what does not or is too little for trees.
DEFAULTS: Final[Mapping[Task, tuple[CandidateSettings, ...]]] = {
    Task.BINARY: (_BOOSTED, _LOGISTIC),
    Task.MULTICLASS: (_BOOSTED, _LOGISTIC),
    Task.REGRESSION: (
        CandidateSettings(name="ensemble.HistGradientBoostingRegressor"),
        CandidateSettings(name="linear_model.Ridge"),
    ),
}
_DOTTED: Final = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One estimator that competes."""

    #: unique among the candidates of a retrain, e.g. "HistGradientBoostingClassifier" or "Ridge#2"
    name: str
    #: e.g. "sklearn:Ridge"
    algorithm: str
    #: the bare model: what stands before it depends on the training rows
    estimator: Estimator


def build_candidates(shape: Shape, chosen: Sequence[CandidateSettings], seed: int) -> list[Candidate]:
    """Return the candidates that the settings name, or those of the task, not fitted yet.

    Raises Misconfigured, naming the key, for a name that is not scikit-learn's, for wrong parameters and for an
    estimator of another task.
    """
    built: list[Candidate] = []
    for place, settings in enumerate(chosen or DEFAULTS[shape.task]):
        key = f"retrain.candidates[{place}]"
        model = _seeded(_build(settings.name, settings.params, f"{key}.name", f"{key}.params"), seed)
        _check_task(model, shape.task, settings.name, key)
        kind = type(model).__name__
        repeats = sum(c.algorithm == f"sklearn:{kind}" for c in built)
        name = f"{kind}#{repeats + 1}" if repeats else kind
        built.append(Candidate(name=name, algorithm=f"sklearn:{kind}", estimator=model))
    return built


def _build(name: str, params: Mapping[str, Any], name_key: str, params_key: str) -> Estimator:
    made = _resolve(name, name_key)
    given = {n: _value(v, f"{params_key}.{n}") for n, v in params.items()}
    accepted = inspect.signature(made).parameters
    for wrong in given.keys() - accepted.keys():
        expected = ", ".join(accepted) or "no parameters"
        raise Misconfigured(f"{params_key}.{wrong}: {name} has no such parameter; expected one of: {expected}")
    try:
        built = made(**given)
        # otherwise scikit-learn looks at values at the first fit only, when the retrain has long begun
        built._validate_params()  # noqa: SLF001 - there is no public way to ask
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"{params_key}: {name} refuses {dict(params)}: {error}") from error
    return built


def _value(value: Any, key: str) -> Any:  # noqa: ANN401 - what a settings file may hold
    if isinstance(value, Mapping) and CLASS_KEY in value:
        params = {n: v for n, v in value.items() if n != CLASS_KEY}
        return _build(str(value[CLASS_KEY]), params, f"{key}.{CLASS_KEY}", key)
    if isinstance(value, list | tuple):
        return [_value(v, f"{key}[{i}]") for i, v in enumerate(value)]
    return value


def _resolve(name: str, key: str) -> Estimator:
    """Return the class; private parts and what scikit-learn merely imports do not count as scikit-learn's."""
    expected = "expected a name below the package sklearn, e.g. linear_model.LogisticRegression"
    if not _DOTTED.fullmatch(name):
        raise Misconfigured(f"{key}: {name!r} is no scikit-learn estimator; {expected}")
    module, _, leaf = name.rpartition(".")
    try:
        found = getattr(import_module(f"sklearn.{module}"), leaf)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"{key}: {name!r} is no scikit-learn estimator; {expected}") from error
    ours = isinstance(found, type) and issubclass(found, BaseEstimator) and found.__module__.startswith("sklearn.")
    if not ours or inspect.isabstract(found):
        raise Misconfigured(f"{key}: {name!r} is no scikit-learn estimator; {expected}")
    return found


def _seeded(built: Estimator, seed: int) -> Estimator:
    """Set every seed that is still open, also inside meta-estimators: the same rows must give the same model."""
    unset = {
        name: seed
        for name, value in built.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return built.set_params(**unset)


def _check_task(built: Estimator, task: Task, name: str, key: str) -> None:
    fits = is_regressor(built) if task is Task.REGRESSION else is_classifier(built)
    if not fits:
        wanted = "regressor" if task is Task.REGRESSION else "classifier"
        raise Misconfigured(f"{key}.name: {name!r} does not fit task = {task.value}; expected a {wanted}")
